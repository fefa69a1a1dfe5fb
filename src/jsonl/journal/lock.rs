//! `OUT.lock`: one run at a time writes to a file, and a run that was killed is known by the lock
//! that it left.
//!
//! The lock is the system's own (`flock`, `LockFileEx`) on a small file beside the output, never on
//! the output itself, which other programs may want to read. It ends with whoever held it, however
//! that ended, so a file that was left says nothing of who writes now. What stands in it is for
//! people, and for the next run: the process, and how many rows it may have had in flight.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

use super::super::files::{Location, RunFiles};
use super::super::sidecars::{LOCK_SUFFIX, companion};
use super::identity::{is_still, same_file};
use crate::error::{Result, config};

/// How often a lock is tried that is gone by the time it is held.
const TRIES: u32 = 100;
/// Longer than any lock of ours.
const LONGEST: u64 = 128;

/// The locks of a run, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Locks {
    output: Option<Lock>,
    errors: Option<Lock>,
}

impl Locks {
    /// Takes the lock of each regular file that a run with so many rows in flight writes to.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if another run holds one, or what is there is no lock, naming both.
    pub(crate) fn take(places: &RunFiles, in_flight: usize) -> Result<Self> {
        let take = |place: &Location, role, setting| match place {
            Location::File(path) if may_be_locked(path) => {
                Lock::take(path, role, setting, in_flight)
            }
            Location::File(_) | Location::Stream => Ok(None),
        };
        Ok(Self {
            output: take(&places.output, "output", &["output"])?,
            errors: take(&places.errors, "errors file", &["errors"])?,
        })
    }

    /// Rows that a run over this output had in flight at most when it was killed, if one was.
    pub(crate) fn left_in_flight(&self) -> Option<u64> {
        self.output
            .as_ref()?
            .left
            .as_ref()
            .map(|left| left.in_flight)
    }

    /// Says that rows are sent from here on: what an earlier run has left is dealt with.
    pub(crate) fn begin(&mut self) {
        for lock in [&mut self.output, &mut self.errors].into_iter().flatten() {
            lock.begun = true;
        }
    }
}

/// Devices and pipes are not locked: sharing them overwrites nothing.
fn may_be_locked(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |metadata| metadata.is_file())
}

#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
    /// What a run that was killed left in it.
    left: Option<DeadRun>,
    begun: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct DeadRun {
    text: String,
    in_flight: u64,
}

enum LockAttempt {
    Held(File),
    /// Another run has taken it away in between.
    Gone,
    HeldBy(Option<u32>),
    Unsupported(io::Error),
}

impl Lock {
    /// `None` where the system cannot lock.
    fn take(
        path: &Path,
        role: &str,
        setting: &'static [&'static str],
        in_flight: usize,
    ) -> Result<Option<Self>> {
        let shown = Location::File(path.to_owned());
        let lock = companion(path, LOCK_SUFFIX);
        let lock_shown = Location::File(lock.clone());
        let unusable = |error: io::Error| {
            config(format!(
                "{role} {shown} cannot be locked with {lock_shown}: {error}, or name another"
            ))
            .with_settings(setting)
            .with_source(error)
        };
        for _ in 0..TRIES {
            match try_lock(&lock).map_err(unusable)? {
                LockAttempt::Gone => {}
                LockAttempt::HeldBy(holder) => {
                    let mut by = "another process".to_owned();
                    if let Some(id) = holder {
                        by.clear();
                        let _infallible = write!(by, "process {id}");
                    }
                    return Err(config(format!(
                        "{role} {shown} is being written by {by} (lock {lock_shown}): wait for it, \
                         or name another"
                    ))
                    .with_settings(setting));
                }
                LockAttempt::Unsupported(error) => {
                    log::warn!(
                        "{role} {shown} cannot be locked here ({error}): see to it that no second \
                         run writes to it"
                    );
                    return Ok(None);
                }
                LockAttempt::Held(mut file) => {
                    let left = read_left(&mut file).map_err(unusable)?;
                    let mut lock = Self {
                        path: lock,
                        file,
                        left,
                        begun: false,
                    };
                    lock.write(&text(process::id(), in_flight as u64))
                        .map_err(unusable)?;
                    return Ok(Some(lock));
                }
            }
        }
        Err(config(format!(
            "the lock {lock_shown} keeps changing hands: run again, or name another {role}"
        ))
        .with_settings(setting))
    }

    /// In one write and without emptying it first: a kill in between leaves the one or the other.
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)
    }
}

/// Where nothing was sent, what an earlier run has left still holds.
impl Drop for Lock {
    fn drop(&mut self) {
        match self.left.take() {
            Some(left) if !self.begun => {
                let _nothing_more_to_do = self.write(&left.text);
            }
            _ => {
                if is_still(&self.path, &self.file).unwrap_or(false) {
                    let _nothing_more_to_do = fs::remove_file(&self.path);
                }
            }
        }
    }
}

fn try_lock(path: &Path) -> io::Result<LockAttempt> {
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path);
    let (file, is_new) = match made {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match open(path)? {
            Some(file) => (file, false),
            None => return Ok(LockAttempt::Gone),
        },
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        // Whoever held it before has removed it on leaving, and a third may hold another of its name.
        Ok(()) if !is_still(path, &file)? => Ok(LockAttempt::Gone),
        Ok(()) => Ok(LockAttempt::Held(file)),
        Err(TryLockError::WouldBlock) => Ok(LockAttempt::HeldBy(holder(file))),
        Err(TryLockError::Error(error)) => {
            if is_new {
                fs::remove_file(path)?;
            }
            Ok(LockAttempt::Unsupported(error))
        }
    }
}

/// Opens a lock that is there; `None` if it is not any more.
fn open(path: &Path) -> io::Result<Option<File>> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(None),
        _ => Err(error),
    };
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) => return gone(error),
    };
    // A link would have the lock's text written to wherever it leads.
    if !there.is_file() {
        return Err(io::Error::other("that is no regular file"));
    }
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) => return gone(error),
    };
    let opened = file.metadata()?;
    Ok(same_file(&there, &opened).then_some(file))
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

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Who holds the lock, if that can be read: not while it is being written, nor on Windows.
fn holder(mut file: File) -> Option<u32> {
    parse(&read(&mut file).ok()?).map(|(process, _)| process)
}

/// What an earlier run has left in a lock that is held now.
fn read_left(file: &mut File) -> io::Result<Option<DeadRun>> {
    let text = read(file)?;
    // Of a lock that was made and not yet written, or came to nothing with the power.
    if text.bytes().all(|byte| byte == 0) {
        return Ok(None);
    }
    let (_, in_flight) =
        parse(&text).ok_or_else(|| io::Error::other("that holds something else: move it away"))?;
    Ok(Some(DeadRun { text, in_flight }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use tempfile::TempDir;

    fn places(folder: &TempDir) -> RunFiles {
        let file = |name| Location::File(folder.path().join(name));
        RunFiles {
            input: Location::Stream,
            output: file("o.jsonl"),
            errors: file("e.jsonl"),
        }
    }

    fn lock(folder: &TempDir) -> PathBuf {
        folder.path().join("o.jsonl.lock")
    }

    fn names(folder: &TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    fn refused(folder: &TempDir, words: &[&str]) {
        let error = Locks::take(&places(folder), 9).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_second_run_is_refused_by_name_and_the_first_leaves_nothing() {
        let folder = TempDir::new().unwrap();
        let first = Locks::take(&places(&folder), 20).unwrap();
        assert_eq!(first.left_in_flight(), None);
        let id = process::id();
        let told = fs::read_to_string(lock(&folder)).unwrap();
        assert_eq!(told, format!("{id}\n20 in flight at most\n"));
        let by = format!("by process {id} ");
        refused(&folder, &["output", &by, "o.jsonl.lock", "`output`"]);
        let errors_only = RunFiles {
            output: Location::Stream,
            ..places(&folder)
        };
        let error = Locks::take(&errors_only, 1).unwrap_err().to_string();
        assert!(error.contains("`errors`"), "{error}");
        assert_eq!(fs::read_to_string(lock(&folder)).unwrap(), told);
        drop(first);
        assert_eq!(names(&folder), 0);
        drop(Locks::take(&places(&folder), 20).unwrap());
        assert_eq!(names(&folder), 0);
    }

    #[test]
    fn a_dead_runs_lock_is_taken_over_and_its_account_with_it() {
        let folder = TempDir::new().unwrap();
        fs::write(lock(&folder), text(u32::MAX, 64)).unwrap();
        let looked = Locks::take(&places(&folder), 5).unwrap();
        assert_eq!(looked.left_in_flight(), Some(64));
        // It ended before anything was sent: the account is still open.
        drop(looked);
        let left = fs::read_to_string(lock(&folder)).unwrap();
        assert_eq!(left, text(u32::MAX, 64));
        let mut sent = Locks::take(&places(&folder), 5).unwrap();
        sent.begin();
        assert_eq!(sent.left_in_flight(), Some(64));
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
            let locks = Locks::take(&places(&folder), 5).unwrap();
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
            ..places(&folder)
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
        let first = Locks::take(&places(&folder), 1).unwrap();
        fs::remove_file(lock(&folder)).unwrap();
        fs::remove_file(folder.path().join("e.jsonl.lock")).unwrap();
        let second = Locks::take(&places(&folder), 2).unwrap();
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
            ..places(&folder)
        };
        let locks = Locks::take(&devices, 1).unwrap();
        assert!(locks.output.is_none() && locks.errors.is_none());
    }
}
