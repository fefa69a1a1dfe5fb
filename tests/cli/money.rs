//! What a run costs, and that it stops when it has cost enough.

use std::io::Write;
use std::process::Stdio;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, records, request};

/// With this an answer of 10 + 5 tokens costs two cents.
const PRICE: &str = "1000,2000";

fn with<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["run", "p.jsonl", "--summary", "s.json"], flags].concat()
}

#[test]
fn a_price_gives_the_cost_of_each_row_and_of_all() {
    let folder = Folder::new();
    folder.requests(5);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let arguments = with(&["--price", PRICE, "--progress", "json"]);
    let ended = folder.tool(&arguments).at(&server).run().code(0);
    let mut events = records(&ended.stderr).into_iter();
    let last = events.rfind(|event| event["event"] == "progress");
    assert_eq!(last.expect("progress")["cost_usd"], 0.1);
    for record in folder.records("p.results.jsonl") {
        assert_eq!(record["tollgate"]["cost_usd"], 0.02, "{record}");
    }
    assert_eq!(folder.json("s.json")["cost_usd"], 0.1);

    let people = folder.tool(&with(&["--price", PRICE, "--overwrite"]));
    people
        .at(&server)
        .run()
        .code(0)
        .says(&["cost       $0.1000\n"]);
    let free = folder.tool(&with(&["--price", "0,0", "--overwrite"]));
    free.at(&server)
        .run()
        .code(0)
        .says(&["cost       $0.0000\n"]);
    assert_eq!(folder.json("s.json")["cost_usd"], 0.0);
    let unknown = folder.tool(&with(&["--overwrite"]));
    unknown.at(&server).run().code(0).never_says(&["cost"]);
    assert_eq!(folder.json("s.json")["cost_usd"], Value::Null);
}

#[test]
fn a_run_stops_at_its_cost_and_a_rerun_goes_on_with_as_much_again() {
    let folder = Folder::new();
    folder.requests(7);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let arguments = with(&["-c", "1", "--price", PRICE, "--max-cost", "0.05"]);
    let run = || folder.tool(&arguments).at(&server).run();
    run().code(3).says(&[
        "error: this run has spent 0.06 USD, and its limit is 0.05 USD",
        "(--max-cost)\n",
        "3 of 7 requests",
        "4 not done yet",
        "tollgate run p.jsonl --summary s.json -c 1",
    ]);
    assert_eq!(server.count(), 3);
    assert_eq!(folder.names(), ["p.jsonl", "p.results.jsonl", "s.json"]);
    let summary = folder.json("s.json");
    let told = ["exit", "not_attempted", "cost_usd"].map(|key| summary[key].clone());
    assert_eq!(told, [json!(3), json!(4), json!(0.06)]);

    run().code(3);
    assert_eq!(server.count(), 6);
    // The last row spends nothing that would be missed.
    run().code(0).never_says(&["(--max-cost)"]);
    assert_eq!(server.count(), 7);
    assert_eq!(folder.records("p.results.jsonl").len(), 7);
}

#[test]
fn a_budget_that_the_last_row_spends_has_stopped_nothing() {
    let folder = Folder::new();
    folder.requests(3);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let arguments = with(&["-c", "1", "--token-budget", "45"]);
    let ended = folder.tool(&arguments).at(&server).run().code(0);
    ended.never_says(&["error", "carry on"]);
}

#[test]
fn what_is_in_flight_is_finished_and_nothing_more_is_sent() {
    let folder = Folder::new();
    folder.requests(50);
    let together = Arc::new(Barrier::new(4));
    let server = Faultd::script({
        let together = Arc::clone(&together);
        move |seen| {
            // Nobody is answered before four are on the wire; a fifth would never be.
            if seen.index < 4 {
                together.wait();
                return Reply::ok_chat("hello");
            }
            Reply::stall()
        }
    });
    let arguments = with(&["-c", "4", "--token-budget", "15", "--timeout", "20s"]);
    let ended = folder.tool(&arguments).at(&server).run().code(3);
    // The first answer spends it; by the time it is told, others have.
    ended.says(&[
        "60 model tokens",
        "budget is 15",
        "(--token-budget)",
        "46 not done yet",
    ]);
    assert_eq!(server.count(), 4);
    assert_eq!(folder.records("p.results.jsonl").len(), 4);
}

#[test]
fn a_retry_is_not_sent_either() {
    let folder = Folder::new();
    folder.requests(3);
    let server = Faultd::replies([
        Reply::error(500, "server_error", "oops", "again later"),
        Reply::ok_chat("hello"),
    ]);
    let arguments = with(&["-c", "1", "--token-budget", "1"]);
    folder.tool(&arguments).at(&server).run().code(3);
    assert_eq!(server.count(), 2);
    assert_eq!(folder.names(), ["p.jsonl", "p.results.jsonl", "s.json"]);
    assert_eq!(folder.json("s.json")["not_attempted"], 2);
}

#[test]
fn a_failure_that_says_what_it_took_counts() {
    let folder = Folder::new();
    folder.requests(3);
    let body = json!({
        "error": {"message": "it broke off", "code": 502},
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    });
    let server = Faultd::replies([Reply::json(body.to_string())]);
    let arguments = with(&["-c", "1", "--max-attempts", "1", "--price", PRICE]);
    let arguments = [&arguments[..], &["--max-cost", "0.04"]].concat();
    folder.tool(&arguments).at(&server).run().code(3);
    assert_eq!(server.count(), 2);
    assert_eq!(folder.json("s.json")["cost_usd"], 0.04);
}

#[test]
fn an_attempt_that_hedging_cuts_off_is_in_the_cost_as_an_estimate() {
    let folder = Folder::new();
    folder.requests(40);
    let ok = Reply::ok_chat("hello").after(Duration::from_millis(5));
    let run = |flags: &[&str]| {
        let server = Faultd::replies([Reply::stall(), ok.clone()]);
        let arguments = [&with(flags)[..], &["--price", PRICE]].concat();
        folder.tool(&arguments).at(&server).run().code(0)
    };
    let ended = run(&["--hedge"]);
    let summary = folder.json("s.json");
    let number = |key: &str| summary[key].as_f64().expect(key);
    let cut = number("hedges_cut");
    assert!(cut >= 1.0, "{summary}");
    assert!(number("unanswered") <= cut && number("unanswered") >= 1.0);
    let answers = number("prompt_tokens") / 10.0;
    assert!(answers >= 40.0, "{summary}");
    let (all, part) = (number("cost_usd"), number("estimated_cost_usd"));
    assert!((all - part - 0.02 * answers).abs() < 1e-9, "{summary}");
    // What is usual is learned from the answers before it. The first guess of an answer is 500 tokens.
    assert!(part > 0.0 && part < 0.5 * cut, "{summary}");
    let tokens = ["estimated_prompt_tokens", "estimated_completion_tokens"].map(number);
    assert!(
        (tokens[0] / 1e3 + tokens[1] / 500.0 - part).abs() < 1e-9,
        "{summary}"
    );
    ended.says(&[
        "cost       $0.8",
        ", of that some $",
        "without an answer, which may have been billed\n",
    ]);

    let ended = folder.tool(&with(&["--price", PRICE, "--overwrite"]));
    let server = Faultd::replies([ok]);
    ended
        .at(&server)
        .run()
        .code(0)
        .says(&["cost       $0.8000\n"]);
    let summary = folder.json("s.json");
    assert_eq!(summary["estimated_cost_usd"], 0.0, "{summary}");
}

#[test]
fn an_attempt_whose_answer_is_lost_counts_against_the_budget() {
    for budget in [&["--token-budget", "15"][..], &["--max-cost", "0.05"]] {
        let folder = Folder::new();
        folder.requests(3);
        let server = Faultd::replies([Reply::stall(), Reply::ok_chat("hello")]);
        let arguments = [
            &with(budget)[..],
            &["-c", "1", "--timeout", "300ms", "--price", PRICE],
        ];
        let ended = folder.tool(&arguments.concat()).at(&server).run().code(3);
        ended.says(&[
            "error: this run has ",
            " by estimate, for attempts without an answer: 1), and its ",
            budget[0],
        ]);
        assert_eq!(server.count(), 1);
        let summary = folder.json("s.json");
        assert_eq!(summary["prompt_tokens"], 0);
        assert_eq!(summary["cost_usd"], summary["estimated_cost_usd"]);
        assert_eq!(summary["unanswered"], 1);
    }
}

#[test]
fn an_answer_that_does_not_say_what_it_took_is_warned_of_once_where_there_is_a_budget() {
    let folder = Folder::new();
    folder.requests(3);
    let server = Faultd::replies([Reply::json(r#"{"choices":[{}]}"#)]);
    let warning = "no \"usage\"";
    for budget in [
        &["--token-budget", "1"][..],
        &["--price", PRICE, "--max-cost", "0.01"],
    ] {
        let arguments = [&with(budget)[..], &["--overwrite"]].concat();
        let ended = folder.tool(&arguments).at(&server).run().code(0);
        assert_eq!(ended.stderr.matches(warning).count(), 1, "{ended:?}");
        let ended = ended.says(&["warning: "]);
        let priced = ended
            .stderr
            .contains("3 answers did not say what they used");
        assert_eq!(priced, budget.contains(&PRICE), "{ended:?}");
        assert_eq!(folder.json("s.json")["uncounted"], 3);
    }
    // Nothing hangs on it here.
    let tool = folder.tool(&with(&["--overwrite"])).at(&server);
    tool.run().code(0).never_says(&[warning]);
}

#[test]
fn a_total_alone_counts_against_a_budget() {
    let folder = Folder::new();
    folder.requests(5);
    let server = Faultd::replies([Reply::json(
        r#"{"choices":[{}],"usage":{"total_tokens":7}}"#,
    )]);
    let arguments = with(&["-c", "1", "--token-budget", "14"]);
    let ended = folder.tool(&arguments).at(&server).run().code(3);
    ended
        .says(&["14 model tokens"])
        .never_says(&["no \"usage\""]);
    assert_eq!(server.count(), 2);
}

#[test]
fn an_input_that_never_ends_is_left_when_the_budget_is_spent() {
    let folder = Folder::new();
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let tool = folder.tool(&["run", "-", "--token-budget", "15"]);
    let mut running = tool.at(&server).stdin(Stdio::piped()).start();
    let mut stdin = running.child().stdin.take().expect("a pipe");
    stdin.write_all(request("a").as_bytes()).expect("it reads");
    stdin.flush().expect("it reads");
    let ended = running
        .wait()
        .code(3)
        .says(&["budget is 15", "(--token-budget)"]);
    assert_eq!(records(&ended.stdout).len(), 1);
    drop(stdin);
}

#[test]
fn an_account_without_money_stops_the_run_and_nothing_is_lost() {
    for (status, kind, code) in [
        (429, "insufficient_quota", "insufficient_quota"),
        (
            429,
            "billing_hard_limit_reached",
            "billing_hard_limit_reached",
        ),
        (402, "invalid_request_error", "payment_required"),
    ] {
        let folder = Folder::new();
        folder.requests(6);
        let server = Faultd::replies([
            Reply::ok_chat("hello"),
            Reply::error(status, kind, code, "You exceeded your current quota."),
        ]);
        let run = |server: &Faultd| folder.tool(&with(&["-c", "1"])).at(server).run();
        let ended = run(&server).code(3);
        ended.says(&["error: ", code, "1 of 6 requests", "5 not done yet"]);
        assert_eq!(server.count(), 2, "{code}");
        assert_eq!(folder.names(), ["p.jsonl", "p.results.jsonl", "s.json"]);

        let topped_up = Faultd::replies([Reply::ok_chat("hello")]);
        run(&topped_up).code(0);
        assert_eq!(topped_up.count(), 5, "{code}");
    }
}
