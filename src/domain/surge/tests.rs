use super::*;

const NOW: Timestamp = Timestamp(1_740_861_600_000_000);

fn rules() -> Rules {
    Rules::default()
}

#[test]
fn a_finding_says_what_spoke_against_a_flood() {
    let rule = rules().flood;
    for (counted, normal, finding) in [
        (19, 0.0, Finding::TooFew),
        (20, 0.0, Finding::Flood),
        (20, 6.0, Finding::Usual),
        (26, 5.0, Finding::WithinChance),
        (32, 5.0, Finding::Flood),
        (212, 3.0, Finding::Flood),
        (399, 100.0, Finding::Usual),
        (400, 100.0, Finding::Flood),
    ] {
        assert_eq!(rule.judge(counted, normal), finding, "{counted} of {normal}");
    }
}

#[test]
fn a_tiny_provider_cannot_flood() {
    // All twelve connections of it: only the dwell is between the failure and the mail.
    assert_eq!(rules().flood.judge(12, 0.0), Finding::TooFew);
}

#[test]
fn evidence_is_said_in_words() {
    assert_eq!(rules().flood.evidence(212, 3.1).to_string(), "normal is about 3 in 10 minutes, we saw 212");
    let full = rules().flood.evidence(283_333, 1_234.4).to_string();
    assert_eq!(full, "normal is about 1,234 in 10 minutes, we saw 283,333");
    assert_eq!(rules().flood.evidence(20, 0.2).to_string(), "normal is none in 10 minutes, we saw 20");
}

#[test]
fn a_window_ends_with_its_minute_and_holds_ten() {
    let counts = [(89, 1), (90, 2), (91, 4), (100, 8), (101, 16)];
    assert_eq!(within(&counts, 100, 10), 4 + 8);
    assert_eq!(within(&counts, 101, 1), 16);
}

#[test]
fn what_was_suspect_is_no_part_of_normal() {
    let (seen, spans) = unsuspected(100, 200, &[(50, 109), (105, 119), (190, i64::MAX), (300, 400)]);
    assert_eq!((seen, spans), (70, vec![(100, 119), (190, 199)]));
    // 700 in 70 minutes are 100 in 10.
    assert!((normal(700, 70, 10) - 100.0).abs() < 1e-9);
    // Of a short time less is taken for normal, never more.
    assert!((normal(8, 2, 10) - 8.0).abs() < 1e-9);
}

#[test]
fn a_slow_burn_is_seen_by_the_long_rule_alone() {
    let rules = rules();
    // One in two minutes where there is next to nothing: 60 in two hours.
    let counts: Vec<_> = (0..120).map(|at| (at, i64::from(at % 2 == 0))).collect();
    assert_eq!(rules.flood.judge(within(&counts, 119, 10), 0.1), Finding::TooFew);
    assert_eq!(rules.slow.judge(within(&counts, 119, 120), 1.2), Finding::Flood);
}

#[test]
fn it_is_calm_only_after_a_quarter_of_an_hour_below() {
    let rules = rules();
    let mut counts: Vec<_> = (0..20).map(|at| (at, 50)).collect();
    // The last 50 are in the windows that end up to minute 28.
    assert!(!rules.has_been_calm(&counts, 42, 3.0));
    assert!(rules.has_been_calm(&counts, 43, 3.0));
    // A second dip in between begins it anew.
    counts.push((35, 50));
    assert!(!rules.has_been_calm(&counts, 43, 3.0));
    assert!(!rules.has_been_calm(&counts, 58, 3.0));
    assert!(rules.has_been_calm(&counts, 59, 3.0));
}

#[test]
fn our_reports_are_suspect_when_several_components_are_flooded() {
    let rules = rules();
    assert!(suspects_reporter(&rules, 3, 60, 1_000_000));
    assert!(!suspects_reporter(&rules, 2, 60, 1_000_000));
    assert!(suspects_reporter(&rules, 2, 301, 1_000));
    // A single provider that nearly everybody uses is no reason to suspect ourselves.
    assert!(!suspects_reporter(&rules, 1, 900, 1_000));
}

fn held() -> View {
    View {
        kind: Kind::Flood,
        occasion: Occasion::Failures,
        stage: Stage::Holding,
        stage_at: NOW,
        why: Why::Opened,
        since: NOW - Span::minutes(1),
        until: None,
        flooding: false,
        failed: rules().flood.evidence(0, 3.0),
        calm: false,
        recovered: rules().recoveries.evidence(0, 0.5),
        recovered_by_source: false,
        broken_percent: 10,
        waiting: 500,
        rest_leaves: true,
        canaries_left: 0,
        canaries_gone: 0,
        reported: false,
        reported_anew: false,
        reporter_suspect: false,
        longest_hold: Some(Span::hours(12)),
    }
}

fn after(view: &View, minutes: i64) -> Next {
    next(view, &rules(), NOW + Span::minutes(minutes))
}

fn many(counted: i64) -> Evidence {
    rules().recoveries.evidence(counted, 0.5)
}

#[test]
fn a_surge_is_released_when_it_has_been_calm_and_not_before() {
    assert_eq!(after(&held(), 60), Next::Stay(Why::StillFailing));
    let calm = View { calm: true, ..held() };
    assert_eq!(after(&calm, 14), Next::Stay(Why::Opened));
    assert_eq!(after(&calm, 30), Next::Canary(Why::Calm));
    assert_eq!(after(&View { waiting: 0, ..calm }, 30), Next::Release(Why::NobodyWaits));
}

#[test]
fn silence_of_the_broken_is_no_sign_of_health() {
    let exhausted = View { calm: true, broken_percent: 90, ..held() };
    assert_eq!(after(&exhausted, 60), Next::Stay(Why::MostlyBroken));
    // But nobody who is truly broken waits longer than the longest hold, the canary's time included.
    assert_eq!(after(&exhausted, 12 * 60 - 7), Next::Stay(Why::MostlyBroken));
    assert_eq!(after(&exhausted, 12 * 60 - 6), Next::Canary(Why::LongestHold));
    assert_eq!(after(&held(), 12 * 60 - 6), Next::Canary(Why::LongestHold));
}

#[test]
fn an_operators_time_is_kept() {
    let extended = View { calm: true, until: Some(NOW + Span::hours(20)), ..held() };
    assert_eq!(after(&extended, 13 * 60), Next::Stay(Why::HeldUntil));
    assert_eq!(after(&extended, 20 * 60), Next::Canary(Why::LongestHold));
}

#[test]
fn no_release_begins_while_the_reports_are_suspect_or_connections_recover_by_themselves() {
    let calm = View { calm: true, ..held() };
    assert_eq!(after(&View { reporter_suspect: true, ..calm.clone() }, 60), Next::Stay(Why::ReporterSuspect));
    assert_eq!(after(&View { recovered: many(30), ..calm.clone() }, 60), Next::Stay(Why::RecoveriesRise));
    // A trickle would take days to help those who wait.
    let trickle = View { recovered: many(30), waiting: 1_000_000, ..calm };
    assert_eq!(after(&trickle, 60), Next::Canary(Why::Calm));
}

#[test]
fn a_trickle_stops_no_release_and_keeps_nobody_beyond_the_longest_hold() {
    let trickle = View { recovered: many(30), waiting: 1_000_000, ..held() };
    for stage in [Stage::Canary, Stage::Releasing] {
        assert!(!matches!(after(&View { stage, ..trickle.clone() }, 1), Next::Stop(_)), "{stage}");
    }
    // 0.5 % in five minutes: it would be over in a working day, and by then whoever is truly broken has waited for twelve hours.
    let slow = View { waiting: 6_000, ..trickle };
    assert_eq!(after(&View { calm: true, ..slow.clone() }, 60), Next::Stay(Why::RecoveriesRise));
    assert_eq!(after(&slow, 12 * 60 - 6), Next::Canary(Why::LongestHold));
    assert_eq!(after(&View { waiting: 3_000, ..slow }, 12 * 60 - 6), Next::Stay(Why::RecoveriesRise));
}

#[test]
fn an_operator_who_releases_knows_better_than_the_source() {
    let canary = View { stage: Stage::Canary, why: Why::ByHand, canaries_gone: 20, reported: true, ..held() };
    assert_eq!(after(&canary, 1), Next::Stay(Why::CanaryWaits));
    assert_eq!(after(&canary, 5), Next::Release(Why::ByHand));
    assert_eq!(after(&View { reporter_suspect: true, ..canary.clone() }, 1), Next::Stay(Why::CanaryWaits));
    let releasing = View { stage: Stage::Releasing, ..canary };
    assert_eq!(after(&releasing, 60), Next::Stay(Why::RestLeaves));
    assert_eq!(after(&View { reported_anew: true, ..releasing }, 60), Next::Stop(Why::ComponentDown));
}

#[test]
fn of_whom_nobody_could_be_asked_yet_nothing_is_known() {
    let canary = View { stage: Stage::Canary, why: Why::ByHand, ..held() };
    assert_eq!(after(&canary, 4), Next::Stay(Why::CanaryWaits));
    assert_eq!(after(&canary, 5), Next::Canary(Why::ByHand));
    assert_eq!(after(&View { waiting: 0, ..canary.clone() }, 5), Next::Release(Why::ByHand));
    assert_eq!(after(&canary, 12 * 60), Next::Release(Why::ByHand));
}

#[test]
fn the_canary_must_have_left_and_nothing_speak_against_it() {
    let canary = View { stage: Stage::Canary, canaries_gone: 20, ..held() };
    assert_eq!(after(&canary, 4), Next::Stay(Why::CanaryWaits));
    assert_eq!(
        after(&View { canaries_left: 1, canaries_gone: 0, ..canary.clone() }, 5),
        Next::Stay(Why::CanaryOnItsWay)
    );
    assert_eq!(after(&canary, 5), Next::Release(Why::CanaryWell));
    assert_eq!(after(&View { recovered: many(30), ..canary.clone() }, 1), Next::Stop(Why::RecoveriesRise));
    assert_eq!(after(&View { reporter_suspect: true, ..canary }, 1), Next::Stop(Why::ReporterSuspect));
}

#[test]
fn a_few_that_a_relay_puts_off_keep_nobody_waiting() {
    let canary = View { stage: Stage::Canary, ..held() };
    let left = |left, gone| View { canaries_left: left, canaries_gone: gone, ..canary.clone() };
    assert_eq!(after(&left(11, 9), 5), Next::Stay(Why::CanaryOnItsWay));
    assert_eq!(after(&left(10, 10), 5), Next::Release(Why::CanaryWell));
    // Nor does a relay that is away, beyond the longest hold.
    assert_eq!(after(&left(20, 0), 12 * 60 - 2), Next::Stay(Why::CanaryOnItsWay));
    assert_eq!(after(&left(20, 0), 12 * 60 - 1), Next::Release(Why::CanaryWell));
}

#[test]
fn what_a_source_says_is_down_is_released_by_the_longest_hold_alone() {
    let calm = View { calm: true, reported: true, ..held() };
    assert_eq!(after(&calm, 30), Next::Stay(Why::ComponentDown));
    assert_eq!(after(&calm, 12 * 60 - 6), Next::Canary(Why::LongestHold));
    let canary = View { stage: Stage::Canary, ..calm };
    assert_eq!(after(&canary, 1), Next::Stop(Why::ComponentDown));
    assert_eq!(after(&canary, 12 * 60 - 1), Next::Release(Why::CanaryWell));
}

#[test]
fn a_release_stops_itself_when_the_surge_returns_but_not_for_one_that_never_ended() {
    let floods = rules().flood.evidence(212, 3.0);
    for stage in [Stage::Canary, Stage::Releasing] {
        let dip = View { stage, failed: floods, ..held() };
        assert_eq!(after(&dip, 1), Next::Stop(Why::SurgeReturns));
        assert_ne!(after(&View { flooding: true, ..dip }, 1), Next::Stop(Why::SurgeReturns));
    }
    let releasing = View { stage: Stage::Releasing, ..held() };
    assert_eq!(after(&releasing, 60), Next::Stay(Why::RestLeaves));
    assert_eq!(after(&View { recovered: many(30), ..releasing.clone() }, 60), Next::Stop(Why::RecoveriesRise));
    assert_eq!(after(&View { rest_leaves: false, ..releasing }, 60), Next::End(Why::NobodyWaits));
}

#[test]
fn a_source_that_reports_the_component_back_ends_it() {
    for stage in [Stage::Holding, Stage::Canary] {
        let back = View { stage, recovered_by_source: true, waiting: 0, ..held() };
        assert_eq!(after(&back, 1), Next::End(Why::ComponentRecovered));
    }
}

#[test]
fn whose_time_is_over_is_not_asked_with_all_others_when_the_component_is_back() {
    let back = View { recovered_by_source: true, waiting: 21, ..held() };
    for stage in [Stage::Holding, Stage::Canary, Stage::Releasing] {
        let back = View { stage, ..back.clone() };
        assert_eq!(after(&back, 1), Next::Stop(Why::ComponentRecovered));
        // All of them would be the canary.
        assert_eq!(after(&View { waiting: 20, ..back }, 1), Next::End(Why::ComponentRecovered));
    }
    // Whom an operator keeps are kept, however few.
    let kept = View { until: Some(NOW + Span::hours(1)), ..back };
    for (waiting, minutes, next) in [
        (1, 1, Next::Stop(Why::ComponentRecovered)),
        (0, 1, Next::End(Why::ComponentRecovered)),
        (1, 60, Next::End(Why::ComponentRecovered)),
    ] {
        assert_eq!(after(&View { waiting, ..kept.clone() }, minutes), next);
    }
    let hours = |n| NOW + Span::hours(n);
    assert_eq!(ripe(hours(20), Some(Span::hours(12))), hours(9));
}

#[test]
fn who_has_not_come_back_has_waited_and_a_few_are_asked_unless_it_floods() {
    let quiet = View { occasion: Occasion::NotBack, calm: true, broken_percent: 95, ..held() };
    assert_eq!(after(&quiet, 14), Next::Stay(Why::Opened));
    assert_eq!(after(&quiet, 15), Next::Canary(Why::LongestHold));
    assert_eq!(after(&View { calm: false, ..quiet.clone() }, 15), Next::Stay(Why::StillFailing));
    assert_eq!(after(&View { recovered: many(30), ..quiet.clone() }, 15), Next::Stay(Why::RecoveriesRise));
    assert_eq!(after(&View { waiting: 0, ..quiet.clone() }, 15), Next::Release(Why::NobodyWaits));
    // A relay that is away lets the few not leave, and all others not either; a single mailbox may.
    let few = View { stage: Stage::Canary, occasion: Occasion::NotBack, canaries_left: 20, ..held() };
    assert_eq!(after(&few, 5), Next::Stay(Why::CanaryOnItsWay));
    assert_eq!(after(&few, 60), Next::Release(Why::CanaryWell));
    // Who has not confirmed has not waited: a source that says it is down is heard.
    let unconfirmed = View { occasion: Occasion::Unconfirmed, ..quiet };
    assert_eq!(after(&unconfirmed, 15), Next::Canary(Why::Calm));
    assert_eq!(after(&View { reported: true, ..unconfirmed }, 15), Next::Stay(Why::ComponentDown));
}

#[test]
fn a_release_stops_when_a_source_says_it_is_down() {
    let releasing = View { stage: Stage::Releasing, why: Why::CanaryWell, reported: true, ..held() };
    assert_eq!(after(&releasing, 1), Next::Stop(Why::ComponentDown));
    assert_eq!(after(&View { why: Why::ByHand, ..releasing.clone() }, 1), Next::Stay(Why::RestLeaves));
    assert_eq!(after(&releasing, 12 * 60), Next::Stay(Why::RestLeaves));
}

#[test]
fn suspicion_of_ourselves_ends_with_the_flood_and_at_the_latest_with_the_longest_hold() {
    let suspect = View { kind: Kind::Reporter, ..held() };
    assert_eq!(after(&suspect, 60), Next::Stay(Why::StillFailing));
    assert_eq!(after(&View { calm: true, ..suspect.clone() }, 60), Next::End(Why::Calm));
    assert_eq!(after(&suspect, 12 * 60), Next::End(Why::LongestHold));
    let slow = View { kind: Kind::Slow, ..held() };
    assert_eq!(after(&slow, 24 * 60), Next::Stay(Why::StillFailing));
    assert_eq!(after(&View { calm: true, ..slow }, 1), Next::End(Why::Calm));
}

#[test]
fn a_canary_is_twenty_or_one_percent() {
    assert_eq!((rules().canaries(3), rules().canaries(2_000), rules().canaries(1_700_000)), (20, 20, 17_000));
}
