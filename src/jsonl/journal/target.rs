//! One file that whole records are appended to, or the standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::io::{failed, is_same_file, sync_folder};
use super::append::{AppendError, Appender};
use super::fsync::Fsync;
use super::recover::Tail;
use crate::error::{Error, ErrorKind, Result};

/// How often it is checked that a file is still where it was opened.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Where whole records go.
pub(super) enum Target {
    Stdout,
    File(RecordFile),
}

/// A file of records, opened when there is something to put into it.
pub(super) struct RecordFile {
    path: PathBuf,
    /// What a message calls it.
    role: &'static str,
    fsync: Fsync,
    file: Option<Appender<File>>,
    /// How long the file was before this run appended to it.
    start: u64,
    checked: Instant,
    /// Another program has removed, replaced or changed it.
    meddled_with: bool,
}

/// A write that failed, after so many bytes of whole records that are in the file.
#[derive(Debug)]
pub(crate) struct PartialWrite {
    pub(crate) kept: usize,
    pub(crate) error: Error,
}

impl From<Error> for PartialWrite {
    fn from(error: Error) -> Self {
        Self { kept: 0, error }
    }
}

impl From<PartialWrite> for Error {
    fn from(partial: PartialWrite) -> Self {
        partial.error
    }
}

impl Target {
    /// The file, if it is a regular one or does not exist yet: not a device or a pipe, for which a
    /// rename would put a file in its place.
    pub(super) fn regular(&self) -> Option<&RecordFile> {
        match self {
            Self::File(file) if file.is_regular() => Some(file),
            Self::File(_) | Self::Stdout => None,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::File(RecordFile { file: Some(file), .. }) if file.is_broken())
    }

    /// The path of a file that another program has meddled with.
    pub(super) fn meddled_with(&self) -> Option<&Path> {
        match self {
            Self::File(file) if file.meddled_with => Some(&file.path),
            Self::File(_) | Self::Stdout => None,
        }
    }

    /// Appends whole records, if there are any.
    pub(super) fn append(&mut self, records: &[u8], now: Instant) -> Result<(), PartialWrite> {
        match self {
            _ if records.is_empty() => Ok(()),
            Self::File(file) => file.append(records, now),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                let written = stdout.write_all(records).and_then(|()| stdout.flush());
                Ok(written.map_err(|error| {
                    Error::new(ErrorKind::Io, "cannot write to standard output").with_source(error)
                })?)
            }
        }
    }

    /// Flushes what has waited for long enough, and checks now and then that the file is where it
    /// was.
    pub(super) fn tick(&mut self, now: Instant) -> Result<()> {
        match self {
            Self::File(file) => file.tick(now),
            Self::Stdout => Ok(()),
        }
    }

    /// Flushes everything.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self {
            Self::File(file) => file.finish(),
            Self::Stdout => Ok(()),
        }
    }
}

impl RecordFile {
    pub(super) fn new(path: &Path, role: &'static str, fsync: Fsync) -> Self {
        Self {
            path: path.to_owned(),
            role,
            fsync,
            file: None,
            start: 0,
            checked: Instant::now(),
            meddled_with: false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How long the file was before this run appended to it.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Opens the file, makes it if there is none, and makes it end where its last whole record does.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it cannot be opened, [`ErrorKind::Io`] if it cannot be mended.
    pub(super) fn open(&mut self, tail: Tail, now: Instant) -> Result<()> {
        self.open_as(ErrorKind::Config)?;
        match (tail, &mut self.file) {
            (Tail::Unended, _) => self.append(b"\n", now)?,
            (Tail::Torn(end), Some(file)) => {
                let cut = file.cut(end, now);
                cut.map_err(|error| failed("repair the end of", &self.path, error))?;
            }
            _ => {}
        }
        let file = self.file.as_ref();
        self.start = file.and_then(Appender::end).unwrap_or_default();
        Ok(())
    }

    fn open_as(&mut self, kind: ErrorKind) -> Result<&mut Appender<File>> {
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .and_then(|mut file| {
                let is_regular = file.metadata()?.is_file();
                let end = is_regular
                    .then(|| file.seek(SeekFrom::End(0)))
                    .transpose()?;
                Ok(Appender::new(file, end, self.fsync))
            });
        let file = opened.map_err(|error| {
            let Self { path, role, .. } = self;
            let message = format!("cannot open {role} {path:?} for writing: {error}");
            Error::new(kind, message).with_source(error)
        })?;
        if file.end().is_some() && self.fsync != Fsync::None {
            sync_folder(&self.path);
        }
        Ok(self.file.insert(file))
    }

    fn is_regular(&self) -> bool {
        match &self.file {
            Some(file) => file.end().is_some(),
            None => fs::metadata(&self.path).map_or(true, |there| there.is_file()),
        }
    }

    fn append(&mut self, records: &[u8], now: Instant) -> Result<(), PartialWrite> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.open_as(ErrorKind::Io)?,
        };
        file.append(records, now).map_err(|failed| PartialWrite {
            kept: failed.kept,
            error: self.failed(failed),
        })
    }

    fn tick(&mut self, now: Instant) -> Result<()> {
        if now.duration_since(self.checked) >= CHECK_INTERVAL {
            self.checked = now;
            self.check_place()?;
        }
        let ticked = self.file.as_mut().map_or(Ok(()), |file| file.tick(now));
        ticked.map_err(|failed| self.failed(failed))
    }

    fn finish(&mut self) -> Result<()> {
        self.check_place()?;
        let finished = self.file.as_mut().map_or(Ok(()), Appender::finish);
        finished.map_err(|failed| self.failed(failed))
    }

    /// Checks that the file is where it was opened, and as long as it was made.
    fn check_place(&mut self) -> Result<()> {
        let Self { path, role, .. } = self;
        let Some(file) = self.file.as_mut().filter(|file| !file.is_broken()) else {
            return Ok(());
        };
        let Some(end) = file.end() else {
            return Ok(());
        };
        let place = is_same_file(path, file.medium())
            .and_then(|is_same| Ok((is_same, file.medium().metadata()?.len())));
        let what = match place {
            Ok((true, length)) if length == end => return Ok(()),
            Ok((true, length)) => format!("was changed ({length} bytes, where {end} were written)"),
            Ok((false, _)) => "was replaced".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => return Err(failed("look for", path, error)),
        };
        file.give_up();
        self.meddled_with = true;
        Err(Error::new(
            ErrorKind::Io,
            format!(
                "{role} {path:?} {what} by another program while this run wrote to it, so not all \
                 that was written is there: stop that program, and run again to send what is missing"
            ),
        ))
    }

    #[cold]
    fn failed(&self, failed: AppendError) -> Error {
        let Self { path, role, .. } = self;
        let AppendError {
            what, error, torn, ..
        } = failed;
        let todo = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => "make room",
            _ => "check the disk",
        };
        let torn = if torn {
            "; it ends in a torn record, which the next run cuts off"
        } else {
            ""
        };
        Error::new(
            ErrorKind::Io,
            format!("cannot {what} {role} {path:?}: {error}: {todo}, and run again to go on{torn}"),
        )
        .with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn file(folder: &TempDir) -> RecordFile {
        RecordFile::new(&folder.path().join("f"), "errors file", Fsync::None)
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
            fs::write(&file.path, there).unwrap();
            let now = Instant::now();
            file.open(tail, now).unwrap();
            let path = file.path.clone();
            let mut target = Target::File(file);
            target.append(b"new\n", now).unwrap();
            target.finish().unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), expected);
        }
    }

    #[test]
    fn a_file_is_made_for_the_first_record_and_a_run_that_sends_is_past_settings() {
        let folder = TempDir::new().unwrap();
        let now = Instant::now();
        let mut target = Target::File(file(&folder));
        target.append(b"", now).unwrap();
        target.tick(now + CHECK_INTERVAL).unwrap();
        target.finish().unwrap();
        assert!(!folder.path().join("f").exists());
        fs::create_dir(folder.path().join("f")).unwrap();
        let error = target.append(b"new\n", now).unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::Io);
        let told = error.error.to_string();
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
                let mut target = Target::File(file(&folder));
                let start = Instant::now();
                target.append(b"one\n", start).unwrap();
                target.tick(start + CHECK_INTERVAL).unwrap();
                mischief(&path);
                target
                    .tick(start + CHECK_INTERVAL + CHECK_INTERVAL / 2)
                    .unwrap();
                let told = if at_the_end {
                    target.finish()
                } else {
                    target.tick(start + CHECK_INTERVAL * 2)
                };
                let error = told.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io);
                for word in [word, "errors file", "/f\"", "run again"] {
                    assert!(error.to_string().contains(word), "{error}");
                }
                let there = fs::read(&path).ok();
                target.append(b"more\n", start).unwrap_err();
                target.tick(start + CHECK_INTERVAL * 4).unwrap();
                target.finish().unwrap();
                assert_eq!(fs::read(&path).ok(), there, "it was written to");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_file_is_no_other_file() {
        let folder = TempDir::new().unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("f")).unwrap();
        let mut target = Target::File(file(&folder));
        let start = Instant::now();
        target.append(b"one\n", start).unwrap();
        target.tick(start + CHECK_INTERVAL).unwrap();
        target.finish().unwrap();
    }
}
