//! Lines that are no records, moved out of a results file that has records around them.
//!
//! They are not thrown away: somebody may know what they were. They are on the disk in the file
//! beside the output before that is written anew, so that a kill in between leaves them in both
//! files, and never in neither.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::super::sidecars::{REJECTED_SUFFIX, companion};
use super::atomic_file::AtomicFile;
use super::target::{ends_a_line, failed, sync_folder};
use crate::error::Result;

/// Moves the lines that start at `offsets`, in their order, to the file's `.rejected`.
pub(super) fn move_aside(path: &Path, offsets: &[u64]) -> Result<()> {
    let rejected = companion(path, REJECTED_SUFFIX);
    let append =
        set_aside(path, offsets, &rejected).map_err(|error| failed("write to", &rejected, error));
    append?;
    leave_out(path, offsets).map_err(|error| failed("repair", path, error))
}

fn set_aside(path: &Path, offsets: &[u64], rejected: &Path) -> io::Result<()> {
    let mut source = BufReader::new(File::open(path)?);
    let mut target = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(rejected)?;
    // A repair that was killed may have left its last line torn.
    let end = target.seek(SeekFrom::End(0))?;
    if end > 0 && !ends_a_line(&mut target, end - 1)? {
        target.write_all(b"\n")?;
    }
    let mut target = BufWriter::new(target);
    let mut at = 0;
    for &offset in offsets {
        source.seek_relative((offset - at).cast_signed())?;
        at = offset + pass_line(&mut source, &mut target)?;
    }
    target.flush()?;
    target.get_ref().sync_all()?;
    sync_folder(rejected);
    Ok(())
}

fn leave_out(path: &Path, offsets: &[u64]) -> io::Result<()> {
    let mut source = BufReader::new(File::open(path)?);
    let mut fresh = AtomicFile::begin(path)?;
    let mut at = 0;
    for &offset in offsets {
        io::copy(&mut source.by_ref().take(offset - at), &mut fresh)?;
        at = offset + pass_line(&mut source, &mut io::sink())?;
    }
    io::copy(&mut source, &mut fresh)?;
    fresh.put()
}

/// Passes a line on, however long, with its end; how many bytes it has.
fn pass_line(source: &mut impl BufRead, target: &mut impl Write) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let some = source.fill_buf()?;
        let end = some.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(some.len(), |end| end + 1);
        target.write_all(&some[..count])?;
        source.consume(count);
        length += count as u64;
        if end.is_some() || count == 0 {
            return Ok(length);
        }
    }
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
