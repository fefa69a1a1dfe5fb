//! Standard output: what is written there, and whether it is there at all.

use std::io::{self, Write};

use crate::bar::causes;
use crate::{Error, ErrorKind, Result};

/// Writes a text in one piece.
///
/// # Errors
/// [`ErrorKind::Io`].
pub(crate) fn write(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| {
            Error::new(ErrorKind::Io, "cannot write to standard output").with_source(error)
        })
}

/// Whether the reader of an output has gone, as `head` does. That is no failure.
pub(crate) fn is_broken_pipe(error: &Error) -> bool {
    // A connection can break in the same way, but that is no Io error.
    error.kind() == ErrorKind::Io
        && causes(error)
            .find_map(|cause| cause.downcast_ref::<io::Error>())
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether standard output was closed when the program began.
///
/// Rust's start-up opens `/dev/null` for reading and writing in place of a closed standard stream,
/// so that no file gets its number. Answers written there are paid for and lost, and every write
/// succeeds. A shell's `> /dev/null` is open for writing only, and is meant.
#[cfg(unix)]
pub(crate) fn is_closed() -> bool {
    use rustix::fs::{OFlags, Stat, fcntl_getfl, fstat, stat};

    let stdout = io::stdout();
    let Ok(flags) = fcntl_getfl(&stdout) else {
        return true;
    };
    let id = |file: Stat| (file.st_dev, file.st_ino);
    let is_null = fstat(&stdout).ok().map(id) == stat("/dev/null").ok().map(id);
    is_null && flags & OFlags::RWMODE == OFlags::RDWR
}

#[cfg(not(unix))]
pub(crate) fn is_closed() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_pipe_is_found_behind_the_message() {
        let broken = |kind: io::ErrorKind| {
            Error::new(ErrorKind::Io, "cannot write").with_source(io::Error::from(kind))
        };
        assert!(is_broken_pipe(&broken(io::ErrorKind::BrokenPipe)));
        assert!(!is_broken_pipe(&broken(io::ErrorKind::StorageFull)));
        assert!(!is_broken_pipe(&Error::new(ErrorKind::Io, "cannot write")));
    }
}
