//! Whole records at the end of a file, whatever the disk does: what a failed write left of a record
//! is cut off, and after a failure nothing more is written or flushed.
//!
//! A failed write is not repeated: the next run sends its rows again. Nor is a failed flush: the
//! system may have dropped what it could not write, and a second flush would report a success.

use std::fs::File;
use std::io::{self, Write};
use std::time::Instant;

use super::fsync::Fsync;
use crate::error::{Error, ErrorKind, Result};

/// What records are appended to.
pub(super) trait Medium: Write {
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
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
}

/// Appends to a file that nobody else writes to.
#[derive(Debug)]
pub(super) struct Appender<M> {
    pub(super) medium: M,
    /// What a message calls the file.
    name: String,
    fsync: Fsync,
    /// Where the last whole record ends, in a regular file.
    pub(super) end: Option<u64>,
    /// Since when written records wait to be flushed.
    unsynced: Option<Instant>,
    /// A write or a flush has failed, or another program has changed the file: nothing more is
    /// written.
    pub(super) broken: bool,
}

impl<M: Medium> Appender<M> {
    pub(super) fn new(medium: M, name: String, end: Option<u64>, fsync: Fsync) -> Self {
        Self {
            medium,
            name,
            fsync,
            end,
            unsynced: None,
            broken: false,
        }
    }

    /// Cuts off what is behind `end`.
    pub(super) fn cut(&mut self, end: u64, now: Instant) -> Result<()> {
        let cut = self.medium.set_len(end);
        cut.map_err(|error| self.failed("repair the end of", error, ""))?;
        self.end = Some(end);
        self.unsynced.get_or_insert(now);
        Ok(())
    }

    /// Appends whole records, in one write where the system takes them in one, so that a kill in
    /// between tears no record but the last. Returns how many bytes of them are in the file now,
    /// and how it went: a write that fails half-way leaves some.
    pub(super) fn append(&mut self, records: &[u8], now: Instant) -> (usize, Result<()>) {
        if self.broken {
            let error = io::Error::other("an earlier write failed");
            return (0, Err(self.failed("write to", error, "")));
        }
        if let Err(error) = self.medium.write_all(records) {
            self.broken = true;
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
        let Some(end) = self.end else {
            return Ok(0);
        };
        // If another program has made it shorter, setting its length would fill it up with zeros.
        let Some(written) = self.medium.len()?.checked_sub(end) else {
            return Ok(0);
        };
        let written = usize::try_from(written).map_or(records.len(), |n| n.min(records.len()));
        let last = records[..written].iter().rposition(|byte| *byte == b'\n');
        let whole = last.map_or(0, |last| last + 1);
        let end = end + whole as u64;
        self.medium.set_len(end)?;
        self.end = Some(end);
        Ok(whole)
    }

    /// Flushes what has waited for long enough.
    pub(super) fn tick(&mut self, now: Instant) -> Result<()> {
        match (self.fsync, self.unsynced) {
            (Fsync::Interval(most), Some(since)) if now.duration_since(since) >= most => {
                self.sync()
            }
            _ => Ok(()),
        }
    }

    /// Flushes everything, unless that is not asked for.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self.fsync {
            Fsync::None => Ok(()),
            Fsync::Interval(_) | Fsync::Always => self.sync(),
        }
    }

    fn sync(&mut self) -> Result<()> {
        if self.broken || self.unsynced.is_none() {
            return Ok(());
        }
        self.unsynced = None;
        self.medium.sync().map_err(|error| {
            self.broken = true;
            self.failed("flush", error, "")
        })
    }

    /// The error for a write or a flush that failed, after which the file is given up.
    fn failed(&self, what: &str, error: io::Error, torn: &str) -> Error {
        let todo = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => "make room",
            _ => "fix the cause",
        };
        let name = &self.name;
        let message =
            format!("cannot {what} {name}: {error}: {todo}, and run again to go on{torn}");
        Error::new(ErrorKind::Io, message).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::error::Error as _;
    use std::io::ErrorKind;
    use std::time::Duration;

    /// A file whose writes go as told: so many bytes at most, or an error.
    #[derive(Default)]
    struct Disk {
        bytes: RefCell<Vec<u8>>,
        writes: VecDeque<std::result::Result<usize, ErrorKind>>,
        cut_fails: bool,
        sync_fails: bool,
        syncs: RefCell<u32>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.writes.pop_front().unwrap_or(Ok(usize::MAX))?;
            let taken = &bytes[..most.min(bytes.len())];
            self.bytes.get_mut().extend_from_slice(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Medium for Disk {
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

    fn on(disk: Disk, fsync: Fsync) -> Appender<Disk> {
        Appender::new(disk, "file".to_owned(), Some(0), fsync)
    }

    fn kind(error: &Error) -> ErrorKind {
        let cause = error
            .source()
            .and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.unwrap().kind()
    }

    fn held(appender: &Appender<Disk>) -> String {
        String::from_utf8(appender.medium.bytes.borrow().clone()).unwrap()
    }

    #[test]
    fn short_and_interrupted_writes_are_carried_on_with() {
        let writes = [Ok(1), Err(ErrorKind::Interrupted), Ok(2), Ok(1)];
        let disk = Disk {
            writes: writes.into(),
            ..Disk::default()
        };
        let mut file = on(disk, Fsync::None);
        file.append(b"first\n", Instant::now()).1.unwrap();
        assert_eq!((held(&file).as_str(), file.end), ("first\n", Some(6)));
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
            let mut file = on(disk, Fsync::Always);
            let now = Instant::now();
            file.append(b"first\n", now).1.unwrap();
            let (kept, failed) = file.append(b"second\n", now);
            assert_eq!((kept, self::kind(&failed.unwrap_err())), (0, kind));
            assert_eq!((held(&file).as_str(), file.end), ("first\n", Some(6)));
            // There would be room by now.
            assert!(file.append(b"third\n", now).1.is_err());
            file.tick(now + SECOND).unwrap();
            file.finish().unwrap();
            assert_eq!(held(&file), "first\n");
            assert_eq!(*file.medium.syncs.borrow(), 1, "of the first record");
        }
    }

    #[test]
    fn whole_records_of_a_write_that_failed_are_kept() {
        for (taken, kept) in [(0, 0), (4, 0), (5, 5), (6, 5), (11, 11), (13, 11)] {
            let disk = Disk {
                writes: [Ok(6), Ok(taken), Err(ErrorKind::StorageFull)].into(),
                ..Disk::default()
            };
            let mut file = on(disk, Fsync::None);
            let now = Instant::now();
            file.append(b"first\n", now).1.unwrap();
            let (left, failed) = file.append(b"next\nthird\nlast\n", now);
            assert_eq!((left, failed.is_err()), (kept, true), "{taken}");
            let expected = &"first\nnext\nthird\n"[..6 + kept];
            assert_eq!(held(&file), expected);
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
        let mut file = on(disk, Fsync::None);
        let (kept, failed) = file.append(b"record\n", Instant::now());
        assert!(kept == 0 && failed.unwrap_err().to_string().contains("torn"));
        assert_eq!(held(&file), "rec");
    }

    #[test]
    fn a_file_that_somebody_made_shorter_is_not_filled_up() {
        let disk = Disk {
            writes: [Ok(6), Err(ErrorKind::StorageFull)].into(),
            ..Disk::default()
        };
        let mut file = on(disk, Fsync::None);
        file.append(b"first\n", Instant::now()).1.unwrap();
        file.medium.bytes.borrow_mut().clear();
        file.append(b"second\n", Instant::now()).1.unwrap_err();
        assert_eq!(held(&file), "");
    }

    #[test]
    fn what_waits_is_brought_to_the_disk_when_it_has_waited_and_not_before() {
        let start = Instant::now();
        for (fsync, after_writes, after_ticks, at_end) in [
            (Fsync::None, 0, 0, 0),
            (Fsync::Interval(SECOND), 0, 1, 2),
            (Fsync::Always, 3, 3, 3),
        ] {
            let mut file = on(Disk::default(), fsync);
            let syncs = |file: &Appender<Disk>| *file.medium.syncs.borrow();
            file.append(b"one\n", start).1.unwrap();
            file.append(b"two\n", start + SECOND / 2).1.unwrap();
            file.tick(start + SECOND * 99 / 100).unwrap();
            assert_eq!(syncs(&file), after_writes.min(2), "{fsync:?}");
            file.tick(start + SECOND).unwrap();
            // Nothing waits now.
            file.tick(start + 3 * SECOND).unwrap();
            let before = syncs(&file);
            file.append(b"three\n", start + 4 * SECOND).1.unwrap();
            assert_eq!(syncs(&file), after_ticks, "{fsync:?}");
            assert_eq!(before, after_ticks.min(2), "{fsync:?}");
            file.finish().unwrap();
            file.finish().unwrap();
            assert_eq!(syncs(&file), at_end, "{fsync:?}");
        }
    }

    #[test]
    fn a_sync_that_failed_is_not_tried_again_and_nothing_is_written_after_it() {
        for fsync in [Fsync::Interval(SECOND), Fsync::Always] {
            let disk = Disk {
                sync_fails: true,
                ..Disk::default()
            };
            let mut file = on(disk, fsync);
            let start = Instant::now();
            let (_, written) = file.append(b"record\n", start);
            let later = start + SECOND;
            let failed = written.and_then(|()| file.tick(later)).unwrap_err();
            assert!(failed.to_string().contains("cannot flush file"), "{failed}");
            file.append(b"more\n", later).1.unwrap_err();
            file.tick(later + SECOND).unwrap();
            file.finish().unwrap();
            assert_eq!(*file.medium.syncs.borrow(), 1, "{fsync:?}");
            assert_eq!(held(&file), "record\n");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_neither_cut_nor_synced() {
        let disk = Disk {
            writes: [Ok(3), Ok(2), Err(ErrorKind::BrokenPipe)].into(),
            ..Disk::default()
        };
        let mut pipe = Appender::new(disk, "pipe".to_owned(), None, Fsync::Always);
        pipe.append(b"ok\n", Instant::now()).1.unwrap();
        let (_, failed) = pipe.append(b"record\n", Instant::now());
        assert!(!failed.unwrap_err().to_string().contains("torn"));
        pipe.finish().unwrap();
        assert_eq!(held(&pipe), "ok\nre");
        assert_eq!(*pipe.medium.syncs.borrow(), 0);
    }
}
