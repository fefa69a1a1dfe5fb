//! The summary of a run as JSON, in the file that `--summary` names.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::console::Console;
use super::exit::Exit;
use crate::jsonl::files::Location;
use crate::jsonl::io::AtomicFile;
use crate::{Error, ErrorKind, FileProgress, Result, Summary};

/// What is known of a run that has no summary of its own. It began at `started`: the last progress
/// may be old, if the run hangs.
pub(crate) fn cut_off(
    progress: &FileProgress,
    stopped: Option<Error>,
    started: Instant,
) -> Summary {
    let wall = progress.elapsed.max(started.elapsed());
    Summary::of(progress.clone(), stopped, wall)
}

/// Writes the summary of a run that sent nothing, so that the file does not hold an older run's.
pub(crate) fn write_refusal(path: Option<&Path>, error: &Error, console: &Console) {
    let nothing = cut_off(&FileProgress::default(), None, Instant::now());
    write_summary(path, &to_json(&nothing, Exit::of_error(error), None))
        .unwrap_or_else(|unwritten| console.error(&unwritten));
}

/// The summary as an object, with the tool's advice.
pub(super) fn to_json(summary: &Summary, exit: Exit, advice: Option<&str>) -> Value {
    let mut object = summary.to_json(exit.code());
    object["advice"] = advice.into();
    object
}

/// Puts the summary into its file, which holds a whole one at every moment, the old or the new.
pub(super) fn write_summary(path: Option<&Path>, summary: &Value) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let text = format!("{summary:#}\n");
    replace(path, text.as_bytes()).map_err(|error| {
        let name = Location::File(path.to_owned());
        Error::new(ErrorKind::Io, format!("--summary {name} cannot be written")).with_source(error)
    })
}

/// Replaces a file as a whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Where a device or a pipe is, a rename would put a file in its place.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let mut fresh = AtomicFile::create(path)?;
    fresh.file.write_all(bytes)?;
    fresh.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_replaces_a_file_and_leaves_nothing_beside_it() {
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

    #[test]
    fn what_is_known_of_a_run_cut_off_adds_up() {
        let progress = FileProgress {
            total: Some(10),
            succeeded: 3,
            failed: 1,
            skipped: 2,
            ..FileProgress::default()
        };
        let summary = cut_off(&progress, None, Instant::now());
        assert_eq!((summary.requests, summary.not_attempted), (10, 4));
        let unknown = FileProgress {
            total: None,
            ..progress
        };
        assert_eq!(cut_off(&unknown, None, Instant::now()).not_attempted, 0);
    }
}
