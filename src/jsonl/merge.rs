//! `tollgate merge`: one file of records from several. Of each id it has the record that counts,
//! byte for byte.
//!
//! It keeps the [index of the records](super::answers) in memory, and a list of their positions: 48
//! bytes a row.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::answers::{Answers, RecordPosition, RecordSource, row_key};
use super::files::{Location, RunFiles};
use super::format::Format;
use super::ids::{NAMED, quoted};
use super::journal::{Locks, writer_of};
use super::table::{TableRows, open_again};
use crate::cancel::Cancel;
use crate::error::{Error, Result, config};

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// Records of rows that the input does not have. They come last.
    pub(crate) strangers: u64,
    /// Rows of the input that have no record.
    pub(crate) missing: u64,
    /// The first of them.
    pub(crate) first_missing: Vec<String>,
}

/// Reads what is to be merged.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for a file that is being written, or is none of
/// records, and for simulated answers beside others; [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(crate) fn index(files: &[PathBuf]) -> Result<Answers> {
    for path in files {
        if let Some(writer) = writer_of(path) {
            return Err(config(format!(
                "{path:?} is being written by {writer}: wait until it has ended"
            )));
        }
    }
    let answers = Answers::index(files.iter().map(PathBuf::as_path), &Cancel::new())?;
    let is_other = |file: &&RecordSource| file.records == 0 && file.damaged > 0;
    if let Some(RecordSource { path, .. }) = answers.files.iter().find(is_other) {
        return Err(config(format!("{path:?} holds no results: leave it out")));
    }
    let simulated = answers.files.iter().find(|file| file.simulated > 0);
    let paid = answers
        .files
        .iter()
        .find(|file| file.simulated < file.records);
    if let (Some(simulated), Some(paid)) = (simulated, paid) {
        return Err(config(format!(
            "{:?} holds simulated answers, and {:?} others, which are never mixed: leave one out",
            simulated.path, paid.path
        )));
    }
    Ok(answers)
}

/// Locks the output, and makes sure that it holds no answer that would be lost.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if a run writes to it, if it holds no results,
/// or if it holds answers that `answers` lacks; [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(crate) fn claim(output: &Path, answers: &Answers) -> Result<Locks> {
    let files = RunFiles {
        input: Location::Stream,
        output: Location::File(output.to_owned()),
        errors: Location::Stream,
        table: None,
    };
    let locks = Locks::take(&files, 0)?;
    let there = Answers::index([output], &Cancel::new())?;
    let is_other =
        |file: &RecordSource| file.records == 0 && (file.damaged > 0 || file.torn.is_some());
    let why = match there.answered_beside(answers) {
        _ if there.files.iter().any(is_other) => "holds something else than results".to_owned(),
        0 => return Ok(locks),
        1 => "holds 1 answer that is not in the files to merge".to_owned(),
        lost => format!("holds {lost} answers that are not in the files to merge"),
    };
    let message = format!("output {output:?} {why}, and would be replaced: name another");
    Err(config(message).with_settings(&["output"]))
}

/// Writes the records that count, in the order of the files. With an input, whose header has been
/// read, they are in its order, and records of other rows come last.
///
/// # Errors
/// Those of reading, and what `unwritable` makes of a failed write.
pub(crate) fn write(
    answers: &mut Answers,
    input: Option<(&Location, &Format)>,
    mut out: impl Write,
    unwritable: impl Fn(io::Error) -> Error,
) -> Result<Merged> {
    let mut merged = Merged::default();
    let mut copy = |answers: &mut Answers, place: RecordPosition, merged: &mut Merged| {
        let line = answers.line(place)?.trim_ascii_end();
        if place.is_answer {
            merged.answered += 1;
        } else {
            merged.failed += 1;
        }
        let written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
        written.map_err(&unwritable)
    };
    if let Some((location, format)) = input {
        let mut rows = TableRows::new(open_again(location)?, format.clone());
        while let Some(row) = rows.next().map_err(|error| location.unreadable(error))? {
            match answers.take(row_key(row.id.as_deref(), row.line)) {
                Some(place) if place.is_taken => {}
                Some(place) => copy(answers, place, &mut merged)?,
                None => {
                    merged.missing += 1;
                    if merged.first_missing.len() < NAMED {
                        let id = row.id.map(|id| format!(": {}", quoted(&id)));
                        let named = format!("line {}{}", row.line, id.unwrap_or_default());
                        merged.first_missing.push(named);
                    }
                }
            }
        }
    }
    for place in answers.in_order() {
        if !place.is_taken {
            merged.strangers += u64::from(input.is_some());
            copy(answers, place, &mut merged)?;
        }
    }
    Ok(merged)
}

/// The first few ids that have several answers, and where the answers are that are kept.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(crate) fn first_repeated(answers: &mut Answers) -> Result<Vec<String>> {
    let first = answers.repeated.first.clone();
    let named = |place| {
        let id = answers.read(place)?.custom_id.unwrap_or_default();
        Ok(format!("{}: {}", answers.place(place)?, quoted(&id)))
    };
    first.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::{first_fields, string};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use tempfile::TempDir;

    /// A record of the row with this number, told from others by `mark`.
    fn record(row: u8, is_answer: bool, mark: usize) -> String {
        let (status, body) = if is_answer {
            (200, format!(r#"{{"choices":[{{"text":"{mark}"}}]}}"#))
        } else {
            (400, format!(r#"{{"error":{{"message":"{mark}"}}}}"#))
        };
        format!(
            r#"{{"custom_id":"r{row}","response":{{"status_code":{status},"body":{body}}},"error":null}}"#
        )
    }

    struct Files(TempDir, Vec<PathBuf>);

    impl Files {
        fn new(contents: &[String]) -> Self {
            let folder = TempDir::new().unwrap();
            let names = (0..contents.len()).map(|n| folder.path().join(format!("{n}.jsonl")));
            let names: Vec<_> = names.collect();
            for (name, content) in names.iter().zip(contents) {
                fs::write(name, content).unwrap();
            }
            Self(folder, names)
        }

        fn merged(&self, input: Option<&Path>) -> Result<(Vec<String>, Merged, Answers)> {
            let mut answers = index(&self.1)?;
            let location = input.map(Location::new);
            let format = Format::default();
            let input = location.as_ref().map(|location| (location, &format));
            let mut out = Vec::new();
            let merged = write(&mut answers, input, &mut out, |error| panic!("{error}"))?;
            let text = String::from_utf8(out).unwrap();
            Ok((text.lines().map(str::to_owned).collect(), merged, answers))
        }
    }

    fn id(line: &str) -> String {
        string(first_fields(line, &["custom_id"])[0].unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn of_each_id_the_last_answer_counts_or_the_last_failure(
            files in prop::collection::vec(prop::collection::vec((0_u8..12, any::<bool>()), 0..12), 1..5),
            input in prop::collection::vec(0_u8..16, 0..16),
        ) {
            let (mut mark, mut counts, mut answered) = (0, BTreeMap::new(), BTreeMap::<u8, u64>::new());
            let mut contents = Vec::new();
            for records in files {
                let mut content = String::new();
                for (row, is_answer) in records {
                    mark += 1;
                    let line = record(row, is_answer, mark);
                    content += &(line.clone() + "\n");
                    *answered.entry(row).or_default() += u64::from(is_answer);
                    // By the place of the record, which is in the order of the files.
                    match counts.get(&row) {
                        Some(&(_, true, _)) if !is_answer => {}
                        _ => drop(counts.insert(row, (mark, is_answer, line))),
                    }
                }
                contents.push(content);
            }
            // An end may be missing.
            contents[0].pop();
            let files = Files::new(&contents);
            let mut expected: Vec<_> = counts.values().cloned().collect();
            expected.sort();
            let failed = expected.iter().filter(|(_, is_answer, _)| !is_answer).count() as u64;
            let (lines, merged, answers) = files.merged(None).unwrap();
            prop_assert_eq!(lines, expected.iter().map(|it| it.2.clone()).collect::<Vec<_>>());
            prop_assert_eq!((merged.failed, merged.missing, merged.strangers), (failed, 0, 0));
            let repeated = answered.values().filter(|answers| **answers > 1).count();
            prop_assert_eq!(answers.repeated.ids, repeated as u64);

            let mut seen = BTreeSet::new();
            let input: Vec<u8> = input.into_iter().filter(|row| seen.insert(*row)).collect();
            let path = files.0.path().join("input");
            let line = |row: &u8| format!("{{\"custom_id\":\"r{row}\",\"body\":{{}}}}\n");
            fs::write(&path, input.iter().map(line).collect::<String>()).unwrap();
            let (lines, merged, _) = files.merged(Some(&path)).unwrap();
            let (there, missing): (Vec<u8>, Vec<u8>) = input.iter().partition(|row| counts.contains_key(row));
            prop_assert_eq!(merged.missing, missing.len() as u64);
            prop_assert_eq!(merged.strangers, (counts.len() - there.len()) as u64);
            let mut order: Vec<String> = there.iter().map(|row| counts[row].2.clone()).collect();
            order.extend(expected.into_iter().filter(|it| !there.iter().any(|row| format!("r{row}") == id(&it.2))).map(|it| it.2));
            prop_assert_eq!(lines, order);
        }
    }

    #[test]
    fn ids_that_are_answered_more_than_once_are_named() {
        let all: String = (0..9).map(|row| record(row, true, 0) + "\n").collect();
        let again =
            format!("\n{}\n{}\n", record(8, true, 1), record(2, false, 2)) + &record(0, true, 3);
        let files = Files::new(&[all.clone(), again.clone(), again]);
        let mut answers = index(&files.1).unwrap();
        assert_eq!(answers.repeated.ids, 2);
        let mut named = first_repeated(&mut answers).unwrap();
        named.sort();
        // The one that is kept is in the last file; a blank line counts as a line.
        let kept = |line, id| format!("{:?}, line {line}: \"{id}\"", files.1[2]);
        assert_eq!(named, [kept(2, "r8"), kept(4, "r0")]);
        let files = Files::new(&vec![all; 7]);
        let named = first_repeated(&mut index(&files.1).unwrap()).unwrap();
        assert_eq!(named.len(), 5);
    }

    #[test]
    fn records_without_an_id_are_none_of_each_other() {
        let line = r#"{"custom_id":null,"response":null,"error":{"code":"x","message":"y"}}"#;
        let files = Files::new(&vec![format!("{line}\n{line}\n"); 2]);
        assert_eq!(files.merged(None).unwrap().0.len(), 4);
    }

    #[test]
    fn what_is_no_record_is_left_out_and_what_is_no_file_of_records_refused() {
        let torn = record(0, true, 0) + "\n" + &record(1, true, 0)[..40];
        let (lines, _, answers) = Files::new(&[torn]).merged(None).unwrap();
        assert_eq!(lines, [record(0, true, 0)]);
        assert_eq!(
            (answers.files[0].torn, answers.files[0].damaged),
            (Some(2), 0)
        );
        // A run that was killed while it wrote its first record, and one that had nothing to do.
        let (lines, ..) = Files::new(&["{\"id\":\"ba".to_owned(), String::new()])
            .merged(None)
            .unwrap();
        assert!(lines.is_empty());
        let request = "{\"custom_id\":\"a\",\"body\":{}}\n".to_owned();
        let refused = |files: &[String]| index(&Files::new(files).1).err().unwrap().to_string();
        assert!(refused(&[record(0, true, 0), request]).contains("1.jsonl\" holds no results"));
        let simulated =
            record(1, true, 0).replace("\"error\":null", r#""tollgate":{"simulated":true}"#);
        assert!(
            refused(&[record(0, true, 0), simulated]).contains("1.jsonl\" holds simulated answers")
        );
    }

    #[test]
    fn a_file_with_answers_of_its_own_is_not_replaced() {
        let files = Files::new(&[record(0, true, 0), record(1, true, 0)]);
        let answers = index(&files.1[..1]).unwrap();
        let claimed = |content: &str| {
            let path = files.0.path().join("all");
            fs::write(&path, content).unwrap();
            claim(&path, &answers)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        claimed("").unwrap();
        claimed(&record(0, true, 5)).unwrap();
        claimed(&record(7, false, 5)).unwrap();
        let told = claimed(&(record(0, true, 0) + "\n" + &record(1, true, 0))).unwrap_err();
        assert!(told.contains("holds 1 answer that is not"), "{told}");
        assert!(claimed("notes\n").unwrap_err().contains("something else"));
        claim(&files.0.path().join("new"), &answers).unwrap();
    }
}
