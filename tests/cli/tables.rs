//! A table in, a table out: what a run leaves however it ends, and what `extract` makes of results.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::faultd::{Faultd, Seen};
use crate::support::reply::Reply;
use crate::tool::{Ended, Folder, KEY, Running, request, until};

const REVIEWS: &str = "\
id,text,note
1,\"said \"\"hi\"\"\",=1+1
2,\"two
lines\",
3,🦀 naïve,-x
";

const PROMPT: [&str; 4] = ["--prompt", "{{ id }}: {{ text }}", "--model", "m"];

/// Runs over the table `in.csv`, with these arguments.
fn run(folder: &Folder, server: &Faultd, more: &[&str]) -> Ended {
    start(folder, server, more).wait()
}

fn start(folder: &Folder, server: &Faultd, more: &[&str]) -> Running {
    let arguments = [&["run", "in.csv"], &PROMPT[..], more].concat();
    folder.tool(&arguments).at(server).start()
}

fn reviews() -> Folder {
    let folder = Folder::new();
    folder.write("in.csv", REVIEWS);
    folder
}

/// The number of the row that is asked about.
fn row(seen: &Seen) -> String {
    let body = seen.json();
    let messages = body["messages"].as_array().expect("messages");
    let prompt = messages.last().expect("one")["content"]
        .as_str()
        .expect("a text");
    prompt.split(':').next().unwrap_or_default().to_owned()
}

fn echo() -> Faultd {
    Faultd::script(|seen| Reply::ok_chat(&format!("re {}", row(seen))))
}

/// The cells of a table, read by `csv`.
pub(crate) fn cells(table: &str, delimiter: u8) -> Vec<Vec<String>> {
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .from_reader(table.as_bytes());
    let row = |row: csv::Result<csv::StringRecord>| {
        row.expect("a row").iter().map(str::to_owned).collect()
    };
    reader.into_records().map(row).collect()
}

#[track_caller]
fn answers(folder: &Folder, expected: [&str; 3]) {
    let rows = cells(&folder.read("out.csv"), b',');
    let input = cells(REVIEWS, b',');
    assert_eq!(rows.len(), 4);
    for (row, own) in rows.iter().zip(&input) {
        assert_eq!(row[..3], own[..]);
    }
    let answers: Vec<_> = rows.iter().map(|row| row[3].as_str()).collect();
    assert_eq!(answers, [&["answer"][..], &expected].concat());
}

#[test]
fn the_table_of_a_finished_run_has_the_users_columns_and_the_answers() {
    let (folder, server) = (reviews(), echo());
    run(&folder, &server, &["-o", "out.csv"])
        .code(0)
        .says(&["3 of 3 requests", "\"out.csv\""]);
    answers(&folder, ["re 1", "re 2", "re 3"]);
    assert_eq!(folder.names(), ["in.csv", "out.csv", "out.csv.jsonl"]);
    // A rerun has nothing to do, and leaves the same.
    let table = folder.read("out.csv");
    run(&folder, &server, &["-o", "out.csv"]).code(0);
    assert_eq!((server.count(), folder.read("out.csv")), (3, table));
}

#[test]
fn a_table_has_a_default_name_and_a_simulated_one_another() {
    let (folder, server) = (reviews(), echo());
    run(&folder, &server, &[]).code(0);
    let arguments = [&["run", "in.csv", "--simulate=latency=0s"], &PROMPT[..]].concat();
    for _ in 0..2 {
        folder.tool(&arguments).run().code(0);
    }
    let names = [
        "in.csv",
        "in.results.csv",
        "in.results.csv.jsonl",
        "in.simulated.csv",
        "in.simulated.csv.jsonl",
    ];
    assert_eq!(folder.names(), names);
    // Only what was simulated is simulated anew.
    std::fs::remove_file(folder.path("in.simulated.csv.jsonl")).unwrap();
    folder
        .tool(&arguments)
        .run()
        .code(2)
        .says(&["in.simulated.csv"]);
}

#[test]
fn a_row_that_failed_has_an_empty_answer_and_says_why_if_asked() {
    let folder = reviews();
    let server = Faultd::script(|seen| match row(seen).as_str() {
        "2" => Reply::error(400, "invalid_request_error", "bad", "=no"),
        row => Reply::ok_chat(&format!("=re {row}")),
    });
    let with = [
        "-o",
        "out.csv",
        "--with",
        "error,finish_reason,prompt_tokens,completion_tokens",
    ];
    run(&folder, &server, &with)
        .code(1)
        .says(&["out.csv.errors.jsonl"]);
    let rows = cells(&folder.read("out.csv"), b',');
    let added: Vec<_> = rows.iter().map(|row| row[3..].join("|")).collect();
    assert_eq!(
        added,
        [
            "answer|error|finish_reason|prompt_tokens|completion_tokens",
            "'=re 1||stop|10|5",
            "|HTTP 400: =no|||",
            "'=re 3||stop|10|5",
        ]
    );
    // The same records, written another way.
    run(&folder, &server, &["-o", "out.csv", "--raw-cells"]).code(1);
    answers(&folder, ["=re 1", "", "=re 3"]);
    assert_eq!(server.count(), 3);
    // A row that is answered later is no failure any more.
    run(&folder, &echo(), &["-o", "out.csv", "--retry-failed"]).code(0);
    answers(&folder, ["'=re 1", "re 2", "'=re 3"]);
    assert!(!folder.has("out.csv.errors.jsonl"));
}

#[test]
fn answers_that_are_objects_have_a_column_for_each_key() {
    let folder = reviews();
    let server = Faultd::script(|seen| {
        Reply::ok_chat(match row(seen).as_str() {
            "1" => r#"{"label": "good", "score": 1e400, "text": null}"#,
            "2" => "```json\n{\"why\": [1, \"=x\"], \"label\": \"=bad\", \"=k\": true}\n```",
            _ => "[\"label\"]",
        })
    });
    run(
        &folder,
        &server,
        &["-o", "out.csv", "--json-answer", "--with", "error"],
    )
    .code(0);
    let rows = cells(&folder.read("out.csv"), b',');
    let added: Vec<_> = rows.iter().map(|row| row[4..].join("|")).collect();
    assert_eq!(
        added,
        [
            "label|score|text_2|why|'=k|error",
            "good|1e400||||",
            "'=bad|||[1, \"=x\"]|true|",
            "|||||",
        ]
    );
    assert_eq!(
        rows[2][3],
        "```json\n{\"why\": [1, \"=x\"], \"label\": \"=bad\", \"=k\": true}\n```"
    );
}

#[test]
fn the_table_is_written_on_every_stop() {
    // The first row is answered, and what the second is answered with stops the run.
    for (stop, more) in [
        (Reply::error(401, "auth", "invalid_api_key", "no"), &[][..]),
        (Reply::stall(), &["--deadline", "1s"]),
        (
            Reply::ok_chat("re 2"),
            &["--price", "1000000,1000000", "--max-cost", "20"],
        ),
        (
            Reply::status(503).header("retry-after", "60"),
            &["--max-server-delay", "1s"],
        ),
    ] {
        let folder = reviews();
        let server = Faultd::replies([Reply::ok_chat("re 1"), stop]);
        let with = [&["-o", "out.csv", "-c", "1"], more].concat();
        run(&folder, &server, &with).code(3);
        let two = if more.contains(&"--price") {
            "re 2"
        } else {
            ""
        };
        answers(&folder, ["re 1", two, ""]);
        run(&folder, &echo(), &["-o", "out.csv"]).code(0);
        answers(&folder, ["re 1", "re 2", "re 3"]);
    }
}

#[cfg(unix)]
#[test]
fn the_table_is_written_after_a_ctrl_c() {
    let folder = reviews();
    let heard = Arc::new(AtomicBool::new(false));
    let server = Faultd::script({
        let heard = Arc::clone(&heard);
        move |seen| {
            if row(seen) == "2" {
                until("the signal was heard", || heard.load(Ordering::SeqCst));
            }
            Reply::ok_chat(&format!("re {}", row(seen)))
        }
    });
    let mut running = start(&folder, &server, &["-o", "out.csv", "-c", "1"]);
    until("the second is asked", || server.count() == 2);
    running.interrupt();
    running.until_it_says("stopping");
    heard.store(true, Ordering::SeqCst);
    running.wait().code(130);
    answers(&folder, ["re 1", "re 2", ""]);
    assert_eq!(folder.names(), ["in.csv", "out.csv", "out.csv.jsonl"]);
}

#[test]
fn a_table_of_another_origin_is_not_replaced_unless_that_is_said() {
    let (folder, server) = (reviews(), echo());
    folder.write("out.csv", "mine");
    let refused = run(&folder, &server, &["-o", "out.csv"]).code(2);
    refused.says(&["out.csv.jsonl", "--overwrite"]);
    assert_eq!(
        (server.count(), folder.read("out.csv")),
        (0, "mine".to_owned())
    );
    assert_eq!(folder.names(), ["in.csv", "out.csv"]);
    let simulated = ["-o", "out.csv", "--simulate", "--overwrite"];
    run(&folder, &server, &simulated)
        .code(2)
        .says(&["a simulated run replaces no table", "name another"])
        .never_says(&["or replace it"]);
    run(&folder, &server, &["-o", "out.csv", "--overwrite"]).code(0);
    answers(&folder, ["re 1", "re 2", "re 3"]);
    run(&folder, &server, &["-o", "in.csv"])
        .code(2)
        .says(&["is the input"]);
    let loose = run(&folder, &server, &["-o", "out.jsonl", "--with", "error"]);
    loose.code(2).says(&["--with", ".csv"]);
}

#[test]
fn a_disk_that_takes_no_table_loses_no_answer() {
    let (folder, server) = (reviews(), echo());
    // Where the new table is written there is a folder.
    std::fs::create_dir(folder.path("out.csv.tollgate-new")).unwrap();
    run(&folder, &server, &["-o", "out.csv"])
        .code(4)
        .says(&["out.csv"]);
    assert_eq!(folder.records("out.csv.jsonl").len(), 3);
    std::fs::remove_dir(folder.path("out.csv.tollgate-new")).unwrap();
    run(&folder, &server, &["-o", "out.csv"]).code(0);
    answers(&folder, ["re 1", "re 2", "re 3"]);
    assert_eq!(server.count(), 3);
}

#[test]
fn a_table_keeps_the_separator_and_the_mark_of_the_input() {
    let (folder, server) = (Folder::new(), echo());
    folder.write("in.csv", "\u{feff}id;text;answer\r\n1;\"a;b\";x,y\r\n");
    run(&folder, &server, &["-o", "out.csv"]).code(0);
    assert_eq!(
        folder.read("out.csv"),
        "\u{feff}id;text;answer;answer_2\n1;\"a;b\";x,y;re 1\n"
    );
    run(&folder, &server, &["-o", "out.tsv"]).code(0);
    assert_eq!(
        folder.read("out.tsv"),
        "\u{feff}id\ttext\tanswer\tanswer_2\n1\ta;b\tx,y\tre 1\n"
    );
}

#[test]
fn objects_and_requests_and_prompts_have_tables_too() {
    let (folder, server) = (Folder::new(), echo());
    folder.write("o.jsonl", "{\"id\": 1, \"text\": \"a\"}\n{\"text\": \"b\", \"id\": 2, \"x\": [1, null], \"big\": 12345678901234567890123}\n");
    let arguments = [&["run", "o.jsonl", "-o", "o.csv"], &PROMPT[..]].concat();
    folder.tool(&arguments).at(&server).run().code(0);
    assert_eq!(
        folder.read("o.csv"),
        "id,text,x,big,answer\n1,a,,,re 1\n2,b,\"[1, null]\",12345678901234567890123,re 2\n"
    );
    folder.requests(2);
    let server = Faultd::replies([Reply::ok_chat("yes")]);
    folder
        .tool(&["run", "p.jsonl", "-o", "p.csv"])
        .at(&server)
        .run()
        .code(0);
    assert_eq!(folder.read("p.csv"), "id,answer\nr0,yes\nr1,yes\n");
    folder.write("t.txt", "one\n\ntwo, three\n");
    let arguments = ["run", "t.txt", "--model", "m", "-o", "t.tsv"];
    folder.tool(&arguments).at(&server).run().code(0);
    assert_eq!(
        folder.read("t.tsv"),
        "id\tprompt\tanswer\nline-1\tone\tyes\nline-3\ttwo, three\tyes\n"
    );
    let stream = folder.tool(&["run", "-", "-o", "s.csv"]).at(&server);
    stream.fed(b"").code(2).says(&["read twice"]);
}

/// Results of a batch service: answers out of order, one twice, failures among them.
#[test]
fn the_cells_of_a_row_that_cannot_be_read_come_back_as_far_as_they_can() {
    let folder = Folder::new();
    let table = b"id,text,stars\n1,a,2\n4,5,6,\"7;8\"\n5\n6,\xff\xfe,1\n9,\"Zo\xc3\xab\n2,y,1\n";
    folder.write("in.csv", table);
    run(&folder, &echo(), &["-o", "out.csv"]).code(1);
    let written = std::fs::read(folder.path("out.csv")).unwrap();
    let expected = b"id,text,stars,answer\n1,a,2,re 1\n4,5,\"6,7;8\",\n5,,,\n6,\xff\xfe,1,\n9,\"Zo\xc3\xab\n2,y,1\",,\n";
    assert_eq!(
        String::from_utf8_lossy(&written),
        String::from_utf8_lossy(expected)
    );
    assert_eq!(written, expected);
}

#[test]
fn a_response_without_a_text_is_no_object_of_answers() {
    let folder = Folder::new();
    let call = r#"[{"id":"t","function":{"name":"f","arguments":"{}"}}]"#;
    let block = r#"[{"type":"tool_use","input":{}}]"#;
    let bodies = [
        format!(r#"{{"id":"x","choices":[{{"message":{{"content":null,"tool_calls":{call}}}}}]}}"#),
        format!(r#"{{"id":"x","content":{block},"stop_reason":"tool_use"}}"#),
        r#"{"object":"list","data":[{"embedding":[0.5]}]}"#.to_owned(),
        r#"{"choices":[{"message":{"content":"{\"label\":1}"}}]}"#.to_owned(),
    ];
    let lines = (0..).zip(&bodies).map(|(n, body)| {
        format!(
            "{{\"custom_id\":\"r{n}\",\"response\":{{\"status_code\":200,\"body\":{body}}},\"error\":null}}\n"
        )
    });
    folder.write("o.jsonl", lines.collect::<String>());
    let table = extracted(&folder, &["--csv", "--json-answer"]);
    let rows = cells(&table, b',');
    assert_eq!(rows[0], ["id", "answer", "label"]);
    let answers: Vec<_> = rows[1..].iter().map(|row| row[1].as_str()).collect();
    assert_eq!(answers, [call, block, &bodies[2], "{\"label\":1}"]);
    assert_eq!(rows[4][2], "1");
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let folder = Folder::new();
    let text = "x".repeat(1 << 17);
    let body = format!(r#"{{"choices":[{{"message":{{"content":"{text}"}}}}]}}"#);
    let record = format!(
        r#"{{"custom_id":"a","response":{{"status_code":200,"body":{body}}},"error":null}}"#
    );
    folder.write("o.jsonl", record + "\n");
    for more in [&[][..], &["--csv"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let tool = folder.tool(&[&["extract", "o.jsonl"], more].concat());
        let ended = tool.stdout(writer).run().code(0);
        ended.never_says(&["error"]);
    }
}

fn results() -> Folder {
    let folder = Folder::new();
    let answer = |id: &str, text: &str| {
        let body = serde_json::json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]});
        let response = serde_json::json!({"status_code": 200, "request_id": "r", "body": body});
        format!(
            "{}\n",
            serde_json::json!({"custom_id": id, "response": response, "error": null})
        )
    };
    let refused = r#"{"custom_id":"r3","response":{"status_code":400,"body":{"error":{"message":"no"}}},"error":null}"#;
    let claude = r#"{"custom_id":"r4","result":{"type":"succeeded","message":{"content":[{"type":"text","text":"=4"}]}}}"#;
    let lines = [
        answer("r2", "two\nlines\n"),
        answer("r0", "old"),
        format!("{refused}\n{claude}\n"),
        answer("r0", "{\"a\": \"0\", \"b\": 1}"),
    ];
    folder.write("o.jsonl", lines.concat());
    folder
}

#[test]
fn no_requests_results_or_other_tables_are_replaced_by_answers() {
    let folder = results();
    folder
        .requests(2)
        .write("bom.jsonl", format!("\u{feff}{}", request("a")))
        .write("in.csv", "id,text\nr2,two\n")
        .write("old.csv", "id,\"answer\"\nr2,old\n")
        .write("notes.txt", "mine\n");
    let records = folder.read("o.jsonl");
    folder.write("other.jsonl", &records);
    for (output, why) in [
        ("p.jsonl", "holds requests or results"),
        ("bom.jsonl", "holds requests or results"),
        ("other.jsonl", "holds requests or results"),
        ("in.csv", "is no table with the column answer"),
    ] {
        let before = folder.read(output);
        let extract = ["extract", "o.jsonl", "-o", output];
        folder.tool(&extract).run().code(2).says(&[output, why]);
        assert_eq!(folder.read(output), before);
    }
    for output in ["old.csv", "new.csv", "notes.txt", "notes.txt"] {
        let extract = ["extract", "o.jsonl", "-o", output];
        folder.tool(&extract).run().code(0).says(&[output]);
    }
    let shown = extracted(&folder, &["-o", "-"]);
    assert_eq!(shown, extracted(&folder, &[]));
    assert!(!folder.has("-"));
}

fn extracted(folder: &Folder, more: &[&str]) -> String {
    folder
        .tool(&[&["extract", "o.jsonl"], more].concat())
        .run()
        .code(0)
        .stdout
}

#[test]
fn a_file_of_answers_is_told_as_other_outputs_are() {
    let folder = Folder::new();
    folder.requests(2);
    let run = ["run", "p.jsonl", "--simulate=latency=1ms", "-o", "o.jsonl"];
    folder.tool(&run).run().code(0).says(&["rows a second"]);
    let told = "\"a.txt\": 2 rows, 2 answered";
    let extract = ["extract", "o.jsonl", "-o", "a.txt"];
    folder.tool(&extract).run().code(0).says(&[told]);
    let told = ["Give a file of results, such as run writes"];
    folder
        .tool(&["extract", "p.jsonl"])
        .run()
        .code(2)
        .says(&told);
}

#[test]
fn answers_are_extracted_as_text_and_as_tables() {
    let folder = results();
    folder.requests(4);
    assert_eq!(
        extracted(&folder, &[]),
        "two lines\n=4\n{\"a\": \"0\", \"b\": 1}\n"
    );
    assert_eq!(
        extracted(&folder, &["-0"]),
        "two\nlines\n\0=4\0{\"a\": \"0\", \"b\": 1}\0"
    );
    let table = "id,answer,error\nr2,\"two\nlines\n\",\nr3,,HTTP 400: no\nr4,'=4,\nr0,\"{\"\"a\"\": \"\"0\"\", \"\"b\"\": 1}\",\n";
    assert_eq!(extracted(&folder, &["--csv", "--with", "error"]), table);
    let ordered = ["--ordered-by", "p.jsonl", "--json-answer", "-o", "a.tsv"];
    let arguments = [&["extract", "o.jsonl"], &ordered[..]].concat();
    let ended = folder.tool(&arguments).run().code(0);
    ended.says(&["2 of 4 rows have no answer", "1 row are left out"]);
    let rows = cells(&folder.read("a.tsv"), b'\t');
    assert_eq!(rows[0], ["id", "answer", "a", "b"]);
    assert_eq!(rows[1][2..], ["0", "1"]);
    assert_eq!(rows[2], ["r1", "", "", ""]);
    assert_eq!(rows[3][..2], ["r2", "two\nlines\n"]);
    assert_eq!(rows[4], ["r3", "", "", ""]);
    assert_eq!(
        extracted(&folder, &["--ordered-by", "p.jsonl"]),
        "{\"a\": \"0\", \"b\": 1}\n\ntwo lines\n\n"
    );
}

#[test]
fn what_is_no_record_is_told_and_what_is_no_results_refused() {
    let folder = results();
    let torn = folder.read("o.jsonl") + "{\"custom_id\":\"r9\",\"resp";
    folder
        .write("o.jsonl", torn)
        .requests(1)
        .write("empty.jsonl", "");
    let ended = folder.tool(&["extract", "o.jsonl"]).run().code(1);
    ended.says(&["1 line is left out", "line 6 of"]);
    for (arguments, words) in [
        (&["extract", "p.jsonl"][..], "no results"),
        (&["extract", "empty.jsonl"], "no results"),
        (&["extract", "none.jsonl"], "none.jsonl"),
        (&["extract", "-"], "no file"),
        (&["extract", "o.jsonl", "--with", "error"], "--with"),
        (
            &["extract", "o.jsonl", "--with", "cost", "--csv"],
            "finish_reason",
        ),
        (&["extract", "o.jsonl", "-0", "--csv"], "--null"),
        (&["extract", "o.jsonl", "-o", "o.jsonl"], "overwritten"),
        (
            &["extract", "o.jsonl", "--ordered-by", "none.jsonl"],
            "none.jsonl",
        ),
    ] {
        folder.tool(arguments).run().code(2).says(&[words]);
    }
}

#[test]
fn results_in_the_batch_format_become_the_table_that_the_run_would_have_left() {
    let (folder, server) = (reviews(), echo());
    run(&folder, &server, &["-o", "out.csv"]).code(0);
    run(&folder, &server, &["-o", "o.jsonl"]).code(0);
    let ordered = ["--ordered-by", "in.csv", "-o", "again.csv"];
    let arguments = [&["extract", "o.jsonl"], &ordered[..], &PROMPT].concat();
    folder.tool(&arguments).run().code(0);
    assert_eq!(folder.read("again.csv"), folder.read("out.csv"));
    for (arguments, words) in [
        (
            &["extract", "o.jsonl", "--ordered-by", "in.csv"][..],
            "--prompt is missing",
        ),
        (&["extract", "o.jsonl", "--model", "m"], "--ordered-by"),
        (&["extract", "out.csv"], "out.csv.jsonl"),
    ] {
        folder.tool(arguments).run().code(2).says(&[words]);
    }
}

#[test]
fn failures_in_a_file_of_their_own_are_found_beside_the_results() {
    let folder = Folder::new();
    folder.requests(3);
    let server = Faultd::replies([
        Reply::ok_chat("yes"),
        Reply::error(400, "invalid_request_error", "bad", "no"),
        Reply::ok_chat("yes"),
    ]);
    let run = folder
        .tool(&["run", "p.jsonl", "-c", "1"])
        .env("OPENAI_API_KEY", KEY);
    run.at(&server).run().code(1);
    let arguments = [
        "extract",
        "p.results.jsonl",
        "--csv",
        "--with",
        "error",
        "--ordered-by",
        "p.jsonl",
    ];
    let table = folder.tool(&arguments).run().code(0).stdout;
    assert_eq!(
        table,
        "id,answer,error\nr0,yes,\nr1,,HTTP 400: no\nr2,yes,\n"
    );
}
