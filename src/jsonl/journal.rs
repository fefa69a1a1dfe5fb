//! The results and errors files: appended to as rows finish, and read back by the next run.
//!
//! The results file is its own resume record: it holds successes only, each id once, and what it
//! holds is done. A record is whole when its newline is there; a run that was killed leaves at most
//! one torn line, which the next one cuts off. The errors file holds the rows failed now: it grows
//! during a run and is cleaned of rows that have since succeeded at its end.

#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "a name may hold what a terminal obeys: messages quote and escape it"
)]

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::hash::LineHash;
use super::line::RequestLine;
use super::names::{Place, Places};
use super::readback::ReadRecord;
use crate::error::{Error, ErrorKind, Result};

/// What earlier runs made of the rows, by the hash of their id, with the hash of the request line
/// where the record has it.
#[derive(Debug, Default)]
pub(super) struct Past {
    done: HashMap<LineHash, Option<LineHash>>,
    /// Failed for a reason that will not pass.
    failed: HashMap<LineHash, Option<LineHash>>,
}

/// Where a row stands when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    ToDo,
    Done,
    Failed,
}

impl Past {
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.failed.is_empty()
    }

    /// Where the row stands. One that has failed as another request stands anew.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is done as another request: the answer on file is not its own.
    pub(super) fn standing(&self, id: LineHash, line: &RequestLine) -> Result<Standing> {
        let same = |hash: &Option<LineHash>| hash.is_none_or(|hash| hash == line.hash);
        match self.done.get(&id) {
            None if self.failed.get(&id).is_some_and(same) => Ok(Standing::Failed),
            None => Ok(Standing::ToDo),
            Some(hash) if same(hash) => Ok(Standing::Done),
            Some(_) => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "line {}: the request {:?} has changed since it was answered: give it another \
                     custom_id, or start anew with --overwrite",
                    line.number, line.custom_id
                ),
            )),
        }
    }
}

/// How a run treats what it finds in its output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// Begin anew, whatever is there.
    pub(super) overwrite: bool,
    /// What is there must have been simulated, or must not.
    pub(super) simulated: bool,
    /// Results are written in the input's order, which an append cannot keep.
    pub(super) ordered: bool,
    /// Rows that failed for a reason that will not pass are tried again all the same.
    pub(super) retry_failed: bool,
}

/// Both files of a run, open.
pub(super) struct Journal {
    output: Target,
    errors: Target,
    /// The length of what earlier runs left in the errors file.
    old_errors: u64,
    /// Ids that this run has finished, kept while there are old errors to be cleaned.
    ended_now: HashSet<LineHash>,
}

/// Where whole records go.
enum Target {
    Stdout,
    File {
        path: PathBuf,
        file: File,
        /// Where the last whole record ends, in a regular file.
        end: Option<u64>,
    },
    /// A file that is made when there is something to put into it.
    Unopened(PathBuf),
    /// The other target's.
    Shared,
}

impl Journal {
    /// Opens the files and reads back what is done.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the output must not be appended to, naming the line, and
    /// [`ErrorKind::Io`].
    pub(super) fn open(places: &Places, opening: Opening) -> Result<(Self, Past)> {
        let mut past = Past::default();
        let output = match &places.output {
            Place::Stream => Target::Stdout,
            Place::File(path) => open_output(path, opening, &mut past)?,
        };
        let resumed = matches!(output, Target::File { end: Some(end), .. } if end > 0);
        let mut old_errors = 0;
        let errors = match &places.errors {
            Place::Stream if matches!(output, Target::Stdout) => Target::Shared,
            Place::Stream => Target::Stdout,
            Place::File(path) => {
                if resumed {
                    old_errors = fs::metadata(path).map_or(0, |metadata| metadata.len());
                    if old_errors > 0 && !opening.retry_failed {
                        read_failed(path, &mut past)?;
                    }
                } else if fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
                    // A fresh run: what is left of an older one says nothing about this.
                    remove(path)?;
                }
                Target::Unopened(path.clone())
            }
        };
        let journal = Self {
            output,
            errors,
            old_errors,
            ended_now: HashSet::new(),
        };
        Ok((journal, past))
    }

    /// Appends whole records of successes.
    pub(super) fn write_results(&mut self, records: &[u8]) -> Result<()> {
        self.output.append(records)
    }

    /// Appends whole records of failures.
    pub(super) fn write_errors(&mut self, records: &[u8]) -> Result<()> {
        match self.errors {
            Target::Shared => self.output.append(records),
            _ => self.errors.append(records),
        }
    }

    /// Notes that this run has finished a row, well or not.
    pub(super) fn ended(&mut self, custom_id: Option<&str>) {
        if let Some(id) = custom_id
            && self.old_errors > 0
        {
            self.ended_now.insert(LineHash::of(id.as_bytes()));
        }
    }

    /// Brings both files to the disk, and the errors file to exactly the rows failed now.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; the records themselves are written by then.
    pub(super) fn close(mut self, past: &Past) -> Result<()> {
        if self.old_errors > 0
            && let Target::Unopened(path) | Target::File { path, .. } = &self.errors
        {
            let path = path.clone();
            self.clean_errors(&path, past)
                .map_err(|error| failed("rewrite the errors file", &path, error))?;
            self.errors = Target::Shared;
        }
        self.errors.sync()?;
        self.output.sync()
    }

    /// Writes the errors file anew beside itself and puts it in its own place, so that at every
    /// moment there is a whole one.
    fn clean_errors(&self, path: &Path, past: &Past) -> io::Result<()> {
        let mut source = BufReader::new(File::open(path)?);
        let fresh = beside(path);
        let mut target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&fresh)
            .or_else(|error| match error.kind() {
                // Of a run that was killed here.
                io::ErrorKind::AlreadyExists => {
                    fs::remove_file(&fresh)?;
                    File::create_new(&fresh)
                }
                _ => Err(error),
            })?;
        let mut line = Vec::new();
        let mut at = 0;
        let mut kept = false;
        while source.read_until(b'\n', &mut line)? > 0 {
            let old = at < self.old_errors;
            at += line.len() as u64;
            // A torn line, or one without an id, was read again by this run if it read so far.
            let id = ReadRecord::parse(line.trim_ascii_end())
                .ok()
                .and_then(|record| record.custom_id)
                .map(|id| LineHash::of(id.as_bytes()));
            let stands = match id {
                Some(id) => !self.ended_now.contains(&id) && !past.done.contains_key(&id),
                None => false,
            };
            if line.ends_with(b"\n") && (!old || stands) {
                target.write_all(&line)?;
                kept = true;
            }
            line.clear();
        }
        target.sync_all()?;
        if kept {
            fs::rename(&fresh, path)?;
        } else {
            fs::remove_file(&fresh)?;
            fs::remove_file(path)?;
        }
        sync_folder(path);
        Ok(())
    }
}

impl Target {
    /// One write for what is ready, so that a kill in between tears no record but the last.
    fn append(&mut self, records: &[u8]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if let Self::Unopened(path) = self {
            let path = path.clone();
            *self = open_append(&path)?;
        }
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(records)
                    .and_then(|()| stdout.flush())
                    .map_err(|error| {
                        Error::new(ErrorKind::Io, "cannot write to standard output")
                            .with_source(error)
                    })
            }
            Self::File { path, file, end } => {
                if let Err(error) = file.write_all(records) {
                    // What was written of it goes: the file stays whole, and the rows are repeated.
                    if let Some(end) = *end {
                        let _as_it_is = file.set_len(end);
                    }
                    return Err(failed("write to", path, error));
                }
                if let Some(end) = end {
                    *end += records.len() as u64;
                }
                Ok(())
            }
            Self::Unopened(_) | Self::Shared => Ok(()),
        }
    }

    fn sync(&self) -> Result<()> {
        match self {
            Self::File {
                path,
                file,
                end: Some(_),
            } => {
                file.sync_data()
                    .map_err(|error| failed("bring to the disk", path, error))?;
                sync_folder(path);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn open_output(path: &Path, opening: Opening, past: &mut Past) -> Result<Target> {
    if opening.overwrite {
        let regular = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        if regular {
            OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(path)
                .map_err(|error| failed("empty", path, error))?;
        }
    }
    let target = open_append(path)?;
    let Target::File {
        file,
        end: Some(end),
        ..
    } = &target
    else {
        return Ok(target);
    };
    if *end == 0 {
        return Ok(target);
    }
    let whole = read_back(path, opening, past)?;
    if opening.ordered && !past.done.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "output {path:?} has results already, and --ordered cannot append to them in order: \
                 name another with -o, or start anew with --overwrite"
            ),
        ));
    }
    let mut file = file;
    let repaired = match whole {
        Tail::Whole(end) => Ok(end),
        Tail::Unended(end) => file.write_all(b"\n").map(|()| end + 1),
        Tail::Torn(end) => file.set_len(end).map(|()| end),
    };
    let end = repaired.map_err(|error| failed("repair the end of", path, error))?;
    match target {
        Target::File { path, file, .. } => Ok(Target::File {
            path,
            file,
            end: Some(end),
        }),
        other => Ok(other),
    }
}

/// How a results file ends; where its last whole record does.
enum Tail {
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
            Err(_) if !ended => return Ok(Tail::Torn(at)),
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

fn open_append(path: &Path) -> Result<Target> {
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| {
            let regular = file.metadata()?.is_file();
            let end = if regular {
                Some(file.seek(SeekFrom::End(0))?)
            } else {
                None
            };
            Ok((file, end))
        });
    match opened {
        Ok((file, end)) => Ok(Target::File {
            path: path.to_owned(),
            file,
            end,
        }),
        // Found out before anything is sent: a matter of what was asked for.
        Err(error) => Err(Error::new(
            ErrorKind::Config,
            format!("cannot open {path:?} for writing: {error}"),
        )
        .with_source(error)),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove the old", path, error))
        }
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// A rename or a new file is on the disk when its folder is. Not every system lets a folder be
/// opened for it; the records themselves are safe either way.
fn sync_folder(path: &Path) {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if let Ok(folder) = File::open(folder) {
        let _where_possible = folder.sync_all();
    }
}

#[cold]
fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {what} {path:?}: {error}")).with_source(error)
}
