//! The figures at the end: they count what they name, and time is the whole time.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::faultd::{Faultd, Seen};
use crate::support::reply::Reply;
use crate::tool::{Folder, request, until};

/// Runs with a summary over so many rows, and gives what it says.
fn summary(rows: usize, arguments: &[&str], server: &Faultd, code: i32) -> serde_json::Value {
    let folder = Folder::new();
    folder.requests(rows);
    let all = [&["run", "p.jsonl", "--summary", "s.json"], arguments].concat();
    folder.tool(&all).at(server).run().code(code);
    folder.json("s.json")
}

#[test]
fn rows_are_counted_that_may_be_paid_for_twice_and_not_attempts() {
    type Script = fn(&Seen, fn() -> Reply, fn() -> Reply) -> Reply;
    let page = || Reply::status(200).body("<html>log in</html>");
    let gateway = || Reply::status(502).body("<html>Bad gateway</html>");
    let table: [(&str, Script, i32, u64); 4] = [
        // Each answer came: what is in it is another question.
        ("no JSON, each time", |_, page, _| page(), 1, 0),
        ("a gateway, each time", |_, _, gateway| gateway(), 1, 5),
        (
            "a gateway, then good answers",
            |seen, _, gateway| match seen.index {
                0..5 => gateway(),
                _ => Reply::ok_chat("hi"),
            },
            0,
            5,
        ),
        (
            "a plain failure, then good answers",
            |seen, _, _| match seen.index {
                0..5 => Reply::status(500),
                _ => Reply::ok_chat("hi"),
            },
            0,
            0,
        ),
    ];
    for (what, script, code, rows) in table {
        let server = Faultd::script(move |seen| script(seen, page, gateway));
        let summary = summary(5, &["--max-attempts", "3"], &server, code);
        assert_eq!(summary["possibly_billed"], rows, "{what}: {summary}");
        let (sent, retries) = (server.count() as u64, &summary["retries"]);
        assert_eq!(summary["attempts"], sent, "{what}: {summary}");
        assert_eq!(*retries, sent - 5, "{what}: {summary}");
    }
}

#[cfg(unix)]
#[test]
fn a_retry_that_was_never_made_is_none() {
    let server = Faultd::script(|_| Reply::status(503).header("retry-after", "60"));
    let folder = Folder::new();
    folder.requests(1);
    let arguments = ["run", "p.jsonl", "-v", "--summary", "s.json"];
    let mut running = folder.tool(&arguments).at(&server).start();
    running.until_it_says("HTTP 503");
    // The answer is told of before the retry is planned.
    std::thread::sleep(Duration::from_millis(100));
    running.interrupt();
    running.wait().code(130);
    let summary = folder.json("s.json");
    let figures = (&summary["attempts"], &summary["retries"]);
    assert_eq!(figures, (&1.into(), &0.into()), "{summary}");
}

#[test]
fn time_is_from_the_start_to_the_end_whatever_the_end_is() {
    // One good answer at once, and then nothing more is recorded.
    let table: [(&str, &[&str], Reply, i32); 2] = [
        (
            "the time is over",
            &["--deadline", "700ms"],
            Reply::stall(),
            3,
        ),
        (
            "the run stops by itself",
            &[],
            Reply::error(401, "auth", "invalid_api_key", "no").after(Duration::from_millis(700)),
            3,
        ),
    ];
    for (what, arguments, then, code) in table {
        let server = Faultd::replies([Reply::ok_chat("hi"), then]);
        let arguments = [arguments, &["-c", "1"]].concat();
        let summary = summary(2, &arguments, &server, code);
        let (wall, rps) = (summary["wall_s"].as_f64(), summary["rps"].as_f64());
        assert!(wall.is_some_and(|wall| wall >= 0.7), "{what}: {summary}");
        // One row in so many seconds.
        let product = wall.unwrap_or_default() * rps.unwrap_or_default();
        assert!((product - 1.0).abs() < 0.01, "{what}: {summary}");
    }
}

#[test]
fn why_rows_failed_is_said_at_the_end_the_most_frequent_reason_first() {
    let folder = Folder::new();
    let mut input: String = (0..12).map(|row| request(&format!("r-{row}"))).collect();
    input.push_str("no request\n\n{\"custom_id\":\"x\"}\n");
    folder.write("p.jsonl", input);
    // In the order of the input: one at a time.
    let server = Faultd::script(|seen| match seen.index {
        0..3 => Reply::ok_chat("hi"),
        3..9 => {
            let text = format!("Invalid model name in request {}", 97 + seen.index);
            Reply::error(400, "invalid_request_error", "400", &text)
        }
        9..11 => Reply::error(422, "x", "bad_field", "no such field"),
        _ => Reply::reset(),
    });
    let arguments = [
        "run",
        "p.jsonl",
        "-c",
        "1",
        "--max-attempts",
        "1",
        "--summary",
        "s.json",
    ];
    let ended = folder.tool(&arguments).at(&server).run().code(1);
    let reasons = [
        "why        6 x HTTP 400 \"Invalid model name in request 100\" (first: line 4, \"r-3\")\n",
        "           2 x HTTP 422 \"no such field\" (first: line 10, \"r-9\")\n",
        "           1 x ",
        "(first: line 12, \"r-11\")\n",
        "(first: line 13)\n",
        "(first: line 15, \"x\")\n",
    ];
    let places = reasons.map(|reason| ended.stderr.find(reason));
    assert!(places.is_sorted() && places[0].is_some(), "{ended:#?}");

    let summary = folder.json("s.json");
    let groups = summary["failures"].as_array().expect("a list");
    let sum: u64 = groups
        .iter()
        .filter_map(|group| group["count"].as_u64())
        .sum();
    assert_eq!((sum, &summary["failed"]), (11, &11.into()), "{summary}");
    let expected = serde_json::json!({
        "kind": "invalid", "status": 422, "code": "bad_field", "count": 2,
        "message": "no such field", "line": 10, "custom_id": "r-9",
    });
    assert_eq!(groups[1], expected);
    assert_eq!(groups[3]["kind"], "invalid_line");
    assert_eq!(groups[3]["status"], serde_json::Value::Null);

    // The list is of this run, in which a line without an id fails anew. Records tell of the others.
    let well = Faultd::replies([Reply::ok_chat("hi")]);
    let again = folder.tool(&["run", "p.jsonl", "--summary", "s.json"]);
    let ended = again.at(&well).run().code(1);
    ended
        .says(&[
            "failed     10 for good\n",
            "(first: line 13)\n           9 x failed in an earlier run",
        ])
        .never_says(&["Invalid model name"]);
    let groups = &folder.json("s.json")["failures"];
    assert_eq!(groups.as_array().map(Vec::len), Some(1), "{groups}");
}

#[test]
fn a_pause_that_the_server_asked_for_is_shown_with_its_end_its_reason_and_the_remedy() {
    let refusal = |text: &str| {
        Reply::error(429, "requests", "rate_limit_exceeded", text).header("retry-after", "2")
    };
    let in_words = refusal("Limit reached: 60 requests per minute");
    let in_fields = refusal("No deployments available. {'current_rpm': 59, 'rpm_limit': 60}");
    let in_headers = refusal("slow down").header("x-ratelimit-limit-requests", "60");
    let sixty = "the server says 60 a minute: --rpm 60";
    let table = [
        (in_words, sixty.into()),
        (in_fields, sixty.into()),
        // The run keeps to it by itself.
        (in_headers, serde_json::Value::Null),
        (refusal("slow down"), serde_json::Value::Null),
        (
            Reply::ok_chat("hi")
                .header("x-ratelimit-remaining", "0")
                .header("x-ratelimit-reset", "2"),
            serde_json::Value::Null,
        ),
    ];
    // Each takes as long as its pause.
    std::thread::scope(|scope| {
        for (reply, remedy) in table {
            scope.spawn(move || shows_a_pause(reply, &remedy));
        }
    });
}

fn shows_a_pause(reply: Reply, remedy: &serde_json::Value) {
    let folder = Folder::new();
    folder.requests(2);
    let server = Faultd::replies([reply, Reply::ok_chat("hi")]);
    let arguments = ["run", "p.jsonl", "-c", "1", "--progress", "json"];
    let ended = folder.tool(&arguments).at(&server).run().code(0);
    let held = ended.stderr.lines().find_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        let held = event.get("held").filter(|held| !held.is_null())?;
        Some(held.clone())
    });
    let held = held.unwrap_or_else(|| panic!("never held: {ended:#?}"));
    assert_eq!(held["is_pause"], true, "{held}");
    assert_eq!(&held["remedy"], remedy, "{held}");
    let left = held["next_try_s"].as_f64();
    assert!(
        left.is_some_and(|left| (0.0..=2.5).contains(&left)),
        "{held}"
    );
    let error = held["error"].as_str().unwrap_or_default();
    let reasons = ["HTTP 429", "nothing remains of a limit"];
    assert!(
        reasons.iter().any(|reason| error.contains(reason)),
        "{held}"
    );
}

/// Whether a text begins with a time such as `2026-11-20T18:34:11.250Z`.
fn begins_with_a_time(text: &str) -> bool {
    let shape: String = text.chars().take(24).collect();
    let shape = shape.replace(|c: char| c.is_ascii_digit(), "0");
    shape == "0000-00-00T00:00:00.000Z"
}

#[test]
fn what_the_log_says_of_a_row_names_its_line_and_its_id_and_the_time() {
    for (arguments, row) in [
        (
            &["-vv"][..],
            "line 2 (\"r1\"), /v1/chat/completions, attempt 1: ",
        ),
        (
            &["-v"],
            "line 2 (\"r1\"), /v1/chat/completions, attempt 1: ",
        ),
        (&["-v", "--progress", "json"], "line 2 (\"r1\"), "),
        (&["--progress", "json"], "line 2 (\"r1\") failed: "),
    ] {
        let folder = Folder::new();
        folder.requests(2);
        let server = Faultd::script(|seen| match seen.index {
            0 => Reply::ok_chat("hi"),
            _ => Reply::error(400, "invalid_request_error", "x", "no"),
        });
        let all = [&["run", "p.jsonl", "-c", "1"], arguments].concat();
        let ended = folder.tool(&all).at(&server).run().code(1);
        let line = ended.stderr.lines().find_map(|line| {
            let event = serde_json::from_str::<serde_json::Value>(line);
            let (time, text) = match event {
                Ok(event) => (event["time"].to_string(), event["text"].to_string()),
                Err(_) => (format!("\"{line}"), line.to_owned()),
            };
            let text = text.replace("\\\"", "\"");
            (text.contains(row) && text.contains("HTTP 400")).then_some(time)
        });
        let time = line.unwrap_or_else(|| panic!("{arguments:?}: {ended:#?}"));
        assert!(begins_with_a_time(&time[1..]), "{arguments:?}: {ended:#?}");
        let answered = "line 1 (\"r0\"), /v1/chat/completions, attempt 1: status 200";
        let said = ended.stderr.contains(answered);
        assert_eq!(said, arguments == ["-vv"], "{ended:#?}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_logged_as_one_that_came() {
    let folder = Folder::new();
    folder.requests(2);
    for half in [
        Reply::ok_chat("hi").half_body().then_hold(),
        Reply::ok_chat("hi").half_body().then_close(),
    ] {
        let server = Faultd::replies([half, Reply::ok_chat("hi")]);
        let arguments = ["run", "p.jsonl", "-c", "1", "-vv", "--timeout", "500ms"];
        let tool = folder.tool(&[&arguments[..], &["--overwrite"]].concat());
        let ended = tool.at(&server).run().code(0);
        let told = |what: &str| {
            let what = format!("line 1 (\"r0\"), /v1/chat/completions, attempt {what} in ");
            ended.stderr.matches(&what).count()
        };
        assert_eq!(
            told("1: status 200 and a part of the answer"),
            1,
            "{ended:#?}"
        );
        let wholes = [told("1: status 200"), told("2: status 200")];
        assert_eq!(wholes, [0, 1], "{ended:#?}");
    }
}

#[test]
fn a_killed_run_in_order_may_have_paid_for_what_it_held_and_no_more() {
    let folder = Folder::new();
    let row = |row| {
        let body =
            serde_json::json!({"model": "m", "messages": [{"role": "user", "content": row}]});
        format!(
            "{}\n",
            serde_json::json!({"custom_id": format!("r{row}"), "body": body})
        )
    };
    folder.write("p.jsonl", (0..500).map(row).collect::<String>());
    // The first row is never answered, so the next nine are held.
    let server = Faultd::script(|seen| {
        let row = &seen.json()["messages"][0]["content"];
        match row.as_u64() {
            Some(1..10) => Reply::ok_chat("hi"),
            _ => Reply::stall(),
        }
    });
    let arguments = ["run", "p.jsonl", "-c", "2", "--ordered"];
    let mut running = folder.tool(&arguments).at(&server).start();
    until("eleven asked", || server.count() == 11);
    running.child().kill().expect("it is running");
    running.child().wait().expect("it ends");
    assert_eq!(folder.read("p.results.jsonl"), "");

    let well = Faultd::replies([Reply::ok_chat("hi")]);
    let arguments = [&arguments[..], &["--summary", "s.json"]].concat();
    folder.tool(&arguments).at(&well).run().code(0);
    let billed = folder.json("s.json")["possibly_billed"].as_u64();
    let at_most = 2 + 16;
    assert!(
        billed.is_some_and(|billed| (11..=at_most).contains(&billed)),
        "{billed:?}"
    );
}

#[test]
fn every_key_that_a_record_has_beside_the_providers_is_in_the_guide_and_no_other() {
    let guide = include_str!("../../src/_guide/batch_files.rs");
    let (_, table) = guide
        .split_once("| Key | Value | Present |")
        .expect("the table");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with("//! |"));
    let first_cells = rows.filter_map(|row| row.split('|').nth(1));
    let told: BTreeSet<&str> = first_cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();

    let anthropic = r#"{"custom_id":"a","params":{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}}"#;
    let two = format!("{}{anthropic}\n", request("r"));
    // So many that a run stops over them.
    let many = (0..40).map(|row| request(&format!("r{row}"))).collect();
    let refusal = Reply::error(400, "invalid_request_error", "bad", "no");
    let mut seen = BTreeSet::new();
    let ok = Reply::ok_chat("hi");
    let soon = ok.clone().after(Duration::from_millis(5));
    let once = |flag| vec!["--max-attempts=1", flag];
    for (input, replies, flags, code) in [
        (&two, vec![ok], once("--price=1,1"), 1),
        (&two, vec![refusal.clone()], once("--price=1,1"), 1),
        (
            &two,
            vec![Reply::status(500)],
            once("--simulate=latency=9ms,rps=9,burst=1"),
            0,
        ),
        (&many, vec![refusal], once("-c1"), 3),
        (&many, vec![Reply::stall(), soon], vec!["--hedge"], 0),
    ] {
        let folder = Folder::new();
        folder.write("p.jsonl", input);
        let server = Faultd::replies(replies);
        let arguments = [&["run", "p.jsonl", "-o", "o.jsonl"], &flags[..]].concat();
        folder.tool(&arguments).at(&server).run().code(code);
        for file in ["o.jsonl", "o.errors.jsonl"]
            .iter()
            .filter(|file| folder.has(file))
        {
            for record in folder.records(file) {
                let extras = record["tollgate"].as_object().expect("an object");
                seen.extend(extras.keys().cloned());
            }
        }
    }
    assert!(told.iter().eq(seen.iter()), "{told:?} {seen:?}");
}
