//! `tollgate extract`: the answers in a file of results, as text or as a table.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::args::Extract;
use super::console::Console;
use super::exit::Exit;
use super::format::{count, counted};
use super::output::{GIVE_RESULTS, flaw_of_output, flaw_of_results, write_to};
use super::prompts::ordered_by;
use super::signals;
use crate::error::{config, refuse};
use crate::jsonl::answer_table::{Counts, write_table};
use crate::jsonl::answers::Answers;
use crate::jsonl::files::{Location, errors_beside};
use crate::jsonl::sidecars::{has_ending, is_table};
use crate::jsonl::table::RowSource;
use crate::{Cancel, Error, Result};

/// Writes the answers.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for arguments that do not go together and for a
/// file that holds no results, [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(crate) fn extract(args: &Extract, console: &Console) -> Result<Exit> {
    signals::stop_at_once()?;
    console.install_logger(0);
    let format = format_of(args);
    let output = args.output.as_deref();
    let output = output.filter(|path| *path != Path::new("-"));
    refuse(flaw(args, output, format))?;
    let results = Location::new(&args.results);
    results.open_results()?;
    let errors = errors_beside(&args.results);
    let mut answers = Answers::index([&args.results, &errors].map(|it| &**it), &Cancel::new())?;
    if answers.len() == 0 {
        return Err(config(format!(
            "{results} holds no results. {GIVE_RESULTS}"
        )));
    }
    let input = ordered_by(&args.input)?;
    let rows = match &input {
        Some((location, format)) => RowSource::of_input(location, format)?,
        None => RowSource::of_records(),
    };
    let counts = write_to(output, |out, failed| {
        if format == Format::Text {
            return write_text(out, args, &rows, &mut answers, failed);
        }
        let (layout, options) = (rows.layout(format == Format::Tsv), args.table.options());
        write_table(out, layout, &rows, &mut answers, &options, failed)
    })?;
    let Some(counts) = counts else {
        return Ok(Exit::Success);
    };
    if let Some(output) = output {
        let (rows, answered) = (counted(counts.rows, "row", "rows"), count(counts.answered));
        console.say(&format!("answers  {output:?}: {rows}, {answered} answered"));
    }
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
        Some(path) if has_ending(path, "tsv") => Format::Tsv,
        Some(path) if is_table(path) => Format::Csv,
        _ => Format::Text,
    }
}

/// What is wrong with the arguments.
fn flaw(args: &Extract, output: Option<&Path>, format: Format) -> Option<String> {
    if let Some(flaw) = flaw_of_results([&*args.results].into_iter()) {
        return Some(flaw);
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
    let output = output?;
    let read = [Some(&args.results), args.input.ordered_by.as_ref()];
    let flaw = flaw_of_output(output, read.into_iter().flatten().map(PathBuf::as_path));
    flaw.or_else(|| {
        let kept = kept_in(output, format)?;
        let flaw = "and would be overwritten: name another";
        Some(format!("-o {output:?} {kept}, {flaw}"))
    })
}

/// What an existing file has that no answers are, and that nobody would want to lose.
fn kept_in(output: &Path, format: Format) -> Option<&'static str> {
    let file = File::open(output).ok()?;
    let mut start = Vec::new();
    file.take(1 << 20).read_to_end(&mut start).ok()?;
    let start = String::from_utf8_lossy(&start);
    let line = start.trim_start_matches('\u{feff}').lines().next()?;
    let is_object = line.trim_start().starts_with('{');
    if is_object && line.contains("\"custom_id\"") {
        return Some("holds requests or results");
    }
    let mut names = line.split([',', ';', '\t']);
    let has_answers = names.any(|name| name.trim_matches('"') == "answer");
    (format != Format::Text && !has_answers).then_some("is no table with the column answer")
}

fn write_text(
    mut out: impl Write,
    args: &Extract,
    rows: &RowSource<'_>,
    answers: &mut Answers,
    failed: impl Fn(io::Error) -> Error,
) -> Result<Counts> {
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
        write!(out, "{text}{end}").map_err(&failed)
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
