//! One HTML page that shows what became of a run, made of the records that runs have written.
//!
//! [`fold`] makes statistics of records, with times in a [`histogram`] and attempts in a
//! [`timeline`]. [`figures`] puts these into plots with captions, [`plots`] draws a plot, and
//! [`page`] makes the HTML.
//! Nothing grows with the number of records: a million of them take as much memory as ten thousand,
//! and the page is as large.

mod figures;
mod fold;
mod histogram;
mod page;
mod plots;
mod timeline;

use std::path::{Path, PathBuf};

use self::fold::Stats;
use crate::bar::format;
use crate::error::Result;
use crate::jsonl::facts::read_facts;
use crate::limit::Rate;

/// What was in the files of one or more runs.
#[derive(Debug, Default)]
pub(crate) struct Report {
    stats: Stats,
    files: Vec<FileRead>,
}

#[derive(Debug)]
struct FileRead {
    name: PathBuf,
    records: u64,
    /// Lines that are no records.
    others: u64,
}

/// What the page says of a run beyond its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunInfo {
    /// What the page is called.
    pub(crate) title: String,
    /// `None` if the page is made of files alone.
    pub(crate) limits: Option<Limits>,
    /// What else the summary says of its speed: labels and facts.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// What to do about the speed.
    pub(crate) advice: Option<String>,
    /// Why the run stopped early.
    pub(crate) stopped: Option<String>,
}

/// The limits that a run kept to, as far as there were any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) requests: Option<Rate>,
    pub(crate) tokens: Option<Rate>,
    pub(crate) at_once: Option<u64>,
}

impl Report {
    /// The files with lines that are no records, and how many there are.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (&Path, u64)> {
        let files = self.files.iter().filter(|file| file.others > 0);
        files.map(|file| (file.name.as_path(), file.others))
    }

    /// Adds what is in a file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if it cannot be read.
    pub(crate) fn read(&mut self, path: &Path) -> Result<()> {
        let (mut records, mut others) = (0, 0);
        read_facts(path, |facts| match facts {
            Some(facts) => {
                records += 1;
                self.stats.add(&facts);
            }
            None => others += 1,
        })?;
        self.files.push(FileRead {
            name: path.to_owned(),
            records,
            others,
        });
        Ok(())
    }

    /// The rows that were answered, and all.
    pub(crate) fn rows(&self) -> (u64, u64) {
        (self.stats.answered, self.stats.records())
    }
}
