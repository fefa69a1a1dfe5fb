//! What a run costs, and what it may.

use serde_json::{Value, json};
use tollgate::{ErrorKind, Price, Usd};

use crate::fixture::{Fixture, fine, rows};

/// An answer that took 10 and 5 model tokens.
fn spends(_: &Value, _: usize) -> (u16, String) {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5});
    (200, json!({"choices": [{}], "usage": usage}).to_string())
}

#[test]
fn a_run_that_has_spent_its_budget_says_so_and_carries_on_with_another() {
    let fixture = Fixture::new(&rows(100));
    let price = Price::per_million(1.0, 2.0).unwrap();
    let most: Usd = "0.0001".parse().unwrap();
    let summary = fixture
        .run_with(spends, |run| run.price(price).max_cost(most))
        .unwrap();
    // 20 millionths of a dollar each: the fifth reaches it, with three more in flight at most.
    let sent = fixture.sent() as u64;
    assert!((5..=5 + 3).contains(&sent), "{sent}");
    assert_eq!(summary.progress.succeeded, sent);
    assert_eq!(summary.not_attempted, 100 - sent);
    assert_eq!(summary.progress.prompt_tokens, sent * 10);
    let cost = summary.progress.cost.unwrap();
    assert_eq!(
        cost.to_string(),
        format!("0.{:06}", sent * 20).trim_end_matches('0')
    );
    let stopped = summary.stopped.unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Budget);
    assert!(stopped.kind().is_transient());
    assert!(stopped.to_string().contains(&cost.to_string()), "{stopped}");

    // What was spent before is none of this run's.
    let summary = fixture
        .run_with(spends, |run| run.token_budget(1_500))
        .unwrap();
    assert!(summary.stopped.is_none(), "{summary:?}");
    assert_eq!(fixture.sent(), 100);
    assert_eq!(summary.progress.cost, None);
}

#[test]
fn a_bound_on_the_cost_needs_a_price() {
    let fixture = Fixture::new(&rows(1));
    let run = fixture.run_with(fine, |run| run.max_cost(1));
    let error = run.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`price`"), "{error}");
    assert_eq!(fixture.sent(), 0);
}

#[test]
fn an_amount_that_is_none_is_refused_by_name() {
    let fixture = Fixture::new(&rows(1));
    for dollars in [-1.0, f64::NAN, f64::INFINITY] {
        let run = fixture.run_with(fine, |run| run.max_cost(dollars));
        let error = run.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("`max_cost`"), "{error}");
    }
    assert_eq!(fixture.sent(), 0);
}
