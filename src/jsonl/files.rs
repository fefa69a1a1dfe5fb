//! Which files a run reads and writes, settled and checked before anything is sent.
//!
//! Names come from a stem, never from what a file holds. The one accident that cannot be mended is
//! writing over the input, so files are compared by what they are (device and inode) and not by how
//! they are spelled: a hard link, a symlink or a redirected stream is found, too.

#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "a name may hold what a terminal obeys: messages quote and escape it"
)]

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::sidecars::{
    LOCK_SUFFIX, NEW_SUFFIX, REJECTED_SUFFIX, companion, folder, settled, settled_new,
};
use crate::error::{Error, ErrorKind, Result, config};

/// A file, or the standard stream that `-` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Stream,
    File(PathBuf),
}

impl Location {
    pub(crate) fn new(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Stream
        } else {
            Self::File(path.to_owned())
        }
    }
}

/// As a message shows it: quoted, with control characters escaped.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream => f.write_str("-"),
            Self::File(path) => write!(f, "{path:?}"),
        }
    }
}

/// An input, opened.
pub(crate) enum OpenInput {
    /// Can be looked through before the run.
    Regular(File),
    /// Can be read once: standard input, a pipe, a device.
    Stream(Box<dyn Read + Send>),
}

impl fmt::Debug for OpenInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular(_) => "OpenInput::Regular",
            Self::Stream(_) => "OpenInput::Stream",
        })
    }
}

/// What the user named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenFiles<'a> {
    pub(crate) input: &'a Path,
    pub(crate) output: Option<&'a Path>,
    pub(crate) errors: Option<&'a Path>,
    /// Answers come from the simulated provider, and must not look like paid ones.
    pub(crate) simulate: bool,
}

/// The files of a run: none of them is another, but for a stream that takes results and errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunFiles {
    pub(crate) input: Location,
    pub(crate) output: Location,
    pub(crate) errors: Location,
}

impl RunFiles {
    /// Completes the names and refuses what cannot be meant. Opens and creates nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the file: the input does not exist, one is a directory, a
    /// symlink leads nowhere but to itself, a folder is missing, two are the same file.
    pub(crate) fn resolve(named: &GivenFiles<'_>) -> Result<Self> {
        let places = Self::complete(named);
        places.check()?;
        Ok(places)
    }

    /// Completes the names, and refuses none.
    pub(crate) fn complete(named: &GivenFiles<'_>) -> Self {
        let input = Location::new(named.input);
        let output = match (named.output, &input) {
            (Some(output), _) => Location::new(output),
            (None, Location::Stream) => Location::Stream,
            (None, Location::File(input)) => {
                let kind = if named.simulate {
                    "simulated"
                } else {
                    "results"
                };
                Location::File(beside(input, input.file_stem(), kind))
            }
        };
        let errors = match (named.errors, &output) {
            (Some(errors), _) => Location::new(errors),
            (None, Location::Stream) => Location::Stream,
            // Beside a device is no place for files.
            (None, Location::File(output)) if is_device(output) => match &input {
                Location::Stream => Location::Stream,
                Location::File(input) => Location::File(beside(input, input.file_stem(), "errors")),
            },
            (None, Location::File(output)) => Location::File(errors_beside(output)),
        };
        Self {
            input,
            output,
            errors,
        }
    }

    fn check(&self) -> Result<()> {
        let input = identity("input", &self.input, Stream::In)?;
        let output = identity("output", &self.output, Stream::Out)?;
        let errors = identity("errors file", &self.errors, Stream::Out)?;
        if let (Location::File(path), Identity::Missing(_)) = (&self.input, &input) {
            return Err(config(format!("input {path:?} does not exist")));
        }
        if output.is(&input) {
            return Err(config(format!(
                "output {} is the input: it would be written over; name another",
                self.output
            ))
            .with_settings(&["output"]));
        }
        if errors.is(&input) {
            return Err(config(format!(
                "errors file {} is the input: it would be written over; name another",
                self.errors
            ))
            .with_settings(&["errors"]));
        }
        let one_stream = self.output == Location::Stream && self.errors == Location::Stream;
        if errors.is(&output) && !one_stream {
            return Err(config(format!(
                "errors file {} is the output, which takes successes only; name another",
                self.errors
            ))
            .with_settings(&["errors"]));
        }
        self.check_companions()
    }

    /// What a run makes beside its files it also takes away, or writes over.
    fn check_companions(&self) -> Result<()> {
        let all = [
            ("input", &self.input),
            ("output", &self.output),
            ("errors file", &self.errors),
        ];
        for ((role, owner), setting) in all[1..].iter().zip([&["output"], &["errors"]]) {
            let Location::File(owner_path) = owner else {
                continue;
            };
            for suffix in [LOCK_SUFFIX, NEW_SUFFIX, REJECTED_SUFFIX] {
                let taken = companion(owner_path, suffix);
                for (other_role, other) in all {
                    if let Location::File(path) = other
                        && settled(path).is_some_and(|path| path == taken)
                    {
                        return Err(config(format!(
                            "{other_role} {other} has the name of a file that a run makes beside \
                             {role} {owner}: name another {role}"
                        ))
                        .with_settings(setting));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Location {
    /// Opens an input.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the file.
    pub(crate) fn open_input(&self) -> Result<OpenInput> {
        let Self::File(path) = self else {
            return Ok(OpenInput::Stream(Box::new(io::stdin())));
        };
        let opened = File::open(path).and_then(|file| {
            let regular = file.metadata()?.is_file();
            Ok((file, regular))
        });
        match opened {
            Ok((file, true)) => Ok(OpenInput::Regular(file)),
            Ok((file, false)) => Ok(OpenInput::Stream(Box::new(file))),
            Err(error) => Err(unusable("input", path, error)),
        }
    }

    /// The error for an input that failed while it was read.
    ///
    /// [`ErrorKind::Config`] if it is no text as a whole, [`ErrorKind::Io`] otherwise.
    pub(crate) fn unreadable(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::InvalidData {
            return config(format!("input {self} {error}"));
        }
        Error::new(ErrorKind::Io, format!("cannot read input {self}: {error}")).with_source(error)
    }
}

/// A device, a pipe or a terminal.
fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// `p.jsonl` → `p.KIND.jsonl` in the same folder.
fn beside(path: &Path, stem: Option<&OsStr>, kind: &str) -> PathBuf {
    let mut name = stem.unwrap_or_default().to_owned();
    name.push(format!(".{kind}.jsonl"));
    path.with_file_name(name)
}

/// `p.results.jsonl` → `p.errors.jsonl`, and of any other name `x.jsonl` → `x.errors.jsonl`. Another
/// ending stays: `x.v1` and `x.v2` have failures of their own.
///
/// `p.simulated.jsonl` keeps its mark: a trial run does not replace the errors of a paid one.
fn errors_beside(output: &Path) -> PathBuf {
    let ends_in = |name: &Path, ending: &str| name.extension().is_some_and(|own| own == ending);
    let mut stem = Path::new(output.file_name().unwrap_or_default());
    for ending in ["jsonl", "results"] {
        if ends_in(stem, ending) {
            stem = Path::new(stem.file_stem().unwrap_or_default());
        }
    }
    beside(output, Some(stem.as_os_str()), "errors")
}

#[derive(Clone, Copy)]
enum Stream {
    In,
    Out,
}

/// Which file a place is, whatever it is called.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// A regular file that exists.
    File(FileId),
    /// A file that does not exist yet: its folder, resolved, and its name.
    Missing(PathBuf),
    /// A terminal, a pipe or a device: sharing it overwrites nothing.
    Other,
}

impl Identity {
    fn is(&self, other: &Self) -> bool {
        self != &Self::Other && self == other
    }
}

fn identity(role: &str, place: &Location, stream: Stream) -> Result<Identity> {
    let Location::File(path) = place else {
        return Ok(redirected(stream).map_or(Identity::Other, Identity::File));
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(config(format!("{role} {path:?} is a directory"))),
        Ok(metadata) if metadata.is_file() => {
            let id = file_id(path, &metadata).map_err(|error| unusable(role, path, error))?;
            Ok(Identity::File(id))
        }
        Ok(_) => Ok(Identity::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if path.file_name().is_none() {
                return Err(config(format!("{role} {path:?} is not the name of a file")));
            }
            let settled = settled_new(path).map_err(|error| {
                let message = format!("{role} {path:?}: no folder {:?}: {error}", folder(path));
                config(message).with_source(error)
            })?;
            Ok(Identity::Missing(settled))
        }
        Err(error) => Err(unusable(role, path, error)),
    }
}

#[cfg(unix)]
type FileId = (u64, u64);

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
fn file_id(_path: &Path, metadata: &Metadata) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    Ok((metadata.dev(), metadata.ino()))
}

/// The regular file a standard stream has been redirected to, if any.
#[cfg(unix)]
fn redirected(stream: Stream) -> Option<FileId> {
    use std::os::fd::AsFd;
    let copy = match stream {
        Stream::In => io::stdin().as_fd().try_clone_to_owned(),
        Stream::Out => io::stdout().as_fd().try_clone_to_owned(),
    };
    // A closed stream is nobody's file.
    let metadata = File::from(copy.ok()?).metadata().ok()?;
    let id = file_id(Path::new("-"), &metadata).ok()?;
    metadata.is_file().then_some(id)
}

#[cfg(not(unix))]
type FileId = PathBuf;

#[cfg(not(unix))]
fn file_id(path: &Path, _metadata: &Metadata) -> io::Result<FileId> {
    path.canonicalize()
}

#[cfg(not(unix))]
fn redirected(_stream: Stream) -> Option<FileId> {
    None
}

fn unusable(role: &str, path: &Path, error: io::Error) -> Error {
    config(format!("cannot use {role} {path:?}: {error}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    struct Folder(TempDir);

    impl Folder {
        /// A folder with an input `p.jsonl`.
        fn new() -> Self {
            let folder = Self(TempDir::new().unwrap());
            fs::write(folder.path("p.jsonl"), "{}\n").unwrap();
            folder
        }

        fn path(&self, name: &str) -> PathBuf {
            match name {
                "-" => PathBuf::from(name),
                _ => self.0.path().join(name),
            }
        }

        fn resolve(&self, input: &str, output: &str, errors: &str) -> Result<RunFiles> {
            let given = |name: &str| (!name.is_empty()).then(|| self.path(name));
            RunFiles::resolve(&GivenFiles {
                input: &self.path(input),
                output: given(output).as_deref(),
                errors: given(errors).as_deref(),
                simulate: false,
            })
        }

        fn refused(&self, input: &str, output: &str, errors: &str, word: &str) {
            let error = self.resolve(input, output, errors).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(word), "{error}");
        }

        fn file(&self, name: &str) -> Location {
            Location::File(self.path(name))
        }
    }

    #[test]
    fn names_come_from_the_stem() {
        let folder = Folder::new();
        for (output, expected_output, expected_errors) in [
            ("", "p.results.jsonl", "p.errors.jsonl"),
            ("x.jsonl", "x.jsonl", "x.errors.jsonl"),
            ("x.results.jsonl", "x.results.jsonl", "x.errors.jsonl"),
            ("x", "x", "x.errors.jsonl"),
            ("a.b.jsonl", "a.b.jsonl", "a.b.errors.jsonl"),
            ("p.v2", "p.v2", "p.v2.errors.jsonl"),
        ] {
            let places = folder.resolve("p.jsonl", output, "").unwrap();
            assert_eq!(places.output, folder.file(expected_output));
            assert_eq!(places.errors, folder.file(expected_errors));
        }
        let places = folder.resolve("p.jsonl", "", "e.jsonl").unwrap();
        assert_eq!(places.errors, folder.file("e.jsonl"));
    }

    #[test]
    fn simulated_answers_have_files_of_their_own() {
        let folder = Folder::new();
        let places = RunFiles::resolve(&GivenFiles {
            input: &folder.path("p.jsonl"),
            output: None,
            errors: None,
            simulate: true,
        })
        .unwrap();
        assert_eq!(places.output, folder.file("p.simulated.jsonl"));
        assert_eq!(places.errors, folder.file("p.simulated.errors.jsonl"));
    }

    #[test]
    fn a_stream_in_is_a_stream_out_unless_named() {
        let folder = Folder::new();
        let places = folder.resolve("-", "o.jsonl", "").unwrap();
        assert_eq!(places.output, folder.file("o.jsonl"));
        assert_eq!(places.errors, folder.file("o.errors.jsonl"));
        let places = folder.resolve("p.jsonl", "-", "").unwrap();
        let both = (Location::Stream, Location::Stream);
        assert_eq!((places.output, places.errors), both);
    }

    #[test]
    fn the_input_is_never_the_output_by_any_name() {
        let folder = Folder::new();
        folder.refused("p.jsonl", "p.jsonl", "", "is the input");
        folder.refused("p.jsonl", "o.jsonl", "p.jsonl", "is the input");
        folder.refused("p.jsonl", "o.jsonl", "o.jsonl", "successes only");
        fs::create_dir(folder.path("d")).unwrap();
        folder.refused("p.jsonl", "d/../p.jsonl", "", "is the input");
        folder.refused("p.jsonl", "o.jsonl", "d/../o.jsonl", "successes only");
        fs::hard_link(folder.path("p.jsonl"), folder.path("hard.jsonl")).unwrap();
        folder.refused("p.jsonl", "hard.jsonl", "", "is the input");
        #[cfg(unix)]
        {
            use std::os::unix::fs::symlink;
            symlink("p.jsonl", folder.path("soft.jsonl")).unwrap();
            folder.refused("p.jsonl", "soft.jsonl", "", "is the input");
            folder.refused("soft.jsonl", "p.jsonl", "", "is the input");
            symlink(folder.path("d"), folder.path("e")).unwrap();
            folder.refused("p.jsonl", "d/o.jsonl", "e/o.jsonl", "successes only");
        }
    }

    #[test]
    fn a_file_that_a_run_would_take_away_is_none_of_its_own() {
        let folder = Folder::new();
        for name in ["o.jsonl.lock", "o.jsonl.tollgate-new", "o.jsonl.rejected"] {
            fs::write(folder.path(name), "").unwrap();
            folder.refused(name, "o.jsonl", "e.jsonl", "name another output (`output`)");
            folder.refused(
                name,
                "x.jsonl",
                "o.jsonl",
                "name another errors file (`errors`)",
            );
            folder.refused("p.jsonl", "o.jsonl", name, "name another output (`output`)");
            folder.refused(
                "p.jsonl",
                name,
                "o.jsonl",
                "name another errors file (`errors`)",
            );
            folder.resolve("p.jsonl", name, "e.jsonl").unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_to_a_file_that_is_yet_to_be_made_are_that_file() {
        use std::os::unix::fs::symlink;
        let folder = Folder::new();
        symlink("two", folder.path("one")).unwrap();
        symlink("o.jsonl", folder.path("two")).unwrap();
        folder.refused("p.jsonl", "one", "o.jsonl", "successes only");
    }

    #[test]
    fn what_is_no_file_is_refused_by_name() {
        let folder = Folder::new();
        fs::create_dir(folder.path("d")).unwrap();
        folder.refused("d", "", "", "is a directory");
        folder.refused("p.jsonl", "d", "", "is a directory");
        folder.refused("p.jsonl", "o.jsonl", "d", "is a directory");
        folder.refused("none.jsonl", "", "", "does not exist");
        folder.refused("p.jsonl", "none/o.jsonl", "", "no folder");
        folder.refused("p.jsonl", "p.jsonl/o.jsonl", "", "p.jsonl/o.jsonl");
        #[cfg(unix)]
        {
            use std::os::unix::fs::symlink;
            symlink("two", folder.path("one")).unwrap();
            symlink("one", folder.path("two")).unwrap();
            folder.refused("p.jsonl", "one", "", "one");
            folder.refused("two", "", "", "two");
        }
    }

    #[cfg(unix)]
    #[test]
    fn devices_take_both_and_a_hostile_name_is_escaped() {
        let folder = Folder::new();
        let null = Path::new("/dev/null");
        RunFiles::resolve(&GivenFiles {
            input: &folder.path("p.jsonl"),
            output: Some(null),
            errors: Some(null),
            simulate: false,
        })
        .unwrap();
        let alone = RunFiles::resolve(&GivenFiles {
            input: &folder.path("p.jsonl"),
            output: Some(null),
            errors: None,
            simulate: false,
        });
        assert_eq!(alone.unwrap().errors, folder.file("p.errors.jsonl"));
        let error = folder.resolve("\u{1b}[31m", "", "").unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }

    #[test]
    fn a_regular_input_opens_as_one_and_a_missing_one_is_named() {
        let folder = Folder::new();
        assert!(matches!(
            folder.file("p.jsonl").open_input().unwrap(),
            OpenInput::Regular(_)
        ));
        let error = folder.file("none.jsonl").open_input().unwrap_err();
        assert!(error.to_string().contains("none.jsonl"), "{error}");
    }
}
