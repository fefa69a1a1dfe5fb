//! Standard streams that are slow, closed, or no terminal.

use std::io::{self, BufRead, BufReader, Write};
use std::time::Duration;

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, KEY, records, request};

fn slow() -> Faultd {
    Faultd::script(|_| Reply::ok_chat("hello").after(Duration::from_millis(20)))
}

#[test]
fn a_reader_that_goes_away_stops_the_run_with_one_line() {
    let folder = Folder::new();
    folder.requests(500);
    let server = slow();
    let mut running = folder
        .tool(&["run", "p.jsonl", "-o", "-", "-c", "2"])
        .at(&server)
        .start();
    assert!(running.first_line().starts_with('{'));
    let ended = running.wait().code(3);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
    ended
        .says(&["reader has gone", "-o FILE"])
        .never_says(&["error"]);
    assert!(server.count() < 500, "it went on for nobody");
}

#[test]
fn standard_error_may_be_closed_or_broken() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let folder = Folder::new();
    folder.requests(5);
    let server = slow();
    let tool = folder
        .tool(&["run", "p.jsonl", "--progress", "always", "-vv"])
        .at(&server);
    tool.stderr(writer).run().code(0);
    assert_eq!(folder.records("p.results.jsonl").len(), 5);
}

#[cfg(unix)]
#[test]
fn streams_may_not_be_there_at_all() {
    let server = slow();
    let url = format!("{}/v1", server.url());
    for closed in ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"] {
        let folder = Folder::new();
        folder.requests(5);
        let script = format!("exec \"$TOLLGATE\" run p.jsonl {closed}");
        let tool = folder.shell(&script).env("OPENAI_BASE_URL", &url);
        tool.env("OPENAI_API_KEY", KEY).run().code(0);
        assert_eq!(folder.records("p.results.jsonl").len(), 5, "{closed}");
    }
}

#[cfg(unix)]
#[test]
fn results_for_a_closed_standard_output_are_not_paid_for() {
    let server = slow();
    let url = format!("{}/v1", server.url());
    let run = |redirected: &str| {
        let folder = Folder::new();
        folder.requests(5);
        let script = format!("exec \"$TOLLGATE\" run p.jsonl -o - {redirected}");
        let tool = folder.shell(&script).env("OPENAI_BASE_URL", &url);
        tool.env("OPENAI_API_KEY", KEY).run()
    };
    run(">&-")
        .code(2)
        .says(&["standard output is closed", "-o"]);
    assert_eq!(server.count(), 0);
    // Somebody who says so may throw them away.
    run("> /dev/null").code(0);
    assert_eq!(server.count(), 5);
}

#[test]
fn a_deadline_ends_a_run_whose_input_is_silent() {
    let folder = Folder::new();
    let server = slow();
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(request("a").as_bytes()).unwrap();
    let tool = folder.tool(&["run", "-", "-o", "out.jsonl", "--deadline", "1"]);
    let ended = tool.at(&server).stdin(reader).run();
    drop(writer);
    ended.code(3).says(&["the run's time is over (--deadline)"]);
    assert_eq!(folder.records("out.jsonl").len(), 1);
}

#[test]
fn no_terminal_gets_plain_lines_now_and_then_and_no_escapes() {
    let folder = Folder::new();
    folder.requests(4);
    let server = Faultd::script(|_| Reply::ok_chat("hello").after(Duration::from_millis(1_500)));
    let tool = folder.tool(&["run", "p.jsonl", "-c", "1"]).at(&server);
    let ended = tool.env("TERM", "xterm").env("COLUMNS", "1").run().code(0);
    let lines: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.contains("ETA"))
        .collect();
    assert!(!lines.is_empty() && lines.len() <= 4, "{ended:#?}");
    assert!(lines[0].contains("/4  "), "{ended:#?}");
    ended.never_says(&["\u{1b}", "\r"]);
}

#[test]
fn the_bar_can_be_asked_for_without_a_terminal_however_narrow() {
    for columns in ["0", "1", "80", "65535", "wide"] {
        let folder = Folder::new();
        folder.requests(3);
        let server = slow();
        let tool = folder
            .tool(&["run", "p.jsonl", "--progress", "always"])
            .at(&server);
        let ended = tool.env("COLUMNS", columns).run().code(0);
        ended.says(&["\u{1b}[", "3 of 3 requests"]);
    }
}

/// What a terminal shows in the end of these bytes, line by line.
fn screen(bytes: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::new()], 0, 0);
    let mut chars = bytes.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => (row, column) = (row + 1, 0),
            '\u{1b}' => {
                assert_eq!(chars.next(), Some('['));
                let mut code: String = chars.by_ref().take(1).collect();
                while code.ends_with(|c: char| c.is_ascii_digit()) {
                    code.extend(chars.next());
                }
                match code.split_at(code.len() - 1) {
                    (up, "A") => row -= up.parse::<usize>().unwrap(),
                    ("", "K") => lines[row].truncate(column),
                    ("", "J") => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    _ => panic!("{code}"),
                }
            }
            c => {
                match lines[row].get_mut(column) {
                    Some(there) => *there = c,
                    None => lines[row].push(c),
                }
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.into_iter().map(String::from_iter).collect()
}

#[test]
fn messages_stand_whole_above_the_bar_which_leaves_no_trace() {
    let folder = Folder::new();
    folder.requests(40);
    let server = Faultd::script(|seen| {
        let reply = match seen.index % 4 {
            0 => Reply::status(500),
            _ => Reply::ok_chat("hello"),
        };
        reply.after(Duration::from_millis(60))
    });
    let tool = folder.tool(&["run", "p.jsonl", "-c", "4", "-v", "--progress", "always"]);
    let ended = tool.at(&server).run().code(0);
    assert!(
        ended.stderr.matches("[>").count() > 1,
        "a bar, drawn more than once: {ended:#?}"
    );
    let shown = screen(&ended.stderr);
    let (messages, report) = shown.split_at(
        shown
            .iter()
            .position(|line| line.starts_with("succeeded"))
            .unwrap(),
    );
    assert_eq!(messages.len(), server.count() - 40, "{shown:#?}");
    for line in messages {
        assert!(
            line.starts_with("20") && line.ends_with("a later attempt may succeed"),
            "{line}"
        );
    }
    assert!(
        !report.iter().any(|line| line.contains("ETA")),
        "{shown:#?}"
    );
}

#[test]
fn json_progress_is_json_to_the_last_line() {
    let folder = Folder::new();
    folder.requests(3);
    let server = Faultd::script(|_| Reply::ok_chat("hello").after(Duration::from_millis(600)));
    let arguments = ["run", "p.jsonl", "--progress", "json", "-c", "1"];
    let ended = folder.tool(&arguments).at(&server).run().code(0);
    let events = records(&ended.stderr);
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert!(kinds.len() >= 3, "{ended:#?}");
    assert_eq!(kinds.last(), Some(&"summary"));
    assert!(
        kinds[..kinds.len() - 1]
            .iter()
            .all(|kind| *kind == "progress"),
        "{ended:#?}"
    );
    let last = &events[events.len() - 2];
    assert_eq!((&last["done"], &last["total"]), (&3.into(), &3.into()));
    assert_eq!(events[events.len() - 1]["summary"]["succeeded"], 3);
}

#[test]
fn quiet_is_quiet_and_never_shows_no_progress() {
    let folder = Folder::new();
    folder.requests(3);
    let server = slow();
    let ended = folder
        .tool(&["run", "p.jsonl", "-q"])
        .at(&server)
        .run()
        .code(0);
    assert_eq!(ended.stderr, "");
    let ended = folder
        .tool(&["run", "p.jsonl", "--progress", "never"])
        .at(&server)
        .run()
        .code(0);
    ended.says(&["3 of 3 requests, 3 of them done before"]);
    let both = ["run", "p.jsonl", "-q", "--progress", "never"];
    let ended = folder.tool(&both).at(&server).run().code(0);
    assert_eq!(ended.stderr, "");
}

#[test]
fn rows_are_answered_as_they_come_in() {
    let folder = Folder::new();
    let server = slow();
    let tool = folder
        .tool(&["run", "-"])
        .at(&server)
        .stdin(std::process::Stdio::piped());
    let mut running = tool.start();
    let mut stdin = running.child().stdin.take().unwrap();
    let mut stdout = BufReader::new(running.child().stdout.take().unwrap());
    for id in ["a", "b", "c"] {
        stdin.write_all(request(id).as_bytes()).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("\"{id}\"")), "{line}");
    }
    drop(stdin);
    running.wait().code(0).says(&["3 of 3 requests"]);
}
