//! Where a path leads, and the names of the files that a run makes beside its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Added to a file's name for the lock that a run holds.
const LOCK_SUFFIX: &str = ".lock";
/// For the new content of a file. What a killed run left there is replaced, so it is a name that
/// nobody gives to a file.
pub(crate) const NEW_SUFFIX: &str = ".tollgate-new";
/// For lines that were moved out of a file because they are no records.
pub(crate) const REJECTED_SUFFIX: &str = ".rejected";

/// The file that a run makes beside one of its own, however that is spelled.
pub(crate) fn sidecar(path: &Path, suffix: &str) -> PathBuf {
    appended(&resolved(path).unwrap_or_else(|| path.to_owned()), suffix)
}

/// The path whose name has this behind it.
pub(crate) fn appended(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The lock of a file. The records of the table `o.csv` are in `o.csv.jsonl`, and the lock of both
/// is `o.csv.lock`.
pub(crate) fn lock_of(path: &Path) -> PathBuf {
    let mut lock = resolved(path).unwrap_or_else(|| path.to_owned());
    if lock.extension().is_some_and(|ending| ending == "jsonl") {
        let table = lock.with_extension("");
        if is_table(&table) {
            lock = table;
        }
    }
    appended(&lock, LOCK_SUFFIX)
}

/// Whether a file of this name is a table.
pub(crate) fn is_table(path: &Path) -> bool {
    has_ending(path, "csv") || has_ending(path, "tsv")
}

/// Whether the name of a file ends so, in capitals or not.
pub(crate) fn has_ending(path: &Path, ending: &str) -> bool {
    let own = path.extension();
    own.is_some_and(|own| own.eq_ignore_ascii_case(ending))
}

/// Whether `path` has the name of a file that a run makes beside `owner`.
pub(crate) fn is_sidecar(owner: &Path, path: &Path) -> bool {
    let path = resolved(path);
    let beside = [NEW_SUFFIX, REJECTED_SUFFIX].map(|suffix| sidecar(owner, suffix));
    path.is_some_and(|path| path == lock_of(owner) || beside.contains(&path))
}

/// The path without links, whether or not there is a file yet. `None` if its folder is not there.
pub(crate) fn resolved(path: &Path) -> Option<PathBuf> {
    path.canonicalize().or_else(|_| resolved_new(path)).ok()
}

/// As [`resolved`], for a file that is not there yet.
pub(crate) fn resolved_new(path: &Path) -> io::Result<PathBuf> {
    // As many links as systems follow themselves.
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = folder(&path).join(target);
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    Ok(folder(&path).canonicalize()?.join(name))
}

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    #[test]
    fn the_sidecars_of_a_file_are_the_same_by_all_its_names() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("two", path("one")).unwrap();
        symlink("o.jsonl", path("two")).unwrap();
        fs::create_dir(path("d")).unwrap();
        // Of a file that is yet to be made, and of one that is there.
        for _ in 0..2 {
            let lock = lock_of(&path("o.jsonl"));
            assert!(lock.ends_with("o.jsonl.lock"), "{lock:?}");
            for name in ["one", "two", "d/../o.jsonl"] {
                assert_eq!(lock_of(&path(name)), lock, "{name}");
            }
            fs::write(path("o.jsonl"), "").unwrap();
        }
        assert_eq!(resolved(&path("none/o.jsonl")), None);
    }

    #[test]
    fn a_table_and_its_records_have_one_lock() {
        for (name, lock) in [
            ("/o.csv", "/o.csv.lock"),
            ("/o.csv.jsonl", "/o.csv.lock"),
            ("/o.csv.errors.jsonl", "/o.csv.errors.jsonl.lock"),
            ("/o.jsonl", "/o.jsonl.lock"),
        ] {
            assert_eq!(lock_of(Path::new(name)), Path::new(lock));
        }
    }

    #[test]
    fn links_in_a_circle_have_an_end() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("two", path("one")).unwrap();
        symlink("one", path("two")).unwrap();
        assert!(resolved(&path("one")).is_some_and(|path| path.parent().is_some()));
    }
}
