//! Rows of a table, from the file to the wire and back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, until};

const CLASSIFY: [&str; 4] = ["--prompt", "Classify: {{ text }}", "--model", "m"];

/// A server that answers with the prompt it got.
fn echo() -> Faultd {
    Faultd::script(|seen| Reply::ok_chat(&prompt(&seen.json())))
}

fn prompt(body: &Value) -> String {
    let message = body["messages"].as_array().and_then(|all| all.last());
    message.unwrap()["content"].as_str().unwrap().to_owned()
}

/// The prompts that a server got, in the order of the alphabet.
fn prompts(server: &Faultd) -> Vec<String> {
    let mut prompts: Vec<String> = server
        .requests()
        .iter()
        .map(|seen| prompt(&seen.json()))
        .collect();
    prompts.sort();
    prompts
}

fn run<'a>(input: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", input, "-o", "out.jsonl"], &CLASSIFY[..], more].concat()
}

fn answers(folder: &Folder) -> BTreeMap<String, String> {
    let records = folder.records("out.jsonl").into_iter();
    let answers = records.map(|record| {
        let answer = &record["response"]["body"]["choices"][0]["message"]["content"];
        let id = record["custom_id"].as_str().unwrap().to_owned();
        (id, answer.as_str().unwrap().to_owned())
    });
    answers.collect()
}

#[test]
fn each_row_is_one_request_whatever_the_table_looks_like() {
    let wanted = [
        "Classify: ",
        "Classify: a, \"b\"\nc \u{1f980}",
        "Classify: {{ x }}",
    ];
    let csv = "\u{feff}id,text\r\n1,\"a, \"\"b\"\"\nc \u{1f980}\"\r\n2,\r\n\r\n3,{{ x }}\r\n";
    let jsonl = concat!(
        "{\"id\":1,\"text\":\"a, \\\"b\\\"\\nc \u{1f980}\"}\n\n",
        "{\"text\":\"\",\"id\":2,\"more\":{}}\n",
        "{\"id\":\"3\",\"text\":\"{{ x }}\"}\n",
    );
    let array = format!(
        "[{}]",
        jsonl.trim().replace("\n\n", ",").replace("}\n{", "},{")
    );
    for (name, table, more) in [
        ("p.csv", csv.to_owned(), &[][..]),
        ("p.CSV", csv.replace(',', ";").replace("a;", "a,"), &[]),
        ("p.tsv", csv.replace(',', "\t").replace("a\t", "a,"), &[]),
        ("p.txt", csv.to_owned(), &[]),
        (
            "p.data",
            csv.replace(',', "|").replace("a|", "a,"),
            &["--delimiter", "|"],
        ),
        (
            "p.csv",
            csv.replace(',', "\t").replace("a\t", "a,"),
            &["--delimiter=tab"],
        ),
        ("p.jsonl", jsonl.to_owned(), &[]),
        ("p", jsonl.to_owned(), &[]),
        ("p.json", array, &[]),
    ] {
        let (server, folder) = (echo(), Folder::new());
        folder.write(name, table);
        let arguments = run(name, &[more, &["--id", "id"]].concat());
        folder
            .tool(&arguments)
            .at(&server)
            .run()
            .code(0)
            .says(&["3 of 3"]);
        assert_eq!(prompts(&server), wanted, "{name} {more:?}");
        let answers = answers(&folder);
        let ids: Vec<_> = answers.keys().collect();
        assert_eq!(ids, ["1", "2", "3"], "{name}");
        assert_eq!(answers["3"], "Classify: {{ x }}", "cells are no templates");
        // A rerun sends nothing, and neither does one whose input comes by a pipe.
        folder.tool(&arguments).at(&server).run().code(0);
        let piped = [&["run", "-", "-o", "out.jsonl"], &arguments[4..]].concat();
        let table = folder.read(name);
        folder
            .tool(&piped)
            .at(&server)
            .fed(table.as_bytes())
            .code(0);
        assert_eq!(server.count(), 3, "{name}");
    }
}

#[test]
fn the_request_is_what_the_flags_say() {
    let folder = Folder::new();
    let server = echo();
    folder
        .write("p.csv", "my column,lang\nx,French\n")
        .write("prompt.txt", "Say {{ row[\"my column\"] }}\n");
    let arguments = [
        "run",
        "p.csv",
        "-o",
        "-",
        "--prompt-file",
        "prompt.txt",
        "--system",
        "Speak {{ lang }}.",
        "--model",
        "m",
        "--max-tokens",
        "9",
        "--param",
        "temperature=0",
        "--param",
        "stop=[\"x\"]",
    ];
    folder.tool(&arguments).at(&server).run().code(0);
    let seen = server.requests();
    assert_eq!(seen[0].path, "/v1/chat/completions");
    assert_eq!(
        seen[0].json(),
        json!({
            "model": "m", "max_tokens": 9, "temperature": 0, "stop": ["x"],
            "messages": [
                {"role": "system", "content": "Speak French."},
                {"role": "user", "content": "Say x"},
            ],
        })
    );
    let embeddings = Faultd::replies([Reply::json(r#"{"data":[{"embedding":[1]}]}"#)]);
    let arguments = [
        "run",
        "p.csv",
        "-o",
        "-",
        "--prompt={{ lang }}",
        "--model=m",
        "--endpoint=/v1/embeddings",
    ];
    folder.tool(&arguments).at(&embeddings).run().code(0);
    assert_eq!(
        embeddings.requests()[0].json(),
        json!({"model": "m", "input": "French"})
    );
}

#[test]
fn rows_for_anthropic_are_messages() {
    let folder = Folder::new();
    let server = Faultd::replies([Reply::json(r#"{"content":[{"type":"text","text":"hi"}]}"#)]);
    folder.write("p.csv", "text\nx\n");
    let arguments = run("p.csv", &["--provider", "anthropic", "--system", "s"]);
    let tool = |arguments: &[&str]| {
        let tool = folder
            .tool(arguments)
            .env("ANTHROPIC_BASE_URL", &server.url());
        tool.env("ANTHROPIC_API_KEY", "sk-very-secret-0123456789")
            .run()
    };
    tool(&arguments).code(2).says(&["--max-tokens"]);
    tool(&[&arguments[..], &["--max-tokens", "5"]].concat()).code(0);
    let seen = server.requests();
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, "/v1/messages"));
    assert_eq!(
        seen[0].json(),
        json!({"model": "m", "max_tokens": 5, "system": "s", "messages": [{"role": "user", "content": "Classify: x"}]})
    );
    assert_eq!(
        folder.records("out.jsonl")[0]["result"]["type"],
        "succeeded"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    let server = echo();
    let table = "id,text\n1,x\n";
    let objects = "{\"id\":1,\"text\":\"x\"}\n";
    for (name, text, flags, words) in [
        ("p.csv", table, &[][..], &["--prompt", "p.csv"][..]),
        ("p.tsv", table, &["--model=m"], &["--prompt"]),
        ("p.jsonl", objects, &[], &["--prompt", "custom_id"]),
        ("p.jsonl", table, &[], &["CSV", "--prompt"]),
        (
            "p.csv",
            table,
            &["--prompt={{ txet }}", "--model=m"],
            &["\"txet\"", "\"id\", \"text\"", "(--prompt)"],
        ),
        (
            "p.csv",
            table,
            &["--prompt=x", "--model=m", "--id=key"],
            &["\"key\"", "(--id)"],
        ),
        (
            "p.jsonl",
            objects,
            &["--prompt={{ txet }}", "--model=m"],
            &["\"txet\"", "\"id\", \"text\""],
        ),
        (
            "p.csv",
            "text,text\nx,y\n",
            &["--prompt={{ text }}", "--model=m"],
            &["more than one column \"text\""],
        ),
        (
            "p.csv",
            "id,text\n1,x\n2,y\n\n1,z\n",
            &["--prompt={{ text }}", "--model=m", "--id=id"],
            &["lines 2 and 5: \"1\""],
        ),
        (
            "p.csv",
            table,
            &["--prompt={{ text", "--model=m"],
            &["prompt:1", "(--prompt)"],
        ),
        (
            "p.csv",
            table,
            &["--prompt={{ text | shout }}", "--model=m"],
            &["shout", "line 2"],
        ),
        ("p.csv", table, &["--prompt={{ text }}"], &["--model"]),
        (
            "p.csv",
            table,
            &["--prompt=", "--model=m"],
            &["the template is empty", "(--prompt)"],
        ),
        (
            "p.csv",
            "\u{0}id,text\n1,x\n",
            &["--prompt=x", "--model=m"],
            &["give plain UTF-8 text"],
        ),
        (
            "p.csv",
            table,
            &["--prompt=x", "--prompt-file=y"],
            &["--prompt-file"],
        ),
        (
            "p.csv",
            table,
            &["--prompt-file=none.txt", "--model=m"],
            &["--prompt-file", "none.txt"],
        ),
        ("p.csv", table, &["--prompt=x", "--prompts"], &["--prompts"]),
        ("p.jsonl", objects, &["--id=id"], &["--prompt"]),
        (
            "p.csv",
            table,
            &["--prompt=x", "--model=m", "--delimiter=ab"],
            &["--delimiter"],
        ),
        (
            "p.csv",
            "id;text\n1;x;y\n",
            &["--prompt={{ text }}", "--model=m"],
            &["header", "line 2", "--delimiter"],
        ),
        (
            "p.csv",
            "text\n\u{0}\u{0}\n",
            &["--prompt={{ text }}", "--model=m"],
            &["binary"],
        ),
        (
            "p.csv",
            "\"text\nx\n",
            &["--prompt={{ text }}", "--model=m"],
            &["quote"],
        ),
        (
            "p.csv",
            "id,text\r1,x\r2,y\r",
            &["--prompt={{ id }}", "--model=m"],
            &["p.csv", "CR alone", "tr '\\r' '\\n'"],
        ),
    ] {
        let folder = Folder::new();
        folder.write(name, text);
        let arguments = [&["run", name], flags].concat();
        folder
            .tool(&arguments)
            .at(&server)
            .run()
            .code(2)
            .says(words);
        assert_eq!(folder.names(), [name], "{flags:?}");
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn nothing_to_ask_is_no_error() {
    let server = echo();
    for table in ["", "id,text\n", "\u{feff}id,text\r\n\r\n"] {
        let folder = Folder::new();
        folder.write("p.csv", table);
        folder.tool(&run("p.csv", &[])).at(&server).run().code(0);
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn a_row_that_cannot_be_asked_is_one_failed_row() {
    let server = echo();
    let folder = Folder::new();
    let csv =
        b"id,text\n1,\"two\nlines\"\n2\n3,x,y\n4,\xff\n,no id\n5,fine\n6,\"never closed\n7,z\n";
    folder.write("p.csv", csv);
    let arguments = run("p.csv", &["--id", "id"]);
    let ended = folder.tool(&arguments).at(&server).run().code(1);
    ended.says(&["2 of 7", "line 4"]);
    assert_eq!(prompts(&server), ["Classify: fine", "Classify: two\nlines"]);
    let failed = folder.records("out.errors.jsonl").into_iter();
    let failed: Vec<_> = failed
        .map(|record| {
            assert_eq!(record["error"]["code"], "invalid_request_line");
            let message = record["error"]["message"].as_str().unwrap().to_owned();
            (record["custom_id"].as_str().unwrap().to_owned(), message)
        })
        .collect();
    let expected = [
        ("line-4", "line 4: has 1 cell, and the header has 2"),
        ("line-5", "line 5: has 3 cells, and the header has 2"),
        ("line-6", "line 6: not UTF-8 at column 3"),
        ("line-7", "line 7: \"id\" is empty, and must name the row"),
        (
            "line-9",
            "line 9: a quote opens here and is never closed, so all lines to the end are one row",
        ),
    ];
    assert_eq!(
        failed,
        expected.map(|(id, why)| (id.to_owned(), why.to_owned()))
    );

    let folder = Folder::new();
    folder.write(
        "p.jsonl",
        "{\"id\":1,\"text\":\"a\"}\n{\"id\":2}\n{\"id\":3,\"text\":\"c\"}\n",
    );
    folder
        .tool(&run("p.jsonl", &["--id", "id"]))
        .at(&server)
        .run()
        .code(1);
    let failed = &folder.records("out.errors.jsonl")[0];
    assert_eq!(failed["custom_id"], "2");
    assert_eq!(failed["tollgate"]["line"], 2);
    let why = failed["error"]["message"].as_str().unwrap();
    assert_eq!(why, "line 2: no \"text\", which the template names");
}

#[test]
fn rows_that_are_added_removed_and_moved_are_told_from_those_that_are_done() {
    let server = echo();
    let folder = Folder::new();
    folder.write("p.csv", "n,text\n1,a\n2,b\n3,a\n4,c\n");
    let arguments = run("p.csv", &["--ordered"]);
    folder.tool(&arguments).at(&server).run().code(0);
    assert_eq!(prompts(&server).len(), 4);
    let before = answers(&folder);
    let hashes: BTreeSet<_> = before.keys().cloned().collect();
    assert_eq!(hashes.iter().filter(|id| id.ends_with("-2")).count(), 1);

    // Moved, with another column and separator, and no b; new are d, a third a and a second c.
    folder.write("p.csv", "text;m\nc;1\nd;2\na;3\na;4\na;5\nc;6\n");
    folder
        .tool(&arguments)
        .at(&server)
        .run()
        .code(0)
        .says(&["3 done, 3 to do"]);
    assert_eq!(server.count(), 7);
    let after = answers(&folder);
    assert!(
        before
            .iter()
            .all(|answer| after.get_key_value(answer.0) == Some(answer))
    );
    // In the order of the input, and behind it what is no longer there.
    let order = folder.records("out.jsonl").into_iter();
    let order: Vec<_> = order
        .map(|record| after[record["custom_id"].as_str().unwrap()].clone())
        .collect();
    assert_eq!(
        order,
        ["c", "d", "a", "a", "a", "c", "b"].map(|text| format!("Classify: {text}"))
    );

    // Another template asks another thing; by a column of ids that is refused.
    let other = [
        "run",
        "p.csv",
        "-o",
        "out.jsonl",
        "--prompt",
        "Or: {{ text }}",
        "--model",
        "m",
    ];
    folder
        .tool(&other)
        .at(&server)
        .run()
        .code(0)
        .says(&["6 to do"]);
    let by_id = |prompt, more: &[&str]| {
        let arguments = [
            &[
                "run",
                "p.csv",
                "-o",
                "ids.jsonl",
                "--id=m",
                "--model=m",
                prompt,
            ],
            more,
        ]
        .concat();
        folder.tool(&arguments).at(&server).run()
    };
    by_id("--prompt=1 {{ text }}", &[]).code(0);
    by_id("--prompt=2 {{ text }}", &[])
        .code(2)
        .says(&["line 2: \"1\"", "--force-resume"]);
    by_id("--prompt=2 {{ text }}", &["--force-resume"]).code(0);
}

#[test]
fn a_killed_run_carries_on() {
    let slow = Faultd::script(|seen| {
        Reply::ok_chat(&prompt(&seen.json())).after(Duration::from_millis(5))
    });
    let folder = Folder::new();
    let rows = (0..300).fold(String::new(), |rows, n| {
        rows + &format!("{n},\"text {}\n{}\"\n", n % 150, n % 3)
    });
    folder.write("p.csv", format!("n,text\n{rows}"));
    let arguments = run("p.csv", &["-c", "8"]);
    for kills in 1..4 {
        let mut running = folder.tool(&arguments).at(&slow).start();
        until("some are asked", || slow.count() >= 40 * kills);
        running.child().kill().unwrap();
        running.wait();
    }
    folder.tool(&arguments).at(&slow).run().code(0);
    let ids: BTreeSet<_> = folder
        .records("out.jsonl")
        .iter()
        .map(|record| record["custom_id"].to_string())
        .collect();
    assert_eq!((ids.len(), folder.records("out.jsonl").len()), (300, 300));
    assert!(slow.count() <= 300 + 3 * 8, "{} sent", slow.count());
    let mut answers: Vec<_> = answers(&folder).into_values().collect();
    let mut wanted: Vec<_> = (0..300)
        .map(|n| format!("Classify: text {}\n{}", n % 150, n % 3))
        .collect();
    answers.sort();
    wanted.sort();
    assert_eq!(answers, wanted);
}

#[test]
fn rows_can_be_checked_and_tried() {
    let folder = Folder::new();
    folder.write(
        "p.csv",
        "id,text\n1,12345678\n2\n3,x\n3,y\n\n4,\"two\nlines\"\n",
    );
    let check = ["check", "p.csv", "--prompt", "{{ text }}", "--id", "id"];
    let ended = folder.tool(&check).run().code(1);
    for line in [
        "line 3: has 1 cell, and the header has 2",
        "line 5: has the \"custom_id\" of line 4: \"3\"",
        "requests       4 in 8 lines",
        "blank lines    1",
        "/v1/chat/completions (4)",
    ] {
        assert!(ended.stdout.contains(line), "{line}: {ended:#?}");
    }
    let wrong = ["check", "p.csv", "--prompt", "{{ txet }}"];
    folder
        .tool(&wrong)
        .run()
        .code(2)
        .says(&["\"txet\"", "\"id\", \"text\""]);
    folder
        .tool(&["check", "p.csv"])
        .run()
        .code(2)
        .says(&["--prompt"]);
    folder.write("p.csv", "id,text\n1,x\n2,x\n");
    folder
        .tool(&["check", "p.csv", "--prompt={{ text }}"])
        .run()
        .code(0);
    let anthropic = [
        "check",
        "p.csv",
        "--prompt={{ text }}",
        "--provider=anthropic",
        "--max-tokens=5",
        "--json",
    ];
    let report: Value =
        serde_json::from_str(&folder.tool(&anthropic).run().code(0).stdout).unwrap();
    assert_eq!(report["endpoints"][0]["name"], "/v1/messages");

    let simulate = ["run", "p.csv", "--simulate=latency=1ms", "-o", "s.jsonl"];
    folder
        .tool(&[&simulate[..], &CLASSIFY].concat())
        .run()
        .code(0);
    assert_eq!(folder.records("s.jsonl").len(), 2);
}
