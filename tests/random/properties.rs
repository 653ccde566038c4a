//! Whatever is said, in whatever order, late, twice or under a used key: ingest answers, plan asks and recover takes
//! back as a small reference model says they must. A failure is shrunk to the fewest words that show it.

mod model;

use crate::amount::{amount, seed};
use crate::support::{On, World, t};
use allclear::domain::time::Timestamp;
use allclear::flow::ingest::{self, IngestError, Keyed};
use allclear::flow::intake;
use model::{Expected, Model, Reference, Transition};
use proptest::test_runner::{Config, RngSeed};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use std::cell::Cell;
use tokio::runtime::Runtime;

/// In a normal run.
const CASES: u64 = 60;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// The product, with the connections `c0` and `c1` of the component `p`, and a component `x` for incidents.
struct Product {
    world: World,
    runtime: Runtime,
}

impl StateMachineTest for Product {
    type SystemUnderTest = Self;
    type Reference = Reference;

    fn init_test(_: &Model) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = runtime.block_on(async {
            let w = World::new(On::Sqlite, "2025-06-02T08:00:00Z").await;
            w.component("p", "Provider").await;
            w.component("x", "Xray").await;
            for (connection, subscriber) in [("c0", "s0"), ("c1", "s1")] {
                w.subscriber(subscriber).await;
                w.subscribe(subscriber, "x").await;
                w.connection(connection, "p", subscriber).await;
            }
            w
        });
        Self { world, runtime }
    }

    fn apply(mut product: Self, model: &Model, transition: Transition) -> Self {
        STEPS.set(STEPS.get() + 1);
        let now = Timestamp(t("2025-06-02T08:00:00Z").0 + model.now);
        product.runtime.block_on(async {
            let w = &mut product.world;
            w.clock.set(now);
            match transition {
                Transition::Restart => w.restart(),
                Transition::Settle | Transition::Pass(_) => drop(w.move_to(now).await),
                _ => assert_eq!(say(w, model).await, model.expected, "the answer to {:?}", model.said),
            }
        });
        product
    }

    fn check_invariants(product: &Self, model: &Model) {
        product.runtime.block_on(async {
            let w = &product.world;
            let rows = w
                .query("SELECT CAST(episode AS TEXT), CASE WHEN cleared = episode THEN 'yes' ELSE 'no' END FROM connection ORDER BY key")
                .await;
            let known: Vec<_> = rows.iter().map(|r| (r[0].clone().unwrap(), r[1].clone().unwrap())).collect();
            assert_eq!(known, model.connections(), "how often each connection broke, and whether it has recovered");
            let resolved = w.query("SELECT CASE WHEN resolved_at IS NULL THEN 'no' ELSE 'yes' END FROM incident").await;
            let resolved = resolved.first().map(|row| row[0].as_deref() == Some("yes"));
            assert_eq!(resolved, model.resolved(), "whether the incident is over");
            for (at, told) in model.told().iter().enumerate() {
                let of = w.all().iter().filter(|got| got.to == format!("s{at}@example.net"));
                let came: Vec<_> = of.map(crate::table::what).filter(|what| what.contains("Inbox")).collect();
                assert_eq!(came, *told, "what the customer of c{at} was told");
            }
            let mut tx = w.store.read().await.unwrap();
            let findings = allclear::store::audit::run(&mut tx).await.unwrap();
            assert!(findings.is_empty(), "the audit found: {findings:#?}");
        });
    }
}

/// Says what the model said last, and what became of it.
async fn say(w: &World, model: &Model) -> Expected {
    let said = model.said.as_ref().unwrap();
    let body = said.body.to_string();
    let (settings, caller) = (w.shared.setting.ingest(), w.caller());
    let keyed = Keyed { key: said.key.as_deref(), body: body.as_bytes() };
    let answer = match said.is_notice {
        true => ingest::notice(&w.store, &settings, &caller, &intake::read(body.as_bytes()).unwrap(), keyed).await,
        false => ingest::signal(&w.store, &settings, &caller, &intake::read(body.as_bytes()).unwrap(), keyed).await,
    };
    match answer {
        Ok(answer) => Expected::Answer(answer.outcome.to_string(), answer.replayed),
        Err(IngestError::Conflict(_)) => Expected::Conflict,
        Err(e) => panic!("{e}: {body}"),
    }
}

fn config() -> Config {
    let seed = seed();
    println!("replay with ALLCLEAR_TEST_SEED={seed}");
    Config {
        cases: u32::try_from(amount(CASES, 5_000)).unwrap(),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 300,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]
    fn ask_and_take_back_as_the_model_says(sequential 1..40 => Product);
}

#[test]
fn the_product_does_what_the_model_says() {
    ask_and_take_back_as_the_model_says();
    println!("properties: {} cases, {} steps, each as the model says", amount(CASES, 5_000), STEPS.get());
}

/// The model itself must be able to say no.
#[test]
fn the_model_tells_stale_news_from_news() {
    let mut model = Model::default();
    let fails = |ago| Transition::Connection { at: 0, what: model::What::Fails, ago, sequence: None, key: None };
    for (transition, outcome) in [(fails(5), "waiting"), (fails(0), "repeated")] {
        model = Reference::apply(model, &transition);
        assert_eq!(model.expected, Expected::Answer(outcome.to_owned(), false));
    }
}
