//! A file written anew: beside itself, brought to the disk, and put in its own place, so that at
//! every moment there is a whole one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::super::sidecars::{NEW_SUFFIX, companion, settled};
use super::target::sync_folder;

/// What is to be in a file's place. Dropped before it is [put](Self::put) there, it leaves the file
/// as it was.
pub(super) struct AtomicFile {
    path: PathBuf,
    beside: PathBuf,
    file: BufWriter<File>,
    /// Nothing stands beside the file any more.
    put: bool,
}

impl AtomicFile {
    /// Begins with nothing, for a file that may not be there.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        // Of a link it is the file that is replaced, not the link.
        let path = settled(path).unwrap_or_else(|| path.to_owned());
        let beside = companion(&path, NEW_SUFFIX);
        let file = match File::create_new(&beside) {
            // Of a run that was killed here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&beside)?;
                File::create_new(&beside)?
            }
            file => file?,
        };
        let fresh = Self {
            path,
            beside,
            file: BufWriter::new(file),
            put: false,
        };
        // Before there is anything in it to read.
        if let Ok(metadata) = fs::metadata(&fresh.path) {
            fresh
                .file
                .get_ref()
                .set_permissions(metadata.permissions())?;
        }
        Ok(fresh)
    }

    /// Puts it in the file's place.
    pub(super) fn put(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        self.put = true;
        sync_folder(&self.path);
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.put {
            let _already_gone = fs::remove_file(&self.beside);
        }
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

        let mut given_up = AtomicFile::begin(&path).unwrap();
        given_up.write_all(b"never").unwrap();
        drop(given_up);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(&folder), ["f"]);

        let mut fresh = AtomicFile::begin(&path).unwrap();
        fresh.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fresh.put().unwrap();
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
        let mut fresh = AtomicFile::begin(&link).unwrap();
        fresh.write_all(b"new").unwrap();
        fresh.put().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
