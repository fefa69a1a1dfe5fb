//! The results and errors files: appended to as rows finish, and read back by the next run.
//!
//! The results file is its own resume record: it holds successes only, each id once, and what it
//! holds is done. A record is whole when its newline is there; a run that was killed leaves at most
//! one torn line, which the next one cuts off. The errors file holds the rows failed now: it grows
//! during a run and at its end is [settled](settle), as is an output that was not of our making or
//! is to be in the input's order.

#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "a name may hold what a terminal obeys: messages quote and escape it"
)]

mod append;
mod atomic_file;
mod fsync;
mod identity;
mod lock;
mod recover;
mod repair;
mod resume_index;
mod settle;
mod table;
mod target;

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Instant;

use self::settle::{StillFailed, settle_errors, settle_output};
use self::target::{FileSpec, OpenFile, Target, failed};
use super::files::{Location, RunFiles};
use crate::cancel::Cancel;
use crate::error::{ErrorKind, Result};

pub use self::fsync::Fsync;
pub(super) use self::lock::Locks;
pub(super) use self::recover::{FileState, Recovered};
pub(super) use self::resume_index::{ResumeIndex, ResumePolicy, RowStatus};
pub(super) use self::table::{IdEntry, IdTable};
pub(super) use self::target::PartialWrite;

/// How a run treats what it finds in its output.
#[derive(Clone, Copy, Debug)]
pub(super) struct JournalOptions {
    /// Begin anew, whatever is there.
    pub(super) overwrite: bool,
    /// What is there must have been simulated, or must not.
    pub(super) simulated: bool,
    /// Lines that are no records are moved aside.
    pub(super) repair: bool,
    pub(super) policy: ResumePolicy,
    pub(super) fsync: Fsync,
}

/// Both files of a run, open.
pub(super) struct Journal {
    output: Target,
    errors: Target,
    /// The length of what earlier runs left in the errors file.
    old_errors: u64,
    /// What they left in the output is more than one success an id.
    untidy: bool,
}

/// How a run ends, as far as its files go.
#[derive(Debug)]
pub(super) struct Ending {
    /// All rows of the input have been met: what failed and is none of them is forgotten.
    pub(super) whole_input: bool,
    /// The rows' places in the input, for an output that is to be in its order.
    pub(super) order: Option<IdTable<u64>>,
}

impl Journal {
    /// Opens the files, and mends what a run that was killed has left torn.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a file that cannot be opened, and
    /// [`ErrorKind::Io`].
    pub(super) fn open(
        places: &RunFiles,
        options: JournalOptions,
        state: &FileState,
    ) -> Result<Self> {
        let now = Instant::now();
        let named = |path: &Path, role| FileSpec {
            path: path.to_owned(),
            role,
            fsync: options.fsync,
        };
        let output = match &places.output {
            Location::Stream => Target::Stdout,
            Location::File(path) => {
                if options.overwrite {
                    empty(path)?;
                }
                let mut output = OpenFile::open(named(path, "output"), now, ErrorKind::Config)?;
                if let Some(tail) = state.tail {
                    output.mend(tail, now)?;
                }
                Target::File(output)
            }
        };
        let errors = match &places.errors {
            Location::Stream if matches!(output, Target::Stdout) => Target::Shared,
            Location::Stream => Target::Stdout,
            Location::File(path) if state.old_errors > 0 => {
                let named = named(path, "errors file");
                let mut errors = OpenFile::open(named, now, ErrorKind::Config)?;
                errors.end_last_line(now)?;
                Target::File(errors)
            }
            Location::File(path) => {
                // A fresh run: what is left of an older one says nothing about this.
                if !state.resumed && fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
                    if !options.overwrite {
                        log::warn!(
                            "errors file {path:?} was left by a run with another output, and begins anew"
                        );
                    }
                    remove(path)?;
                }
                Target::Unopened(named(path, "errors file"))
            }
        };
        Ok(Self {
            output,
            errors,
            old_errors: state.old_errors,
            untidy: state.untidy,
        })
    }

    /// Appends whole records of successes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], once and for all.
    pub(super) fn write_results(
        &mut self,
        records: &[u8],
        now: Instant,
    ) -> Result<(), PartialWrite> {
        self.output.append(records, now)
    }

    /// Appends whole records of failures.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], once and for all.
    pub(super) fn write_errors(
        &mut self,
        records: &[u8],
        now: Instant,
    ) -> Result<(), PartialWrite> {
        match self.errors {
            Target::Shared => self.output.append(records, now),
            _ => self.errors.append(records, now),
        }
    }

    /// What is due now and then: to bring what was written to the disk, and to look whether the
    /// files are where they were.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], once and for all.
    pub(super) fn tick(&mut self, now: Instant) -> Result<()> {
        self.output.tick(now)?;
        self.errors.tick(now)
    }

    /// Brings what was written to the disk, and looks once more whether it is where it was.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], once and for all.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.output.finish()?;
        self.errors.finish()
    }

    /// How many rows the output answers that is there by its name now, after another program has
    /// meddled with it.
    pub(super) fn answers_left(&self) -> Option<u64> {
        self.output.meddled_with().map(recover::answers)
    }

    /// Brings both files to what they are to be in the end: the output to the successes, each once,
    /// and the errors file to exactly the rows failed now.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], and [`ErrorKind::Cancelled`] for an output that is left as it was; the
    /// records themselves are written by then.
    pub(super) fn close(self, index: &ResumeIndex, ending: &Ending, cancel: &Cancel) -> Result<()> {
        // What the disk did not take once is for the next run to put right.
        if self.output.is_broken() || self.errors.is_broken() {
            return Ok(());
        }
        let still = StillFailed {
            index,
            whole_input: ending.whole_input,
        };
        let output = self.output.regular().map(Path::to_owned);
        let errors = self.errors.regular().map(Path::to_owned);
        if let Some(errors) = &errors
            && (self.old_errors > 0 || self.untidy)
        {
            let untidy = output.as_deref().filter(|_| self.untidy);
            settle_errors(errors, self.old_errors, untidy, still)?;
            let forgotten = index.not_met();
            if ending.whole_input && forgotten > 0 {
                log::warn!(
                    "errors file {errors:?} is for the rows of this input: {forgotten} failed before \
                     of others taken out; an input with other rows does better with an output of its \
                     own"
                );
            }
        }
        if let Some(output) = output
            && (self.untidy || ending.order.is_some())
        {
            // By now each failure that stands has its record in the errors file, if there is one.
            let staying = errors.is_none().then_some(still);
            settle_output(&output, ending.order.as_ref(), staying, cancel)?;
        }
        Ok(())
    }
}

fn empty(path: &Path) -> Result<()> {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(());
    }
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .map_err(|error| failed("empty", path, error))?;
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove the old", path, error))
        }
        _ => Ok(()),
    }
}
