//! One file that whole records are appended to, or the standard output.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use same_file::Handle;

use super::super::files::Location;
use super::super::io::{failed, is_same_file, sync_folder};
use super::append::Appender;
use super::fsync::Fsync;
use crate::error::{Error, ErrorKind, Result};

/// How often it is checked that a file is still where it was opened.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

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

/// A file of records, opened when there is something to write to it, or standard output.
pub(super) struct RecordFile {
    location: Location,
    /// What a message calls it.
    role: &'static str,
    fsync: Fsync,
    file: Option<Appender<File>>,
    /// How long the file was before this run appended to it, if it was there to carry on with.
    pub(super) start: Option<u64>,
    checked: Instant,
    /// Another program has removed, replaced or changed it.
    pub(super) meddled_with: bool,
}

impl RecordFile {
    pub(super) fn new(location: &Location, role: &'static str, fsync: Fsync) -> Self {
        Self {
            location: location.clone(),
            role,
            fsync,
            file: None,
            start: None,
            checked: Instant::now(),
            meddled_with: false,
        }
    }

    /// The path, if the file is a regular one or does not exist yet. A device or a pipe must not be
    /// replaced by a file.
    pub(super) fn regular(&self) -> Option<&Path> {
        let path = self.location.path()?;
        let is_regular = match &self.file {
            Some(file) => file.end.is_some(),
            None => fs::metadata(path).map_or(true, |there| there.is_file()),
        };
        is_regular.then_some(path)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.broken)
    }

    /// Opens the file, makes it if there is none, and makes it end where its last whole record
    /// does.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it cannot be opened, [`ErrorKind::Io`] if it cannot be mended.
    pub(super) fn open(&mut self, tail: Tail, now: Instant) -> Result<()> {
        self.file = None;
        let file = self.opened(ErrorKind::Config)?;
        match tail {
            Tail::Whole => {}
            Tail::Unended => file.append(b"\n", now).1?,
            Tail::Torn(end) => file.cut(end, now)?,
        }
        self.start = file.end;
        Ok(())
    }

    /// The open file. It is opened now if it was not.
    fn opened(&mut self, kind: ErrorKind) -> Result<&mut Appender<File>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open_as(kind)?,
        };
        Ok(self.file.insert(file))
    }

    fn open_as(&self, kind: ErrorKind) -> Result<Appender<File>> {
        let (file, end) = open(&self.location).map_err(|error| {
            let message = format!("cannot open {self} for writing: {error}");
            Error::new(kind, message).with_source(error)
        })?;
        if let Some(path) = self.location.path()
            && end.is_some()
            && self.fsync != Fsync::None
        {
            sync_folder(path);
        }
        Ok(Appender::new(file, self.to_string(), end, self.fsync))
    }

    /// Appends whole records, if there are any. Returns how many bytes of them are in the file now,
    /// and how it went.
    pub(super) fn append(&mut self, records: &[u8], now: Instant) -> (usize, Result<()>) {
        if records.is_empty() {
            return (0, Ok(()));
        }
        match self.opened(ErrorKind::Io) {
            Ok(file) => file.append(records, now),
            Err(error) => (0, Err(error)),
        }
    }

    /// Flushes what has waited for long enough, and checks now and then that the file is where it
    /// was.
    pub(super) fn tick(&mut self, now: Instant) -> Result<()> {
        if now.duration_since(self.checked) >= CHECK_INTERVAL {
            self.checked = now;
            self.check_in_place()?;
        }
        self.file.as_mut().map_or(Ok(()), |file| file.tick(now))
    }

    /// Flushes everything.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.check_in_place()?;
        self.file.as_mut().map_or(Ok(()), Appender::finish)
    }

    /// Checks that the file is where it was opened, and as long as it was made.
    fn check_in_place(&mut self) -> Result<()> {
        let (Some(path), Some(file)) = (self.location.path(), &mut self.file) else {
            return Ok(());
        };
        let Some(end) = file.end.filter(|_| !file.broken) else {
            return Ok(());
        };
        let place = is_same_file(path, &file.medium)
            .and_then(|is_same| Ok((is_same, file.medium.metadata()?.len())));
        let what = match place {
            Ok((true, length)) if length == end => return Ok(()),
            Ok((true, length)) => format!("was changed ({length} bytes, where {end} were written)"),
            Ok((false, _)) => "was replaced".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => return Err(failed("look for", path, error)),
        };
        file.broken = true;
        self.meddled_with = true;
        Err(Error::new(
            ErrorKind::Io,
            format!(
                "{self} {what} by another program while this run wrote to it, so some results are \
                 lost: stop that program, and run again to send what is missing"
            ),
        ))
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
    use tempfile::TempDir;

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
        assert_eq!(error.kind(), ErrorKind::Io);
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
                assert_eq!(error.kind(), ErrorKind::Io);
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
