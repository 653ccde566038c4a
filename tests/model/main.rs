//! The model check: the product's own machines on every interleaving of a small world.
//!
//! The machines are pure (`flow::sender`, `flow::recovery`, `flow::gate`, `domain::connection`, `domain::component`);
//! [`steps`] and [`outside`] stand for the drivers, the store's statements and the relay around them. [`properties`]
//! are the promises, [`configurations`] the worlds that are searched, [`variants`] the faults that the search must find.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]

#[path = "../support/amount.rs"]
mod amount;
mod configurations;
mod outside;
mod properties;
mod steps;
mod thread;
mod variants;
mod world;

use allclear::domain::class::{Class, Limits};
use allclear::domain::component::Component;
use allclear::domain::connection::{Connection, Fault};
use configurations::Configuration;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::fmt::Debug;
use std::hash::Hash;
use steps::{Do, Driver};
use variants::Variant;
use world::{Heard, World};

/// A world with its rules.
pub struct Dispatcher {
    configuration: Configuration,
    variant: Variant,
}

/// The limits of a class, without the times after which a mail goes or stays all the same.
pub fn limits(class: Class) -> Limits {
    Limits { longest_hold: None, greatest_age: None, ..Limits::of(class) }
}

impl Model for Dispatcher {
    type State = World;
    type Action = Do;

    fn init_states(&self) -> Vec<World> {
        let connection = Connection {
            episode: 0,
            cleared: 0,
            own_fault: 0,
            asked: 0,
            fault: Fault::None,
            failed_at: None,
            broken_since: None,
            failing_as_of: None,
            well_as_of: None,
            cleared_by: None,
            recovering: false,
        };
        vec![World {
            clock: 0,
            said: [0; 3],
            connections: [connection; 2],
            component: Component::default(),
            episodes: Vec::new(),
            plans: Vec::new(),
            planning: None,
            recoveries: Vec::new(),
            to_confirm: None,
            held: false,
            mails: Vec::new(),
            workers: Vec::new(),
            faults: self.configuration.faults,
            heard: [[Heard::Nothing; 2]; 2],
            by_hand: [0; 2],
            broken: 0,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Do>) {
        steps::tries(&self.configuration, world, actions);
    }

    fn next_state(&self, world: &World, step: Do) -> Option<World> {
        let mut driver = Driver { world: world.clone(), of: &self.configuration, variant: self.variant };
        driver.act(step)?;
        Some(driver.world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::properties()
    }
}

fn search(configuration: &Configuration, variant: Variant, most: usize) -> impl Checker<Dispatcher> {
    searched(Dispatcher { configuration: configuration.clone(), variant }, most)
}

fn searched<M>(model: M, most: usize) -> impl Checker<M>
where
    M: Model<State: Rows, Action: Clone + PartialEq + Send + Sync> + Send + Sync + 'static,
{
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    checker.target_state_count(most).spawn_bfs().join()
}

/// What was found: the promise that broke, and how it came to that.
type Found<M> = Option<(&'static str, Vec<<M as Model>::Action>, <M as Model>::State)>;

fn found<M>(checked: &impl Checker<M>) -> Found<M>
where
    M: Model<State: Rows, Action: Clone + PartialEq>,
{
    let (name, path) = checked.discoveries().into_iter().next()?;
    let last = path.last_state().clone();
    Some((name, path.into_actions(), last))
}

/// No promise breaks in this world, and `least` states of it were visited, or all.
fn prove(configuration: &Configuration, least: u64) {
    let model = Dispatcher { configuration: configuration.clone(), variant: Variant::Sound };
    prove_in(configuration.name, model, least);
}

fn prove_in<M>(name: &str, model: M, least: u64)
where
    M: Model<State: Rows, Action: Clone + PartialEq + Debug + Send + Sync> + Send + Sync + 'static,
{
    let begun = std::time::Instant::now();
    let least = usize::try_from(least).unwrap();
    // So many steps lead to so few states; the deeper, the fewer.
    let most = least * amount::amount(33, 50) as usize / 10;
    let checked = searched(model, most);
    if let Some((promise, steps, last)) = found(&checked) {
        panic!("{name}: {promise}: broken after {} steps\n{steps:?}\n{last:#?}", steps.len());
    }
    let states = checked.unique_state_count();
    let (depth, seconds) = (checked.max_depth(), begun.elapsed().as_secs_f64());
    let all = if checked.state_count() < most { ", all there are" } else { "" };
    println!("{name}: {states} states{all}, {depth} steps deep, no violation, {seconds:.1} s");
    assert!(!all.is_empty() || states >= least, "{states} of {least} states of {name} visited");
}

/// What a state must be, to be searched and shown.
trait Rows: Hash + Send + Sync + PartialEq + Clone + Debug {}
impl Rows for World {}
impl Rows for thread::Thread {}

/// The search finds what follows from a broken rule.
fn catches(variant: Variant) {
    for configuration in configurations::SMALL {
        let checked = search(configuration, variant, 600_000);
        if let Some((promise, steps, _)) = found(&checked) {
            println!("{variant:?}: {promise}: broken after {} steps in `{}`", steps.len(), configuration.name);
            return;
        }
    }
    panic!("{variant:?} passed: the check has no teeth for it");
}

mod proof {
    use super::thread::{COURSE, Incident};
    use super::{Variant, amount::amount, configurations as of, prove, prove_in};

    #[test]
    fn incident() {
        prove_in("incident", Incident { said: COURSE, variant: Variant::Sound }, amount(330_000, 1_700_000));
    }

    #[test]
    fn two_mails() {
        prove(&of::TWO_MAILS, amount(400_000, 2_000_000));
    }

    #[test]
    fn flapping() {
        prove(&of::FLAPPING, amount(330_000, 1_700_000));
    }

    #[test]
    fn two_in_one() {
        prove(&of::TWO_IN_ONE, amount(330_000, 1_700_000));
    }

    #[test]
    fn component() {
        prove(&of::COMPONENT, amount(330_000, 1_700_000));
    }

    #[test]
    fn people() {
        prove(&of::PEOPLE, amount(330_000, 1_700_000));
    }
}

mod variant {
    use super::thread::{COURSE, Incident};
    use super::{Variant, catches, found, searched};

    #[test]
    fn end_replaced() {
        let checked = searched(Incident { said: COURSE, variant: Variant::EndReplaced }, 20_000_000);
        let (promise, steps, _) = found(&checked).expect("EndReplaced passed: the check has no teeth for it");
        println!("EndReplaced: {promise}: broken after {} steps in the thread of an incident", steps.len());
    }

    macro_rules! variants {
        ($($test:ident = $variant:ident),+ $(,)?) => {
            $(#[test]
            fn $test() {
                catches(Variant::$variant);
            })+

            #[test]
            fn none_is_left_out() {
                let tested = [$(Variant::$variant),+];
                assert!(Variant::OF_CONNECTIONS.iter().all(|v| tested.contains(v)));
            }
        };
    }

    variants! {
        v01 = LookInsideClaim,
        v02 = SweepSkipsSending,
        v03 = MaybeMailedForgotten,
        v04 = TokenUnchecked,
        v05 = RetryWithoutLook,
        v06 = CorrectionAtOnce,
        v07 = NoQuarantine,
        v08 = NoThreadOrder,
        v09 = CorrectionWhileOpen,
        v10 = ReapWithoutCorrection,
        v11 = CorrectionNotRepeated,
        v12 = SweepRepeatsCorrection,
        pin_of_next_episode = PinOfNextEpisode,
        pin_read_late = PinReadLate,
        correction_stale = CorrectionStale,
        said_correction_joined = SaidCorrectionJoined,
    }
}
