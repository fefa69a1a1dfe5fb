//! `tollgate extract`: the answers in a file of results, as text or as a table.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};

use super::args::Extract;
use super::config::is_same;
use super::console::Console;
use super::exit::Exit;
use super::format::{count, counted};
use super::ordered_by::opened;
use super::stdout::is_broken_pipe;
use super::{logger, signals};
use crate::error::{config, refuse};
use crate::jsonl::answer_table::{Counts, is_tsv, write_table};
use crate::jsonl::answers::Answers;
use crate::jsonl::files::{Location, errors_beside, is_device};
use crate::jsonl::io::AtomicFile;
use crate::jsonl::sidecars::is_table;
use crate::jsonl::table::RowSource;
use crate::{Cancel, Error, ErrorKind, Result};

/// Writes the answers.
///
/// # Errors
/// [`ErrorKind::Config`] for arguments that do not go together and for a file that holds no
/// results, [`ErrorKind::Io`].
pub(crate) fn extract(args: &Extract, console: &Console) -> Result<Exit> {
    signals::stop_at_once().map_err(signals::cannot_receive)?;
    logger::install(console, 0);
    let format = format_of(args);
    refuse(flaw(args, format))?;
    let results = Location::new(&args.results);
    results.open_results()?;
    let beside = errors_beside(&args.results);
    let errors = args.errors.as_deref().unwrap_or(&beside);
    let mut answers = Answers::index([&*args.results, errors], &Cancel::new())?;
    if answers.len() == 0 {
        return Err(config(format!("{results} holds no results")));
    }
    let input = opened(&args.input)?;
    let rows = match &input {
        Some((location, format)) => RowSource::of_input(location, format)?,
        None => RowSource::of_records(),
    };
    let written = match &args.output {
        None => {
            let unwritable = |error| {
                Error::new(ErrorKind::Io, "cannot write to standard output").with_source(error)
            };
            let mut out = BufWriter::new(io::stdout().lock());
            let written = write(&mut out, args, format, &rows, &mut answers, &unwritable);
            written.and_then(|counts| out.flush().map(|()| counts).map_err(unwritable))
        }
        Some(path) => {
            let unwritable = |error| {
                Error::new(ErrorKind::Io, format!("cannot write {path:?}")).with_source(error)
            };
            let mut fresh = AtomicFile::create(path).map_err(unwritable)?;
            let counts = write(
                &mut fresh.file,
                args,
                format,
                &rows,
                &mut answers,
                &unwritable,
            )?;
            fresh.commit().map(|()| counts).map_err(unwritable)
        }
    };
    let counts = match written {
        // As `head` does.
        Err(error) if is_broken_pipe(&error) => return Ok(Exit::Success),
        written => written?,
    };
    Ok(tell(&counts, &answers, input.is_some(), console))
}

/// What answers are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Csv,
    Tsv,
}

fn format_of(args: &Extract) -> Format {
    match &args.output {
        _ if args.csv => Format::Csv,
        _ if args.tsv => Format::Tsv,
        Some(path) if is_tsv(path) => Format::Tsv,
        Some(path) if is_table(path) => Format::Csv,
        _ => Format::Text,
    }
}

/// What is wrong with the arguments.
fn flaw(args: &Extract, format: Format) -> Option<String> {
    if is_table(&args.results) {
        let table = args.results.display();
        return Some(format!(
            "RESULTS {table:?} is a table: name its records, which are in {table}.jsonl as a rule"
        ));
    }
    if format == Format::Text {
        if let Some(flag) = args.table.first_given() {
            return Some(format!(
                "{flag} is for a table: give --csv, or -o with a name that ends in .csv"
            ));
        }
    } else if args.null {
        return Some("-0 is for text: leave out -0, or write no table".to_owned());
    }
    let output = args.output.as_deref()?;
    let read = [
        Some(&args.results),
        args.input.ordered_by.as_ref(),
        args.errors.as_ref(),
    ];
    let mut read = read.into_iter().flatten();
    if read.any(|read| is_same(output, read)) {
        return Some(format!(
            "-o {output:?} is a file that is read, and would be overwritten: name another"
        ));
    }
    is_device(output)
        .then(|| format!("-o {output:?} is no file: leave -o out, and redirect standard output"))
}

fn write(
    mut out: impl Write,
    args: &Extract,
    format: Format,
    rows: &RowSource<'_>,
    answers: &mut Answers,
    unwritable: &impl Fn(io::Error) -> Error,
) -> Result<Counts> {
    if format != Format::Text {
        let layout = rows.layout(format == Format::Tsv);
        return write_table(
            out,
            layout,
            rows,
            answers,
            &args.table.options(),
            unwritable,
        );
    }
    let mut counts = Counts::default();
    rows.each(answers, |_, answer| {
        counts.add(answer);
        let text = answer.and_then(|answer| answer.text.as_deref());
        if text.is_none() && args.input.ordered_by.is_none() {
            return Ok(());
        }
        let text = text.unwrap_or_default();
        let (text, end) = if args.null {
            (Cow::Owned(text.replace('\0', " ")), "\0")
        } else {
            (on_one_line(text), "\n")
        };
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(end.as_bytes()))
            .map_err(unwritable)
    })?;
    Ok(counts)
}

/// A text without line ends at its start and its end, and with a blank for each within it.
fn on_one_line(text: &str) -> Cow<'_, str> {
    let text = text.trim_matches(['\r', '\n']);
    if text.contains(['\r', '\n']) {
        text.replace("\r\n", " ").replace(['\r', '\n'], " ").into()
    } else {
        text.into()
    }
}

/// Says what is missing, and gives the exit code for it.
fn tell(counts: &Counts, answers: &Answers, has_input: bool, console: &Console) -> Exit {
    let unanswered = counts.rows - counts.answered;
    if unanswered > 0 {
        let rows = counted(counts.rows, "row has", "rows have");
        console.warn(&format!("{} of {rows} no answer", count(unanswered)));
    }
    let others = answers.len() as u64 - counts.recorded.min(answers.len() as u64);
    if has_input && others > 0 {
        let rows = counted(others, "row", "rows");
        console.warn(&format!(
            "the results of {rows} are left out: the input does not have their ids"
        ));
    }
    let Some((lines, path, line)) = answers.left_out() else {
        return Exit::Success;
    };
    let lines = counted(lines, "line is", "lines are");
    console.warn(&format!(
        "{lines} left out as no record: the first is line {line} of {path:?}"
    ));
    Exit::SomeFailed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line() {
        for (text, line) in [
            ("a", "a"),
            ("", ""),
            ("\n\na\r\nb\rc\n\nd\n", "a b c  d"),
            (" a ", " a "),
            ("a\u{2028}b", "a\u{2028}b"),
        ] {
            assert_eq!(on_one_line(text), line);
        }
    }
}
