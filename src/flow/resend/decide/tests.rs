use super::*;
use crate::domain::class::Class;
use crate::domain::delivery::Rule;
use crate::domain::truth::{Claim, Original};
use crate::flow::gate::{Holds, Item};

const NOW: Timestamp = Timestamp(1_740_861_600_000_000);

fn claim() -> Claim {
    Claim {
        episode: 1,
        failed_at: NOW - Span::hours(1),
        newest: 1,
        cleared: 0,
        own_fault: 0,
        covered: false,
        newest_covered: false,
        awaiting: None,
        component_down: false,
    }
}

/// A mail of a class that is true, and whose only copy left an hour ago.
fn asked(class: Class) -> Asked {
    let items = match class {
        Class::ActionRequired => vec![Item::Connection(claim())],
        Class::Correction => {
            let well = Claim { cleared: 1, ..claim() };
            vec![Item::Correction(well, Original { decided: true, maybe_mailed: true })]
        }
        _ => vec![Item::Component { down: false, up_since: Some(NOW - Span::hours(1)), back: false }],
    };
    let view = View {
        class,
        created_at: NOW,
        resend: true,
        canary: false,
        holds: Holds::default(),
        suppressed: false,
        told: true,
        last_mailed_at: Some(NOW - Span::hours(1)),
        ended: matches!(class, Class::IncidentEnd | Class::AllClear),
        resolved: Some(class != Class::IncidentUpdate),
        rule: Some(Rule::Resend),
        newer: None,
        trouble: false,
        troubled_elsewhere: false,
        items,
    };
    let copies = Copies { resends: 0, left_at: Some(NOW - Span::hours(1)), on_its_way: false };
    let said_at = NOW - Span::hours(1);
    Asked { view, state: State::Accepted, said_at, reason: None, newer: false, copies, instead: None, corrected: false }
}

fn made_of_now(what: What) -> Instead {
    Instead { what, suppressed: false, copies: Copies::default(), view: None }
}

fn said(asked: &Asked, force: bool) -> Decision {
    decide(asked, &Limits::of(asked.view.class), force, NOW)
}

fn no(why: Refusal) -> Decision {
    Decision::Refuse(why, None)
}

const AGAIN: Decision = Decision::Send(What::AsItWas, None);

#[test]
fn what_is_true_can_be_sent_again_whatever_it_is_for() {
    for class in Class::ALL {
        assert_eq!(said(&asked(*class), false), AGAIN, "{class}");
        assert_eq!(said(&asked(*class), true), AGAIN, "{class}");
    }
}

#[test]
fn a_copy_that_left_minutes_ago_and_age_ask_for_force() {
    for class in Class::ALL {
        let mut one = asked(*class);
        one.copies.left_at = Some(NOW - Span::minutes(10) + Span::seconds(1));
        assert_eq!((said(&one, false), said(&one, true)), (no(Refusal::JustLeft), AGAIN), "{class}");
        one.copies.left_at = Some(NOW - Span::minutes(10));
        assert_eq!(said(&one, false), AGAIN, "{class}");
        let Some(age) = Limits::of(*class).greatest_age else { continue };
        one.said_at = NOW - age;
        assert_eq!((said(&one, false), said(&one, true)), (no(Refusal::TooOld), AGAIN), "{class}");
    }
}

#[test]
fn force_helps_neither_against_a_suppression_nor_a_copy_on_its_way_nor_a_fourth_resend() {
    for class in Class::ALL {
        let mut one = asked(*class);
        one.view.suppressed = true;
        assert_eq!(said(&one, true), no(Refusal::Suppressed), "{class}");
        one.copies.resends = MOST;
        assert_eq!(said(&one, true), no(Refusal::TooOften), "{class}");
        one.copies.on_its_way = true;
        assert_eq!(said(&one, true), no(Refusal::OnItsWay), "{class}");
    }
}

#[test]
fn a_stop_and_a_hold_keep_it_waiting_and_are_named() {
    let mut one = asked(Class::ActionRequired);
    one.view.holds.operator = true;
    assert_eq!(said(&one, true), Decision::Send(What::AsItWas, Some(Reason::Held)));
    one.view.holds.stopped = true;
    assert_eq!(said(&one, true), Decision::Send(What::AsItWas, Some(Reason::Stopped)));
    one.view.items = vec![Item::Connection(Claim { cleared: 1, ..claim() })];
    one.instead = Some(made_of_now(What::Correction));
    assert_eq!(said(&one, true), Decision::Send(What::Correction, Some(Reason::Stopped)));
}

/// For each class something that is no longer true, and the reason.
fn untrue_ones() -> Vec<(Asked, Reason)> {
    let with = |class, change: &dyn Fn(&mut View)| {
        let mut one = asked(class);
        change(&mut one.view);
        one
    };
    let item = |claim: Claim| move |v: &mut View| v.items = vec![Item::Connection(claim)];
    let open_again =
        Item::Correction(Claim { newest: 2, cleared: 1, ..claim() }, Original { decided: true, maybe_mailed: true });
    let down = Item::Component { down: true, up_since: None, back: false };
    let covered = Claim { covered: true, newest_covered: true, ..claim() };
    let newer = |class| Asked { newer: true, ..asked(class) };
    vec![
        (with(Class::ActionRequired, &item(Claim { cleared: 1, ..claim() })), Reason::Recovered),
        (with(Class::ActionRequired, &item(covered)), Reason::CoveredByRecovery),
        (with(Class::Correction, &|v| v.items = vec![open_again]), Reason::ConnectionOpenAgain),
        (with(Class::IncidentUpdate, &|v| v.resolved = Some(true)), Reason::IncidentResolved),
        (newer(Class::IncidentUpdate), Reason::ReplacedByNewer),
        (Asked { state: State::Folded, ..asked(Class::IncidentUpdate) }, Reason::ReplacedByNewer),
        (with(Class::IncidentEnd, &|v| v.told = false), Reason::NeverTold),
        (with(Class::IncidentEnd, &|v| v.resolved = Some(false)), Reason::IncidentOpenAgain),
        (with(Class::AllClear, &|v| v.items = vec![down]), Reason::ComponentOpenAgain),
        (newer(Class::AllClear), Reason::ReplacedByNewer),
        (newer(Class::PostMortem), Reason::ReplacedByNewer),
    ]
}

#[test]
fn what_is_untrue_never_leaves_as_it_was() {
    for (mut one, reason) in untrue_ones() {
        let class = one.view.class;
        assert_eq!(said(&one, false), no(Refusal::Stale(reason)), "{class}");
        assert_eq!(said(&one, true), no(Refusal::Stale(reason)), "{class}");
        one.instead = Some(made_of_now(What::Correction));
        assert_eq!(said(&one, false), Decision::Refuse(Refusal::Stale(reason), Some(What::Correction)), "{class}");
        assert_eq!(said(&one, true), Decision::Send(What::Correction, None), "{class}");
    }
}

#[test]
fn what_its_reader_asked_not_to_hear_of_asks_for_force_and_says_so_where_it_is_no_longer_true() {
    for reason in [Reason::BeginAndEndOnly, Reason::BelowLeastImpact, Reason::Unsubscribed] {
        let mut one = Asked { reason: Some(reason), ..asked(Class::IncidentUpdate) };
        assert_eq!((said(&one, false), said(&one, true)), (no(Refusal::Unwanted(reason)), AGAIN));
        one.newer = true;
        assert_eq!(said(&one, false), no(Refusal::Stale(Reason::ReplacedByNewer)), "force would not help");
        one.instead = Some(made_of_now(What::NewestUpdate));
        assert_eq!(said(&one, false), Decision::Refuse(Refusal::Unwanted(reason), Some(What::NewestUpdate)));
        assert_eq!(said(&one, true), Decision::Send(What::NewestUpdate, None));
    }
}

#[test]
fn what_goes_instead_is_asked_the_same_questions() {
    let mut one = asked(Class::ActionRequired);
    one.view.items = vec![Item::Connection(Claim { cleared: 1, ..claim() })];
    let mut instead = made_of_now(What::PresentState);
    let mut with = |change: &dyn Fn(&mut Instead)| {
        change(&mut instead);
        one.instead = Some(instead.clone());
        assert_eq!(said(&one, false), no(Refusal::Stale(Reason::Recovered)), "force would not help");
        said(&one, true)
    };
    assert_eq!(with(&|i| i.copies.left_at = Some(NOW - Span::minutes(1))), no(Refusal::JustLeft));
    assert_eq!(with(&|i| i.suppressed = true), no(Refusal::Suppressed));
    assert_eq!(with(&|i| i.copies.on_its_way = true), no(Refusal::OnItsWay));
    // The newest update of an incident of which this subscriber was never told is an end of nothing.
    let mut update = asked(Class::IncidentUpdate);
    (update.view.resolved, update.view.told) = (Some(true), false);
    let end = View { class: Class::IncidentEnd, ..update.view.clone() };
    let view = Some((end, Limits::of(Class::IncidentEnd)));
    update.instead = Some(Instead { view, ..made_of_now(What::NewestUpdate) });
    assert_eq!(said(&update, true), no(Refusal::Stale(Reason::NeverTold)));
}

#[test]
fn every_refusal_says_what_to_do() {
    let all = [
        Refusal::Unknown,
        Refusal::Stale(Reason::Recovered),
        Refusal::Corrected(Reason::Recovered),
        Refusal::Suppressed,
        Refusal::JustLeft,
        Refusal::OnItsWay,
        Refusal::TooOld,
        Refusal::TooOften,
    ];
    let hints: std::collections::HashSet<_> = all.iter().map(|why| why.hint(None)).collect();
    assert_eq!(hints.len(), all.len());
}
