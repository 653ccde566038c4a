use super::*;

const NOW: Timestamp = Timestamp(1_000_000_000_000);

fn claim() -> Claim {
    Claim {
        episode: 1,
        failed_at: NOW - Span::minutes(10),
        newest: 1,
        cleared: 0,
        own_fault: 0,
        covered: false,
        newest_covered: false,
        awaiting: None,
        component_down: false,
    }
}

fn view(class: Class, items: Vec<Item>) -> View {
    View {
        class,
        created_at: NOW - Span::minutes(10),
        resend: false,
        canary: false,
        holds: Holds::default(),
        suppressed: false,
        told: true,
        last_mailed_at: None,
        ended: false,
        resolved: None,
        rule: None,
        newer: None,
        trouble: false,
        troubled_elsewhere: false,
        items,
    }
}

fn decide(view: &View) -> Verdict {
    gate(view, &Limits::of(view.class), NOW)
}

fn sends(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Send(_))
}

#[test]
fn a_broken_connection_is_told_and_a_recovered_one_is_not() {
    assert!(sends(&decide(&view(Class::ActionRequired, vec![Item::Connection(claim())]))));
    let recovered = Claim { cleared: 1, ..claim() };
    assert_eq!(
        decide(&view(Class::ActionRequired, vec![Item::Connection(recovered)])),
        Verdict::Withdraw(Reason::Recovered)
    );
}

#[test]
fn items_of_one_mail_part_ways() {
    let waiting = Claim { awaiting: Some(NOW), ..claim() };
    let gone = Claim { cleared: 1, ..claim() };
    let items = vec![Item::Connection(claim()), Item::Connection(waiting), Item::Connection(gone)];
    let expected = Split { keep: vec![0], later: vec![1], dropped: vec![(2, Reason::Recovered)] };
    assert_eq!(decide(&view(Class::ActionRequired, items)), Verdict::Send(expected));
}

#[test]
fn while_the_component_is_down_the_mail_waits_at_most_the_longest_hold() {
    let down = Claim { component_down: true, ..claim() };
    let mut v = view(Class::ActionRequired, vec![Item::Connection(down)]);
    assert_eq!(decide(&v), Verdict::Wait(v.created_at + Span::hours(12), Reason::ComponentDown));
    v.created_at = NOW - Span::hours(12);
    assert!(sends(&decide(&v)));
    // Just before, it does not turn at every look; without such a limit it is looked at again.
    v.created_at = NOW - Span::hours(12) + Span(1);
    assert_eq!(decide(&v), Verdict::Wait(NOW + Span::seconds(1), Reason::ComponentDown));
    let endless = Limits { longest_hold: None, ..Limits::of(Class::ActionRequired) };
    assert_eq!(gate(&v, &endless, NOW), Verdict::Wait(NOW + LOOK_RARELY, Reason::ComponentDown));
}

#[test]
fn a_component_that_is_back_for_long_keeps_nobody() {
    let limits = Limits::of(Class::ActionRequired);
    for (created, back, until) in [(1, 0, 11), (1, 2, 11), (1, 12, 11), (1, 13, -1), (20, 1, -8)] {
        let back = NOW - Span::hours(back);
        let v = |down| {
            let claim = Claim { awaiting: Some(back), component_down: down, ..claim() };
            View {
                created_at: NOW - Span::hours(created),
                ..view(Class::ActionRequired, vec![Item::Connection(claim)])
            }
        };
        match gate(&v(false), &limits, NOW) {
            Verdict::Wait(at, Reason::AwaitingReconnection) => assert_eq!(at, NOW + Span::hours(until)),
            verdict => assert!(sends(&verdict) && until <= 0, "{verdict:?}"),
        }
        // Down once more, it keeps the mail as any outage does.
        assert_eq!(sends(&gate(&v(true), &limits, NOW)), created >= 12);
    }
}

#[test]
fn a_canary_names_nobody_who_waits_to_come_back_after_an_outage_before_its_flood() {
    let flooded = Claim { component_down: true, ..claim() };
    let before = Claim { awaiting: Some(NOW - Span::hours(1)), ..flooded };
    let v = |hours, items: &[Claim]| View {
        created_at: NOW - Span::hours(hours),
        canary: true,
        holds: Holds { surge: true, ..Holds::default() },
        ..view(Class::ActionRequired, items.iter().copied().map(Item::Connection).collect())
    };
    let parted = Split { keep: vec![0], later: vec![1], dropped: vec![] };
    assert_eq!(decide(&v(2, &[flooded, before])), Verdict::Send(parted));
    let waits = Verdict::Wait(NOW + Span::hours(10), Reason::AwaitingReconnection);
    assert_eq!(decide(&v(2, &[before])), waits);
    // Unless his own time ends within the wave.
    assert!(sends(&decide(&v(11, &[before]))));
}

#[test]
fn what_has_waited_for_long_is_looked_at_more_rarely() {
    for (minutes, seconds) in [(0, 30), (10, 30), (40, 120), (6_000, 300)] {
        let broken = Item::Correction(claim(), Original { decided: true, maybe_mailed: true });
        let v = View { created_at: NOW - Span::minutes(minutes), ..view(Class::Correction, vec![broken]) };
        assert_eq!(decide(&v), Verdict::Wait(NOW + Span::seconds(seconds), Reason::ConnectionOpenAgain));
    }
}

#[test]
fn an_own_fault_is_not_touched_by_the_component_nor_by_a_surge() {
    let own = Claim { own_fault: 1, component_down: true, covered: true, ..claim() };
    let mut v = view(Class::ActionRequired, vec![Item::Connection(own)]);
    v.holds.surge = true;
    assert!(sends(&decide(&v)));
    v.holds.stopped = true;
    assert_eq!(decide(&v), Verdict::Wait(NOW + LOOK_AGAIN, Reason::Stopped));
}

#[test]
fn a_hold_keeps_all_but_proven_own_faults_and_an_operators_hold_keeps_those_too() {
    let own = Item::Connection(Claim { own_fault: 1, ..claim() });
    let held = Verdict::Wait(NOW + LOOK_AGAIN, Reason::Held);
    for (surge, operator, items, waits) in [
        (true, false, vec![Item::Connection(claim())], true),
        (true, false, vec![own, Item::Connection(claim())], true),
        (true, false, vec![own], false),
        (false, true, vec![own], true),
        (false, false, vec![Item::Connection(claim())], false),
    ] {
        let mut v = view(Class::ActionRequired, items);
        v.holds = Holds { surge, operator, stopped: false };
        assert_eq!(decide(&v) == held, waits, "{v:?}");
    }
    // A mail that names nothing is nobody's own fault.
    let mut free = view(Class::Free, vec![]);
    free.holds.surge = true;
    assert_eq!(decide(&free), held);
}

#[test]
fn a_mail_to_be_sent_names_all_that_it_named() {
    let up = Item::Component { down: false, up_since: Some(NOW), back: false };
    let all = Split { keep: vec![0, 1], ..Split::default() };
    assert_eq!(decide(&view(Class::IncidentUpdate, vec![up, up])), Verdict::Send(all));
}

#[test]
fn an_action_required_older_than_its_class_allows_is_parked() {
    let mut v = view(Class::ActionRequired, vec![Item::Connection(claim())]);
    v.created_at = NOW - Span::hours(72);
    assert_eq!(decide(&v), Verdict::Park(Reason::TooOld));
}

#[test]
fn a_correction_waits_for_its_original_and_for_its_connection_and_is_never_stale() {
    let well = Claim { cleared: 1, ..claim() };
    let mailed = Original { decided: true, maybe_mailed: true };
    let one = |claim, original| view(Class::Correction, vec![Item::Correction(claim, original)]);
    assert!(sends(&decide(&one(well, mailed))));
    let on_its_way = Original { decided: false, maybe_mailed: true };
    assert_eq!(decide(&one(well, on_its_way)), Verdict::Wait(NOW + LOOK_AGAIN, Reason::OriginalUndecided));
    let never = Original { decided: true, maybe_mailed: false };
    assert_eq!(decide(&one(well, never)), Verdict::Cancel(Reason::NeverMailed));
    let again = Claim { newest: 2, ..well };
    assert!(matches!(decide(&one(again, mailed)), Verdict::Wait(_, Reason::ConnectionOpenAgain)));
    let mut ancient = one(well, mailed);
    ancient.created_at = NOW - Span::hours(9_000);
    assert!(sends(&decide(&ancient)));
}

#[test]
fn a_correction_ignores_holds_but_not_the_stop() {
    let well = Claim { cleared: 1, ..claim() };
    let mailed = Original { decided: true, maybe_mailed: true };
    let mut v = view(Class::Correction, vec![Item::Correction(well, mailed)]);
    v.holds = Holds { operator: true, surge: true, stopped: false };
    assert!(sends(&decide(&v)));
    v.holds.stopped = true;
    assert!(matches!(decide(&v), Verdict::Wait(_, Reason::Stopped)));
}

#[test]
fn a_problem_mail_is_stale_once_the_incident_is_resolved() {
    let mut v = view(Class::IncidentUpdate, vec![]);
    v.resolved = Some(false);
    assert!(sends(&decide(&v)));
    v.resolved = Some(true);
    assert_eq!(decide(&v), Verdict::Withdraw(Reason::IncidentResolved));
}

#[test]
fn updates_keep_their_distance_unless_things_got_worse() {
    let mut v = view(Class::IncidentUpdate, vec![]);
    v.last_mailed_at = Some(NOW - Span::minutes(3));
    assert_eq!(decide(&v), Verdict::Wait(NOW + Span::minutes(2), Reason::ThreadGap));
    v.rule = Some(Rule::Worse);
    assert!(sends(&decide(&v)));
    v.rule = None;
    v.last_mailed_at = Some(NOW - Span::minutes(5));
    assert!(sends(&decide(&v)));
    v.rule = Some(Rule::NothingNew);
    assert_eq!(decide(&v), Verdict::Wait(NOW + Span::minutes(115), Reason::NothingNew));
}

#[test]
fn after_its_end_a_thread_goes_on_only_with_a_relapse() {
    let mut v = view(Class::IncidentUpdate, vec![]);
    v.ended = true;
    assert_eq!(decide(&v), Verdict::Withdraw(Reason::EndedAlready));
    v.rule = Some(Rule::Relapse);
    assert!(sends(&decide(&v)));
}

#[test]
fn an_update_about_nothing_but_what_is_back_is_not_sent() {
    let item = |down, back| Item::Component { down, up_since: None, back };
    for (items, goes) in [
        (vec![item(false, true)], false),
        (vec![item(false, true), item(true, false)], true),
        (vec![item(false, false)], true),
        (vec![item(true, false)], true),
    ] {
        let verdict = decide(&view(Class::IncidentUpdate, items.clone()));
        let expected = if goes { sends(&verdict) } else { verdict == Verdict::Withdraw(Reason::Recovered) };
        assert!(expected, "{items:?}: {verdict:?}");
    }
}

#[test]
fn an_end_goes_once_to_those_told_and_waits_while_anything_is_down_again() {
    let up = Item::Component { down: false, up_since: Some(NOW), back: false };
    let down = Item::Component { down: true, up_since: Some(NOW), back: false };
    let mut v = view(Class::IncidentEnd, vec![up]);
    v.resolved = Some(true);
    assert!(sends(&decide(&v)));
    v.items = vec![up, down];
    assert_eq!(decide(&v), Verdict::Wait(NOW + LOOK_RARELY, Reason::ComponentOpenAgain));
    v.resolved = Some(false);
    assert_eq!(decide(&v), Verdict::Wait(NOW + LOOK_RARELY, Reason::IncidentOpenAgain));
    v.told = false;
    assert_eq!(decide(&v), Verdict::Cancel(Reason::NeverTold));
}

#[test]
fn what_was_ended_is_ended_again_only_for_a_person_who_asks() {
    for class in [Class::IncidentEnd, Class::AllClear] {
        let mut v = view(class, vec![]);
        v.ended = true;
        assert_eq!(decide(&v), Verdict::Cancel(Reason::EndedAlready));
        v.resend = true;
        assert!(sends(&decide(&v)));
    }
}

#[test]
fn an_all_clear_is_withdrawn_by_any_trouble_that_the_reader_follows_and_waits_for_other_incidents() {
    let item = |down| Item::Component { down, up_since: Some(NOW - Span::hours(1)), back: false };
    for (down, trouble) in [(true, false), (false, true)] {
        let v = View { trouble, troubled_elsewhere: true, ..view(Class::AllClear, vec![item(down)]) };
        assert_eq!(decide(&v), Verdict::Withdraw(Reason::ComponentOpenAgain));
    }
    let v = View { troubled_elsewhere: true, ..view(Class::AllClear, vec![item(false)]) };
    assert_eq!(decide(&v), Verdict::Wait(NOW + LOOK_RARELY, Reason::ComponentOpenAgain));
    assert!(sends(&decide(&view(Class::AllClear, vec![item(false)]))));
}

#[test]
fn a_post_mortem_waits_while_its_incident_is_open_again_and_a_free_notice_does_not() {
    for (class, resolved, waits) in [
        (Class::PostMortem, Some(false), true),
        (Class::PostMortem, Some(true), false),
        (Class::PostMortem, None, false),
        (Class::Free, Some(false), false),
    ] {
        let v = View { resolved, ..view(class, vec![]) };
        let verdict = decide(&v);
        assert_eq!(verdict == Verdict::Wait(NOW + LOOK_RARELY, Reason::IncidentOpenAgain), waits, "{v:?}");
        assert_eq!(sends(&verdict), !waits, "{v:?}");
    }
}

#[test]
fn an_all_clear_waits_until_every_component_was_up_long_enough() {
    let up = |minutes| Item::Component { down: false, up_since: Some(NOW - Span::minutes(minutes)), back: false };
    let v = view(Class::AllClear, vec![up(30), up(4)]);
    assert_eq!(decide(&v), Verdict::Wait(NOW + Span::minutes(6), Reason::StableFor));
    assert!(sends(&decide(&view(Class::AllClear, vec![up(30), up(10)]))));
}

#[test]
fn a_suppressed_address_gets_nothing_but_what_is_untrue_is_withdrawn_first() {
    let mut v = view(Class::ActionRequired, vec![Item::Connection(claim())]);
    v.suppressed = true;
    assert_eq!(decide(&v), Verdict::Suppress);
    v.items = vec![Item::Connection(Claim { cleared: 1, ..claim() })];
    assert_eq!(decide(&v), Verdict::Withdraw(Reason::Recovered));
}

/// Until when a mail waits whose subscriber was mailed so many hours ago.
fn capped(v: &View, impact: Option<Impact>, hours_ago: &[i64]) -> Option<Timestamp> {
    let mailed: Vec<_> = hours_ago.iter().map(|h| NOW - Span::hours(*h)).collect();
    let split = Split { keep: (0..v.items.len()).collect(), ..Split::default() };
    daily_cap(v, &split, impact, &Limits::of(v.class), &mailed, NOW)
}

#[test]
fn the_fifth_mail_of_a_day_waits_until_the_first_of_the_four_is_a_day_old() {
    let free = view(Class::Free, vec![]);
    assert_eq!(capped(&free, None, &[1, 2, 3]), None);
    assert_eq!(capped(&free, None, &[3, 1, 20, 2]), Some(NOW + Span::hours(4)));
    assert_eq!(capped(&free, None, &[3, 1, 24, 2]), None);
    assert_eq!(capped(&free, None, &[5, 3, 1, 20, 2]), Some(NOW + Span::hours(19)));
    assert_eq!(capped(&View { resend: true, ..free }, None, &[1; 9]), None);
}

#[test]
fn nobody_waits_for_the_cap_longer_than_for_a_hold() {
    let asked = view(Class::ActionRequired, vec![Item::Connection(claim())]);
    assert_eq!(capped(&asked, None, &[1; 4]), Some(asked.created_at + Span::hours(12)));
    let held = View { created_at: NOW - Span::hours(12), ..asked };
    assert_eq!(capped(&held, None, &[1; 4]), None);
}

#[test]
fn what_is_urgent_and_every_end_pass_the_cap() {
    let own = Claim { own_fault: 1, ..claim() };
    assert_eq!(capped(&view(Class::ActionRequired, vec![Item::Connection(own)]), None, &[1; 9]), None);
    for class in [Class::Correction, Class::IncidentEnd, Class::AllClear] {
        assert_eq!(capped(&view(class, vec![]), None, &[1; 99]), None);
    }
    let surge = View { rule: Some(Rule::Surge), ..view(Class::Free, vec![]) };
    assert_eq!(capped(&surge, None, &[1; 99]), None);
    let update = |rule| View { rule: Some(rule), ..view(Class::IncidentUpdate, vec![]) };
    for (rule, impact, waits) in [
        (Rule::Worse, Impact::Minor, false),
        (Rule::Relapse, Impact::Minor, false),
        (Rule::First, Impact::Critical, false),
        (Rule::First, Impact::Major, false),
        (Rule::First, Impact::Minor, true),
        (Rule::First, Impact::Maintenance, true),
        (Rule::PhaseChange, Impact::Critical, true),
    ] {
        assert_eq!(capped(&update(rule), Some(impact), &[1; 12]).is_some(), waits, "{rule} {impact}");
    }
}
