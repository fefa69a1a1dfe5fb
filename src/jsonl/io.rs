//! What the journal asks of the file system: one file replaced by another as a whole, lines copied
//! from file to file, and whether a path still names an open file.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use same_file::Handle;

use super::sidecars::{NEW_SUFFIX, folder, resolved, sidecar};
use crate::error::{Error, ErrorKind, Result};

/// How much of a file is read at a time where its lines are copied one by one. They are mostly near
/// to where they belong; each that is not costs one block, and with 1 MiB a shuffled file took
/// twenty times as long.
const BLOCK: usize = 16 << 10;

/// The error for a file with which `what` could not be done.
pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {what} {path:?}: {error}")).with_source(error)
}

/// Flushes a folder, so that a file that is new in it, or was renamed, survives a power cut. Not
/// every system lets a folder be opened for this; the records themselves are safe either way.
pub(super) fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(folder(path)) {
        let _where_possible = folder.sync_all();
    }
}

/// Whether `path` leads to this open file.
pub(super) fn is_same_file(path: &Path, file: &File) -> io::Result<bool> {
    // To open a pipe would wait for its other end.
    Ok(fs::metadata(path)?.is_file()
        && Handle::from_path(path)? == Handle::from_file(file.try_clone()?)?)
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove the old", path, error))
        }
        _ => Ok(()),
    }
}

/// A file that lines are copied out of, at any offset.
pub(super) struct LineSource(BufReader<File>);

impl LineSource {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self(BufReader::with_capacity(BLOCK, file)))
    }

    /// The number of the line that has this offset, from 1. All lines before are read.
    pub(super) fn number(&mut self, offset: u64) -> io::Result<u64> {
        self.seek(0)?;
        let (mut number, mut end) = (1, 0);
        loop {
            let read = self.0.skip_until(b'\n')? as u64;
            end += read;
            if end > offset || read == 0 {
                return Ok(number);
            }
            number += 1;
        }
    }

    /// Where the line that starts at `offset` ends, its newline included.
    pub(super) fn line_end(&mut self, offset: u64) -> io::Result<u64> {
        self.seek(offset)?;
        self.0.skip_until(b'\n')?;
        self.0.stream_position()
    }

    /// Appends the line that starts at `offset` to `line`, its newline included.
    pub(super) fn read_line(&mut self, offset: u64, line: &mut Vec<u8>) -> io::Result<()> {
        self.seek(offset)?;
        self.0.read_until(b'\n', line)?;
        Ok(())
    }

    /// Copies what is between two offsets, or before the end of the file.
    pub(super) fn copy(&mut self, from: u64, to: u64, target: &mut impl Write) -> io::Result<()> {
        self.seek(from)?;
        io::copy(&mut self.0.by_ref().take(to - from), target)?;
        Ok(())
    }

    /// Keeps what is in the buffer, unlike a seek of the file.
    fn seek(&mut self, offset: u64) -> io::Result<()> {
        let by = offset.wrapping_sub(self.0.stream_position()?);
        self.0.seek_relative(by.cast_signed())
    }
}

/// The new content of a file: written beside it, flushed, and renamed into its place, so that there
/// is a whole file at every moment. Dropped before it is [committed](Self::commit), it leaves the
/// file as it was.
pub(crate) struct AtomicFile {
    path: PathBuf,
    beside: PathBuf,
    /// To write the content to.
    pub(crate) file: BufWriter<File>,
}

impl AtomicFile {
    /// Begins empty, for a file that need not exist.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        // A link stays: the file it leads to is replaced.
        let path = resolved(path).unwrap_or_else(|| path.to_owned());
        let beside = sidecar(&path, NEW_SUFFIX);
        let _left_by_a_killed_run = fs::remove_file(&beside);
        let file = File::create_new(&beside)?;
        let fresh = Self {
            path,
            beside,
            file: BufWriter::new(file),
        };
        // Before there is anything in it to read.
        if let Ok(metadata) = fs::metadata(&fresh.path) {
            let file = fresh.file.get_ref();
            file.set_permissions(metadata.permissions())?;
        }
        Ok(fresh)
    }

    /// Replaces the file.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        sync_folder(&self.path);
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        let _renamed_once_committed = fs::remove_file(&self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_file_is_the_old_one_until_it_is_the_new_one() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "old").unwrap();
        // Left by a run that was killed.
        fs::write(folder.path().join("f.tollgate-new"), "half").unwrap();

        let mut given_up = AtomicFile::create(&path).unwrap();
        given_up.file.write_all(b"never").unwrap();
        drop(given_up);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(&folder), ["f"]);

        let mut fresh = AtomicFile::create(&path).unwrap();
        fresh.file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fresh.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(&folder), ["f"]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_stay_and_a_link_stays_one() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = TempDir::new().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("file", &link).unwrap();
        let mut fresh = AtomicFile::create(&link).unwrap();
        fresh.file.write_all(b"new").unwrap();
        fresh.commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
