//! The store in a file: several processes of one machine, and no server.
//!
//! The file itself is locked for each exchange. The system unlocks it when a process ends, however
//! that happens. Times are those of the machine's monotonic clock, which all its processes share.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use same_file::Handle;
use siphasher::sip::SipHasher13;

use super::exchange::{Ask, Micros, Reply, Store};
use super::ledger::Ledger;
use super::record::Record;
use crate::clock::{Clock, Parker};
use crate::error::{Error, ErrorKind, Result, config};

/// How long an exchange waits for the lock. A process holds it for some microseconds. One that
/// holds it for so long was stopped.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// In seconds. If a process of another boot wrote within this time, and this machine was up
/// already, then that process is on another machine.
const LATELY: u64 = 60;

/// A shared limit in a file.
pub(crate) struct FileStore {
    path: PathBuf,
    /// Open between exchanges, unless the last one failed.
    file: Option<File>,
    boot: u64,
    /// The incarnation and the number of the record that was written last.
    last: (u64, u64),
}

impl FileStore {
    /// A shared limit that is kept in this file.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            boot: boot(),
            last: (0, 0),
        }
    }

    /// Makes the file if it is not there, and makes sure that it is one of ours.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the file cannot be used, or holds something else.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.lock() {
            Ok(file) => self.read(&file).map(|_| ()),
            // It is in use, so it is ours.
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The file, locked until it is closed or unlocked.
    fn lock(&mut self) -> Result<File> {
        let clock = Clock::system();
        let parker = Parker::new();
        let until = clock.now() + TIME_LIMIT;
        while clock.now() < until {
            let file = match self.file.take() {
                Some(file) => file,
                None => self.open()?,
            };
            match file.try_lock() {
                Ok(()) if is_at(&self.path, &file) => return Ok(file),
                // The file was removed. Another process may have made a new one.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    self.file = Some(file);
                    let wait = Duration::from_micros(fastrand::u64(100..1_000));
                    clock.park(&parker, Some(clock.now() + wait));
                }
                Err(TryLockError::Error(error)) => {
                    let what = "cannot be locked; name a file on a disk of this machine";
                    return Err(self.error(ErrorKind::Config, what, error));
                }
            }
        }
        let what = format!(
            "was locked for {} s; continue or end a process that is stopped and uses it, unless the \
             machine is only overloaded",
            TIME_LIMIT.as_secs()
        );
        Err(Error::new(ErrorKind::Timeout, format!("{self} {what}")))
    }

    fn open(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.path).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::NotFound => "is in a directory that does not exist; make the directory first",
                io::ErrorKind::IsADirectory => "is a directory; name a file in it",
                io::ErrorKind::PermissionDenied => {
                    "cannot be read and written by this user; change its permissions, or name another"
                }
                _ => "cannot be opened; name another file",
            };
            self.error(ErrorKind::Config, what, error)
        })?;
        if file.metadata().is_ok_and(|there| there.is_file()) {
            return Ok(file);
        }
        Err(config(format!("{self} is no regular file; name another")))
    }

    /// The record in the file, or a new one.
    fn read(&self, mut file: &File) -> Result<Record> {
        let record = Record::read(&mut file).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => config(format!(
                "{self} holds something else, and is left as it is; name a file that does not exist \
                 yet, or remove this one if another version of tollgate has made it"
            )),
            _ => self.error(ErrorKind::Io, "cannot be read; name another file", error),
        })?;
        let mut record = record.unwrap_or_default();
        if record.boot != self.boot {
            let age = time_of_day().abs_diff(record.written);
            if record.number > 0 && age < LATELY.min(now() / 1_000_000) {
                return Err(Error::new(
                    ErrorKind::Io,
                    format!(
                        "{self} is also in use on another machine, which has another clock; share the \
                         limit through a redis:// URL instead"
                    ),
                ));
            }
            // The monotonic clock has begun anew.
            record.ledger = Ledger::default();
        }
        // An older copy of the file: what was leased since would be leased again.
        let (incarnation, number) = self.last;
        let is_older = record.ledger.incarnation == incarnation && record.number < number;
        if record.file != id(file) || is_older {
            record.ledger = Ledger::default();
        }
        Ok(record)
    }

    fn write(&self, mut file: &File, record: &Record) -> Result<()> {
        let Some((at, bytes)) = record.encode() else {
            let what = "has no room for so many processes; share the limit through a redis:// URL";
            return Err(Error::new(ErrorKind::Io, format!("{self} {what}")));
        };
        let written = file
            .seek(SeekFrom::Start(at))
            .and_then(|_| file.write_all(&bytes));
        written.map_err(|error| {
            self.error(
                ErrorKind::Io,
                "cannot be written; free its disk, or name another file",
                error,
            )
        })
    }

    fn error(&self, kind: ErrorKind, what: &str, error: io::Error) -> Error {
        Error::new(kind, format!("{self} {what} ({error})")).with_source(error)
    }
}

impl Store for FileStore {
    fn exchange(&mut self, ask: &Ask) -> Result<Reply> {
        let file = self.lock()?;
        let mut record = self.read(&file)?;
        let reply = record.ledger.exchange(ask, now(), fastrand::u64(1..));
        record.number = record.number.saturating_add(1);
        (record.boot, record.written) = (self.boot, time_of_day());
        record.file = id(&file);
        self.write(&file, &record)?;
        self.last = (reply.incarnation, record.number);
        // A file that cannot be unlocked is closed, which unlocks it.
        self.file = file.unlock().is_ok().then_some(file);
        Ok(reply)
    }
}

impl std::fmt::Display for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the shared limit's file {:?}", self.path)
    }
}

fn is_at(path: &Path, file: &File) -> bool {
    let there = Handle::from_path(path).ok();
    there.is_some() && there == handle(file)
}

fn handle(file: &File) -> Option<Handle> {
    file.try_clone().and_then(Handle::from_file).ok()
}

/// A number for this file, which a copy of it does not have; 0 where the system has none.
fn id(file: &File) -> u64 {
    let mut hasher = SipHasher13::new();
    handle(file).map_or(0, |handle| {
        handle.hash(&mut hasher);
        hasher.finish()
    })
}

/// A time that all processes of this machine have in common.
#[cfg(unix)]
fn now() -> Micros {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 1_000_000 + nanos / 1_000
}

#[cfg(not(unix))]
fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

fn time_of_day() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// A number for this boot of this machine; 0 where the system has none.
fn boot() -> u64 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits = id.replace('-', "");
    u64::from_str_radix(digits.get(..16).unwrap_or_default(), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::shared::{Limit, Span, Want};

    fn ask(holder: u64) -> Ask {
        let limit = Limit {
            units: 10,
            period: 1_000_000,
            burst: 10,
        };
        Ask {
            holder,
            configured: [Some(limit), None],
            wants: [Want { least: 1, most: 1 }, Want::default()],
            lease: 1_000_000,
            ..Ask::default()
        }
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn two_stores_on_one_file_lease_from_one_account() {
        let directory = directory();
        let path = directory.path().join("limit");
        let (mut one, mut two) = (FileStore::new(&path), FileStore::new(&path));
        let first = one.exchange(&ask(1)).unwrap();
        let second = two.exchange(&ask(2)).unwrap();
        assert_eq!((first.holders, second.holders), (1, 2));
        assert_eq!(first.incarnation, second.incarnation);
        assert_eq!(first.credit[0][0].to, second.credit[0][0].from);
        let third = one.exchange(&ask(1)).unwrap();
        assert_eq!(second.credit[0][0].to, third.credit[0][0].from);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = directory();
        let path = directory.path().join("limit");
        FileStore::new(&path).check().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_a_shared_limit_is_refused_and_left_as_it_is() {
        let directory = directory();
        let foreign = directory.path().join("results.jsonl");
        fs::write(&foreign, "{\"custom_id\":\"a\"}\n").unwrap();
        let nowhere = directory.path().join("missing").join("limit");
        for (path, said) in [
            (foreign.as_path(), "holds something else"),
            (directory.path(), "is a directory"),
            (&nowhere, "directory that does not exist"),
            #[cfg(unix)]
            (Path::new("/dev/null"), "no regular file"),
        ] {
            let error = FileStore::new(path).check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains(said), "{error}");
            assert!(error.to_string().contains(&format!("{path:?}")), "{error}");
            FileStore::new(path).exchange(&ask(1)).unwrap_err();
        }
        assert_eq!(fs::read(&foreign).unwrap(), b"{\"custom_id\":\"a\"}\n");
    }

    #[test]
    fn a_holder_that_is_stopped_is_not_waited_for_without_end() {
        let directory = directory();
        let path = directory.path().join("limit");
        let stopped = FileStore::new(&path).lock().unwrap();
        let mut store = FileStore::new(&path);
        let error = store.exchange(&ask(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        store.check().unwrap();
        drop(stopped);
        store.exchange(&ask(1)).unwrap();
    }

    #[test]
    fn a_file_that_was_removed_is_made_again() {
        let directory = directory();
        let path = directory.path().join("limit");
        let (mut one, mut two) = (FileStore::new(&path), FileStore::new(&path));
        one.exchange(&ask(1)).unwrap();
        two.exchange(&ask(2)).unwrap();
        fs::remove_file(&path).unwrap();
        let first = one.exchange(&ask(1)).unwrap();
        let second = two.exchange(&ask(2)).unwrap();
        assert_eq!(first.incarnation, second.incarnation);
        assert_eq!((first.holders, second.holders), (1, 2));
    }

    /// An older copy would lease out again what the processes have had since.
    #[test]
    fn an_older_copy_of_the_file_is_not_believed() {
        let directory = directory();
        let path = directory.path().join("limit");
        let copy = directory.path().join("copy");
        let mut one = FileStore::new(&path);
        let first = one.exchange(&ask(1)).unwrap();
        fs::copy(&path, &copy).unwrap();
        one.exchange(&ask(1)).unwrap();
        // In its place, for a process that knows nothing of what was there.
        fs::rename(&copy, &path).unwrap();
        let second = FileStore::new(&path).exchange(&ask(2)).unwrap();
        assert_ne!(second.incarnation, first.incarnation);
        assert_eq!(second.holders, 1);
        // Written over it: it stays the same file.
        let bytes = fs::read(&path).unwrap();
        let third = one.exchange(&ask(1)).unwrap();
        assert_eq!(third.incarnation, second.incarnation);
        fs::write(&path, bytes).unwrap();
        let fourth = one.exchange(&ask(1)).unwrap();
        assert_ne!(fourth.incarnation, third.incarnation);
        let fifth = one.exchange(&ask(1)).unwrap();
        assert_eq!(fifth.incarnation, fourth.incarnation);
    }

    #[test]
    fn another_boot_begins_anew_and_another_machine_is_refused() {
        let directory = directory();
        let path = directory.path().join("limit");
        let mut before = FileStore::new(&path);
        before.boot = 7;
        let first = before.exchange(&ask(1)).unwrap();
        let error = FileStore::new(&path).exchange(&ask(2)).unwrap_err();
        assert!(error.to_string().contains("another machine"), "{error}");

        let file = before.lock().unwrap();
        let mut record = before.read(&file).unwrap();
        record.number += 1;
        record.written -= 2 * LATELY;
        before.write(&file, &record).unwrap();
        drop(file);
        let second = FileStore::new(&path).exchange(&ask(2)).unwrap();
        assert_eq!(second.holders, 1);
        assert_ne!(second.incarnation, first.incarnation);
    }

    const CHILD: &str = "TOLLGATE_TEST_ALLOWANCE";
    const ENDS: &str = "TOLLGATE_TEST_ALLOWANCE_ENDS";

    /// A process of the next test: it leases and says what it has.
    #[test]
    #[ignore = "the next test starts it"]
    fn child() {
        let Some(path) = std::env::var_os(CHILD) else {
            return;
        };
        let mut store = FileStore::new(path.as_ref());
        let ask = ask(u64::from(std::process::id()));
        // Where the machine is overloaded, a turn may be long in coming.
        let replies = std::iter::repeat_with(|| store.exchange(&ask)).flatten();
        // One that is to be killed must not end before: its reader may be slow.
        let count = std::env::var_os(ENDS).map_or(usize::MAX, |_| 300);
        for reply in replies.take(count) {
            let Span { from, to } = reply.credit[0][0];
            println!("lease {from} {to} of {}", reply.incarnation);
        }
    }

    #[test]
    fn processes_that_are_killed_take_their_leases_with_them() {
        let directory = directory();
        let path = directory.path().join("limit");
        let children = [50, usize::MAX, 100, usize::MAX, 150].map(|leases| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args([
                "--exact",
                "shared::file::tests::child",
                "--ignored",
                "--nocapture",
            ]);
            command.env(CHILD, &path).stdout(Stdio::piped());
            if leases == usize::MAX {
                command.env(ENDS, "");
            }
            (leases, command.spawn().unwrap())
        });
        // Each is killed when it has said so many.
        let readers = children.map(|(leases, mut child)| {
            std::thread::spawn(move || {
                let mut had = Vec::new();
                for line in BufReader::new(child.stdout.take().unwrap()).lines() {
                    let line = line.unwrap();
                    let Some(("lease", words)) = line.split_once(' ') else {
                        continue;
                    };
                    let words: Vec<_> = words.split(' ').collect();
                    // The last line of a process that is killed may be cut.
                    let [from, to, "of", incarnation] = words[..] else {
                        continue;
                    };
                    let number = |word: &str| word.parse::<u64>().unwrap();
                    had.push((number(from), number(to), incarnation.to_owned()));
                    if had.len() == leases {
                        child.kill().unwrap();
                    }
                }
                (leases, child.wait().unwrap().success(), had)
            })
        });
        let mut all = Vec::new();
        for reader in readers {
            let (leases, ended, had) = reader.join().unwrap();
            assert_eq!(ended, leases == usize::MAX);
            assert!(had.len() >= leases.min(300), "{}", had.len());
            all.extend(had);
        }
        all.sort_unstable();
        for pair in all.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{pair:?}");
            assert_eq!(pair[0].2, pair[1].2, "the account was lost");
        }
    }
}
