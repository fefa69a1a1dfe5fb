//! Files that end in the middle of a record, wherever that may be.

use tollgate::FileRun;

use crate::fixture::{Fixture, ids};
use crate::provider::{answer, id, request};

const ROWS: usize = 4;

/// The ids of these rows.
fn named(rows: impl IntoIterator<Item = usize>) -> Vec<String> {
    rows.into_iter().map(id).collect()
}

/// Answers of few bytes, each of them a place to cut at, of characters of one to four bytes.
fn brief(row: usize) -> (u16, String) {
    let body = format!(r#"{{"choices":[{{"message":{{"content":"é漢🦀 {row}"}}}}]}}"#);
    (200, body)
}

fn brief_message(row: usize) -> (u16, String) {
    let body =
        format!(r#"{{"type":"message","content":[{{"type":"text","text":"é漢🦀 {row}"}}]}}"#);
    (200, body)
}

fn openai(rows: usize) -> String {
    (0..rows).map(|row| request(row, "naïve 漢字")).collect()
}

fn anthropic(rows: usize) -> String {
    let line = |row| {
        let id = id(row);
        format!(
            "{{\"custom_id\":\"{id}\",\"params\":{{\"model\":\"m\",\"max_tokens\":5,\"metadata\":{{\"user\":\"{row}\"}},\"messages\":[]}}}}\n"
        )
    };
    (0..rows).map(line).collect()
}

/// Cuts the results of four rows at every byte of the last two, and runs it again each time.
fn cut_everywhere(
    input: &str,
    script: fn(usize) -> (u16, String),
    set: fn(FileRun<'static>) -> FileRun<'static>,
) {
    let fixture = Fixture::new(input, script);
    fixture.run_with(set).expect("a run");
    let whole = fixture.read("p.results.jsonl");
    assert_eq!(ids(&whole), named(0..ROWS), "one at a time, so in order");
    let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    let two = lines[0].len() + lines[1].len();
    let three = two + lines[2].len();
    for cut in two..=whole.len() {
        fixture.sent();
        fixture.write("p.results.jsonl", &whole[..cut]);
        let summary = fixture
            .run_with(set)
            .unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        // A record that lacks nothing but its newline is whole.
        let kept = match cut {
            _ if cut + 1 < three => 2,
            _ if cut + 1 < whole.len() => 3,
            _ => 4,
        };
        assert!(fixture.sent().into_iter().eq(kept..ROWS), "cut at {cut}");
        assert_eq!(summary.progress.skipped, kept as u64, "cut at {cut}");
        let now = fixture.read("p.results.jsonl");
        let records: usize = lines[..kept].iter().map(|line| line.len()).sum();
        assert_eq!(now[..records], whole[..records], "cut at {cut}");
        assert_eq!(ids(&now), named(0..ROWS), "cut at {cut}");
    }
}

#[test]
fn results_cut_at_any_byte_are_carried_on_with() {
    cut_everywhere(&openai(ROWS), brief, |run| run);
}

#[test]
fn strict_results_cut_at_any_byte_are_carried_on_with() {
    cut_everywhere(&openai(ROWS), brief, |run| run.strict(true));
}

#[test]
fn results_in_anthropics_form_cut_at_any_byte_are_carried_on_with() {
    cut_everywhere(&anthropic(ROWS), brief_message, |run| run);
}

#[test]
fn results_of_one_row_cut_at_any_byte_are_carried_on_with() {
    let fixture = Fixture::new(&openai(1), brief);
    fixture.run();
    let whole = fixture.read("p.results.jsonl");
    for cut in 0..=whole.len() {
        fixture.write("p.results.jsonl", &whole[..cut]);
        let ended = fixture.run_with(|run| run);
        ended.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(fixture.ids("p.results.jsonl"), named(0..1), "cut at {cut}");
    }
}

/// After a loss of power a file may have its new length and not its bytes.
#[test]
fn a_tail_of_nuls_is_cut_off() {
    let fixture = Fixture::new(&openai(ROWS), brief);
    fixture.run();
    let whole = fixture.read("p.results.jsonl");
    let three = whole.len()
        - whole
            .split_inclusive(|&byte| byte == b'\n')
            .next_back()
            .unwrap()
            .len();
    for nuls in [1, 2, 511, 4096, 100_000] {
        for (from, kept) in [
            (three, 3),
            (three + 40, 3),
            (whole.len() - 5, 3),
            (whole.len(), 4),
        ] {
            fixture.sent();
            fixture.write("p.results.jsonl", [&whole[..from], &vec![0; nuls]].concat());
            fixture.run();
            let what = format!("{nuls} behind {from} bytes of {}", whole.len());
            assert!(fixture.sent().into_iter().eq(kept..ROWS), "{what}");
            assert_eq!(fixture.ids("p.results.jsonl"), named(0..ROWS), "{what}");
        }
    }
}
/// Of four rows the last two are refused, for good.
fn refuses_two(row: usize) -> (u16, String) {
    match row {
        0 | 1 => (200, answer(row)),
        _ => (
            400,
            r#"{"error":{"message":"né 漢 🦀","code":"bad"}}"#.to_owned(),
        ),
    }
}

#[test]
fn an_errors_file_cut_at_any_byte_ends_as_the_rows_that_failed() {
    let fixture = Fixture::new(&openai(ROWS), refuses_two);
    fixture.run();
    let results = fixture.read("p.results.jsonl");
    let whole = fixture.read("p.errors.jsonl");
    assert_eq!(ids(&whole), named([2, 3]));
    let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for cut in 0..=whole.len() {
        fixture.sent();
        fixture.write("p.errors.jsonl", &whole[..cut]);
        fixture.run();
        let mut failed = fixture.ids("p.errors.jsonl");
        failed.sort_unstable();
        assert_eq!(failed, named([2, 3]), "cut at {cut}");
        // Whole but for its newline: kept or asked for again, either is right.
        let sent = fixture.sent();
        let expected: &[&[usize]] = match cut {
            _ if cut + 1 < first => &[&[2, 3]],
            _ if cut + 1 == first => &[&[2, 3], &[3]],
            _ if cut + 1 < whole.len() => &[&[3]],
            _ if cut + 1 == whole.len() => &[&[3], &[]],
            _ => &[&[]],
        };
        assert!(expected.contains(&&sent[..]), "cut at {cut}: {sent:?}");
        assert_eq!(fixture.read("p.results.jsonl"), results);
    }
    assert!(
        fixture.path(".").read_dir().unwrap().count() <= 3,
        "something is left over"
    );
}

#[test]
fn an_errors_file_with_nothing_but_a_torn_record_is_gone_when_no_row_failed() {
    let fixture = Fixture::new(&openai(ROWS), brief);
    fixture.run();
    for left in ["", "{\"id\":\"batch_req_0", "\0\0\0"] {
        fixture.write("p.errors.jsonl", left);
        fixture.run();
        assert!(!fixture.path("p.errors.jsonl").exists(), "{left:?}");
    }
}
