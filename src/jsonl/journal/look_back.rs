//! Reading back what earlier runs left, before anything is touched.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::super::hash::LineHash;
use super::super::names::{Place, Places};
use super::super::readback::ReadRecord;
use super::target::failed;
use super::{Opening, Past};
use crate::error::{Error, ErrorKind, Result};

/// What earlier runs left in the files of a run.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) past: Past,
    pub(crate) traces: Traces,
}

/// What a run must know of the files themselves to go on with them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traces {
    /// Whether there is an output to carry on with, if only an empty one: of a run in which nothing
    /// succeeded.
    pub(super) resumed: bool,
    /// How the output ends.
    pub(super) tail: Option<Tail>,
    /// The length of the errors file.
    pub(super) old_errors: u64,
}

impl Found {
    /// Looks into the files, and leaves them as they are.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the output must not be appended to, naming the line, and
    /// [`ErrorKind::Io`].
    pub(crate) fn look_back(places: &Places, opening: Opening) -> Result<Self> {
        let mut found = Self::default();
        if let Place::File(path) = &places.output
            && let Ok(metadata) = fs::metadata(path)
            && !opening.overwrite
        {
            found.traces.resumed = true;
            if metadata.is_file() && metadata.len() > 0 {
                found.traces.tail = Some(read_back(path, opening, &mut found.past)?);
                if opening.ordered && !found.past.done.is_empty() {
                    return Err(unordered(path));
                }
            }
        }
        if let Place::File(path) = &places.errors {
            if !found.traces.resumed {
                refuse_other_files(path)?;
                return Ok(found);
            }
            found.traces.old_errors = fs::metadata(path).map_or(0, |metadata| metadata.len());
            if found.traces.old_errors > 0 && !opening.retry_failed {
                read_failed(path, &mut found.past)?;
            }
        }
        Ok(found)
    }
}

/// How a results file ends; where its last whole record does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tail {
    Whole(u64),
    /// The last record is whole but for its newline.
    Unended(u64),
    Torn(u64),
}

fn read_back(path: &Path, opening: Opening, past: &mut Past) -> Result<Tail> {
    let unreadable = |error| failed("read back", path, error);
    let mut source = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    let (mut at, mut number) = (0_u64, 0_u64);
    loop {
        line.clear();
        if source.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            return Ok(Tail::Whole(at));
        }
        number += 1;
        let ended = line.ends_with(b"\n");
        let text = line.trim_ascii();
        let next = at + line.len() as u64;
        match ReadRecord::parse(text) {
            Ok(record) => {
                if record.simulated != opening.simulated {
                    return Err(mixed(path, number, record.simulated));
                }
                if let (true, Some(id)) = (record.done, record.custom_id) {
                    past.done.insert(LineHash::of(id.as_bytes()), record.hash);
                }
                if !ended {
                    return Ok(Tail::Unended(next));
                }
            }
            // What no record precedes may be a file of another kind that has no newline.
            Err(_) if !ended && (at > 0 || may_begin_a_record(&line)) => {
                log::warn!(
                    "{path:?} ends in a torn record, which is cut off: {} bytes",
                    line.len()
                );
                return Ok(Tail::Torn(at));
            }
            Err(_) if text.is_empty() => {}
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "output {path:?}, line {number}: not a result record, so this may not be a \
                         results file: name another with -o, or start anew with --overwrite"
                    ),
                ));
            }
        }
        at = next;
    }
}

/// Whether a torn line may be what is left of a record, ours or of a tool like us.
fn may_begin_a_record(line: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 2] = [b"{\"id\":\"", b"{\"custom_id\":"];
    line.iter().all(|byte| *byte == 0)
        || BEGINNINGS
            .iter()
            .any(|start| line.starts_with(start) || start.starts_with(line))
}

/// Refuses to replace what is no errors file: a left-over one holds records, or the start of one.
fn refuse_other_files(path: &Path) -> Result<()> {
    let unreadable = |error| failed("look into", path, error);
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(());
    }
    let mut source = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    source.read_until(b'\n', &mut line).map_err(unreadable)?;
    let torn = !line.ends_with(b"\n") && may_begin_a_record(&line);
    if line.is_empty() || torn || ReadRecord::parse(line.trim_ascii()).is_ok() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!(
            "errors file {path:?} exists and holds something else than failed rows: name another \
             with --errors, or move it away"
        ),
    ))
}

/// Notes which rows have failed for good. What is no record here is no reason to refuse a run: it
/// is rewritten at its end.
fn read_failed(path: &Path, past: &mut Past) -> Result<()> {
    let unreadable = |error| failed("read back", path, error);
    let mut source = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    while source.read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
        if let Ok(record) = ReadRecord::parse(line.trim_ascii())
            && let Some(id) = record.custom_id
        {
            let id = LineHash::of(id.as_bytes());
            // The last record of a row is the one that holds.
            if record.passing || record.done || past.done.contains_key(&id) {
                past.failed.remove(&id);
            } else {
                past.failed.insert(id, record.hash);
            }
        }
        line.clear();
    }
    Ok(())
}

#[cold]
fn mixed(path: &Path, number: u64, simulated: bool) -> Error {
    let (there, now) = if simulated {
        ("a simulated", "paid")
    } else {
        ("a paid", "simulated")
    };
    Error::new(
        ErrorKind::Config,
        format!(
            "output {path:?}, line {number}: {there} answer, and {now} ones are never mixed with \
             those: name another output with -o, or start anew with --overwrite"
        ),
    )
}

#[cold]
fn unordered(path: &Path) -> Error {
    Error::new(
        ErrorKind::Config,
        format!(
            "output {path:?} has results already, and --ordered cannot append to them in order: \
             name another with -o, or start anew with --overwrite"
        ),
    )
}
