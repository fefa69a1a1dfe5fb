//! Files written anew: beside themselves, brought to the disk, and put in their own place, so that
//! at every moment there is a whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::super::hash::LineHash;
use super::super::readback::ReadRecord;
use super::target::sync_folder;

/// Leaves in the errors file what this run has written behind its first `old_errors` bytes, and of
/// the rest the records that still stand, by their id and their offset.
pub(super) fn clean_errors(
    path: &Path,
    old_errors: u64,
    stands: impl Fn(LineHash, u64) -> bool,
) -> io::Result<()> {
    let mut source = BufReader::new(File::open(path)?);
    let fresh = beside(path);
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&fresh)
        .or_else(|error| match error.kind() {
            // Of a run that was killed here.
            io::ErrorKind::AlreadyExists => {
                fs::remove_file(&fresh)?;
                File::create_new(&fresh)
            }
            _ => Err(error),
        })?;
    let mut line = Vec::new();
    let mut at = 0;
    let mut kept = false;
    while source.read_until(b'\n', &mut line)? > 0 {
        let offset = at;
        let old = offset < old_errors;
        at += line.len() as u64;
        // A torn line, or one without an id, was read again by this run if it read so far.
        let id = ReadRecord::parse(line.trim_ascii_end())
            .ok()
            .and_then(|record| record.custom_id)
            .map(|id| LineHash::of(id.as_bytes()));
        if line.ends_with(b"\n") && (!old || id.is_some_and(|id| stands(id, offset))) {
            target.write_all(&line)?;
            kept = true;
        }
        line.clear();
    }
    target.sync_all()?;
    if kept {
        fs::rename(&fresh, path)?;
    } else {
        fs::remove_file(&fresh)?;
        fs::remove_file(path)?;
    }
    sync_folder(path);
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}
