//! Inputs as the world makes them: put together, exported, pretty-printed, or no requests at all.

use std::io::Write;

use serde_json::json;

use crate::support::faultd::{Faultd, Seen};
use crate::support::reply::Reply;
use crate::tool::{Folder, request};

fn server() -> Faultd {
    Faultd::replies([Reply::ok_chat("hello")])
}

/// Request lines with these ids, each with this end.
fn requests(ids: std::ops::Range<u32>, end: &str) -> String {
    ids.map(|id| request(&format!("r{id}")).replace('\n', end))
        .collect()
}

fn pretty(ids: std::ops::Range<u32>) -> Vec<String> {
    let value =
        |id| -> serde_json::Value { serde_json::from_str(&request(&format!("r{id}"))).unwrap() };
    ids.map(|id| format!("{:#}", value(id))).collect()
}

/// Inputs of which no line, or nearly none, is a request: a name, the input, and a word of what it
/// seems to be.
#[expect(clippy::too_many_lines, reason = "a table is as long as its rows")]
fn no_requests() -> Vec<(&'static str, String, &'static str)> {
    let one = request("r1");
    let one = one.trim();
    let html = "<!doctype html>\n<title>404</title>\n";
    let results =
        r#"{"id":"b","custom_id":"r1","response":{"status_code":200,"body":{}},"error":null}"#;
    let nine_in_ten = |good: usize, bad: usize| {
        requests(0..u32::try_from(good).unwrap(), "\n") + &"no request,\n".repeat(bad)
    };
    vec![
        (
            "one pretty object",
            pretty(0..1)[0].clone(),
            "pretty-printed JSON",
        ),
        (
            "pretty objects",
            pretty(0..50).join("\n"),
            "pretty-printed JSON",
        ),
        ("trailing commas", requests(0..3, ",\n"), "comma at the end"),
        (
            "trailing commas but for the last",
            requests(0..5, ",\n") + &request("last"),
            "comma at the end",
        ),
        (
            "trailing commas, many",
            requests(0..2_000, ",\r\n"),
            "comma at the end",
        ),
        (
            "quoted csv",
            "\"custom_id\",\"prompt\"\n\"0\",\"hello\"\n".into(),
            "CSV",
        ),
        (
            "quoted csv with a number",
            "\"custom_id\";\"n\"\r\n\"0\";1\r\n".into(),
            "CSV",
        ),
        (
            "the rest of an object",
            "\"a\": [1,2],\n\"b\": 3\n".into(),
            "JSON with mistakes",
        ),
        ("csv", "custom_id,prompt\na,hi\nb,ho\n".into(), "CSV"),
        (
            "csv of blanks",
            "id;prompt\r\n1;hi there\r\n".repeat(600),
            "CSV",
        ),
        ("tabs", "id\tprompt\n1\thi\n".into(), "CSV"),
        ("CR alone", requests(0..30, "\r"), "CR alone"),
        (
            "CR alone, then LF",
            requests(0..30, "\r") + "\n",
            "CR alone",
        ),
        (
            "CSV in CR alone",
            "id,prompt\r1,hi\r2,ho\r".into(),
            "CR alone",
        ),
        ("prompts", "Say hi, please\nSay ho\n".into(), "--prompts"),
        ("a web page", html.into(), "HTML"),
        ("results", results.into(), "results"),
        ("bodies", r#"{"model":"m","messages":[]}"#.into(), "bodies"),
        (
            "other JSON",
            "{\"a\":1}\n{\"a\":2}\n".into(),
            "another kind",
        ),
        ("numbers", "1\n2\n".into(), "another kind"),
        (
            "Python",
            "{'custom_id': 'a', 'body': {}}\n".into(),
            "Python",
        ),
        (
            "several in a line",
            format!("{one}{one}\n"),
            "JSON with mistakes",
        ),
        (
            "an array of bodies",
            r#"[{"model":"m","messages":[]}]"#.into(),
            "bodies",
        ),
        (
            "an array of texts",
            "[\n\"Say hi\",\n\"Say ho\"\n]\n".into(),
            "another kind",
        ),
        (
            "streams",
            one.replace("\"model\"", "\"stream\":true,\"model\""),
            "stream",
        ),
        ("none of nine", nine_in_ten(0, 9), "none of its first 9"),
        (
            "one of eleven",
            nine_in_ten(1, 10),
            "of its first 11 lines only 1",
        ),
        (
            "99 of 1,000",
            "no request,\n".repeat(901) + &requests(0..99, "\n"),
            "of its first 1000 lines only 99",
        ),
        (
            "a good tail",
            "no request,\n".repeat(901) + &requests(0..5_000, "\n"),
            "of its first 1000 lines only 99",
        ),
    ]
}

#[test]
fn an_input_of_no_requests_is_refused_in_one_sentence() {
    for (name, input, says) in no_requests() {
        let folder = Folder::new();
        folder.write("p.jsonl", &input);
        let server = server();
        let ended = folder.tool(&["run", "p.jsonl"]).at(&server).run().code(2);
        assert_eq!(ended.stderr.lines().count(), 1, "{name}: {ended:#?}");
        ended
            .says(&["error: input \"p.jsonl\" seems to be", says])
            .never_says(&["ident"]);
        assert_eq!(folder.names(), ["p.jsonl"], "{name}");
        // A pipe is judged on what comes first; here that is all, or enough.
        let piped = folder.tool(&["run", "-"]).at(&server).fed(input.as_bytes());
        if name != "a good tail" {
            piped.code(2).says(&["seems to be", says]);
        }
        assert_eq!(server.count(), 0, "{name}");
        let checked = folder.tool(&["check", "p.jsonl"]).run().code(1);
        assert!(checked.stdout.contains(says), "{name}: {checked:#?}");
    }
}

#[test]
fn prompts_that_are_one_line_or_no_text_are_refused() {
    for (input, says) in [
        (&b"hi\rho\rhe\r"[..], "CR alone"),
        (b"hi\rho", "CR alone"),
        (b"gr\xfc\xdfe\ngr\xfc\xdfe\n", "UTF-8"),
    ] {
        let folder = Folder::new();
        folder.write("p.txt", input);
        let server = server();
        let file = folder.tool(&["run", "p.txt", "--model=m"]).at(&server);
        file.run().code(2).says(&["seems to be", says]);
        let stream = folder
            .tool(&["run", "-", "--prompts", "--model=m"])
            .at(&server);
        stream.fed(input).code(2).says(&["seems to be", says]);
        assert_eq!(server.count(), 0);
    }
    // One prompt is one line, and a CR within a line of others is part of it.
    for (input, prompts) in [("hi", 1), ("hi\r\n", 1), ("h\ri\nho\n", 2)] {
        let folder = Folder::new();
        folder.write("p.txt", input);
        let server = server();
        folder
            .tool(&["run", "p.txt", "--model=m"])
            .at(&server)
            .run()
            .code(0);
        assert_eq!(server.count(), prompts);
    }
}

#[test]
fn bad_lines_among_good_ones_are_failed_rows_as_before() {
    let bad = |lines: usize| "no request,\n".repeat(lines);
    for (input, good) in [
        (bad(8) + &requests(0..1, "\n"), 1),
        (bad(9) + &requests(0..1, "\n"), 1),
        (bad(900) + &requests(0..100, "\n"), 100),
        (requests(0..100, "\n") + &bad(2_000), 100),
        // They fill all that is looked at.
        (
            ("no request ".repeat(30_000) + "\n").repeat(5) + &requests(0..3, "\n"),
            3,
        ),
        ("\u{feff}".to_owned() + &requests(0..3, "\r\n"), 3),
    ] {
        let folder = Folder::new();
        folder.write("p.jsonl", &input);
        let server = server();
        let code = i32::from(input.contains("no request"));
        folder
            .tool(&["run", "p.jsonl"])
            .at(&server)
            .run()
            .code(code);
        assert_eq!(server.count(), good);
        let server = self::server();
        folder
            .tool(&["run", "-"])
            .at(&server)
            .fed(input.as_bytes())
            .code(code);
        assert_eq!(server.count(), good);
    }
}

#[test]
fn a_pipe_that_stalls_behind_a_request_is_not_waited_for() {
    let folder = Folder::new();
    let server = server();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(request("a").as_bytes()).unwrap();
    let running = folder
        .tool(&["run", "-", "-o", "o.jsonl"])
        .at(&server)
        .stdin(reader)
        .start();
    crate::tool::until("the request is answered", || server.count() == 1);
    // What comes later is no reason to refuse what has been sent.
    writer
        .write_all("no request\n".repeat(50).as_bytes())
        .unwrap();
    drop(writer);
    running.wait().code(1);
    assert_eq!(folder.records("o.jsonl").len(), 1);
}

#[test]
fn a_json_array_of_requests_is_read() {
    let body = |text: &str| json!({"model": "m", "messages": [{"role": "user", "content": text}]});
    let tricky = r#"a "]" b,\ [{"#;
    let rows: Vec<_> = [("a", "hi"), ("b", tricky), ("c", "ho")]
        .map(|(id, text)| json!({"custom_id": id, "body": body(text)}))
        .into();
    let array = serde_json::Value::from(rows);
    for text in [
        array.to_string(),
        format!("{array:#}"),
        format!("\u{feff}\r\n {array:#}\r\n").replace('\n', "\r\n"),
        // Put together from several.
        format!("[{}]\n[{},{}]\n", array[0], array[1], array[2]),
    ] {
        let folder = Folder::new();
        folder.write("p.json", &text);
        let server = server();
        folder.tool(&["run", "p.json"]).at(&server).run().code(0);
        let mut sent: Vec<_> = server.requests().iter().map(Seen::json).collect();
        sent.sort_by_key(ToString::to_string);
        assert_eq!(sent, [body(tricky), body("hi"), body("ho")], "{text}");
        let again = folder.tool(&["run", "p.json"]).at(&server).run().code(0);
        again.says(&["3 of them done before"]);
        let server = self::server();
        let ended = folder
            .tool(&["run", "-"])
            .at(&server)
            .fed(text.as_bytes())
            .code(0);
        assert_eq!(ended.stdout.lines().count(), 3);
        let checked = folder.tool(&["check", "p.json"]).run().code(0);
        assert!(checked.stdout.contains("requests"), "{checked:#?}");
    }
    let folder = Folder::new();
    folder.write("p.json", "[]");
    folder
        .tool(&["run", "p.json", "--no-auth"])
        .run()
        .code(0)
        .says(&["empty"]);
}

#[test]
fn a_byte_order_mark_is_ignored_at_the_start_of_any_line() {
    let folder = Folder::new();
    let mark = "\u{feff}";
    let lines = ["a", "b", "c"].map(|id| format!("{mark}{}", request(id)));
    folder.write("p.jsonl", lines.concat());
    let server = server();
    folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
    folder
        .tool(&["run", "p.jsonl"])
        .at(&server)
        .run()
        .code(0)
        .says(&["3 of them done before"]);
    assert_eq!(server.count(), 3);

    folder.write("q.txt", format!("{mark}hi\n{mark}ho\n{mark}\nhe{mark}\n"));
    let server = self::server();
    folder
        .tool(&["run", "q.txt", "--model=m", "-c1"])
        .at(&server)
        .run()
        .code(0);
    let sent: Vec<_> = server
        .requests()
        .iter()
        .map(|seen| seen.json()["messages"][0]["content"].clone())
        .collect();
    assert_eq!(sent, [json!("hi"), json!("ho"), json!("he\u{feff}")]);
}

#[test]
fn a_prompt_is_kept_to_the_byte() {
    let folder = Folder::new();
    folder.write(
        "p.txt",
        "  two before\ntwo after  \r\n\tx\t\n \t \n\r\n\u{a0}\nlast ",
    );
    let server = server();
    let arguments = ["run", "p.txt", "--model=m", "-c1"];
    folder.tool(&arguments).at(&server).run().code(0);
    let sent: Vec<_> = server
        .requests()
        .iter()
        .map(|seen| seen.json()["messages"][0]["content"].clone())
        .collect();
    assert_eq!(
        sent,
        ["  two before", "two after  ", "\tx\t", "\u{a0}", "last "].map(|text| json!(text))
    );
}

#[test]
fn duplicate_ids_are_named_with_their_lines() {
    let folder = Folder::new();
    let long = "x".repeat(5_000);
    let lines = ["a", "\u{1b}[31mred", "a", &long, "\u{1b}[31mred", &long]
        .map(request)
        .concat();
    folder.write("p.jsonl", lines);
    let server = server();
    let ended = folder.tool(&["run", "p.jsonl"]).at(&server).run().code(2);
    let ended = ended
        .says(&[
            "lines 1 and 3: \"a\"",
            "lines 2 and 5: \"",
            "[31mred\"",
            "lines 4 and 6: \"xxx",
        ])
        .never_says(&["\u{1b}"]);
    assert!(ended.stderr.len() < 1_000, "{ended:#?}");
    let checked = folder.tool(&["check", "p.jsonl"]).run().code(1);
    assert!(checked.stdout.contains("of line 1: \"a\""), "{checked:#?}");
    assert_eq!(server.count(), 0);
}
