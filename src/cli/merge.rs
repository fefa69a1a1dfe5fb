//! `tollgate merge`: one file of results from several.

use std::path::{Path, PathBuf};

use super::args::Merge;
use super::console::Console;
use super::exit::Exit;
use super::format::{count, counted};
use super::output::{flaw_of_output, flaw_of_results, is_same, write_to};
use super::prompts::ordered_by;
use super::signals;
use crate::Result;
use crate::error::refuse;
use crate::jsonl::answers::Answers;
use crate::jsonl::files::{Location, errors_beside};
use crate::jsonl::ids::{NAMED, listed};
use crate::jsonl::merge::{Merged, claim, first_repeated, index, write};
use crate::jsonl::shard;
use crate::jsonl::sidecars::is_table;

/// Merges files of results.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for arguments that do not go together and for
/// files that are no results, [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(crate) fn merge(args: &Merge, console: &Console) -> Result<Exit> {
    signals::stop_at_once()?;
    console.install_logger(0);
    let files = files(&args.results)?;
    let output = args.output.as_deref();
    let output = output.filter(|path| *path != Path::new("-"));
    refuse(flaw(&files, output, args.input.ordered_by.as_deref()))?;
    let input = ordered_by(&args.input)?;
    let input = input.as_ref().map(|(location, format)| (location, format));
    let mut answers = index(&files)?;
    let locks = output.map(|path| claim(path, &answers)).transpose()?;
    let merged = write_to(output, |out, failed| {
        write(&mut answers, input, out, failed)
    })?;
    drop(locks);
    let Some(merged) = merged else {
        return Ok(Exit::Success);
    };
    // If the input has no row that is missing, shards without a file have no rows.
    let is_whole = input.is_some() && merged.missing == 0;
    let gaps = !is_whole && tell_missing_shards(&args.results, console);
    let exit = tell(&merged, &mut answers, console)?;
    Ok(if gaps { Exit::SomeFailed } else { exit })
}

/// The files that are read: those that are named, once each, and the errors files beside them.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut add = |path: &Path| {
        if !files.iter().any(|other| is_same(other, path)) {
            files.push(path.to_owned());
        }
    };
    for path in named {
        Location::new(path).open_results()?;
        add(path);
        let beside = errors_beside(path);
        if beside.is_file() {
            add(&beside);
        }
    }
    Ok(files)
}

/// What is wrong with the arguments.
fn flaw(files: &[PathBuf], output: Option<&Path>, input: Option<&Path>) -> Option<String> {
    let files = files.iter().map(PathBuf::as_path);
    if let Some(flaw) = flaw_of_results(files.clone()) {
        return Some(flaw);
    }
    let output = output?;
    if is_table(output) {
        return Some(format!(
            "-o {output:?} is the name of a table, and records are merged: name a file that ends in \
             .jsonl, and make a table of it with tollgate extract"
        ));
    }
    flaw_of_output(output, files.chain(input))
}

/// Says what was merged and what is amiss, and gives the exit code for it.
fn tell(merged: &Merged, answers: &mut Answers, console: &Console) -> Result<Exit> {
    let repeated = answers.repeated.ids;
    if repeated > 0 {
        let ids = counted(repeated, "id has", "ids have");
        let named = listed(first_repeated(answers)?, repeated);
        console.warn(&format!(
            "{ids} several answers, of which the last is kept:\n  {named}"
        ));
    }
    if merged.strangers > 0 {
        let records = counted(merged.strangers, "record is", "records are");
        console.warn(&format!(
            "{records} at the end of the file, as the input does not have their ids"
        ));
    }
    let mut damaged = 0;
    for file in &answers.files {
        let path = &file.path;
        damaged += file.damaged;
        if let Some(line) = file.first_damaged {
            let lines = counted(file.damaged, "line", "lines");
            console.warn(&format!(
                "{lines} of {path:?} left out as no record, the first is line {line}"
            ));
        }
        if file.torn.is_some() {
            console.warn(&format!(
                "the last line of {path:?} is incomplete, and is left out"
            ));
        }
    }
    if merged.missing > 0 {
        let rows = counted(merged.missing, "row has", "rows have");
        let named = listed(merged.first_missing.iter().cloned(), merged.missing);
        console.warn(&format!("{rows} no record:\n  {named}"));
    }
    let records = merged.answered + merged.failed;
    console.say(&format!(
        "{} of {}: {} answered, {} failed",
        counted(records, "record", "records"),
        counted(answers.files.len() as u64, "file", "files"),
        count(merged.answered),
        count(merged.failed),
    ));
    Ok(if merged.failed + merged.missing + damaged > 0 {
        Exit::SomeFailed
    } else {
        Exit::Success
    })
}

/// Names the shards that no file is named after, if all files are named after shards. Says whether
/// there is one.
fn tell_missing_shards(files: &[PathBuf], console: &Console) -> bool {
    let names = files.iter().map(|path| path.file_name());
    let names = names.map(|name| name.unwrap_or_default().to_string_lossy());
    let names: Vec<_> = names.collect();
    let (missing, first) = shard::missing(names.iter().map(AsRef::as_ref), NAMED);
    if missing > 0 {
        let shards = counted(missing, "shard has", "shards have");
        let missing_ones = listed(first, missing);
        console.warn(&format!(
            "{shards} no file among those to merge:\n  {missing_ones}"
        ));
    }
    missing > 0
}
