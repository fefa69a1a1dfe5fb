//! What a run says that carries on where another stopped.

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, records, request};

/// A folder in which two of five requests are answered and a third is torn.
fn begun(server: &Faultd) -> Folder {
    let folder = Folder::new();
    folder.requests(2);
    folder.tool(&["run", "p.jsonl"]).at(server).run().code(0);
    folder.requests(5);
    let torn = folder.read("p.results.jsonl") + "{\"id\":\"x\",\"cu";
    folder.write("p.results.jsonl", torn);
    folder
}

#[test]
fn what_was_found_is_said_in_a_line() {
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let folder = begun(&server);
    let tool = folder.tool(&["run", "p.jsonl"]).at(&server);
    tool.run().code(0).says(&[
        "carrying on: 2 done, 3 to do; removed an incomplete last record of 13 bytes\n",
        "5 of 5 requests, 2 of them done before",
    ]);
    assert_eq!(server.count(), 5);
    let again = folder.tool(&["run", "p.jsonl"]).at(&server);
    again
        .run()
        .code(0)
        .says(&["carrying on: 5 done, 0 to do\n"]);
}

#[test]
fn a_program_is_told_as_an_object_and_the_quiet_nothing() {
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let folder = begun(&server);
    let tool = folder.tool(&["run", "p.jsonl", "-q"]).at(&server);
    assert_eq!(tool.run().code(0).stderr, "");

    let folder = begun(&server);
    let tool = folder.tool(&["run", "p.jsonl", "--progress", "json"]);
    let told = records(&tool.at(&server).run().code(0).stderr);
    let resume = told.iter().filter(|told| told["event"] == "resume");
    let resume: Vec<_> = resume.collect();
    assert_eq!(resume.len(), 1);
    assert_eq!(
        (&resume[0]["done"], &resume[0]["to_do"]),
        (&2.into(), &3.into())
    );
    assert_eq!(resume[0]["torn_bytes"], 13);
}

#[test]
fn a_fresh_run_carries_nothing_on() {
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let folder = Folder::new();
    folder.requests(1);
    let tool = folder.tool(&["run", "p.jsonl"]).at(&server);
    tool.run().code(0).never_says(&["carrying on"]);
}

#[test]
fn what_a_killed_run_may_have_paid_for_is_said_and_summed_up() {
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    for (in_flight, lost) in [(2, 2), (64, 3)] {
        let folder = begun(&server);
        let left = format!("4194304\n{in_flight} in flight at most\n");
        folder.write("p.results.jsonl.lock", left);
        let arguments = ["run", "p.jsonl", "--summary", "s.json"];
        let told = folder.tool(&arguments).at(&server).run().code(0);
        let found = format!("the last run was killed: at most {lost} possibly billed twice\n");
        told.says(&[
            &found,
            &format!("beware     at most {lost} possibly billed twice:"),
        ]);
        assert_eq!(folder.json("s.json")["possibly_billed"], lost);
        let told = folder.tool(&arguments).at(&server).run().code(0);
        told.never_says(&["billed"]);
    }
}

#[test]
fn a_simulated_run_that_was_killed_cost_nothing() {
    let folder = Folder::new();
    folder.requests(2);
    folder.write("p.simulated.jsonl.lock", "4194304\n2 in flight at most\n");
    let tool = folder.tool(&["run", "p.jsonl", "--simulate=latency=0"]);
    tool.run().code(0).never_says(&["carrying on", "billed"]);
}

#[test]
fn a_changed_request_on_a_stream_is_a_failed_row_unless_forced() {
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let folder = Folder::new();
    let arguments = ["run", "-", "-o", "out.jsonl"];
    let tool = folder.tool(&arguments).at(&server);
    tool.fed(request("a").as_bytes()).code(0);
    let changed = request("b") + &request("a").replace("hi", "ho") + &request("c");
    let tool = folder.tool(&arguments).at(&server);
    let ended = tool.fed(changed.as_bytes()).code(1);
    ended.says(&["or keep the old answer (--force-resume)"]);
    let failed = &folder.records("out.errors.jsonl")[0];
    // The answer that is on file stays the only word under that id.
    assert_eq!(failed["custom_id"], "line-2");
    let why = failed["error"]["message"].as_str().unwrap();
    assert!(
        why.contains("line 2: \"custom_id\" \"a\"") && why.contains("(`force_resume`)"),
        "{why}"
    );
    let tool = folder.tool(&[&arguments[..], &["--force-resume"]].concat());
    tool.at(&server).fed(changed.as_bytes()).code(0);
    assert_eq!(server.count(), 3);
    assert_eq!(folder.records("out.jsonl").len(), 3);
    assert!(!folder.has("out.errors.jsonl"));
    // Of a file it is said before anything is sent.
    folder.write("p.jsonl", &changed);
    let dry = ["run", "p.jsonl", "-o", "out.jsonl", "--dry-run"];
    let ended = folder.tool(&dry).run().code(1);
    let told = "line 2: has changed since it was answered: give it another id, keep its old \
                answer (--force-resume), or start anew (--overwrite)";
    assert!(ended.stdout.contains(told), "{}", ended.stdout);
}

#[test]
fn a_doubled_line_of_a_stream_does_not_speak_for_the_first() {
    let folder = Folder::new();
    let failing = Faultd::replies([Reply::status(500)]);
    let arguments = ["run", "-", "-o", "out.jsonl", "--max-attempts", "1"];
    let input = request("a") + &request("a");
    let tool = folder.tool(&arguments).at(&failing);
    tool.fed(input.as_bytes()).code(1);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let tool = folder.tool(&arguments).at(&server);
    tool.fed(request("a").as_bytes()).code(0);
    assert_eq!(server.count(), 1);
}

#[test]
fn an_output_that_two_inputs_share_loses_no_answer_and_no_failure_without_a_word() {
    let folder = Folder::new();
    for name in ["a", "b"] {
        let rows = [
            request(&format!("{name}-good")),
            request(&format!("{name}-bad")),
        ];
        folder.write(&format!("{name}.jsonl"), rows.concat());
    }
    let server = Faultd::script(|seen| match seen.index % 2 {
        0 => Reply::ok_chat("hello"),
        _ => Reply::error(400, "invalid_request_error", "invalid", "no"),
    });
    let run = |input| {
        let tool = folder.tool(&["run", input, "-o", "out.jsonl", "-c", "1"]);
        tool.at(&server).run().code(1)
    };
    let ids = |file| -> Vec<String> {
        let records = folder.records(file);
        records
            .iter()
            .map(|record| record["custom_id"].to_string())
            .collect()
    };
    run("a.jsonl").never_says(&["warning: errors file"]);
    run("b.jsonl").says(&[
        "warning: errors file \"out.errors.jsonl\"",
        ": 1 row that failed before is not in it any more",
    ]);
    assert_eq!(ids("out.jsonl"), ["\"a-good\"", "\"b-good\""]);
    assert_eq!(ids("out.errors.jsonl"), ["\"b-bad\""]);
    // Nothing that was answered is asked again.
    run("b.jsonl").never_says(&["warning"]);
    assert_eq!(server.count(), 4);

    let shared = [
        "run",
        "a.jsonl",
        "-o",
        "new.jsonl",
        "--errors",
        "out.errors.jsonl",
    ];
    let tool = folder.tool(&shared).at(&server);
    tool.run()
        .code(1)
        .says(&["warning: errors file \"out.errors.jsonl\"", "starts anew"]);
}
