//! One file that whole records are appended to, or the standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::super::names::folder;
use super::look_back::Tail;
use crate::error::{Error, ErrorKind, Result};

/// Where whole records go.
pub(super) enum Target {
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

impl Target {
    /// Opens a file to append to; it is made if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: found out before anything is sent, it is a matter of what was asked for.
    pub(super) fn open(path: &Path) -> Result<Self> {
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
            Ok((file, end)) => Ok(Self::File {
                path: path.to_owned(),
                file,
                end,
            }),
            Err(error) => Err(Error::new(
                ErrorKind::Config,
                format!("cannot open {path:?} for writing: {error}"),
            )
            .with_source(error)),
        }
    }

    /// The path of a regular file, or of one to be made.
    pub(super) fn regular(&self) -> Option<&Path> {
        match self {
            Self::File {
                path, end: Some(_), ..
            } => Some(path),
            Self::Unopened(path) if !is_special(path) => Some(path),
            _ => None,
        }
    }

    /// Makes the file end where its last whole record does.
    pub(super) fn mend(&mut self, tail: Tail) -> Result<()> {
        let Self::File {
            path,
            file,
            end: Some(end),
        } = self
        else {
            return Ok(());
        };
        let mended = match tail {
            Tail::Whole => Ok(*end),
            Tail::Unended => file.write_all(b"\n").map(|()| *end + 1),
            Tail::Torn(whole) => file.set_len(whole).map(|()| whole),
        };
        *end = mended.map_err(|error| failed("repair the end of", path, error))?;
        Ok(())
    }

    /// One write for what is ready, so that a kill in between tears no record but the last.
    pub(super) fn append(&mut self, records: &[u8]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if let Self::Unopened(path) = self {
            let path = path.clone();
            *self = Self::open(&path)?;
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

    pub(super) fn sync(&self) -> Result<()> {
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

/// A rename or a new file is on the disk when its folder is. Not every system lets a folder be
/// opened for it; the records themselves are safe either way.
pub(super) fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(folder(path)) {
        let _where_possible = folder.sync_all();
    }
}

/// A device or a pipe: a file that was put in its place would be a loss.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

#[cold]
pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {what} {path:?}: {error}")).with_source(error)
}
