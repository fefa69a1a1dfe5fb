//! Lines that are no records, moved out of a results file that has records around them.
//!
//! They are kept, since somebody may know what they were. They are on disk in the file beside the
//! output before the output is replaced, so a kill in between leaves them in both files, never in
//! neither.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::super::io::{AtomicFile, LineSource, failed, sync_folder};
use super::super::sidecars::{REJECTED_SUFFIX, sidecar};
use crate::error::Result;

/// Moves the lines that start at `offsets`, in their order, to the file's `.rejected`.
pub(super) fn move_aside(path: &Path, offsets: &[u64]) -> Result<()> {
    let rejected = sidecar(path, REJECTED_SUFFIX);
    let target = open(&rejected).map_err(|error| failed("write to", &rejected, error))?;
    divide(path, offsets, target).map_err(|error| failed("repair", path, error))
}

/// Opens a file to append lines to. A repair that was killed may have torn its last one.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).open(path)?;
    if !ends_a_line(&mut file)? {
        file.write_all(b"\n")?;
    }
    sync_folder(path);
    Ok(file)
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut last = *b"\n";
    if end > 0 {
        file.seek(SeekFrom::Start(end - 1))?;
        file.read_exact(&mut last)?;
    }
    Ok(last == *b"\n")
}

fn divide(path: &Path, offsets: &[u64], rejected: File) -> io::Result<()> {
    let mut source = LineSource::open(path)?;
    let mut rejected = BufWriter::new(rejected);
    let mut fresh = AtomicFile::create(path)?;
    let mut position = 0;
    for &offset in offsets {
        source.copy(position, offset, &mut fresh.file)?;
        position = source.line_end(offset)?;
        source.copy(offset, position, &mut rejected)?;
    }
    source.copy(position, u64::MAX, &mut fresh.file)?;
    rejected.flush()?;
    rejected.get_ref().sync_all()?;
    fresh.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn lines_go_aside_whole_and_in_order_and_the_rest_stays() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("o.jsonl");
        let long = "x".repeat(100_000);
        fs::write(&path, format!("bad 1\ngood 1\n{long}\nbad 3\r\ngood 2\n")).unwrap();
        // Of a repair that was killed.
        fs::write(folder.path().join("o.jsonl.rejected"), "old\nto").unwrap();
        move_aside(&path, &[0, 13, 100_014]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "good 1\ngood 2\n");
        assert_eq!(
            fs::read_to_string(folder.path().join("o.jsonl.rejected")).unwrap(),
            format!("old\nto\nbad 1\n{long}\nbad 3\r\n")
        );
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2);
    }
}
