//! `OUT.lock`: one run at a time writes to a file, and a killed run is known by the lock it left.
//!
//! The lock is the system's own (`flock`, `LockFileEx`) on a small file beside the output, never on
//! the output itself, which other programs may want to read. The system releases it when its holder
//! ends, however that happens, so the file alone says nothing of who writes now. Its text is for
//! people, and for the next run: the process, and how many rows it may have had in flight.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

use super::super::files::{Location, RunFiles};
use super::super::io::is_same_file;
use super::super::sidecars::lock_of;
use crate::error::{Error, ErrorKind, Result, config};

/// How often a lock is tried, each time because its last holder has just removed its file.
const TRIES: u32 = 100;
/// Longer than any text of ours.
const LONGEST: u64 = 128;

/// The locks of a run, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Locks {
    output: Option<Lock>,
    errors: Option<Lock>,
    in_flight: u64,
    /// So many rows more may be answered and wait for those before them.
    held: u64,
}

impl Locks {
    /// Takes the lock of each regular file that a run with so many rows in flight writes to.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if another run holds one, or the lock's file
    /// is something else, naming both files.
    pub(crate) fn take(files: &RunFiles, in_flight: usize) -> Result<Self> {
        let take = |location: &Location, role, setting| match location {
            // Devices and pipes are not locked: sharing them overwrites nothing.
            Location::File(path) if fs::metadata(path).map_or(true, |there| there.is_file()) => {
                let taken = Lock::take(path, role, in_flight as u64);
                taken.map_err(|error| error.with_settings(setting))
            }
            Location::File(_) | Location::Stream => Ok(None),
        };
        Ok(Self {
            output: take(&files.output, "output", &["output"])?,
            errors: take(&files.errors, "errors file", &["errors"])?,
            in_flight: in_flight as u64,
            held: 0,
        })
    }

    /// How many rows a killed run over this output had in flight at most, if there was one.
    pub(crate) fn left_in_flight(&self) -> Option<u64> {
        self.output.as_ref()?.left
    }

    /// Says that so many answered rows wait for those before them: a kill loses them, too. The
    /// number is rounded up, and written only if it is too small or far too large.
    pub(crate) fn hold(&mut self, rows: usize) {
        let rows = rows as u64;
        if (self.held / 4..=self.held).contains(&rows) {
            return;
        }
        self.held = rows.next_power_of_two();
        if let Some(lock) = &mut self.output {
            let _says_what_it_said = lock.write(self.in_flight + self.held);
        }
    }

    /// Says that rows are sent from here on: what a killed run left has been accounted for.
    pub(crate) fn begin(&mut self) {
        for lock in [&mut self.output, &mut self.errors].into_iter().flatten() {
            if lock.left.take().is_some() {
                let _says_what_was_left = lock.write(self.in_flight);
            }
        }
    }
}

#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
    /// How many rows a killed run had in flight, until rows are sent.
    left: Option<u64>,
}

impl Lock {
    /// `None` where the system cannot lock.
    fn take(path: &Path, role: &str, in_flight: u64) -> Result<Option<Self>> {
        let lock = lock_of(path);
        let unusable = |error: io::Error| {
            // What is there and no lock is a wrong name; the file system has refused the rest.
            let kind = match error.kind() {
                io::ErrorKind::Other => ErrorKind::Config,
                _ => ErrorKind::Io,
            };
            let message = format!(
                "{role} {path:?} cannot be locked with {lock:?}: {error}; correct that, or name another"
            );
            Error::new(kind, message).with_source(error)
        };
        for _ in 0..TRIES {
            let (file, is_new) = open(&lock).map_err(unusable)?;
            match file.try_lock() {
                Ok(()) if is_at(&lock, &file) => {
                    let mut held = Self {
                        left: read_left(&file).map_err(unusable)?,
                        path: lock.clone(),
                        file,
                    };
                    held.write(held.left.unwrap_or(in_flight))
                        .map_err(unusable)?;
                    return Ok(Some(held));
                }
                // Its last holder has removed it, and a third may hold another of its name.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let by = holder(&file);
                    return Err(config(format!(
                        "{role} {path:?} is being written by {by} (lock {lock:?}): wait for it, \
                         or name another"
                    )));
                }
                Err(TryLockError::Error(error)) => {
                    if is_new {
                        fs::remove_file(&lock).map_err(unusable)?;
                    }
                    log::warn!(
                        "{role} {path:?} cannot be locked here ({error}): make sure that no second \
                         run writes to it"
                    );
                    return Ok(None);
                }
            }
        }
        Err(config(format!(
            "the lock {lock:?} keeps changing hands: run again, or name another {role}"
        )))
    }

    /// In one write and without emptying the file first: a kill in between leaves the old text or
    /// the new.
    fn write(&mut self, in_flight: u64) -> io::Result<()> {
        let text = text(process::id(), in_flight);
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)
    }
}

/// Where nothing was sent, what a killed run left stays for the next one.
impl Drop for Lock {
    fn drop(&mut self) {
        if self.left.is_none() && is_at(&self.path, &self.file) {
            let _nothing_more_to_do = fs::remove_file(&self.path);
        }
    }
}

/// Opens a lock's file, and says whether it is new.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let there = fs::symlink_metadata(path).ok();
    // The lock's text would be written to wherever a link leads.
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        return Err(io::Error::other("that is no regular file"));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    Ok((options.open(path)?, there.is_none()))
}

/// Whether `path` itself, and no link, is this open file.
fn is_at(path: &Path, file: &File) -> bool {
    let is_file = fs::symlink_metadata(path).is_ok_and(|there| there.is_file());
    is_file && is_same_file(path, file).unwrap_or(false)
}

fn text(process: u32, in_flight: u64) -> String {
    format!("{process}\n{in_flight} in flight at most\n")
}

/// What a lock says: the process, and the rows it may have had in flight.
fn parse(text: &str) -> Option<(u32, u64)> {
    let (process, rest) = text.split_once('\n')?;
    let in_flight = rest.strip_suffix(" in flight at most\n")?;
    Some((process.parse().ok()?, in_flight.parse().ok()?))
}

fn read(mut file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Who holds a lock. The text cannot be read while it is being written, nor on Windows.
fn holder(file: &File) -> String {
    let holder = read(file).ok().and_then(|text| parse(&text));
    holder.map_or("another process".to_owned(), |(id, _)| {
        format!("process {id}")
    })
}

/// Who writes to a file now, if somebody does.
pub(crate) fn writer_of(path: &Path) -> Option<String> {
    let file = File::open(lock_of(path)).ok()?;
    let is_held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    is_held.then(|| holder(&file))
}

/// How many rows a killed run had in flight, by the lock that is held now.
fn read_left(file: &File) -> io::Result<Option<u64>> {
    let text = read(file)?;
    // Made and not yet written, or lost in a power cut.
    if text.bytes().all(|byte| byte == 0) {
        return Ok(None);
    }
    match parse(&text) {
        Some((_, in_flight)) => Ok(Some(in_flight)),
        None => Err(io::Error::other("that holds something else: move it away")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use tempfile::TempDir;

    fn files(folder: &TempDir) -> RunFiles {
        let file = |name| Location::File(folder.path().join(name));
        RunFiles {
            input: Location::Stream,
            output: file("o.jsonl"),
            errors: file("e.jsonl"),
            table: None,
        }
    }

    fn lock(folder: &TempDir) -> PathBuf {
        folder.path().join("o.jsonl.lock")
    }

    fn names(folder: &TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    fn refused(folder: &TempDir, words: &[&str]) {
        let error = Locks::take(&files(folder), 9).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_second_run_is_refused_by_name_and_the_first_leaves_nothing() {
        let folder = TempDir::new().unwrap();
        let first = Locks::take(&files(&folder), 20).unwrap();
        assert_eq!(first.left_in_flight(), None);
        let id = process::id();
        let told = fs::read_to_string(lock(&folder)).unwrap();
        assert_eq!(told, format!("{id}\n20 in flight at most\n"));
        let by = format!("by process {id} ");
        refused(&folder, &["output", &by, "o.jsonl.lock", "`output`"]);
        let errors_only = RunFiles {
            output: Location::Stream,
            ..files(&folder)
        };
        let error = Locks::take(&errors_only, 1).unwrap_err().to_string();
        assert!(error.contains("`errors`"), "{error}");
        assert_eq!(fs::read_to_string(lock(&folder)).unwrap(), told);
        drop(first);
        assert_eq!(names(&folder), 0);
        drop(Locks::take(&files(&folder), 20).unwrap());
        assert_eq!(names(&folder), 0);
    }

    #[test]
    fn a_dead_runs_lock_is_taken_over_and_its_account_with_it() {
        let folder = TempDir::new().unwrap();
        fs::write(lock(&folder), text(u32::MAX, 64)).unwrap();
        let looked = Locks::take(&files(&folder), 5).unwrap();
        assert_eq!(looked.left_in_flight(), Some(64));
        // It ended before anything was sent: the account is still open.
        drop(looked);
        let left = fs::read_to_string(lock(&folder)).unwrap();
        assert_eq!(left, text(process::id(), 64));
        let mut sent = Locks::take(&files(&folder), 5).unwrap();
        assert_eq!(sent.left_in_flight(), Some(64));
        sent.begin();
        let now = fs::read_to_string(lock(&folder)).unwrap();
        assert_eq!(now, text(process::id(), 5));
        drop(sent);
        assert_eq!(names(&folder), 0);
    }

    #[test]
    fn a_lock_that_came_to_nothing_says_nothing() {
        for text in ["", "\0\0\0\0"] {
            let folder = TempDir::new().unwrap();
            fs::write(lock(&folder), text).unwrap();
            let locks = Locks::take(&files(&folder), 5).unwrap();
            assert_eq!(locks.left_in_flight(), None);
            drop(locks);
            assert_eq!(names(&folder), 0);
        }
    }

    #[test]
    fn what_is_no_lock_is_left_alone_and_named() {
        for text in [
            "my notes\n",
            "12\n",
            "12\n3 in flight",
            "-1\n3 in flight at most\n",
        ] {
            let folder = TempDir::new().unwrap();
            fs::write(lock(&folder), text).unwrap();
            refused(&folder, &["o.jsonl.lock", "something else", "`output`"]);
            assert_eq!(fs::read_to_string(lock(&folder)).unwrap(), text);
        }
        let folder = TempDir::new().unwrap();
        fs::create_dir(lock(&folder)).unwrap();
        refused(&folder, &["o.jsonl.lock", "no regular file"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed_into_a_lock_and_two_names_of_an_output_share_one() {
        use std::os::unix::fs::symlink;
        for target in ["precious", "nowhere"] {
            let folder = TempDir::new().unwrap();
            fs::write(folder.path().join("precious"), "").unwrap();
            symlink(target, lock(&folder)).unwrap();
            refused(&folder, &["o.jsonl.lock", "no regular file"]);
            assert_eq!(names(&folder), 2, "{target}");
        }
        let folder = TempDir::new().unwrap();
        let by_link = RunFiles {
            output: Location::File(folder.path().join("link")),
            errors: Location::Stream,
            ..files(&folder)
        };
        // To a file that is yet to be made, and to one that is there.
        symlink("o.jsonl", folder.path().join("link")).unwrap();
        for _ in 0..2 {
            let first = Locks::take(&by_link, 1).unwrap();
            refused(&folder, &["o.jsonl.lock"]);
            drop(first);
            fs::write(folder.path().join("o.jsonl"), "").unwrap();
        }
    }

    #[test]
    fn a_lock_removed_under_its_holder_is_the_next_ones_to_remove() {
        let folder = TempDir::new().unwrap();
        let first = Locks::take(&files(&folder), 1).unwrap();
        fs::remove_file(lock(&folder)).unwrap();
        fs::remove_file(folder.path().join("e.jsonl.lock")).unwrap();
        let second = Locks::take(&files(&folder), 2).unwrap();
        drop(first);
        assert_eq!(names(&folder), 2);
        drop(second);
        assert_eq!(names(&folder), 0);
    }

    #[cfg(unix)]
    #[test]
    fn streams_and_devices_are_not_locked() {
        let folder = TempDir::new().unwrap();
        let devices = RunFiles {
            output: Location::File("/dev/null".into()),
            errors: Location::Stream,
            ..files(&folder)
        };
        let locks = Locks::take(&devices, 1).unwrap();
        assert!(locks.output.is_none() && locks.errors.is_none());
    }
}
