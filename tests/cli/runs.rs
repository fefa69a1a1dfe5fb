//! Runs that end: what is written, what is said, with which exit code.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::faultd::{Faultd, Seen, refused_addr};
use crate::support::reply::Reply;
use crate::tool::{Folder, KEY, holds, records, request};

#[test]
fn a_trial_needs_no_key_and_answers_every_row() {
    let folder = Folder::new();
    folder.requests(30);
    let tool = folder.tool(&[
        "run",
        "p.jsonl",
        "--simulate=latency=5ms",
        "--summary",
        "s.json",
    ]);
    tool.run()
        .code(0)
        .says(&["30 of 30 requests", "p.simulated.jsonl", "(simulated)"])
        .never_says(&["carry on", "error"]);
    assert_eq!(folder.names(), ["p.jsonl", "p.simulated.jsonl", "s.json"]);

    let mut ids: Vec<String> = Vec::new();
    for record in folder.records("p.simulated.jsonl") {
        assert_eq!(record["response"]["status_code"], 200);
        let text = &record["response"]["body"]["choices"][0]["message"]["content"];
        assert!(text.as_str().unwrap().starts_with("Simulated"), "{record}");
        ids.push(record["custom_id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    let mut expected: Vec<String> = (0..30).map(|row| format!("r{row}")).collect();
    expected.sort();
    assert_eq!(ids, expected);

    let summary = folder.json("s.json");
    let keys: Vec<&str> = summary
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "advice",
            "attempts",
            "binding",
            "binding_share",
            "completion_tokens",
            "concurrency",
            "cost_usd",
            "estimated_completion_tokens",
            "estimated_cost_usd",
            "estimated_prompt_tokens",
            "exit",
            "failed",
            "failed_for_good",
            "failures",
            "hedges",
            "hedges_cut",
            "hedges_won",
            "in_flight_mean",
            "in_flight_peak",
            "learned",
            "lost",
            "not_attempted",
            "possibly_billed",
            "prompt_tokens",
            "requests",
            "retries",
            "rps",
            "shared_limit",
            "skipped",
            "succeeded",
            "threads_peak",
            "throttled",
            "unanswered",
            "uncounted",
            "wait_s",
            "wall_s",
        ]
    );
    let waits: Vec<&String> = summary["wait_s"].as_object().unwrap().keys().collect();
    assert_eq!(
        waits,
        [
            "backoff",
            "gate_input_tokens",
            "gate_output_tokens",
            "gate_requests",
            "gate_tokens",
            "pause",
            "warmup",
            "wire"
        ]
    );
    assert_eq!(summary["requests"], 30);
    assert_eq!(summary["succeeded"], 30);
    assert_eq!(summary["attempts"], 30);
    assert_eq!(summary["exit"], 0);

    // Anew each time, not carried on with.
    let again = folder.tool(&["run", "p.jsonl", "--simulate=latency=5ms"]);
    again.run().code(0).says(&["30 of 30 requests"]);
    assert_eq!(folder.records("p.simulated.jsonl").len(), 30);
}

#[test]
fn results_go_beside_the_input_and_a_rerun_asks_nothing_twice() {
    let folder = Folder::new();
    folder.requests(10);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let run = || folder.tool(&["run", "p.jsonl"]).at(&server).run();
    run()
        .code(0)
        .says(&["10 of 10 requests", "p.results.jsonl"]);
    assert_eq!(folder.names(), ["p.jsonl", "p.results.jsonl"]);
    let bearer = format!("Bearer {KEY}");
    for seen in server.requests() {
        assert_eq!(seen.path, "/v1/chat/completions");
        assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
    }
    run()
        .code(0)
        .says(&["10 of 10 requests, 10 of them done before"]);
    assert_eq!(server.count(), 10);
    assert_eq!(folder.records("p.results.jsonl").len(), 10);
}

#[test]
fn a_bad_line_among_good_ones_is_one_failed_row() {
    let folder = Folder::new();
    let lines = [
        &request("a"),
        "not json\n",
        &request("b"),
        "{\"body\":{}}\n",
    ]
    .concat();
    folder.write("p.jsonl", lines);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let tool = folder
        .tool(&["run", "p.jsonl", "--summary", "s.json"])
        .at(&server);
    tool.run()
        .code(1)
        .says(&[
            "2 of 4 requests",
            "warning: line 2 failed: not JSON",
            "p.errors.jsonl",
            "try again",
            "tollgate run p.jsonl",
        ])
        .never_says(&["line 4 failed"]);
    assert_eq!(server.count(), 2);
    assert_eq!(folder.records("p.results.jsonl").len(), 2);
    let errors = folder.records("p.errors.jsonl");
    let lines: Vec<&Value> = errors
        .iter()
        .map(|error| &error["tollgate"]["line"])
        .collect();
    assert_eq!(lines, [2, 4]);
    for error in &errors {
        assert_eq!(error["error"]["code"], "invalid_request_line");
        let line = &error["tollgate"]["line"];
        assert_eq!(error["custom_id"], format!("line-{line}"));
    }
    assert_eq!(folder.json("s.json")["exit"], 1);
}

#[test]
fn the_final_report_says_what_a_rerun_repeats_and_a_rerun_does_so() {
    let folder = Folder::new();
    let server = Faultd::script(|seen| match seen.index {
        0 | 1 => Reply::status(500),
        2 => Reply::error(400, "invalid_request_error", "invalid", "no"),
        _ => Reply::ok_chat("hello"),
    });
    let requests: String = ["a", "b", "c", "d"].into_iter().map(request).collect();
    // A bad line of an earlier run is passed over where it has an id, and else met again.
    let bad = "no request\n{\"custom_id\":\"e\",\"method\":\"GET\",\"body\":{}}\n";
    folder.write("p.jsonl", requests + bad);
    let arguments = ["run", "p.jsonl", "-c", "1", "--max-attempts", "1"];
    let run = |flags: &[&str]| {
        let arguments = [&arguments[..], flags].concat();
        folder.tool(&arguments).at(&server).run().code(1)
    };
    run(&[]).says(&[
        "5; a rerun tries 2 of them again\n",
        "try again",
        "with --retry-failed it also sends 1 request that failed for good\n",
        "first correct 2 lines that cannot be sent\n",
    ]);
    assert_eq!(server.count(), 4);
    // What failed in an earlier run is counted in.
    run(&[]).says(&[
        "3 for good\n",
        "with --retry-failed it also sends 1 request that",
        "correct 2 lines that cannot",
    ]);
    assert_eq!(server.count(), 4 + 2);
    run(&["--retry-failed"])
        .says(&["2 for good\n", "correct 2 lines"])
        .never_says(&["with --retry-failed it"]);
    assert_eq!(server.count(), 4 + 2 + 1);
}

#[test]
fn an_empty_input_is_said_to_be_and_is_no_failure() {
    for text in ["", "\n\n  \r\n"] {
        let folder = Folder::new();
        folder.write("p.jsonl", text);
        let server = Faultd::replies([Reply::ok_chat("hello")]);
        let ended = folder.tool(&["run", "p.jsonl"]).at(&server).run();
        ended.code(0).says(&["p.jsonl", "is empty"]);
        assert_eq!(server.count(), 0);
    }
}

#[test]
fn prompts_are_sent_as_chats_to_the_model_that_was_named() {
    let folder = Folder::new();
    folder.write("p.txt", "first\n\nsecond\n");
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let arguments = [
        "run",
        "p.txt",
        "--model",
        "m",
        "--max-tokens",
        "7",
        "--system",
        "be brief",
    ];
    folder.tool(&arguments).at(&server).run().code(0);
    let mut asked: Vec<Value> = server.requests().iter().map(Seen::json).collect();
    asked.sort_by_key(|body| body["messages"][1]["content"].to_string());
    assert_eq!(asked.len(), 2);
    for (body, prompt) in asked.iter().zip(["first", "second"]) {
        assert_eq!(body["model"], "m");
        assert_eq!(body["max_tokens"], 7);
        assert_eq!(body["messages"][0]["content"], "be brief");
        assert_eq!(body["messages"][1]["content"], prompt);
    }
    let mut ids: Vec<Value> = folder.records("p.results.jsonl");
    ids.sort_by_key(|record| record["custom_id"].to_string());
    let ids: Vec<&Value> = ids.iter().map(|record| &record["custom_id"]).collect();
    assert_eq!(ids, ["line-1", "line-3"]);
}

#[test]
fn a_refused_key_stops_the_run_and_is_shown_nowhere() {
    let folder = Folder::new();
    folder.requests(50);
    let echo = format!("Incorrect API key provided: {KEY}.");
    let server = Faultd::replies([Reply::error(
        401,
        "invalid_request_error",
        "invalid_api_key",
        &echo,
    )]);
    let tool = folder.tool(&["run", "p.jsonl", "-c", "4", "-vv", "--summary", "s.json"]);
    tool.at(&server).run().code(3).says(&[
        "error: ",
        "OPENAI_API_KEY",
        "50 not done yet",
        "tollgate run p.jsonl",
    ]);
    assert!(server.count() <= 4, "{}", server.count());
    assert!(!holds(&folder.path("."), KEY));
    let summary = folder.json("s.json");
    assert_eq!(
        (&summary["exit"], &summary["not_attempted"]),
        (&3.into(), &50.into())
    );
}

#[test]
fn a_failed_request_is_repeated_by_the_command_that_is_printed() {
    let folder = Folder::new();
    folder.requests(3);
    let bad = Faultd::replies([
        Reply::error(500, "server_error", "oops", "\u{1b}[31mhostile\u{202e}"),
        Reply::ok_chat("hello"),
    ]);
    let arguments = ["run", "p.jsonl", "-c", "1", "--max-attempts", "1"];
    let ended = folder.tool(&arguments).at(&bad).run().code(1);
    let ended = ended.says(&["2 of 3 requests", "try again", "tollgate run p.jsonl -c 1"]);
    ended.never_says(&["\u{1b}", "\u{202e}"]);
    assert_eq!(folder.records("p.errors.jsonl").len(), 1);
    let good = Faultd::replies([Reply::ok_chat("hello")]);
    folder.tool(&arguments).at(&good).run().code(0);
    assert_eq!(good.count(), 1);
    assert_eq!(folder.names(), ["p.jsonl", "p.results.jsonl"]);
}

#[test]
fn what_was_refused_for_good_is_repeated_only_when_asked() {
    let folder = Folder::new();
    folder.requests(2);
    let strict = Faultd::replies([
        Reply::error(400, "invalid_request_error", "bad", "no such parameter"),
        Reply::ok_chat("hello"),
    ]);
    let run = |server: &Faultd, flags: &[&str]| {
        let arguments = [&["run", "p.jsonl", "-c", "1"], flags].concat();
        folder.tool(&arguments).at(server).run()
    };
    run(&strict, &[]).code(1).says(&["--retry-failed"]);
    let mild = Faultd::replies([Reply::ok_chat("hello")]);
    run(&mild, &[]).code(1);
    assert_eq!(mild.count(), 0);
    run(&mild, &["--retry-failed"]).code(0);
    assert_eq!(mild.count(), 1);
}

#[test]
fn the_command_to_carry_on_says_that_a_value_is_left_out() {
    let folder = Folder::new();
    folder.requests(1);
    let server = Faultd::script(|_| Reply::stall());
    let arguments = ["run", "p.jsonl", "-H", "X-A: b", "--deadline", "300ms"];
    let ended = folder.tool(&arguments).at(&server).run().code(3);
    ended.says(&[
        "-H 'X-A: …' --deadline 300ms\n",
        "\n           with the values that you gave in place of …\n",
    ]);
}

#[test]
fn a_page_that_cannot_be_written_is_not_told_as_one_that_is_there() {
    let folder = Folder::new();
    folder.requests(1);
    fs::create_dir(folder.path("d")).unwrap();
    let pages = folder.path("d");
    let server = Faultd::script(move |_| {
        let _ = fs::remove_dir(&pages);
        Reply::ok_chat("hello")
    });
    let arguments = ["run", "p.jsonl", "--report", "d/r.html"];
    let ended = folder.tool(&arguments).at(&server).run().code(4);
    ended
        .says(&["error: --report: cannot write"])
        .never_says(&["report     "]);
}

#[test]
fn a_run_out_of_time_stops_and_can_be_gone_on_with() {
    let folder = Folder::new();
    folder.requests(3);
    let server = Faultd::script(|_| Reply::stall());
    let nobody = format!("http://{}/v1", refused_addr());
    let there = format!("{}/v1", server.url());
    // What was sent and never answered may have been paid for; what nobody took was not.
    for (url, sent, why) in [(&there, 3, "time is over"), (&nobody, 0, "cannot connect")] {
        let arguments = [
            "run",
            "p.jsonl",
            "--deadline",
            "300ms",
            "--summary",
            "s.json",
        ];
        let tool = folder.tool(&arguments).env("OPENAI_BASE_URL", url);
        let ended = tool.env("OPENAI_API_KEY", KEY).run().code(3);
        ended.says(&["3 not done yet", "tollgate run p.jsonl", why]);
        let summary = folder.json("s.json");
        assert_eq!(summary["possibly_billed"], sent, "{summary}");
    }
}

#[test]
fn the_base_url_that_is_typed_goes_before_the_one_that_is_set() {
    let folder = Folder::new();
    folder.requests(1);
    let (typed, set) = (
        Faultd::replies([Reply::ok_chat("typed")]),
        Faultd::replies([Reply::ok_chat("set")]),
    );
    let url = format!("{}/v1", typed.url());
    let tool = folder.tool(&["run", "p.jsonl", "--base-url", &url, "--no-auth"]);
    tool.at(&set).run().code(0);
    assert_eq!((typed.count(), set.count()), (1, 0));
    assert_eq!(typed.requests()[0].header("authorization"), None);
}

#[test]
fn a_key_from_a_file_is_sent_and_never_an_argument() {
    let folder = Folder::new();
    folder.requests(1).write("key", format!("{KEY}\r\n"));
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let tool = folder.tool(&["run", "p.jsonl", "--api-key-file", "key"]);
    tool.at(&server)
        .env("OPENAI_API_KEY", "another")
        .run()
        .code(0);
    let bearer = format!("Bearer {KEY}");
    assert_eq!(
        server.requests()[0].header("authorization"),
        Some(bearer.as_str())
    );
}

#[test]
fn a_limit_on_requests_is_kept_and_named_as_what_binds() {
    let folder = Folder::new();
    folder.requests(21);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let flags = "--rps 9 --burst 1 --summary s.json --progress json".split(' ');
    let tool = [&["run", "p.jsonl"], &flags.collect::<Vec<_>>()[..]].concat();
    let began = Instant::now();
    let ended = folder.tool(&tool).at(&server).run().code(0);
    let summary = folder.json("s.json");
    assert_eq!(summary["binding"], "requests");
    assert!(
        summary["binding_share"]["requests"].as_f64() >= Some(0.5),
        "{summary}"
    );
    let advice = summary["advice"].as_str().unwrap();
    assert!(
        advice.starts_with("the limit on requests (9/s) bound for "),
        "{advice}"
    );
    assert!(
        advice.ends_with("at once would have been enough"),
        "{advice}"
    );
    ended.says(&["\"binding\":\"requests\"", advice]);
    let seen = server.requests();
    // Never early.
    assert!(seen[20].at - began >= Duration::from_millis(20 * 1000 / 9));
}

#[test]
fn the_first_request_of_a_warm_up_goes_alone_also_where_an_earlier_run_left_off() {
    let folder = Folder::new();
    folder.requests(2);
    let server = Faultd::replies([Reply::ok_chat("hello").after(Duration::from_millis(50))]);
    let run = || {
        let arguments = ["run", "p.jsonl", "--warmup", "1"];
        folder.tool(&arguments).at(&server).run().code(0);
    };
    run();
    folder.requests(6);
    run();
    let seen = server.requests();
    assert_eq!(seen.len(), 6);
    // Never early: the first of each run has its answer by then.
    for (first, next) in [(0, 1), (2, 3), (2, 4), (2, 5)] {
        let apart = seen[next].at - seen[first].at;
        assert!(apart >= Duration::from_millis(50), "{apart:?}");
    }
}

#[test]
fn a_warm_up_is_named_as_what_held_the_others() {
    let folder = Folder::new();
    folder.requests(6);
    let slow = Reply::ok_chat("hello").after(Duration::from_millis(1_500));
    let server = Faultd::replies([slow, Reply::ok_chat("hello")]);
    let mut arguments = vec!["run", "p.jsonl", "--warmup", "1"];
    arguments.extend(["--progress", "always", "--summary", "s.json"]);
    let ended = folder.tool(&arguments).at(&server).run().code(0);
    ended.says(&["limit: warm-up, 1 in flight", "warm-up    "]);
    let summary = folder.json("s.json");
    assert_eq!(summary["binding"], "warmup");
    let waited = summary["wait_s"]["warmup"].as_f64();
    assert!(waited >= Some(1.0), "{summary}");
    let records = folder.records("p.results.jsonl");
    let waits = records.iter();
    let waits = waits.filter_map(|it| it["tollgate"]["time_s"]["warmup"].as_f64());
    let waits: Vec<f64> = waits.collect();
    assert_eq!(waits.len(), 1, "one row waits at a time: {records:?}");
    assert!(waits[0] >= 1.0, "{waits:?}");
}

#[test]
fn what_binds_of_input_and_output_tokens_is_told_apart() {
    let folder = Folder::new();
    folder.requests(120);
    // Some 60 tokens an answer: 7,200 at 1,000 a second, after a burst of 2,000.
    let provider = "--simulate=latency=20ms,input-tpm=600000,output-tpm=60000,headers=anthropic";
    let mut arguments = vec!["run", "p.jsonl", "-o", "r.jsonl", provider];
    arguments.extend(["--summary", "s.json", "--report", "r.html"]);
    let ended = folder.tool(&arguments).run().code(0);
    let told = "600,000 input tokens/min and 60,000 output tokens/min learned from headers";
    let advice = "the limit on output tokens (60,000/min learned from headers) bound for";
    ended.says(&[told, advice]);
    let summary = folder.json("s.json");
    assert_eq!(summary["binding"], "output_tokens");
    assert_eq!(summary["learned"]["output_tokens_per_s"], 1_000.0);
    assert_eq!(summary["learned"]["tokens_per_s"], Value::Null);
    let wait = &summary["wait_s"];
    assert!(wait["gate_output_tokens"].as_f64() > Some(0.0), "{wait}");
    assert_eq!(wait["gate_tokens"], 0.0);
    let records = folder.records("r.jsonl");
    let mut times = records.iter().map(|it| &it["tollgate"]["time_s"]);
    assert!(times.any(|it| it["output_tokens"].as_f64() > Some(0.0)));
    let page = std::fs::read_to_string(folder.path("r.html")).unwrap();
    let told = told.replace('/', "&#x2f;");
    for words in [told.as_str(), "limit on output tokens"] {
        assert!(page.contains(words), "{words}: {page}");
    }
}

#[test]
fn in_its_first_pause_a_run_says_that_it_may_be_too_many_at_once() {
    let folder = Folder::new();
    folder.requests(60);
    let provider = "--simulate=latency=300ms,jitter=0,places=3@60s";
    let mut arguments = vec!["run", "p.jsonl", "-o", "r.jsonl", provider];
    arguments.extend(["--deadline", "3", "--progress", "always"]);
    arguments.extend(["--summary", "s.json"]);
    let ended = folder.tool(&arguments).run().code(3);
    ended.says(&[" at once learned from refusals", "too many at once: -c "]);
    let summary = folder.json("s.json");
    assert!(summary["learned"]["maybe_at_once"].is_u64(), "{summary}");
}

#[test]
fn an_answer_that_does_not_come_is_hedged_and_holds_nothing_up() {
    let folder = Folder::new();
    folder.requests(40);
    let ok = Reply::ok_chat("hello").after(Duration::from_millis(5));
    let server = Faultd::replies([Reply::stall(), ok]);
    let mut arguments = vec!["run", "p.jsonl", "--hedge", "--summary", "s.json"];
    arguments.extend(["--report", "r.html"]);
    let ended = folder.tool(&arguments).at(&server).run().code(0);
    let summary = folder.json("s.json");
    let page = std::fs::read_to_string(folder.path("r.html")).unwrap();
    for words in ["<li>hedging: ", " hedging cop", " cut off, which"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let ended = ended.says(&[
        "hedging    ",
        " sent, ",
        " cut off, which may have been billed",
    ]);
    assert!(!ended.stderr.contains("was lost"), "{}", ended.stderr);
    let (hedges, won) = (&summary["hedges"], &summary["hedges_won"]);
    assert!(hedges.as_u64() >= Some(1) && hedges.as_u64() <= Some(2));
    assert!(won.as_u64() >= Some(1), "{summary}");
    assert!(summary["hedges_cut"].as_u64() >= Some(1), "{summary}");
    assert_eq!(summary["possibly_billed"], 0, "{summary}");
    assert!(summary["succeeded"] == 40 && summary["retries"] == 0);
    let records = folder.records("p.results.jsonl");
    let mut extras = records.iter().map(|record| &record["tollgate"]);
    let told = extras.find(|extras| extras["hedge_won"] == true);
    assert_eq!(told.expect("a record that says so")["attempts"], 2);

    let error = folder
        .tool(&["run", "p.jsonl", "--hedge", "-c", "1"])
        .at(&server);
    error.run().code(2).says(&["--hedge", "--concurrency"]);
    let error = folder
        .tool(&["run", "p.jsonl", "--hedge", "--max-attempts", "1"])
        .at(&server);
    error.run().code(2).says(&["--hedge", "--max-attempts"]);
}

#[test]
fn a_timeline_has_both_attempts_of_a_race_and_says_which_was_cut_off() {
    let ok = |ms| Reply::ok_chat("hello").after(Duration::from_millis(ms));
    let broken = Reply::error(500, "server_error", "oops", "no");
    for (first, copy, won, other) in [
        (Reply::stall(), ok(5), true, ("cut", json!(true))),
        (ok(2_000), Reply::stall(), false, ("cut", json!(true))),
        (ok(2_000), broken, false, ("status", json!(500))),
    ] {
        let folder = Folder::new();
        let rows: String = (0..40).map(|row| request(&format!("r{row}"))).collect();
        folder.write("p.jsonl", rows.replacen("\"hi\"", "\"slow\"", 1));
        let attempts = AtomicUsize::new(0);
        // On a loaded machine others take long as well, and have copies.
        let server = Faultd::script(move |seen| {
            if seen.json()["messages"][0]["content"] != "slow" {
                return ok(5);
            }
            match attempts.fetch_add(1, Ordering::Relaxed) {
                0 => first.clone(),
                _ => copy.clone(),
            }
        });
        folder
            .tool(&["run", "p.jsonl", "--hedge"])
            .at(&server)
            .run()
            .code(0);
        let records = folder.records("p.results.jsonl");
        let slow = records.iter().find(|record| record["custom_id"] == "r0");
        let extras = &slow.expect("its record")["tollgate"];
        assert_eq!(
            (&extras["attempts"], extras["hedge_won"] == true),
            (&json!(2), won)
        );
        let timeline = extras["timeline"].as_array().expect("a timeline");
        let [beside, last] = &timeline[..] else {
            panic!("{extras}");
        };
        assert_eq!(beside[other.0], other.1, "{extras}");
        let start = |span: &Value| span["start_ms"].as_u64().expect("a time");
        assert_eq!(start(beside) < start(last), won, "{extras}");
        assert!(
            beside["end_ms"].as_u64() <= last["end_ms"].as_u64(),
            "{extras}"
        );
        assert_eq!(
            last.as_object().map(serde_json::Map::len),
            Some(2),
            "{extras}"
        );
    }
}

#[test]
fn results_on_standard_output_are_nothing_but_records() {
    let folder = Folder::new();
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let lines = [&request("a"), "not json\n", &request("b")].concat();
    let ended = folder
        .tool(&["run", "-"])
        .at(&server)
        .fed(lines.as_bytes())
        .code(1);
    assert_eq!(records(&ended.stdout).len(), 3);
    assert_eq!(folder.names(), [""; 0]);
    ended.never_says(&["carry on"]);
}

#[test]
fn a_disk_that_is_full_is_the_tools_own_kind_of_end() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let folder = Folder::new();
    folder.requests(3);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let arguments = [
        "run",
        "p.jsonl",
        "-o",
        "/dev/full",
        "--errors",
        "e.jsonl",
        "--summary",
        "s.json",
    ];
    let ended = folder.tool(&arguments).at(&server).run().code(4);
    ended.says(&["error: ", "/dev/full"]);
    let summary = folder.json("s.json");
    assert_eq!(summary["exit"], 4);
    // Answered, paid for, not kept, and asked for again by a rerun.
    assert!(summary["possibly_billed"].as_u64() >= Some(1), "{summary}");
}

#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_files_is_told_as_a_full_disk_is() {
    let folder = Folder::new();
    folder.requests(40);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let url = format!("{}/v1", server.url());
    let script = "ulimit -f 4; exec \"$TOLLGATE\" run p.jsonl --summary s.json";
    let tool = folder.shell(script).env("OPENAI_BASE_URL", &url);
    let ended = tool.env("OPENAI_API_KEY", KEY).run().code(4);
    ended.says(&["error: ", "p.results.jsonl"]);
    assert_eq!(folder.json("s.json")["exit"], 4);
}

#[test]
fn rows_refused_for_good_are_repeated_by_the_command_that_is_printed() {
    let folder = Folder::new();
    folder.requests(3);
    let strict = Faultd::replies([
        Reply::error(400, "invalid_request_error", "bad", "no such parameter"),
        Reply::ok_chat("hello"),
    ]);
    let arguments = ["run", "p.jsonl", "-c", "1", "--ordered"];
    let ended = folder.tool(&arguments).at(&strict).run().code(1);
    let ended = ended.says(&["tollgate run --retry-failed p.jsonl -c 1 --ordered\n"]);
    ended.never_says(&["more --concurrency"]);
    let mild = Faultd::replies([Reply::ok_chat("hello")]);
    let printed = [&arguments[..], &["--retry-failed"]].concat();
    folder.tool(&printed).at(&mild).run().code(0);
    assert_eq!(mild.count(), 1);
    let records = folder.records("p.results.jsonl");
    let ids = records.iter().map(|record| &record["custom_id"]);
    assert!(ids.eq(["r0", "r1", "r2"]), "in the order of the input");
}

#[test]
fn a_run_that_an_outage_holds_up_says_what_it_waits_for() {
    let folder = Folder::new();
    folder.requests(3);
    let address = refused_addr();
    let tool = folder
        .tool(&[
            "run",
            "p.jsonl",
            "--deadline",
            "5s",
            "--progress",
            "json",
            "--summary",
            "s.json",
        ])
        .env("OPENAI_BASE_URL", &format!("http://{address}/v1"))
        .env("OPENAI_API_KEY", KEY);
    let ended = tool.run().code(3);
    let held: Vec<Value> = records(&ended.stderr)
        .into_iter()
        .map(|event| event["held"].clone())
        .filter(Value::is_object)
        .collect();
    let first = held.first().expect("it says so");
    let error = first["error"].as_str().unwrap();
    assert!(error.contains(&address.to_string()), "{error}");
    // Said once a second, and for four seconds before the last probe.
    let mut tries = held.iter().filter_map(|it| it["next_try_s"].as_f64());
    assert!(tries.next().expect("it promises one") <= 60.0, "{held:?}");
    // After the last probe there is none to promise.
    let last = held.last().expect("the last is told, too");
    assert_eq!(last["next_try_s"], Value::Null, "{last}");
    // The second of waiting before the first probe is in the account.
    let summary = folder.json("s.json");
    assert!(
        summary["wait_s"]["backoff"].as_f64().unwrap() >= 1.0,
        "{summary}"
    );
}

#[test]
fn a_try_has_its_time_and_no_more() {
    let folder = Folder::new();
    folder.requests(2);
    let server = Faultd::script(|seen| match seen.index {
        0 => Reply::stall(),
        _ => Reply::ok_chat("hello"),
    });
    let arguments = ["run", "p.jsonl", "-c", "1", "--timeout", "300ms"];
    let once = [&arguments[..], &["--max-attempts", "1"]].concat();
    folder.tool(&once).at(&server).run().code(1);
    let seen = server.requests();
    // Never early; 10 ms for the way to the server.
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(300 - 10));
    assert_eq!(
        folder.records("p.errors.jsonl")[0]["error"]["code"],
        "timeout"
    );
    folder.tool(&arguments).at(&server).run().code(0);
}

#[test]
fn a_quiet_run_says_in_a_line_that_rows_have_failed_and_where() {
    let folder = Folder::new();
    folder.requests(3);
    let bad = Reply::error(400, "invalid_request_error", "bad", "no such parameter");
    let server = Faultd::replies([Reply::ok_chat("hello"), bad]);
    let tool = folder.tool(&["run", "p.jsonl", "-q", "-c", "1"]);
    let ended = tool.at(&server).run().code(1);
    let line = "error: 2 requests have failed: each has its record in \"p.errors.jsonl\"\n";
    assert_eq!(ended.stderr, line);
}

#[test]
fn a_pause_beyond_the_deadline_is_told_with_its_end_and_its_remedy() {
    let folder = Folder::new();
    folder.requests(3);
    let words = "Rate limit reached on requests per min (RPM): Limit 60, Used 60, Requested 1.";
    let limited = Reply::error(429, "requests", "rate_limit_exceeded", words);
    let server = Faultd::replies([limited.header("retry-after", "90")]);
    let arguments = ["run", "p.jsonl", "--deadline", "60s", "--summary", "s.json"];
    let ended = folder.tool(&arguments).at(&server).run().code(3);
    ended
        .says(&[
            "error: the server asked for a pause of ",
            " s more, until 20",
            "and the run's time is over before that (--deadline): ",
            "advice     the server says 60 a minute: --rpm 60\n",
        ])
        .never_says(&["error: the run's time is over"]);
    assert_eq!(
        folder.json("s.json")["advice"],
        "the server says 60 a minute: --rpm 60"
    );
}

#[test]
fn a_wait_that_is_too_long_for_one_holds_no_other_that_shares_the_limit() {
    let folder = Folder::new();
    folder.requests(2);
    let server = Faultd::script(|seen| match seen.index {
        0 => Reply::status(429).header("retry-after", "86400"),
        _ => Reply::ok_chat("hello"),
    });
    let run = |output| {
        let run = ["run", "p.jsonl", "-o", output, "-c", "1", "--rps", "50"];
        let shared = ["--shared-limit", "file:limit", "--deadline", "20s"];
        folder.tool(&[&run[..], &shared].concat()).at(&server).run()
    };
    run("1.jsonl")
        .code(3)
        .says(&["a longer wait than is allowed", "(--max-server-delay)"]);
    run("2.jsonl").code(0);
}
