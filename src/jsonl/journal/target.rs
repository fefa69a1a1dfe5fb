//! One file that whole records are appended to, or the standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::sidecars::folder;
use super::append::{AppendError, Appender};
use super::fsync::Fsync;
use super::identity::same_file;
use super::recover::Tail;
use crate::error::{Error, ErrorKind, Result};

/// How often a file is looked for where it was opened.
const LOOK: Duration = Duration::from_secs(1);

/// Where whole records go.
pub(super) enum Target {
    Stdout,
    File(OpenFile),
    /// A file that is made when there is something to put into it.
    Unopened(FileSpec),
    /// The other target's.
    Shared,
}

/// A file, and how to speak of it.
#[derive(Clone)]
pub(super) struct FileSpec {
    pub(super) path: PathBuf,
    pub(super) role: &'static str,
    pub(super) fsync: Fsync,
}

/// A file, open.
pub(super) struct OpenFile {
    named: FileSpec,
    file: Appender<File>,
    looked: Instant,
    /// Another program has removed, replaced or changed it.
    meddled_with: bool,
}

/// A write that failed, behind so many bytes of whole records that are in the file.
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
    fn from(unwritten: PartialWrite) -> Self {
        unwritten.error
    }
}

impl Target {
    /// The path of a regular file, or of one to be made.
    pub(super) fn regular(&self) -> Option<&Path> {
        match self {
            Self::File(opened) => opened.file.end().map(|_| opened.named.path.as_path()),
            Self::Unopened(named) if !is_special(&named.path) => Some(&named.path),
            _ => None,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::File(opened) if opened.file.is_broken())
    }

    /// The path of a file that is not any more as it was written.
    pub(super) fn meddled_with(&self) -> Option<&Path> {
        match self {
            Self::File(opened) if opened.meddled_with => Some(&opened.named.path),
            _ => None,
        }
    }

    /// Appends whole records; none is no news.
    pub(super) fn append(&mut self, records: &[u8], now: Instant) -> Result<(), PartialWrite> {
        if records.is_empty() {
            return Ok(());
        }
        if let Self::Unopened(named) = self {
            let opened = OpenFile::open(named.clone(), now, ErrorKind::Io)?;
            *self = Self::File(opened);
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
                            .into()
                    })
            }
            Self::File(opened) => opened.append(records, now),
            Self::Unopened(_) | Self::Shared => Ok(()),
        }
    }

    /// Brings to the disk what has waited for long enough, and looks now and then whether the file
    /// is where it was.
    pub(super) fn tick(&mut self, now: Instant) -> Result<()> {
        let Self::File(opened) = self else {
            return Ok(());
        };
        if now.duration_since(opened.looked) >= LOOK {
            opened.looked = now;
            opened.look()?;
        }
        opened
            .file
            .tick(now)
            .map_err(|fault| opened.named.failed(fault))
    }

    /// Brings everything to the disk.
    pub(super) fn finish(&mut self) -> Result<()> {
        let Self::File(opened) = self else {
            return Ok(());
        };
        opened.look()?;
        let finished = opened.file.finish();
        finished.map_err(|fault| opened.named.failed(fault))
    }
}

impl OpenFile {
    /// Opens a file to append to; it is made if there is none.
    ///
    /// # Errors
    /// Of this kind: [`ErrorKind::Config`] before anything is sent, when it is a matter of what was
    /// asked for.
    pub(super) fn open(named: FileSpec, now: Instant, kind: ErrorKind) -> Result<Self> {
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&named.path)
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
            Ok((file, end)) => {
                if end.is_some() && named.fsync != Fsync::None {
                    sync_folder(&named.path);
                }
                Ok(Self {
                    file: Appender::new(file, end, named.fsync),
                    named,
                    looked: now,
                    meddled_with: false,
                })
            }
            Err(error) => {
                let message = format!(
                    "cannot open {} {:?} for writing: {error}",
                    named.role, named.path
                );
                Err(Error::new(kind, message).with_source(error))
            }
        }
    }

    /// Makes the file end where its last whole record does.
    pub(super) fn mend(&mut self, tail: Tail, now: Instant) -> Result<()> {
        match tail {
            Tail::Whole => Ok(()),
            Tail::Unended => Ok(self.append(b"\n", now)?),
            Tail::Torn(whole) => self
                .file
                .cut(whole, now)
                .map_err(|error| failed("repair the end of", &self.named.path, error)),
        }
    }

    /// Makes the next record begin on a line of its own, whatever is there.
    pub(super) fn end_last_line(&mut self, now: Instant) -> Result<()> {
        let Some(Some(last)) = self.file.end().map(|end| end.checked_sub(1)) else {
            return Ok(());
        };
        let path = &self.named.path;
        let ends = File::open(path).and_then(|mut file| ends_a_line(&mut file, last));
        if ends.map_err(|error| failed("read the end of", path, error))? {
            return Ok(());
        }
        Ok(self.append(b"\n", now)?)
    }

    fn append(&mut self, records: &[u8], now: Instant) -> Result<(), PartialWrite> {
        self.file.append(records, now).map_err(|fault| {
            let kept = match fault {
                AppendError::Write { kept, .. } => kept,
                AppendError::Sync(_) => 0,
            };
            let error = self.named.failed(fault);
            PartialWrite { kept, error }
        })
    }

    /// Looks whether the file is where it was opened, and as long as it was made.
    fn look(&mut self) -> Result<()> {
        let Some(end) = self.file.end() else {
            return Ok(());
        };
        if self.file.is_broken() {
            return Ok(());
        }
        let FileSpec { path, role, .. } = &self.named;
        let unknown = |error| failed("look for", path, error);
        let own = self.file.medium().metadata().map_err(unknown)?;
        let what = match fs::metadata(path) {
            Ok(there) if !same_file(&there, &own) => "was replaced".to_owned(),
            Ok(_) if own.len() != end => {
                format!(
                    "was changed ({} bytes, where {end} were written)",
                    own.len()
                )
            }
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => return Err(unknown(error)),
        };
        self.file.give_up();
        self.meddled_with = true;
        Err(Error::new(
            ErrorKind::Io,
            format!(
                "{role} {path:?} {what} by another program while this run wrote to it: not all of \
                 what was written is there; see to that program, and run again to send what is \
                 missing"
            ),
        ))
    }
}

impl FileSpec {
    #[cold]
    fn failed(&self, fault: AppendError) -> Error {
        let Self { path, role, .. } = self;
        let (what, error, torn) = match fault {
            AppendError::Write { error, torn, .. } => ("write to", error, torn),
            AppendError::Sync(error) => ("bring to the disk", error, false),
        };
        let todo = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => "make room",
            _ => "see to it",
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

/// A rename or a new file is on the disk when its folder is. Not every system lets a folder be
/// opened for it; the records themselves are safe either way.
pub(super) fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(folder(path)) {
        let _where_possible = folder.sync_all();
    }
}

/// Whether a line ends with the byte at `last`.
pub(super) fn ends_a_line(file: &mut File, last: u64) -> io::Result<bool> {
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(byte == *b"\n")
}

/// A device or a pipe: a file that was put in its place would be a loss.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

#[cold]
pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {what} {path:?}: {error}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn named(folder: &TempDir) -> FileSpec {
        FileSpec {
            path: folder.path().join("f"),
            role: "errors file",
            fsync: Fsync::None,
        }
    }

    #[test]
    fn a_record_is_put_on_a_line_of_its_own_behind_whatever_is_there() {
        for (there, expected) in [
            ("", "new\n"),
            ("old\n", "old\nnew\n"),
            ("old", "old\nnew\n"),
            ("old\nto", "old\nto\nnew\n"),
            ("old\n\0\0", "old\n\0\0\nnew\n"),
        ] {
            let folder = TempDir::new().unwrap();
            let named = named(&folder);
            fs::write(&named.path, there).unwrap();
            let now = Instant::now();
            let mut opened = OpenFile::open(named.clone(), now, ErrorKind::Config).unwrap();
            opened.end_last_line(now).unwrap();
            let mut target = Target::File(opened);
            target.append(b"new\n", now).unwrap();
            target.finish().unwrap();
            assert_eq!(fs::read_to_string(&named.path).unwrap(), expected);
        }
    }

    #[test]
    fn a_file_is_made_for_the_first_record_and_a_run_that_sends_is_past_settings() {
        let folder = TempDir::new().unwrap();
        let now = Instant::now();
        let mut target = Target::Unopened(named(&folder));
        target.append(b"", now).unwrap();
        target.tick(now + LOOK).unwrap();
        target.finish().unwrap();
        assert!(!named(&folder).path.exists());
        fs::create_dir(named(&folder).path).unwrap();
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
                let named = named(&folder);
                let start = Instant::now();
                let mut target = Target::Unopened(named.clone());
                target.append(b"one\n", start).unwrap();
                target.tick(start + LOOK).unwrap();
                mischief(&named.path);
                target.tick(start + LOOK + LOOK / 2).unwrap();
                let told = if at_the_end {
                    target.finish()
                } else {
                    target.tick(start + LOOK * 2)
                };
                let error = told.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io);
                for word in [word, "errors file", "/f\"", "run again"] {
                    assert!(error.to_string().contains(word), "{error}");
                }
                let there = fs::read(&named.path).ok();
                target.append(b"more\n", start).unwrap_err();
                target.tick(start + LOOK * 4).unwrap();
                target.finish().unwrap();
                assert_eq!(fs::read(&named.path).ok(), there, "it was written to");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_file_is_no_other_file() {
        let folder = TempDir::new().unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("f")).unwrap();
        let mut target = Target::Unopened(named(&folder));
        let start = Instant::now();
        target.append(b"one\n", start).unwrap();
        target.tick(start + LOOK).unwrap();
        target.finish().unwrap();
    }
}
