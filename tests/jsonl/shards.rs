//! Shards of an input: all of its rows together, and none twice.

use std::collections::BTreeSet;
#[cfg(feature = "rows")]
use std::fs;

use proptest::prelude::*;
use serde_json::Value;
use tollgate::{ErrorKind, FileRun, Fsync};

use crate::fixture::{Fixture, fine, ids, records, row, rows};

/// CRC-32 as its definition has it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |hash, byte| {
        (0..8).fold(hash ^ u32::from(*byte), |hash, _| {
            (hash >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(hash & 1))
        })
    })
}

/// The ids of all records of a run over the input, in order.
fn all_ids(
    fixture: &Fixture,
    name: &str,
    set: impl FnOnce(FileRun<'static>) -> FileRun<'static>,
) -> Vec<String> {
    let client = fixture.client(fine);
    let output = fixture.path(&format!("{name}.jsonl"));
    let run = client.jsonl(fixture.path("in.jsonl"), &output);
    let summary = set(run.fsync(Fsync::None)).run().unwrap();
    let mut all = records(&output);
    all.extend(records(&output.with_extension("errors.jsonl")));
    assert_eq!(summary.requests, all.len() as u64, "{name}");
    let mut ids: Vec<String> = ids(&all).into_iter().map(str::to_owned).collect();
    ids.sort();
    ids
}

fn lines() -> impl Strategy<Value = String> {
    let id = prop_oneof![".{1,6}", "[a-c]{1,3}", "row-[0-9]{1,3}"];
    let line = prop_oneof![
        8 => id.prop_map(|id| row(&id, "hi")),
        1 => Just("no request\n".to_owned()),
        1 => Just("{\"custom_id\":\"broken\",\"body\":{\n".to_owned()),
        1 => Just("\n".to_owned()),
    ];
    prop::collection::vec(line, 0..60).prop_map(|lines| {
        let mut seen = BTreeSet::new();
        let is_new = |line: &String| !line.starts_with("{\"body") || seen.insert(line.clone());
        lines.into_iter().filter(is_new).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn shards_are_all_rows_and_none_twice(input in lines(), count in 1_u32..6) {
        // Of lines that are mostly no requests, a run would say so.
        let fixture = Fixture::new(&format!("{}{input}", rows(8)));
        let whole = all_ids(&fixture, "whole", |run| run);
        let mut together = Vec::new();
        for index in 0..count {
            let name = format!("out-{index}");
            let own = all_ids(&fixture, &name, |run| run.shard(index, count));
            for id in &own {
                prop_assert_eq!(crc32(id.as_bytes()) % count, index, "{}", id);
            }
            together.extend(own);
        }
        together.sort();
        prop_assert_eq!(together, whole);
    }

    #[cfg(feature = "rows")]
    #[test]
    fn rows_that_come_again_are_in_one_shard_each(cells in prop::collection::vec("[a-c]", 0..40), count in 1_u32..5) {
        let csv = cells.join("\n");
        let fixture = Fixture::new("");
        fs::write(fixture.path("in.csv"), format!("text\n{csv}")).unwrap();
        let client = fixture.client(fine);
        let run = |name: &str| {
            let template = tollgate::Template::new("m", "{{ text }}");
            client.rows(fixture.path("in.csv"), fixture.path(name), template).fsync(Fsync::None)
        };
        run("whole.jsonl").run().unwrap();
        let whole = records(&fixture.path("whole.jsonl"));
        let mut whole = ids(&whole);
        whole.sort_unstable();
        let mut together = Vec::new();
        for index in 0..count {
            let name = format!("out-{index}.csv");
            // The second time, there is nothing to do.
            let summary = run(&name).shard(index, count).run().unwrap();
            let again = run(&name).shard(index, count).run().unwrap();
            prop_assert_eq!(again.progress.skipped, summary.progress.succeeded);
            prop_assert_eq!(again.progress.read, summary.requests);
            let table = fs::read_to_string(fixture.path(&name)).unwrap();
            prop_assert_eq!(table.lines().count() as u64, 1 + summary.requests);
            together.extend(records(&fixture.path(&format!("{name}.jsonl"))));
        }
        let mut together = ids(&together);
        together.sort_unstable();
        prop_assert_eq!(together, whole);
    }
}

#[test]
fn a_shard_carries_on_with_its_own_output_in_order() {
    let fixture = Fixture::new(&rows(200));
    let run = |script| {
        fixture
            .run_with(script, |run| run.shard(1, 3).ordered(true))
            .unwrap()
    };
    let first = run(|body, count| match count {
        0..20 => crate::fixture::answered(body),
        _ => (429, r#"{"error":{"code":"insufficient_quota"}}"#.to_owned()),
    });
    assert!(first.stopped.is_some() && first.progress.succeeded == 20);
    let second = run(fine);
    let own = |n: &usize| crc32(format!("id-{n}").as_bytes()) % 3 == 1;
    let expected: Vec<String> = (0..200).filter(own).map(|n| format!("id-{n}")).collect();
    assert_eq!(ids(&fixture.results()), expected);
    assert_eq!((second.progress.skipped, second.progress.failed), (20, 0));
    assert_eq!(second.requests, expected.len() as u64);
}

#[test]
fn an_output_of_other_shards_is_refused_and_one_of_a_part_of_this_shard_is_not() {
    let fixture = Fixture::new(&rows(40));
    fixture.run_with(fine, |run| run.shard(1, 4)).unwrap();
    let sent = fixture.sent();
    for (index, count) in [(0, 4), (1, 8), (0, 1_000)] {
        let error = fixture
            .run_with(fine, |run| run.shard(index, count))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.settings(), ["output", "shard"]);
        let told = error.to_string();
        assert!(
            told.contains(&format!("not in shard {index} of {count}:\n  line ")),
            "{told}"
        );
        assert!(told.contains(": \"id-"), "{told}");
    }
    assert_eq!(fixture.sent(), sent);
    // What is 1 of 4 is 1 of 2, too.
    let summary = fixture.run_with(fine, |run| run.shard(1, 2)).unwrap();
    assert_eq!(summary.progress.skipped, sent as u64);
    let summary = fixture.run_with(fine, |run| run).unwrap();
    assert_eq!(summary.progress.succeeded + summary.progress.skipped, 40);
}

#[test]
fn an_id_that_two_rows_have_is_told_by_its_shard() {
    let double = format!("{}{}", rows(20), row("id-3", "again"));
    let fixture = Fixture::new(&double);
    let own = crc32(b"id-3") % 4;
    for index in 0..4 {
        let outcome = fixture.run_with(fine, |run| run.shard(index, 4).overwrite(true));
        match outcome {
            Ok(_) => assert_ne!(index, own),
            Err(error) => {
                assert_eq!(index, own);
                assert!(
                    error.to_string().contains("lines 4 and 21: \"id-3\""),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_shard_that_there_is_not_is_an_error_of_the_run() {
    let fixture = Fixture::new(&rows(1));
    for (index, count) in [(0, 0), (1, 1), (9, 8)] {
        let error = fixture
            .run_with(fine, |run| run.shard(index, count))
            .unwrap_err();
        assert_eq!(error.settings(), ["shard"], "{error}");
    }
    let records: Vec<Value> = fixture.results();
    assert!(records.is_empty());
}
