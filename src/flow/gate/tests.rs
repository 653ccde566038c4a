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
        awaiting: false,
        component_down: false,
    }
}

fn view(class: Class, items: Vec<Item>) -> View {
    View {
        class,
        created_at: NOW - Span::minutes(10),
        resend: false,
        holds: Holds::default(),
        suppressed: false,
        told: true,
        last_mailed_at: None,
        ended: false,
        resolved: None,
        rule: None,
        newer: None,
        trouble: false,
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
    let waiting = Claim { awaiting: true, ..claim() };
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
}

#[test]
fn an_own_fault_is_not_touched_by_the_component_nor_by_a_surge() {
    let own = Claim { own_fault: 1, component_down: true, covered: true, ..claim() };
    let mut v = view(Class::ActionRequired, vec![Item::Connection(own)]);
    v.holds.surge = true;
    assert!(sends(&decide(&v)));
    v.holds.stopped = true;
    assert!(matches!(decide(&v), Verdict::Wait(_, Reason::Stopped)));
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
    assert!(matches!(decide(&one(well, on_its_way)), Verdict::Wait(_, Reason::OriginalUndecided)));
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
}

#[test]
fn an_end_goes_once_to_those_told_and_waits_while_anything_is_down_again() {
    let up = Item::Component { down: false, up_since: Some(NOW), back: false };
    let down = Item::Component { down: true, up_since: Some(NOW), back: false };
    let mut v = view(Class::IncidentEnd, vec![up]);
    v.resolved = Some(true);
    assert!(sends(&decide(&v)));
    v.items = vec![up, down];
    assert!(matches!(decide(&v), Verdict::Wait(_, Reason::ComponentOpenAgain)));
    v.told = false;
    assert_eq!(decide(&v), Verdict::Cancel(Reason::NeverTold));
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
