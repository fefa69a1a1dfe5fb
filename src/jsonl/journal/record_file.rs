//! One file that whole records are appended to, or the standard output.
//!
//! Whatever the disk does, the file has whole records: what a failed write left of a record is cut
//! off, and after a failure nothing more is written or flushed. A failed write is not repeated: the
//! next run sends its rows again. Nor is a failed flush: the system may have dropped what it could
//! not write, and a second flush would report a success.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use same_file::Handle;

use super::super::files::Location;
use super::super::io::{failed, is_same_file, sync_folder};
use crate::error::{Error, ErrorKind, Result};

/// How often it is checked that a file is still where it was opened.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// When written results are flushed to disk (`fdatasync`).
///
/// A killed process loses nothing that it has written: the system has it. A power failure or a
/// crash of the machine loses what was not flushed, and the next run sends those rows again and
/// pays for them again.
///
/// ```
/// use std::time::Duration;
/// use tollgate::Fsync;
///
/// assert_eq!(Fsync::default(), Fsync::Interval(Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fsync {
    /// When the system does so by itself: within half a minute or so.
    None,
    /// When something written has waited for this long, and at the end of the run. Default: one
    /// second.
    Interval(Duration),
    /// After each write, before its rows count as done. A flush takes 0.1 to 10 ms on an SSD, and
    /// more on other disks. Rows that finish meanwhile share the next one, so this slows a run of
    /// thousands of rows a second, and not one whose rows take seconds.
    Always,
}

impl Default for Fsync {
    fn default() -> Self {
        Self::Interval(Duration::from_secs(1))
    }
}

/// How a file of records ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tail {
    #[default]
    Whole,
    /// The last record is whole but for its newline.
    Unended,
    /// The last whole record ends here.
    Torn(u64),
}

/// What records are written to.
trait Medium: Write {
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    /// Whether it is what has this path now.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

impl Medium for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        is_same_file(path, self)
    }
}

/// A file of records that nobody else writes to, opened when there is something to write to it, or
/// standard output.
pub(super) struct RecordFile {
    location: Location,
    /// What a message calls it.
    role: &'static str,
    fsync: Fsync,
    medium: Option<Box<dyn Medium>>,
    /// Where the last whole record ends, in a regular file that is open.
    end: Option<u64>,
    /// How long the file was before this run appended to it, if it was there to carry on with.
    pub(super) start: Option<u64>,
    /// Since when written records wait to be flushed.
    unsynced: Option<Instant>,
    checked: Instant,
    /// A write or a flush has failed, or another program has changed the file: nothing more is
    /// written.
    pub(super) is_broken: bool,
    /// Another program has removed, replaced or changed it.
    pub(super) meddled_with: bool,
}

impl RecordFile {
    pub(super) fn new(location: &Location, role: &'static str, fsync: Fsync) -> Self {
        Self {
            location: location.clone(),
            role,
            fsync,
            medium: None,
            end: None,
            start: None,
            unsynced: None,
            checked: Instant::now(),
            is_broken: false,
            meddled_with: false,
        }
    }

    /// The path, if the file is a regular one or does not exist yet. A device or a pipe must not be
    /// replaced by a file.
    pub(super) fn regular(&self) -> Option<&Path> {
        let path = self.location.path()?;
        let is_regular = match self.medium {
            Some(_) => self.end.is_some(),
            None => fs::metadata(path).map_or(true, |there| there.is_file()),
        };
        is_regular.then_some(path)
    }

    /// Opens the file, makes it if there is none, and makes it end where its last whole record
    /// does.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be opened or mended.
    pub(super) fn open(&mut self, tail: Tail, now: Instant) -> Result<()> {
        self.open_medium()?;
        match tail {
            Tail::Whole => {}
            Tail::Unended => self.append(b"\n", now).1?,
            Tail::Torn(end) => {
                let cut = self
                    .medium
                    .as_ref()
                    .map_or(Ok(()), |file| file.set_len(end));
                cut.map_err(|error| self.failed("repair the end of", error, ""))?;
                self.end = Some(end);
                self.unsynced.get_or_insert(now);
            }
        }
        self.start = self.end;
        Ok(())
    }

    fn open_medium(&mut self) -> Result<()> {
        let (file, end) = open(&self.location).map_err(|error| {
            let message = format!("cannot open {self} for writing: {error}");
            Error::new(ErrorKind::Io, message).with_source(error)
        })?;
        if let Some(path) = self.location.path()
            && end.is_some()
            && self.fsync != Fsync::None
        {
            sync_folder(path);
        }
        self.medium = Some(Box::new(file));
        self.end = end;
        Ok(())
    }

    /// Appends whole records, if there are any, in one write where the system takes them in one, so
    /// that a kill in between tears no record but the last. Returns how many bytes of them are in
    /// the file now, and how it went: a write that fails half-way leaves some.
    pub(super) fn append(&mut self, records: &[u8], now: Instant) -> (usize, Result<()>) {
        if records.is_empty() {
            return (0, Ok(()));
        }
        if self.medium.is_none()
            && let Err(error) = self.open_medium()
        {
            return (0, Err(error));
        }
        let written = match &mut self.medium {
            Some(file) if !self.is_broken => file.write_all(records),
            _ => {
                let error = io::Error::other("an earlier write failed");
                return (0, Err(self.failed("write to", error, "")));
            }
        };
        if let Err(error) = written {
            self.is_broken = true;
            let (kept, torn) = match self.cut_back(records) {
                Ok(kept) => (kept, ""),
                Err(_) => (0, "; it ends in a torn record, which the next run cuts off"),
            };
            return (kept, Err(self.failed("write to", error, torn)));
        }
        if let Some(end) = &mut self.end {
            *end += records.len() as u64;
            self.unsynced.get_or_insert(now);
        }
        let synced = match self.fsync {
            Fsync::Always => self.sync(),
            Fsync::None | Fsync::Interval(_) => Ok(()),
        };
        let kept = if synced.is_ok() { records.len() } else { 0 };
        (kept, synced)
    }

    /// Leaves the whole records of what was written: they are paid for. Returns their length.
    fn cut_back(&mut self, records: &[u8]) -> io::Result<usize> {
        let (Some(file), Some(end)) = (&self.medium, self.end) else {
            return Ok(0);
        };
        // If another program has made it shorter, setting its length would fill it up with zeros.
        let Some(written) = file.len()?.checked_sub(end) else {
            return Ok(0);
        };
        let written = usize::try_from(written).map_or(records.len(), |n| n.min(records.len()));
        let last = records[..written].iter().rposition(|byte| *byte == b'\n');
        let whole = last.map_or(0, |last| last + 1);
        let end = end + whole as u64;
        file.set_len(end)?;
        self.end = Some(end);
        Ok(whole)
    }

    /// Flushes what has waited for long enough, and checks now and then that the file is where it
    /// was.
    pub(super) fn tick(&mut self, now: Instant) -> Result<()> {
        if now.duration_since(self.checked) >= CHECK_INTERVAL {
            self.checked = now;
            self.check_in_place()?;
        }
        match (self.fsync, self.unsynced) {
            (Fsync::Interval(most), Some(since)) if now.duration_since(since) >= most => {
                self.sync()
            }
            _ => Ok(()),
        }
    }

    /// Flushes everything, unless that is not asked for, and checks that the file is where it was.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.check_in_place()?;
        match self.fsync {
            Fsync::None => Ok(()),
            Fsync::Interval(_) | Fsync::Always => self.sync(),
        }
    }

    fn sync(&mut self) -> Result<()> {
        let Some(file) = self.medium.as_ref().filter(|_| !self.is_broken) else {
            return Ok(());
        };
        if self.unsynced.take().is_none() {
            return Ok(());
        }
        file.sync().map_err(|error| {
            self.is_broken = true;
            self.failed("flush", error, "")
        })
    }

    /// Checks that the file is where it was opened, and as long as it was made.
    fn check_in_place(&mut self) -> Result<()> {
        let (Some(path), Some(file), Some(end)) = (self.location.path(), &self.medium, self.end)
        else {
            return Ok(());
        };
        if self.is_broken {
            return Ok(());
        }
        let place = file
            .is_at(path)
            .and_then(|is_there| Ok((is_there, file.len()?)));
        let what = match place {
            Ok((true, length)) if length == end => return Ok(()),
            Ok((true, length)) => format!("was changed ({length} bytes, where {end} were written)"),
            Ok((false, _)) => "was replaced".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => return Err(failed("look for", path, error)),
        };
        (self.is_broken, self.meddled_with) = (true, true);
        let message = format!(
            "{self} {what} by another program while this run wrote to it, so some results are lost: \
             stop that program, and run again to send what is missing"
        );
        Err(Error::new(ErrorKind::Io, message))
    }

    /// The error for a write or a flush that failed, after which the file is given up.
    fn failed(&self, what: &str, error: io::Error, torn: &str) -> Error {
        let todo = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => "make room",
            _ => "fix the cause",
        };
        let again = match self.location {
            Location::File(_) => "run again to carry on",
            Location::Stream => "run again: only results in a file can be carried on with",
        };
        let message = format!("cannot {what} {self}: {error}: {todo}, and {again}{torn}");
        Error::new(ErrorKind::Io, message).with_source(error)
    }
}

/// Opens a file to append to. Its length, if it is a regular one.
fn open(location: &Location) -> io::Result<(File, Option<u64>)> {
    let Location::File(path) = location else {
        // Unbuffered, behind what was printed before.
        io::stdout().flush()?;
        return Ok((Handle::stdout()?.as_file().try_clone()?, None));
    };
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let metadata = file.metadata()?;
    let length = metadata.is_file().then_some(metadata.len());
    Ok((file, length))
}

/// As a message names it.
impl fmt::Display for RecordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Stream => f.write_str("standard output"),
            location @ Location::File(_) => write!(f, "{} {location}", self.role),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::error::Error as _;
    use std::io::ErrorKind;
    use std::rc::Rc;
    use tempfile::TempDir;

    /// A file whose writes go as told: so many bytes at most, or an error.
    #[derive(Clone, Default)]
    struct Disk {
        bytes: Rc<RefCell<Vec<u8>>>,
        writes: VecDeque<std::result::Result<usize, ErrorKind>>,
        cut_fails: bool,
        sync_fails: bool,
        syncs: Rc<RefCell<u32>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.writes.pop_front().unwrap_or(Ok(usize::MAX))?;
            let taken = &bytes[..most.min(bytes.len())];
            self.bytes.borrow_mut().extend_from_slice(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Medium for Disk {
        fn is_at(&self, _: &Path) -> io::Result<bool> {
            Ok(true)
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.borrow().len() as u64)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            if self.cut_fails {
                return Err(ErrorKind::PermissionDenied.into());
            }
            let len = usize::try_from(len).unwrap();
            self.bytes.borrow_mut().resize(len, 0);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            *self.syncs.borrow_mut() += 1;
            if self.sync_fails {
                return Err(io::Error::other("I/O error"));
            }
            Ok(())
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn on(disk: &Disk, fsync: Fsync) -> RecordFile {
        RecordFile {
            medium: Some(Box::new(disk.clone())),
            end: Some(0),
            ..RecordFile::new(&Location::Stream, "output", fsync)
        }
    }

    fn kind(error: &Error) -> ErrorKind {
        let cause = error
            .source()
            .and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.unwrap().kind()
    }

    fn held(disk: &Disk) -> String {
        String::from_utf8(disk.bytes.borrow().clone()).unwrap()
    }

    #[test]
    fn short_and_interrupted_writes_are_carried_on_with() {
        let writes = [Ok(1), Err(ErrorKind::Interrupted), Ok(2), Ok(1)];
        let disk = Disk {
            writes: writes.into(),
            ..Disk::default()
        };
        let mut file = on(&disk, Fsync::None);
        file.append(b"first\n", Instant::now()).1.unwrap();
        assert_eq!((held(&disk).as_str(), file.end), ("first\n", Some(6)));
    }

    #[test]
    fn a_record_that_fails_in_the_middle_is_cut_off_and_is_the_last() {
        for kind in [
            ErrorKind::StorageFull,
            ErrorKind::FileTooLarge,
            ErrorKind::Other,
        ] {
            let writes = [Ok(6), Ok(3), Err(kind)];
            let disk = Disk {
                writes: writes.into(),
                ..Disk::default()
            };
            let mut file = on(&disk, Fsync::Always);
            let now = Instant::now();
            file.append(b"first\n", now).1.unwrap();
            let (kept, failed) = file.append(b"second\n", now);
            assert_eq!((kept, self::kind(&failed.unwrap_err())), (0, kind));
            assert_eq!((held(&disk).as_str(), file.end), ("first\n", Some(6)));
            // There would be room by now.
            assert!(file.append(b"third\n", now).1.is_err());
            file.tick(now + SECOND).unwrap();
            file.finish().unwrap();
            assert_eq!(held(&disk), "first\n");
            assert_eq!(*disk.syncs.borrow(), 1, "of the first record");
        }
    }

    #[test]
    fn whole_records_of_a_write_that_failed_are_kept() {
        for (taken, kept) in [(0, 0), (4, 0), (5, 5), (6, 5), (11, 11), (13, 11)] {
            let disk = Disk {
                writes: [Ok(6), Ok(taken), Err(ErrorKind::StorageFull)].into(),
                ..Disk::default()
            };
            let mut file = on(&disk, Fsync::None);
            let now = Instant::now();
            file.append(b"first\n", now).1.unwrap();
            let (left, failed) = file.append(b"next\nthird\nlast\n", now);
            assert_eq!((left, failed.is_err()), (kept, true), "{taken}");
            let expected = &"first\nnext\nthird\n"[..6 + kept];
            assert_eq!(held(&disk), expected);
            assert_eq!(file.end, Some(expected.len() as u64));
        }
    }

    #[test]
    fn a_file_that_cannot_be_cut_is_said_to_end_torn() {
        let disk = Disk {
            writes: [Ok(3), Ok(0)].into(),
            cut_fails: true,
            ..Disk::default()
        };
        let mut file = on(&disk, Fsync::None);
        let (kept, failed) = file.append(b"record\n", Instant::now());
        assert!(kept == 0 && failed.unwrap_err().to_string().contains("torn"));
        assert_eq!(held(&disk), "rec");
    }

    #[test]
    fn a_file_that_somebody_made_shorter_is_not_filled_up() {
        let disk = Disk {
            writes: [Ok(6), Err(ErrorKind::StorageFull)].into(),
            ..Disk::default()
        };
        let mut file = on(&disk, Fsync::None);
        file.append(b"first\n", Instant::now()).1.unwrap();
        disk.bytes.borrow_mut().clear();
        file.append(b"second\n", Instant::now()).1.unwrap_err();
        assert_eq!(held(&disk), "");
    }

    #[test]
    fn what_waits_is_brought_to_the_disk_when_it_has_waited_and_not_before() {
        let start = Instant::now();
        for (fsync, after_writes, after_ticks, at_end) in [
            (Fsync::None, 0, 0, 0),
            (Fsync::Interval(SECOND), 0, 1, 2),
            (Fsync::Always, 3, 3, 3),
        ] {
            let disk = Disk::default();
            let mut file = on(&disk, fsync);
            let syncs = || *disk.syncs.borrow();
            file.append(b"one\n", start).1.unwrap();
            file.append(b"two\n", start + SECOND / 2).1.unwrap();
            file.tick(start + SECOND * 99 / 100).unwrap();
            assert_eq!(syncs(), after_writes.min(2), "{fsync:?}");
            file.tick(start + SECOND).unwrap();
            // Nothing waits now.
            file.tick(start + 3 * SECOND).unwrap();
            let before = syncs();
            file.append(b"three\n", start + 4 * SECOND).1.unwrap();
            assert_eq!(syncs(), after_ticks, "{fsync:?}");
            assert_eq!(before, after_ticks.min(2), "{fsync:?}");
            file.finish().unwrap();
            file.finish().unwrap();
            assert_eq!(syncs(), at_end, "{fsync:?}");
        }
    }

    #[test]
    fn a_sync_that_failed_is_not_tried_again_and_nothing_is_written_after_it() {
        for fsync in [Fsync::Interval(SECOND), Fsync::Always] {
            let disk = Disk {
                sync_fails: true,
                ..Disk::default()
            };
            let mut file = on(&disk, fsync);
            let start = Instant::now();
            let (_, written) = file.append(b"record\n", start);
            let later = start + SECOND;
            let failed = written.and_then(|()| file.tick(later)).unwrap_err();
            assert!(
                failed.to_string().contains("cannot flush standard output"),
                "{failed}"
            );
            file.append(b"more\n", later).1.unwrap_err();
            file.tick(later + SECOND).unwrap();
            file.finish().unwrap();
            assert_eq!(*disk.syncs.borrow(), 1, "{fsync:?}");
            assert_eq!(held(&disk), "record\n");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_neither_cut_nor_synced() {
        let disk = Disk {
            writes: [Ok(3), Ok(2), Err(ErrorKind::BrokenPipe)].into(),
            ..Disk::default()
        };
        let mut pipe = on(&disk, Fsync::Always);
        pipe.end = None;
        pipe.append(b"ok\n", Instant::now()).1.unwrap();
        let (_, failed) = pipe.append(b"record\n", Instant::now());
        assert!(!failed.unwrap_err().to_string().contains("torn"));
        pipe.finish().unwrap();
        assert_eq!(held(&disk), "ok\nre");
        assert_eq!(*disk.syncs.borrow(), 0);
    }

    fn file(folder: &TempDir) -> RecordFile {
        {
            let location = Location::File(folder.path().join("f"));
            RecordFile::new(&location, "errors file", Fsync::None)
        }
    }

    #[test]
    fn a_record_goes_behind_the_last_whole_one() {
        for (there, tail, expected) in [
            ("", Tail::Whole, "new\n"),
            ("old\n", Tail::Whole, "old\nnew\n"),
            ("old", Tail::Unended, "old\nnew\n"),
            ("old\nto", Tail::Torn(4), "old\nnew\n"),
        ] {
            let folder = TempDir::new().unwrap();
            let mut file = file(&folder);
            fs::write(folder.path().join("f"), there).unwrap();
            let now = Instant::now();
            file.open(tail, now).unwrap();
            file.append(b"new\n", now).1.unwrap();
            file.finish().unwrap();
            assert_eq!(
                fs::read_to_string(folder.path().join("f")).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn a_file_is_made_for_the_first_record_and_a_run_that_sends_is_past_settings() {
        let folder = TempDir::new().unwrap();
        let now = Instant::now();
        let mut records = file(&folder);
        records.append(b"", now).1.unwrap();
        records.tick(now + CHECK_INTERVAL).unwrap();
        records.finish().unwrap();
        assert!(!folder.path().join("f").exists());
        fs::create_dir(folder.path().join("f")).unwrap();
        let error = records.append(b"new\n", now).1.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Io);
        let told = error.to_string();
        assert!(
            told.contains("errors file") && told.contains("/f\""),
            "{told}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_other_programs_do_to_a_file_is_noticed_within_a_second_and_once() {
        type Mischief = fn(&Path);
        let cases: [(Mischief, &str); 5] = [
            (|path| fs::remove_file(path).unwrap(), "was removed"),
            (
                |path| fs::rename(path, path.with_extension("old")).unwrap(),
                "was removed",
            ),
            (
                |path| {
                    fs::write(path.with_extension("new"), "one\n").unwrap();
                    fs::rename(path.with_extension("new"), path).unwrap();
                },
                "was replaced",
            ),
            (|path| fs::write(path, "").unwrap(), "0 bytes, where 4"),
            (
                |path| fs::write(path, "one\ntwo\n").unwrap(),
                "8 bytes, where 4",
            ),
        ];
        for (mischief, word) in cases {
            for at_the_end in [false, true] {
                let folder = TempDir::new().unwrap();
                let path = folder.path().join("f");
                let mut records = file(&folder);
                let start = Instant::now();
                records.append(b"one\n", start).1.unwrap();
                records.tick(start + CHECK_INTERVAL).unwrap();
                mischief(&path);
                records
                    .tick(start + CHECK_INTERVAL + CHECK_INTERVAL / 2)
                    .unwrap();
                let told = if at_the_end {
                    records.finish()
                } else {
                    records.tick(start + CHECK_INTERVAL * 2)
                };
                let error = told.unwrap_err();
                assert_eq!(error.kind(), crate::ErrorKind::Io);
                for word in [word, "errors file", "/f\"", "run again"] {
                    assert!(error.to_string().contains(word), "{error}");
                }
                let there = fs::read(&path).ok();
                records.append(b"more\n", start).1.unwrap_err();
                records.tick(start + CHECK_INTERVAL * 4).unwrap();
                records.finish().unwrap();
                assert_eq!(fs::read(&path).ok(), there, "it was written to");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_file_is_no_other_file() {
        let folder = TempDir::new().unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("f")).unwrap();
        let mut records = file(&folder);
        let start = Instant::now();
        records.append(b"one\n", start).1.unwrap();
        records.tick(start + CHECK_INTERVAL).unwrap();
        records.finish().unwrap();
    }
}
