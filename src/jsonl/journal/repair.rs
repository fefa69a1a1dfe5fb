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
    append(path, offsets, &rejected).map_err(|error| failed("write to", &rejected, error))?;
    leave_out(path, offsets).map_err(|error| failed("repair", path, error))
}

fn append(path: &Path, offsets: &[u64], rejected: &Path) -> io::Result<()> {
    let mut source = LineSource::open(path)?;
    let mut options = OpenOptions::new();
    let mut target = options
        .read(true)
        .append(true)
        .create(true)
        .open(rejected)?;
    // A repair that was killed may have torn its last line.
    if !ends_a_line(&mut target)? {
        target.write_all(b"\n")?;
    }
    let mut target = BufWriter::new(target);
    for &offset in offsets {
        let end = source.line_end(offset)?;
        source.copy(offset, end, &mut target)?;
    }
    target.flush()?;
    target.get_ref().sync_all()?;
    sync_folder(rejected);
    Ok(())
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

fn leave_out(path: &Path, offsets: &[u64]) -> io::Result<()> {
    let mut source = LineSource::open(path)?;
    let mut fresh = AtomicFile::create(path)?;
    let mut position = 0;
    for &offset in offsets {
        source.copy(position, offset, &mut fresh.file)?;
        position = source.line_end(offset)?;
    }
    source.copy(position, u64::MAX, &mut fresh.file)?;
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
