//! A results file in which bytes have gone wrong since: refused by its line, repaired when told.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::Duration;

use tollgate::ErrorKind;

use crate::fixture::{Fixture, ids};
use crate::provider::{Provider, id, requests};
use crate::tool::{Folder, until};

const ROWS: usize = 12;

fn brief(row: usize) -> (u16, String) {
    (
        200,
        format!(r#"{{"choices":[{{"message":{{"content":"é漢🦀 {row}"}}}}]}}"#),
    )
}

#[test]
fn a_byte_gone_wrong_anywhere_is_refused_by_its_line_and_repaired_when_told() {
    let fixture = Fixture::new(&requests(4), brief);
    fixture.run();
    let whole = fixture.read("p.results.jsonl");
    let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    let (start, end) = (lines[0].len(), lines[0].len() + lines[1].len());
    for at in start..end {
        fixture.sent();
        let mut broken = whole.clone();
        // No UTF-8, so no JSON either.
        broken[at] = 0xff;
        fixture.write("p.results.jsonl", &broken);
        let refused = fixture.run_with(|run| run).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        for words in ["line 2", "`repair`"] {
            assert!(refused.to_string().contains(words), "at {at}: {refused}");
        }
        assert!(fixture.sent().is_empty());
        assert_eq!(fixture.read("p.results.jsonl"), broken);

        let summary = fixture.run_with(|run| run.repair(true)).expect("a run");
        // Without its newline a record has the next one on its line.
        let gone = if at + 1 == end { vec![1, 2] } else { vec![1] };
        assert_eq!(fixture.sent(), gone, "at {at}");
        assert_eq!(summary.progress.skipped, 4 - gone.len() as u64);
        let mut found = fixture.ids("p.results.jsonl");
        found.sort_unstable();
        assert_eq!(found, (0..4).map(id).collect::<Vec<_>>(), "at {at}");
        let bad = broken[start..].split(|&byte| byte == b'\n').next();
        let rejected = fixture.read("p.results.jsonl.rejected");
        assert_eq!(rejected.strip_suffix(b"\n"), bad, "at {at}");
        fs::remove_file(fixture.path("p.results.jsonl.rejected")).expect("it is there");
        fixture.write("p.results.jsonl", &whole);
    }
}

#[test]
fn several_bad_lines_and_a_torn_end_are_repaired_together() {
    let folder = Folder::new();
    folder.write("p.jsonl", requests(ROWS));
    let provider = Provider::start(|_| false);
    let run = ["run", "p.jsonl", "-c", "1"];
    provider.tool(&folder, &run).run().code(0);
    let whole = folder.read("p.results.jsonl");
    let mut lines: Vec<Vec<u8>> = whole.lines().map(|line| line.as_bytes().to_vec()).collect();
    let kept = lines[0].clone();
    lines[2] = vec![0; 300];
    lines[5] = b"not a record".to_vec();
    lines[6].truncate(40);
    lines[11].truncate(60);
    folder.write("p.results.jsonl", lines.join(&b'\n'));
    let before = provider.count();
    provider
        .tool(&folder, &run)
        .run()
        .code(2)
        .says(&["line 3", "--repair"]);
    assert_eq!(provider.count(), before);
    let repair = [&run[..], &["--repair", "--summary", "s.json"]].concat();
    provider.tool(&folder, &repair).run().code(0).says(&[
        "moved 3 damaged lines",
        "line 3: not a record, moved to",
        ".rejected\"",
    ]);
    assert_eq!(provider.asked(before), [2, 5, 6, 11]);
    let results = folder.read("p.results.jsonl");
    assert!(results.as_bytes().starts_with(&kept));
    assert_eq!(ids(results.as_bytes()).len(), ROWS);
    let rejected = fs::read(folder.path("p.results.jsonl.rejected")).expect("it is there");
    assert_eq!(
        rejected,
        [&lines[2][..], &lines[5], &lines[6], b""].join(&b'\n')
    );
}

#[test]
fn a_repair_that_is_killed_loses_neither_a_record_nor_a_line_it_moves_aside() {
    const ROWS: usize = 10_000;
    const KILLS: usize = 8;
    let folder = Folder::new();
    folder.write("p.jsonl", requests(ROWS));
    let is_bad = |row: usize| row % 10 == 3;
    let lines: Vec<String> = (0..ROWS)
        .map(|row| {
            let record = format!(
                "{{\"id\":\"x\",\"custom_id\":\"{}\",\"response\":{{\"status_code\":200,\"request_id\":\"r\",\"body\":{{\"choices\":[{{}}]}}}},\"error\":null}}",
                id(row)
            );
            let end = if is_bad(row) { "?" } else { "" };
            record + end + "\n"
        })
        .collect();
    let provider = Provider::start(|_| false);
    let repair = ["run", "p.jsonl", "-q", "-c64", "--repair"];
    for kill in 0..KILLS {
        let _none_at_first = fs::remove_file(folder.path("p.results.jsonl.rejected"));
        folder.write("p.results.jsonl", lines.concat());
        let mut running = provider.tool(&folder, &repair).start();
        until("lines are moved", || folder.has("p.results.jsonl.rejected"));
        // Each time a little later: while they are moved, while the rest is written anew, and after.
        thread::sleep(Duration::from_micros(1_500 * kill as u64));
        running.child().kill().expect("it is ours");
        running.child().wait().expect("it ends");
        let there = folder.read("p.results.jsonl");
        let aside = folder.read("p.results.jsonl.rejected");
        let found: HashSet<&str> = there.lines().chain(aside.lines()).collect();
        for line in &lines {
            assert!(found.contains(line.trim_end()), "lost: {line}");
        }
    }
    provider.tool(&folder, &repair).run().code(0);
    let mut found = ids(folder.read("p.results.jsonl").as_bytes());
    let mut expected: Vec<String> = (0..ROWS).map(id).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert!(found == expected, "each row once");
    let aside = folder.read("p.results.jsonl.rejected");
    let aside: HashSet<&str> = aside.lines().collect();
    for row in (0..ROWS).filter(|&row| is_bad(row)) {
        assert!(
            aside.contains(lines[row].trim_end()),
            "lost: {}",
            lines[row]
        );
    }
}
