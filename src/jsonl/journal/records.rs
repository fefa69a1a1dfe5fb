//! What the lines of a results or errors file say, read on all cores.
//!
//! The file may be ours or a provider's own, with failures among the results, ids more than once,
//! and a last line that a kill has torn.

use std::fs::File;
use std::path::Path;

use super::super::hash::LineHash;
use super::super::io::failed;
use super::super::lines::{Line, Lines};
use super::super::parallel::fold;
use super::super::readback::ReadRecord;
use super::record_file::Tail;
use super::resume_index::{FailedRow, RequestTag};
use crate::api::classify::RecordState;
use crate::cancel::Cancel;
use crate::error::Result;

/// The largest answer that the tool can be told to accept, in bytes: 1 GiB.
pub(crate) const MAX_BODY: usize = 1 << 30;

/// The longest record, in bytes: such an answer, an id of 64 MiB, and what surrounds them. A longer
/// line is no record of ours.
const MAX_RECORD: usize = MAX_BODY + (66 << 20);

/// What the lines of a file say, in its order.
#[derive(Default)]
pub(super) struct Records {
    pub(super) count: u64,
    /// How many of them are not surely answers.
    pub(super) failures: u64,
    pub(super) done: Vec<(LineHash, RequestTag)>,
    /// Rows that are done if their endpoint is not known.
    pub(super) unsure: Vec<(LineHash, RequestTag)>,
    pub(super) failed: Vec<(LineHash, FailedRow)>,
    /// Lines that do not belong into the file.
    pub(super) foreign: Vec<OddLine>,
    /// The last line, if it has no newline.
    pub(super) unended: Option<OddLine>,
}

/// A line that needs a second look.
#[derive(Clone, Copy)]
pub(super) struct OddLine {
    pub(super) number: u64,
    pub(super) offset: u64,
    /// Whether it is a simulated record; `None` if it is no record.
    pub(super) simulated: Option<bool>,
    ended: bool,
    /// It has no newline, and may be what is left of a record.
    pub(super) may_be_torn: bool,
}

impl Records {
    /// Reads a file. `simulated` says whether its records must be simulated or must not be; `None`
    /// takes both. `check_foreign` refuses or accepts a line that does not belong into the file.
    pub(super) fn read(
        path: &Path,
        simulated: Option<bool>,
        cancel: &Cancel,
        check_foreign: impl Fn(&OddLine) -> Result<()>,
    ) -> Result<Self> {
        let mut all = Self::default();
        fold_file(path, cancel, OddLine::read, |(odd, record)| {
            all.unended = Some(odd).filter(|last| !last.ended);
            let fits = |record: &ReadRecord| simulated.is_none_or(|now| now == record.simulated);
            match record.filter(fits) {
                Some(record) => all.add(&record),
                // What is left of a record is no line yet.
                None if !odd.ended && odd.simulated.is_none() => {}
                None => {
                    all.foreign.push(odd);
                    check_foreign(&odd)?;
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn add(&mut self, record: &ReadRecord) {
        self.count += 1;
        self.failures += u64::from(record.state != RecordState::Done);
        let Some(id) = record.id else {
            return;
        };
        let request = RequestTag::of(record.hash);
        let failed = |is_permanent| FailedRow::new(request, is_permanent, record.again);
        match record.state {
            RecordState::Done => self.done.push((id, request)),
            RecordState::Unsure => self.unsure.push((id, request)),
            RecordState::Transient => self.failed.push((id, failed(false))),
            RecordState::Permanent => self.failed.push((id, failed(true))),
        }
    }

    /// A last line that is no record.
    pub(super) fn torn(&self) -> Option<OddLine> {
        self.unended.filter(|last| last.simulated.is_none())
    }

    pub(super) fn tail(&self) -> Tail {
        match (self.torn(), self.unended) {
            (Some(torn), _) => Tail::Torn(torn.offset),
            (None, Some(_)) => Tail::Unended,
            (None, None) => Tail::Whole,
        }
    }
}

impl OddLine {
    fn read(line: Line<&[u8]>) -> (Self, Option<ReadRecord>) {
        let text = line.text.map(<[u8]>::trim_ascii);
        let record = text.and_then(ReadRecord::parse);
        let odd = Self {
            number: line.number,
            offset: line.offset,
            simulated: record.as_ref().map(|record| record.simulated),
            ended: line.ended,
            may_be_torn: !line.ended && line.text.is_some_and(may_begin_a_record),
        };
        (odd, record)
    }
}

/// As [`fold`], over the lines of a file of records.
pub(crate) fn fold_file<F: Send>(
    path: &Path,
    cancel: &Cancel,
    read: impl Fn(Line<&[u8]>) -> F + Sync,
    add: impl FnMut(F) -> Result<()>,
) -> Result<()> {
    let unreadable = |error| failed("read back", path, error);
    let source = File::open(path).map_err(unreadable)?;
    let mut lines = Lines::of_anything(source, MAX_RECORD);
    fold(&mut lines, cancel, unreadable, read, add)
}

/// Whether a torn line may be what is left of a record, ours or of a tool like us.
fn may_begin_a_record(line: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 2] = [b"{\"id\":\"", b"{\"custom_id\":"];
    let begins = |start: &&[u8]| line.starts_with(start) || start.starts_with(line);
    BEGINNINGS.iter().any(begins) || line.iter().all(|byte| *byte == 0)
}
