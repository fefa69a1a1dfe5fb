//! `tollgate merge`: one file of results from several.

use std::fs;

use serde_json::{Value, json};

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Ended, Folder, records, request, until};

fn answer(id: &str, text: &str) -> String {
    let line = json!({"custom_id": id, "error": null, "response": {
        "status_code": 200, "body": {"choices": [{"message": {"content": text}}]}}});
    format!("{line}\n")
}

fn failure(id: &str) -> String {
    let line = json!({"custom_id": id, "error": null, "response": {
        "status_code": 400, "body": {"error": {"message": "no"}}}});
    format!("{line}\n")
}

fn ids(text: &str) -> Vec<String> {
    let id = |record: &Value| record["custom_id"].as_str().unwrap_or("null").to_owned();
    records(text).iter().map(id).collect()
}

fn merge(folder: &Folder, arguments: &[&str]) -> Ended {
    folder.tool(&[&["merge"], arguments].concat()).run()
}

#[test]
fn shards_are_one_file_again_in_the_order_of_the_input() {
    let folder = Folder::new();
    folder.requests(30);
    let server = Faultd::script(|_| Reply::ok_chat("hello"));
    let names = ["0", "1", "2"].map(|shard| {
        let flag = format!("{shard}/3");
        let run = folder.tool(&["run", "p.jsonl", "--shard", &flag]);
        run.at(&server).run().code(0);
        format!("p.shard-{shard}-of-3.results.jsonl")
    });
    let [a, b, c] = names.each_ref().map(String::as_str);
    let ended = merge(
        &folder,
        &[a, b, c, "--ordered-by", "p.jsonl", "-o", "p.results.jsonl"],
    );
    ended
        .code(0)
        .says(&["30 records of 3 files: 30 answered, 0 failed"]);
    let rows: Vec<String> = (0..30).map(|row| format!("r{row}")).collect();
    assert_eq!(ids(&folder.read("p.results.jsonl")), rows);
    // A run carries on with it, and has nothing to do.
    let again = folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
    again.says(&["30 of 30 requests"]);
    assert_eq!(server.count(), 30);
    // One shard is not there.
    let ended = merge(&folder, &[a, c, "--ordered-by", "p.jsonl", "-o", "-"]).code(1);
    let gaps = 30 - ids(&ended.stdout).len();
    let first = rows
        .iter()
        .find(|row| !ended.stdout.contains(&format!("\"{row}\"")));
    let told = "1 shard has no file among those to merge:";
    ended.says(&[
        &format!("{gaps} rows have no record:\n  line "),
        first.unwrap(),
        told,
        "\n  p.shard-1-of-3",
    ]);
    assert!(!folder.has("p.results.jsonl.lock") && !folder.has("p.results.jsonl.tollgate-new"));
    // Without the input, names of files tell.
    merge(&folder, &[a, c]).code(1).says(&[told]);
    merge(&folder, &[a, b, c])
        .code(0)
        .never_says(&["shard has"]);
    merge(&folder, &["p.results.jsonl", a])
        .code(0)
        .never_says(&["shard has"]);
}

#[test]
fn what_counts_of_an_id_is_its_last_answer_wherever_it_is() {
    let folder = Folder::new();
    folder
        .write("a.results.jsonl", answer("x", "old") + &answer("y", "kept"))
        .write("a.errors.jsonl", failure("z") + &failure("w"))
        .write("b.jsonl", failure("y") + &answer("x", "new") + &answer("z", "late"))
        .write("anthropic.jsonl", r#"{"custom_id":"v","result":{"type":"succeeded","message":{"type":"message","content":[{"type":"text","text":"hi"}]}}}"#);
    let files = ["a.results.jsonl", "b.jsonl", "anthropic.jsonl"];
    let ended = merge(&folder, &files).code(1).says(&[
        "1 id has several answers, of which the last is kept:\n  \"b.jsonl\", line 2: \"x\"\n",
        "5 records of 4 files: 4 answered, 1 failed",
    ]);
    assert_eq!(ids(&ended.stdout), ["y", "w", "x", "z", "v"]);
    assert!(ended.stdout.contains("new") && !ended.stdout.contains("old"));
    // Named again, and by itself, a file is read once.
    let twice = ["a.results.jsonl", "./a.results.jsonl", "a.errors.jsonl"];
    merge(&folder, &twice)
        .code(1)
        .says(&["4 records of 2 files"])
        .never_says(&["several"]);
    // The first few are named, in the order of the files.
    let all = |answers: &str| ["q", "r", "s", "t", "u", "v", "w"].map(|id| answer(id, answers));
    folder
        .write("c.jsonl", all("1").concat())
        .write("d.jsonl", all("2").concat());
    let lines = [1, 2, 3, 4, 5].map(|line| format!("\"d.jsonl\", line {line}: "));
    let ended = merge(&folder, &["c.jsonl", "d.jsonl"]).code(0);
    let told = ended.says(&lines.each_ref().map(String::as_str)).stderr;
    assert!(lines.map(|line| told.find(&line)).is_sorted(), "{told}");
    // The other way round it is the other answer.
    let ended = merge(&folder, &["b.jsonl", "a.results.jsonl"]).code(1);
    assert!(ended.stdout.contains("old") && !ended.stdout.contains("new"));
}

#[test]
fn rows_of_a_table_and_prompts_have_their_order_by_the_flags_of_their_run() {
    let folder = Folder::new();
    folder
        .write("t.csv", "text\nb\na\nb\n")
        .write("q.txt", "one\ntwo\n");
    let server = Faultd::script(|_| Reply::ok_chat("hello"));
    let flags = ["--prompt", "{{ text }}", "--model", "m"];
    for shard in ["0/2", "1/2"] {
        let run = [&["run", "t.csv", "--shard", shard], &flags[..]].concat();
        folder.tool(&run).at(&server).run().code(0);
        let run = ["run", "q.txt", "--model", "m", "--shard", shard];
        folder.tool(&run).at(&server).run().code(0);
    }
    assert_eq!(server.count(), 5);
    let files = [0, 1].map(|n| format!("t.shard-{n}-of-2.results.csv.jsonl"));
    let [a, b] = files.each_ref().map(String::as_str);
    let all = [
        &[a, b, "-o", "t.jsonl", "--ordered-by", "t.csv"],
        &flags[..],
    ]
    .concat();
    merge(&folder, &all).code(0);
    let merged = ids(&folder.read("t.jsonl"));
    assert_eq!((merged.len(), &merged[2]), (3, &format!("{}-2", merged[0])));
    let table = [
        &["extract", "t.jsonl", "--csv", "--ordered-by", "t.csv"],
        &flags[..],
    ]
    .concat();
    let table = folder.tool(&table).run().code(0).stdout;
    assert_eq!(table, "text,answer\nb,hello\na,hello\nb,hello\n");
    merge(&folder, &[a, "--ordered-by", "t.csv"])
        .code(2)
        .says(&["--prompt is missing"]);
    let files = [0, 1].map(|n| format!("q.shard-{n}-of-2.results.jsonl"));
    let there = files
        .iter()
        .filter(|name| folder.has(name))
        .map(String::as_str);
    let prompts: Vec<&str> = there
        .chain(["--ordered-by", "q.txt", "--model", "m"])
        .collect();
    assert_eq!(
        ids(&merge(&folder, &prompts).code(0).stdout),
        ["line-1", "line-2"]
    );
}

#[test]
fn lines_that_a_kill_has_torn_are_left_out_and_said() {
    let folder = Folder::new();
    let torn = &answer("y", "never")[..30];
    folder
        .write("a.jsonl", answer("x", "whole") + torn)
        .write("b.jsonl", answer("y", "again"));
    let ended = merge(&folder, &["a.jsonl", "b.jsonl"]).code(0);
    let ended = ended.says(&["the last line of \"a.jsonl\" is incomplete, and is left out"]);
    assert_eq!(ids(&ended.stdout), ["x", "y"]);
    folder.write(
        "b.jsonl",
        format!("{}rubbish\n{}", answer("y", "1"), answer("z", "2")),
    );
    let ended = merge(&folder, &["a.jsonl", "b.jsonl"]).code(1);
    ended.says(&["1 line of \"b.jsonl\" left out as no record, the first is line 2"]);
}

#[test]
fn no_file_is_replaced_that_is_read_or_has_answers_of_its_own() {
    let folder = Folder::new();
    folder
        .requests(2)
        .write("a.jsonl", answer("r0", "1"))
        .write("b.jsonl", answer("r1", "2"));
    fs::create_dir(folder.path("d")).unwrap();
    for (arguments, told) in [
        (&["a.jsonl", "-o", "a.jsonl"][..], "would be overwritten"),
        (
            &["a.jsonl", "b.jsonl", "-o", "d/../b.jsonl"],
            "would be overwritten",
        ),
        (
            &["a.jsonl", "-o", "p.jsonl", "--ordered-by", "p.jsonl"],
            "would be overwritten",
        ),
        (&["a.jsonl", "-o", "p.jsonl"], "something else than results"),
        (&["a.jsonl", "-o", "b.jsonl"], "1 answer that is not"),
        (&["a.jsonl", "-o", "all.csv"], "tollgate extract"),
        (&["a.jsonl", "-o", "none/all.jsonl"], "none/all.jsonl"),
        (&["a.jsonl", "p.jsonl"], "\"p.jsonl\" holds no results"),
        (&["a.jsonl", "none.jsonl"], "none.jsonl"),
        (&["a.jsonl", "d"], "is no file"),
        (&["a.jsonl", "-"], "- is no file"),
        (&["a.jsonl", "--ordered-by", "none.jsonl"], "none.jsonl"),
        (&["a.jsonl", "--model", "m"], "--ordered-by"),
        (&[], "RESULTS"),
    ] {
        let names = folder.names();
        merge(&folder, arguments).code(2).says(&[told]);
        assert_eq!(folder.names(), names, "{arguments:?}");
    }
    assert_eq!(folder.read("b.jsonl"), answer("r1", "2"));
    merge(&folder, &["a.jsonl", "-o", "all.jsonl"]).code(0);
    merge(&folder, &["b.jsonl", "a.jsonl", "-o", "all.jsonl"]).code(0);
    assert_eq!(
        folder.read("all.jsonl"),
        answer("r1", "2") + &answer("r0", "1")
    );
}

#[test]
fn a_file_that_a_run_is_writing_is_waited_for() {
    let folder = Folder::new();
    folder
        .write("p.jsonl", request("r0"))
        .write("a.jsonl", answer("x", "1"));
    let held = Faultd::script(|_| Reply::ok_chat("hi").after(std::time::Duration::from_secs(60)));
    let run = ["run", "p.jsonl", "-o", "o.jsonl"];
    let running = folder.tool(&run).at(&held).start();
    until("in flight", || held.count() == 1);
    folder.write("o.jsonl", "");
    let by = format!("being written by process {}", running.id());
    merge(&folder, &["a.jsonl", "o.jsonl"])
        .code(2)
        .says(&["\"o.jsonl\"", &by]);
    merge(&folder, &["a.jsonl", "-o", "o.jsonl"])
        .code(2)
        .says(&[&by]);
    drop(running);
    merge(&folder, &["a.jsonl", "o.jsonl"]).code(0);
}
