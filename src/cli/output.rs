//! What a command writes: to standard output, or to a file that is replaced as a whole.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::bar::causes;
use crate::jsonl::files::{is_device, names_no_file};
use crate::jsonl::io::AtomicFile;
use crate::jsonl::sidecars::{is_table, resolved};
use crate::{Error, ErrorKind, Result};

/// Writes a text to standard output in one piece.
///
/// # Errors
/// [`ErrorKind::Io`].
pub(crate) fn write(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written
        .and_then(|()| stdout.flush())
        .map_err(|error| unwritable(None, error))
}

/// The same for what a reader need not take to its end.
///
/// # Errors
/// [`ErrorKind::Io`], but for a reader that has gone.
pub(crate) fn show(text: &str) -> Result<()> {
    match write(text) {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Has `write` write to a file, which is replaced if all goes well, or else to standard output.
/// It is given what makes an error of a write that fails. `None` if the reader of standard output
/// has gone.
///
/// # Errors
/// [`ErrorKind::Io`], and what `write` fails with.
pub(crate) fn write_to<T>(
    path: Option<&Path>,
    write: impl FnOnce(&mut dyn Write, &dyn Fn(io::Error) -> Error) -> Result<T>,
) -> Result<Option<T>> {
    let failed = |error| unwritable(path, error);
    let written = match path {
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            let written = write(&mut out, &failed);
            written.and_then(|done| out.flush().map(|()| done).map_err(failed))
        }
        Some(path) => {
            let mut fresh = AtomicFile::create(path).map_err(failed)?;
            let written = write(&mut fresh.file, &failed);
            written.and_then(|done| fresh.commit().map(|()| done).map_err(failed))
        }
    };
    match written {
        // As `head` does.
        Err(error) if is_broken_pipe(&error) => Ok(None),
        written => written.map(Some),
    }
}

/// Replaces a file as a whole.
///
/// # Errors
/// [`ErrorKind::Io`], naming the file.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    // Where a device or a pipe is, a rename would put a file in its place.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let opened = OpenOptions::new().write(true).open(path);
        let written = opened.and_then(|mut file| file.write_all(bytes));
        return written.map_err(|error| unwritable(Some(path), error));
    }
    write_to(Some(path), |out, failed| {
        out.write_all(bytes).map_err(failed)
    })
    .map(drop)
}

/// What is wrong with a file that is read, if the name of what is made of it goes by its own.
pub(crate) fn flaw_of_default(argument: &str, path: &Path, made: &str) -> Option<String> {
    names_no_file(path).then(|| {
        format!(
            "-o is missing: {argument} {path:?} is a pipe or a device, so {made} no default name: \
             name a file with -o, or - for standard output"
        )
    })
}

/// What to do about a file in which no line is a result.
pub(crate) const GIVE_RESULTS: &str = "Give a file of results, such as run writes: each line has a \
                                       custom_id and a response, an error or a result";

/// What is wrong with files that are to hold results.
pub(crate) fn flaw_of_results<'p>(mut results: impl Iterator<Item = &'p Path>) -> Option<String> {
    let table = results.find(|path| is_table(path))?;
    Some(format!(
        "RESULTS {table:?} is a table: name the file of its records, as a rule {}.jsonl",
        table.display()
    ))
}

/// What is wrong with an output beside the files that are read.
pub(crate) fn flaw_of_output<'p>(
    output: &Path,
    mut read: impl Iterator<Item = &'p Path>,
) -> Option<String> {
    if read.any(|read| is_same(output, read)) {
        return Some(format!(
            "-o {output:?} is a file that is read, and would be overwritten: name another"
        ));
    }
    if is_device(output) {
        return Some(format!(
            "-o {output:?} is no file: leave -o out, and redirect standard output"
        ));
    }
    flaw_of_place(output).map(|flaw| format!("-o {output:?} {flaw}"))
}

/// What is wrong with a path that no file can be written to.
pub(crate) fn flaw_of_place(path: &Path) -> Option<&'static str> {
    if path.is_dir() {
        Some("is a directory: name a file")
    } else if resolved(path).is_none() {
        Some("cannot be written: its directory does not exist")
    } else {
        None
    }
}

/// Whether two names lead to the same file.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    resolved(one).is_some_and(|one| Some(one) == resolved(other))
}

#[cold]
pub(super) fn unwritable(path: Option<&Path>, error: io::Error) -> Error {
    let name = path.map_or("to standard output".to_owned(), |path| format!("{path:?}"));
    Error::new(ErrorKind::Io, format!("cannot write {name}")).with_source(error)
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

    #[test]
    fn a_new_file_replaces_the_old_and_leaves_nothing_beside_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("s.json");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_stays_one() {
        use std::os::unix::fs::FileTypeExt;
        replace(Path::new("/dev/null"), b"gone").unwrap();
        assert!(
            fs::metadata("/dev/null")
                .unwrap()
                .file_type()
                .is_char_device()
        );
    }
}
