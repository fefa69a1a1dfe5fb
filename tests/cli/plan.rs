//! `tollgate plan` and `run --dry-run`: nothing is sent or written, and a real run comes out alike.

use serde_json::{Value, json};

use crate::tool::{Ended, Folder, request};

fn plan(folder: &Folder, arguments: &[&str]) -> Ended {
    folder.tool(&[&["plan"], arguments].concat()).run()
}

fn planned(folder: &Folder, arguments: &[&str]) -> Value {
    let ended = plan(folder, &[arguments, &["--json"]].concat()).code(0);
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:#?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[track_caller]
fn close(real: &Value, expected: &Value) {
    let (real, expected) = (real.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!(
        (real / expected - 1.0).abs() < 0.05,
        "{real} and not {expected}"
    );
}

#[test]
fn the_keys_are_those_of_the_guide() {
    let folder = Folder::new();
    let plan = planned(
        folder.requests(30),
        &[
            "p.jsonl",
            "--latency",
            "1s",
            "--output-tokens",
            "10",
            "--price",
            "1,2",
            "--rps",
            "10",
        ],
    );
    let all = [
        "binding",
        "by_concurrency",
        "completion_tokens",
        "concurrency_needed",
        "cost_usd",
        "duration_s",
        "limits",
        "prompt_tokens",
        "requests",
    ];
    assert_eq!(keys(&plan), all);
    for range in ["duration_s", "cost_usd"] {
        assert_eq!(keys(&plan[range]), ["p5", "p50", "p95"]);
    }
    assert_eq!(keys(&plan["limits"][0]), ["name", "share"]);
    assert_eq!(
        keys(&plan["by_concurrency"][0]),
        ["concurrency", "duration_s"]
    );
    assert_eq!(
        (&plan["requests"], &plan["binding"]),
        (&json!(30), &json!("requests"))
    );
    assert_eq!(
        (&plan["completion_tokens"], &plan["concurrency_needed"]),
        (&json!(300), &json!(10))
    );
    // The burst of 10 and 20 more, a tenth of a second each, and the last answer.
    close(&plan["duration_s"]["p50"], &json!(3.0));
    assert_eq!(folder.names(), ["p.jsonl"]);
}

#[test]
fn processes_that_share_the_limits_add_the_keys_of_the_guide() {
    let folder = Folder::new();
    let requests = ["--requests", "2000", "--tokens", "100"];
    let answers = ["--latency", "1s", "--output-tokens", "20"];
    let limits = ["--rps", "200", "-c", "30", "--processes", "8"];
    let arguments = [&requests[..], &answers, &limits].concat();
    let plan = planned(&folder, &arguments);
    let alone = planned(&folder, &arguments[..arguments.len() - 2]);
    let mut added = keys(&plan);
    added.retain(|key| !keys(&alone).contains(key));
    let all = [
        "ceilings",
        "hosts_needed",
        "leases",
        "processes",
        "processes_needed",
    ];
    assert_eq!(added, all);
    let leases = [
        "length_s",
        "requests",
        "round_trips_per_request",
        "round_trips_per_s",
        "waiting_share",
    ];
    assert_eq!(keys(&plan["leases"]), leases);
    assert_eq!(keys(&plan["ceilings"][0]), ["name", "requests_per_s"]);
    // 200 in flight and two standard deviations, in thirties.
    assert_eq!(
        (&plan["processes"], &plan["processes_needed"]),
        (&json!(8), &json!(8))
    );
    assert_eq!(plan["concurrency_needed"], 200);
    // An eighth of 100 ms at 200 a second: two of two and a half.
    assert_eq!(plan["leases"]["requests"], 2.0);
    let names = plan["ceilings"].as_array().unwrap().iter();
    let names: Vec<&Value> = names.map(|ceiling| &ceiling["name"]).collect();
    assert_eq!(names[..2], ["requests", "in_flight"]);
    // Ten seconds for 2,000, and the last answer.
    close(&plan["duration_s"]["p50"], &json!(11.0));
    let slow = [&arguments[..], &["--store-rtt", "200ms"]].concat();
    assert_eq!(planned(&folder, &slow)["leases"]["length_s"], 0.4);
    let ended = self::plan(&folder, &slow).code(0);
    for words in [
        "processes  8 with -c 30 each; the rates need 8",
        "leases     400 ms of the rates, 10.0 requests for each process",
        "limits at  requests a second",
    ] {
        assert!(ended.stdout.contains(words), "no {words:?} in {ended:#?}");
    }
    let ended = self::plan(&folder, &[&requests[..], &["--processes", "2"]].concat()).code(0);
    assert!(ended.stdout.contains("leases     none"), "{ended:#?}");
}

#[test]
fn without_a_file_there_are_as_many_requests_as_are_given() {
    let folder = Folder::new();
    let arguments = [
        "--requests",
        "1000",
        "--tokens",
        "50-150",
        "--latency",
        "2s~0.5",
        "--output-tokens",
        "20",
        "-c",
        "100",
    ];
    let plan = planned(&folder, &arguments);
    assert_eq!(
        (&plan["requests"], &plan["binding"]),
        (&json!(1_000), &json!("in_flight"))
    );
    assert_eq!(
        (&plan["cost_usd"], &plan["concurrency_needed"]),
        (&Value::Null, &Value::Null)
    );
    close(&plan["prompt_tokens"], &json!(100_000));
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn prompts_rows_and_batch_lines_are_planned_alike() {
    let folder = Folder::new();
    folder
        .write("p.csv", "text\n\"a, b\"\nc\n")
        .write("p.txt", "a, b\nc\n");
    let answers = ["--latency", "1s", "--output-tokens", "10"];
    let rows = [
        "p.csv",
        "--prompt",
        "{{ text }}",
        "--model",
        "m",
        "--max-tokens",
        "4",
    ];
    let prompts = ["p.txt", "--model", "m", "--max-tokens", "4"];
    let rows = planned(&folder, &[&rows[..], &answers].concat());
    assert_eq!(
        (&rows["requests"], &rows["completion_tokens"]),
        (&json!(2), &json!(8))
    );
    assert_eq!(rows, planned(&folder, &[&prompts[..], &answers].concat()));
    let rows = [
        "run",
        "p.csv",
        "--prompt",
        "{{ text }}",
        "--model",
        "m",
        "--dry-run",
    ];
    let ended = folder.tool(&rows).run().code(0);
    assert!(ended.stdout.contains("planned    2 requests"), "{ended:#?}");
    assert_eq!(folder.names(), ["p.csv", "p.txt"]);
}

#[test]
fn what_is_not_known_is_assumed_and_said() {
    let folder = Folder::new();
    folder.requests(10);
    let ended = plan(&folder, &["p.jsonl"]).code(0);
    for words in [
        "2.5s~0.8",
        "500 tokens",
        "give --latency, or --like",
        "give --output-tokens, or --like",
    ] {
        assert!(ended.stdout.contains(words), "no {words:?} in {ended:#?}");
    }
    let ended = plan(&folder, &["p.jsonl", "--json", "--latency", "2s"]).code(0);
    assert!(ended.stderr.contains("500 tokens"), "{ended:#?}");
    assert!(!ended.stderr.contains("2.5s~0.8"), "{ended:#?}");
    // Other tools' records say nothing of times.
    let record = json!({
        "custom_id": "r0", "error": null,
        "response": {"status_code": 200, "body": {"choices": [{}], "usage": {"prompt_tokens": 70, "completion_tokens": 5}}},
    });
    folder.write("out.jsonl", format!("{record}\n"));
    let ended = plan(&folder, &["p.jsonl", "--like", "out.jsonl"]).code(0);
    assert!(
        ended
            .stdout
            .contains("as \"out.jsonl\" does not say it: give --latency"),
        "{ended:#?}"
    );
    // All requests are as long as the one whose tokens are known.
    let tokens = "about 700 in prompts, 50 in answers";
    assert!(ended.stdout.contains(tokens), "{ended:#?}");
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_flag_or_file() {
    let folder = Folder::new();
    folder
        .requests(1)
        .write("p.txt", "a prompt\n")
        .write("out.jsonl", "no record\n");
    for (arguments, words) in [
        (&["--latency", "4s-1s", "p.jsonl"][..], "--latency"),
        (&["--output-tokens", "2s", "p.jsonl"], "--output-tokens"),
        (&["--requests", "5", "--tokens", "p50=1"], "--tokens"),
        (&["--requests", "5"], "--tokens"),
        (&["p.jsonl", "--tokens", "5"], "--tokens"),
        (&["--requests", "5", "--tokens", "5", "p.jsonl"], "INPUT"),
        (&[], "INPUT"),
        (&[], "--requests"),
        (&["p.jsonl", "--store-rtt", "1ms"], "--processes"),
        (
            &["p.jsonl", "--processes", "2", "--store-rtt", "1001ms"],
            "1s at most",
        ),
        (
            &["p.jsonl", "--processes", "99999999999999999999"],
            " at most",
        ),
        (&["p.jsonl", "--processes", "0"], "--processes"),
        (&["p.jsonl", "--processes", "10001"], "10,000"),
        (&["missing.jsonl"], "missing.jsonl"),
        (&["p.txt"], "--model"),
        (&["p.jsonl", "--like", "missing.jsonl"], "--like"),
        (
            &["p.jsonl", "--like", "."],
            "--like: \".\" cannot be read: it is a directory",
        ),
        (&["p.jsonl", "--like", "out.jsonl"], "holds no results"),
        (&["p.jsonl", "--endpoint", "v1"], "--endpoint"),
    ] {
        let ended = plan(&folder, arguments).code(2);
        assert!(ended.stderr.contains(words), "{arguments:?}: {ended:#?}");
    }
}

#[test]
fn a_dry_run_checks_and_plans_and_leaves_everything_as_it_is() {
    let folder = Folder::new();
    folder.requests(40);
    let flags = [
        "run",
        "p.jsonl",
        "--dry-run",
        "--rps",
        "20",
        "--price",
        "1,1",
    ];
    let ended = folder.tool(&flags).run().code(0);
    for words in [
        "requests       40 in 40 lines",
        "findings       none",
        "planned    40",
        "cost ",
    ] {
        assert!(ended.stdout.contains(words), "no {words:?} in {ended:#?}");
    }
    assert_eq!(
        (folder.names(), ended.stderr.as_str()),
        (vec!["p.jsonl".to_owned()], "")
    );
    // Half of it is done: it tells what is to be expected of the rest.
    folder.write(
        "half.jsonl",
        (0..25)
            .map(|n| request(&format!("r{n}")))
            .collect::<String>(),
    );
    let half = [
        "run",
        "half.jsonl",
        "-o",
        "out.jsonl",
        "--simulate=latency=0",
    ];
    folder.tool(&half).run().code(0);
    let before = (folder.names(), folder.read("out.jsonl"));
    let flags = [
        "run",
        "p.jsonl",
        "-o",
        "out.jsonl",
        "--simulate=latency=0",
        "--dry-run",
    ];
    let ended = folder.tool(&flags).run().code(0);
    assert!(
        ended.stdout.contains("planned    15 requests"),
        "{ended:#?}"
    );
    assert_eq!((folder.names(), folder.read("out.jsonl")), before);
    // Of a budget that does not suffice it is said how far that goes.
    let flags = ["run", "p.jsonl", "--dry-run", "--token-budget", "50"];
    let ended = folder.tool(&flags).run().code(0);
    assert!(
        ended.stdout.contains("--token-budget stops the run"),
        "{ended:#?}"
    );
    // A finding is what check would say of it.
    folder.write("p.jsonl", request("a").repeat(2));
    let ended = folder.tool(&["run", "p.jsonl", "--dry-run"]).run().code(1);
    assert!(
        ended
            .stdout
            .contains("line 2: has the \"custom_id\" of line 1"),
        "{ended:#?}"
    );
    let ended = folder.tool(&["run", "p.txt", "--dry-run"]).run().code(2);
    assert!(ended.stderr.contains("--model is missing"), "{ended:#?}");
}

#[test]
fn requests_that_never_fit_are_told_with_their_tokens_and_the_limit() {
    let folder = Folder::new();
    let sizes = ["--requests", "10", "--tokens", "50000"];
    let answers = ["--latency", "1s", "--output-tokens", "5"];
    let arguments = [&sizes[..], &answers, &["--tpm", "40000"]].concat();
    let ended = plan(&folder, &arguments).code(0);
    for words in [
        "failed     10 requests fail",
        "bound by   --tpm 40,000: 10 requests never fit",
        "up to 50,",
    ] {
        assert!(ended.stdout.contains(words), "no {words:?} in {ended:#?}");
    }
    assert!(!ended.stdout.contains("no limit"), "{ended:#?}");
    assert_eq!(planned(&folder, &arguments)["binding"], "tokens");
}

#[test]
fn a_budget_says_where_it_stops_the_run() {
    let folder = Folder::new();
    let answers = ["p.jsonl", "--latency", "1s", "--output-tokens", "10"];
    folder.requests(40);
    for budget in [
        &["--token-budget", "50"][..],
        &["--price", "1,1", "--max-cost", "0.0001"],
    ] {
        let ended = plan(&folder, &[&answers[..], budget].concat()).code(0);
        let words = format!("{} stops the run when", budget[budget.len() - 2]);
        assert!(ended.stdout.contains(&words), "{ended:#?}");
    }
    let enough = [&answers[..], &["--token-budget", "100000"]].concat();
    let ended = plan(&folder, &enough).code(0);
    assert!(!ended.stdout.contains("stops the run"), "{ended:#?}");
}

#[test]
fn what_a_deadline_cuts_off_has_not_failed() {
    let folder = Folder::new();
    let requests = ["--requests", "100", "--tokens", "10", "-c", "10"];
    let answers = ["--latency", "2s", "--output-tokens", "5"];
    let flags = [&requests[..], &answers, &["--deadline", "5s"]].concat();
    let ended = plan(&folder, &flags).code(0);
    assert!(ended.stdout.contains("left       80 for"), "{ended:#?}");
    assert!(!ended.stdout.contains("of attempts fail"), "{ended:#?}");
}

#[test]
fn a_dry_run_refuses_a_table_of_another_origin_as_the_run_does() {
    let folder = Folder::new();
    folder.write("p.csv", "text\na\n").write("t.csv", "a,b\n");
    let run = ["run", "p.csv", "--prompt", "{{ text }}", "--model", "m"];
    let run = [&run[..], &["-o", "t.csv", "--no-auth"]].concat();
    let real = folder.tool(&run).run().code(2);
    let dry = folder.tool(&[&run[..], &["--dry-run"]].concat());
    assert_eq!(dry.run().code(2).stderr, real.stderr);
    let anew = [&run[..], &["--dry-run", "--overwrite"]].concat();
    folder.tool(&anew).run().code(0);
}

#[test]
fn a_dry_run_against_the_simulated_provider_knows_how_that_behaves() {
    let folder = Folder::new();
    folder.requests(300);
    let spec = "--simulate=latency=50ms,errors=0.5";
    let ended = folder
        .tool(&["run", "p.jsonl", "--dry-run", spec])
        .run()
        .code(0);
    let before = ended.stdout.split(" % of attempts fail").next().unwrap();
    let percent: f64 = before.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((40.0..60.0).contains(&percent), "{ended:#?}");
    assert!(
        before.contains("answers    0.05 s on average"),
        "{ended:#?}"
    );
}

#[test]
fn a_dry_run_keeps_to_the_simulated_limits_on_prompts_and_answers_apart() {
    let folder = Folder::new();
    folder.requests(300);
    let dry = |spec: &str| {
        let spec = format!("--simulate=latency=50ms,{spec}");
        let tool = folder.tool(&["run", "p.jsonl", "--dry-run", &spec]);
        tool.run().code(0).stdout
    };
    let quick = dry("jitter=0");
    assert!(!quick.contains(" tokens for "), "{quick}");
    for (limit, which) in [("input-tpm=600", "input"), ("output-tpm=600", "output")] {
        let told = dry(limit);
        let words = format!("bound by   the limit on {which} tokens for 100 % of the time");
        assert!(told.contains(&words), "{told}");
        assert!(
            told.contains("time       ") && !told.contains("leaves out"),
            "{told}"
        );
    }
    for (more, by) in [(&["--tpm", "3"][..], "--tpm"), (&[], "the simulated tpm")] {
        let run = ["run", "p.jsonl", "--dry-run", "--simulate=tpm=4"];
        let told = folder.tool(&[&run, more].concat()).run().code(0).stdout;
        assert!(told.contains(&format!("bound by   {by} ")), "{told}");
    }
    let told = dry("load=4,places=9,strays=0.1,cut=1s-2s@0");
    let words = "of --simulate the plan leaves out load, cut, places, strays";
    assert!(told.contains(words), "{told}");
}

/// Tokens and cost do not depend on the machine. A run is never faster than the limits of its plan
/// allow, but a busy machine may make it slower.
#[test]
fn a_run_comes_out_as_it_was_planned() {
    let folder = Folder::new();
    folder.requests(100);
    for (spec, flags) in [
        ("latency=100ms", &["-c", "10"][..]),
        ("latency=20ms", &["-c", "50", "--rps", "100"]),
        ("latency=100ms,errors=0.1", &["-c", "50"]),
    ] {
        let simulate = format!("--simulate={spec}");
        let run = [
            "run",
            "p.jsonl",
            "--price",
            "1,2",
            "--summary",
            "s.json",
            &simulate,
        ];
        folder.tool(&[&run, flags].concat()).run().code(0);
        let real = folder.json("s.json");
        let like = ["p.jsonl", "--price", "1,2", "--like", "p.simulated.jsonl"];
        let plan = planned(&folder, &[&like, flags].concat());
        close(&real["prompt_tokens"], &plan["prompt_tokens"]);
        close(&real["completion_tokens"], &plan["completion_tokens"]);
        close(&real["cost_usd"], &plan["cost_usd"]["p50"]);
        let (wall, shortest) = (&real["wall_s"], &plan["duration_s"]["p5"]);
        let (wall, shortest) = (wall.as_f64().unwrap(), shortest.as_f64().unwrap());
        assert!(
            wall > 0.8 * shortest,
            "{spec}: {wall} s and not {shortest} s"
        );
    }
}

#[test]
fn what_a_run_would_refuse_is_told_of_a_plan() {
    let folder = Folder::new();
    let twice = request("r0") + &request("r0");
    folder.write("p.jsonl", twice);
    let ended = folder.tool(&["plan", "p.jsonl"]).run().code(0);
    ended
        .says(&["warning: 1 line has the id of an earlier one, which run refuses: tollgate check"]);
}
