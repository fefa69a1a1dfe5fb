//! Whether a name and an open file are the same file still.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;

/// Whether `path` itself, not what it may lead to, is this open file; without the means to say so,
/// it is.
pub(super) fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(there) => Ok(same_file(&there, &file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
pub(super) fn same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
pub(super) fn same_file(_one: &Metadata, _other: &Metadata) -> bool {
    true
}
