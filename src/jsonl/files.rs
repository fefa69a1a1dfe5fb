//! Which files a run reads and writes, completed and checked before anything is sent.
//!
//! Names come from a stem, never from what a file holds. Writing over the input is the one accident
//! that cannot be undone, so files are compared by what they are and not by how they are spelled: a
//! hard link, a symlink or a redirected stream is found, too.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use same_file::Handle;

use super::lines::{Lines, MAX_LINE};
use super::shard::Shard;
use super::sidecars::{appended, folder, has_ending, is_sidecar, is_table, resolved_new};
use crate::api::json::{first_fields, string};
use crate::error::{Error, ErrorKind, Result, config};

/// What a message calls the input.
const INPUT: &str = "input";

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

    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Stream => None,
            Self::File(path) => Some(path),
        }
    }

    /// Opens an input.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the file.
    pub(crate) fn open_input(&self) -> Result<OpenInput> {
        let Self::File(path) = self else {
            return Ok(OpenInput::Stream(Box::new(io::stdin())));
        };
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.is_file(), file)));
        match opened {
            Ok((true, file)) => Ok(OpenInput::Regular(file)),
            Ok((false, file)) => Ok(OpenInput::Stream(Box::new(file))),
            Err(error) => Err(unusable(INPUT, path, error)),
        }
    }

    /// Makes sure that results can be read here, more than once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the file.
    pub(crate) fn open_results(&self) -> Result<()> {
        match self.open_input()? {
            OpenInput::Regular(_) => Ok(()),
            OpenInput::Stream(_) => Err(config(format!(
                "{self} is no file: save the results in one first"
            ))),
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

/// Opens what is to be read, for the error if it cannot be.
///
/// # Errors
/// That error, and one for a directory, which can be opened and not read.
pub(crate) fn check_is_file(path: &Path) -> io::Result<()> {
    if File::open(path)?.metadata()?.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    Ok(())
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
    /// Can be read through before the run.
    Regular(File),
    /// Can be read once: standard input, a pipe, a device.
    Stream(Box<dyn Read + Send>),
}

impl OpenInput {
    pub(super) fn into_read(self) -> Box<dyn Read + Send> {
        match self {
            Self::Regular(file) => Box::new(file),
            Self::Stream(stream) => stream,
        }
    }
}

/// The files of a run. No two are the same, except a stream that takes results and errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunFiles {
    pub(crate) input: Location,
    /// Where the records of answers go.
    pub(crate) output: Location,
    pub(crate) errors: Location,
    /// What is made of the records when the run ends, beside them.
    pub(crate) table: Option<PathBuf>,
}

impl RunFiles {
    /// Completes the names, and refuses none. With `simulate`, answers come from the simulated
    /// provider, and must not look like paid ones. Each shard has files of its own.
    pub(crate) fn complete(
        input: &Path,
        output: Option<&Path>,
        errors: Option<&Path>,
        simulate: bool,
        shard: Option<Shard>,
    ) -> Self {
        let of_shard = |kind: &str| match shard {
            Some(shard) => format!("{}.{kind}", shard.name()),
            None => kind.to_owned(),
        };
        let input = Location::new(input);
        let output = match (output, &input) {
            (Some(output), _) => Location::new(output),
            (None, Location::Stream) => Location::Stream,
            (None, Location::File(input)) => {
                let kind = if simulate { "simulated" } else { "results" };
                let mut name = beside_input(input, &of_shard(kind));
                if is_table(input) {
                    name.set_extension(input.extension().unwrap_or_default());
                }
                Location::File(name)
            }
        };
        let (output, table) = match output {
            Location::File(table) if is_table(&table) => {
                let record = appended(&table, ".jsonl");
                (Location::File(record), Some(table))
            }
            output => (output, None),
        };
        let errors = match (errors, &output, &input) {
            (Some(errors), ..) => Location::new(errors),
            (None, Location::File(output), _) if !is_device(output) => {
                Location::File(errors_beside(output))
            }
            // No files are made beside a device.
            (None, Location::File(_), Location::File(input)) => {
                Location::File(beside_input(input, &of_shard("errors")))
            }
            (None, ..) => Location::Stream,
        };
        Self {
            input,
            output,
            errors,
            table,
        }
    }

    /// Refuses what cannot be meant. Opens and creates nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the file: the input does not exist, one is a directory, a
    /// symlink leads only to itself, a folder is missing, two are the same file.
    pub(crate) fn check(&self) -> Result<()> {
        let named = |role, location, stream| {
            Identity::of(role, location, stream).map(|identity| (role, location, identity))
        };
        let table = self.table.clone().map(Location::File);
        let table = table
            .iter()
            .map(|table| named("table", table, Handle::stdout));
        let mut all = vec![
            named(INPUT, &self.input, Handle::stdin)?,
            named("output", &self.output, Handle::stdout)?,
            named("errors file", &self.errors, Handle::stdout)?,
        ];
        for table in table {
            all.push(table?);
        }
        let one_stream = self.output == Location::Stream && self.errors == Location::Stream;
        let settings = [&["output"], &["errors"], &["output"]];
        for (at, (role, location, identity)) in all.iter().enumerate().skip(1) {
            for (index, (other_role, other, other_identity)) in all.iter().enumerate() {
                let setting = settings[at - 1];
                let paths = location.path().zip(other.path());
                let message = if index < at && identity.is(other_identity) {
                    let what = match index {
                        0 => "is the input, which would be overwritten",
                        _ if one_stream => continue,
                        1 => "is the output, which takes successes only",
                        _ => "is the errors file",
                    };
                    format!("{role} {location} {what}: name another")
                } else if paths.is_some_and(|(owner, other)| is_sidecar(owner, other)) {
                    // What a run makes beside its files it also removes, or overwrites.
                    format!(
                        "{other_role} {other} has the name of a file that a run makes beside {role} \
                         {location}: name another {role}"
                    )
                } else {
                    continue;
                };
                return Err(config(message).with_settings(setting));
            }
        }
        self.check_table()
    }

    fn check_table(&self) -> Result<()> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        let why = if !cfg!(feature = "rows") {
            "needs tollgate's feature `rows`: name an output that ends in .jsonl"
        } else if is_device(table) {
            "is no file, and a table is replaced as a whole: name another"
        } else if self.input == Location::Stream || self.input.path().is_some_and(is_device) {
            "needs an input that can be read twice: save that in a file, or name an output that ends in .jsonl"
        } else {
            return Ok(());
        };
        Err(config(format!("table {table:?} {why}")).with_settings(&["output"]))
    }
}

/// What the default names of an input's files begin with: inputs that differ in their ending have
/// files of their own, but for the two endings that inputs have as a rule. Without an ending, `p`
/// has `p..results.jsonl`. The results of a table have its ending.
fn stem(input: &Path) -> Option<OsString> {
    let is_usual = is_table(input) || has_ending(input, "jsonl") || has_ending(input, "txt");
    let name = if is_usual {
        input.file_stem()?
    } else {
        input.file_name()?
    };
    let mut name = name.to_owned();
    if input.extension().is_none() {
        name.push(".");
    }
    Some(name)
}

/// The `custom_id` in the first line of a file that is there and has one. A pipe can be read once,
/// and not for this.
pub(crate) fn first_id(path: &Path) -> Option<String> {
    let file = path.is_file().then(|| File::open(path))?.ok()?;
    let mut lines = Lines::of_anything(file, MAX_LINE);
    let line = lines.next().ok()??;
    let [id] = first_fields(str::from_utf8(line.text?).ok()?, &["custom_id"]);
    string(id?)
}

/// Whether a path is that of a pipe or a device, beside which no file is made.
pub(crate) fn names_no_file(path: &Path) -> bool {
    // `/dev/stdin` is a link, also where it leads to a file.
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let absolute = std::path::absolute(path).unwrap_or_default();
    let mut folders = ["/dev", "/proc"].iter();
    !is_file && folders.any(|folder| absolute.starts_with(folder))
}

/// A device, a pipe or a terminal.
pub(crate) fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// `p.jsonl` → `p.KIND.jsonl` in the same folder.
fn beside(path: &Path, mut stem: OsString, kind: &str) -> PathBuf {
    stem.push(format!(".{kind}.jsonl"));
    path.with_file_name(stem)
}

fn beside_input(input: &Path, kind: &str) -> PathBuf {
    beside(input, stem(input).unwrap_or_default(), kind)
}

/// `p.results.jsonl` → `p.errors.jsonl`, and of any other name `x.jsonl` → `x.errors.jsonl`.
/// Another ending stays: `x.v1` and `x.v2` have failures of their own.
///
/// `p.simulated.jsonl` keeps its mark: a trial run does not replace the errors of a paid one.
pub(crate) fn errors_beside(output: &Path) -> PathBuf {
    beside(output, stem_of_results(output).to_owned(), "errors")
}

/// What names of files beside results begin with: `p` of `p.results.jsonl`, and `x` of `x.jsonl`.
pub(crate) fn stem_of_results(output: &Path) -> &OsStr {
    let ends_in = |name: &Path, ending: &str| name.extension().is_some_and(|own| own == ending);
    let mut stem = Path::new(output.file_name().unwrap_or_default());
    for ending in ["jsonl", "results"] {
        if ends_in(stem, ending) {
            stem = Path::new(stem.file_stem().unwrap_or_default());
        }
    }
    stem.as_os_str()
}

/// Which file a location is, however it is spelled.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// A regular file that exists.
    File(Handle),
    /// A file that does not exist yet: its folder, resolved, and its name.
    Missing(PathBuf),
    /// A terminal, a pipe or a device: sharing it overwrites nothing.
    Other,
}

impl Identity {
    fn is(&self, other: &Self) -> bool {
        self != &Self::Other && self == other
    }

    /// `stream` is what `-` stands for: it may have been redirected to a file.
    fn of(role: &str, location: &Location, stream: fn() -> io::Result<Handle>) -> Result<Self> {
        let Location::File(path) = location else {
            let file = stream().ok().filter(|handle| {
                let metadata = handle.as_file().metadata();
                metadata.is_ok_and(|metadata| metadata.is_file())
            });
            return Ok(file.map_or(Self::Other, Self::File));
        };
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                Err(config(format!("{role} {path:?} is a directory")))
            }
            Ok(metadata) if metadata.is_file() => Handle::from_path(path)
                .map(Self::File)
                .map_err(|error| unusable(role, path, error)),
            Ok(_) => Ok(Self::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound && role != INPUT => {
                let resolved = resolved_new(path);
                resolved
                    .map(Self::Missing)
                    .map_err(|error| unusable(role, path, error))
            }
            Err(error) => Err(unusable(role, path, error)),
        }
    }
}

fn unusable(role: &str, path: &Path, error: io::Error) -> Error {
    let message = match fs::read_link(path) {
        _ if error.kind() != io::ErrorKind::NotFound => {
            format!("cannot use {role} {path:?}: {error}")
        }
        Ok(target) => {
            let what = if role == INPUT {
                "which"
            } else {
                "whose directory"
            };
            format!("{role} {path:?} is a link to {target:?}, {what} does not exist")
        }
        Err(_) if role == INPUT => format!("{role} {path:?} does not exist"),
        Err(_) => format!("{role} {path:?}: no directory {:?}: {error}", folder(path)),
    };
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied if role != INPUT => ErrorKind::Io,
        _ => ErrorKind::Config,
    };
    Error::new(kind, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn resolve(input: &Path, output: Option<&Path>, errors: Option<&Path>) -> Result<RunFiles> {
        let files = RunFiles::complete(input, output, errors, false, None);
        files.check()?;
        Ok(files)
    }

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
            resolve(
                &self.path(input),
                given(output).as_deref(),
                given(errors).as_deref(),
            )
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
            let files = folder.resolve("p.jsonl", output, "").unwrap();
            assert_eq!(files.output, folder.file(expected_output));
            assert_eq!(files.errors, folder.file(expected_errors));
        }
        let files = folder.resolve("p.jsonl", "", "e.jsonl").unwrap();
        assert_eq!(files.errors, folder.file("e.jsonl"));
        for (input, stem) in [
            ("p.txt", "p"),
            ("p.TXT", "p"),
            ("p", "p."),
            ("a.b.jsonl", "a.b"),
            ("p.json", "p.json"),
            ("p.ndjson", "p.ndjson"),
            (".hidden", ".hidden."),
        ] {
            let files = RunFiles::complete(&folder.path(input), None, None, false, None);
            assert_eq!(files.output, folder.file(&format!("{stem}.results.jsonl")));
            assert_eq!(files.errors, folder.file(&format!("{stem}.errors.jsonl")));
        }
    }

    #[test]
    fn a_table_has_its_records_beside_it() {
        let folder = Folder::new();
        for (input, output, simulate, table) in [
            ("p.csv", "", false, "p.results.csv"),
            ("p.TSV", "", false, "p.results.TSV"),
            ("p.q.csv", "", true, "p.q.simulated.csv"),
            ("p.jsonl", "o.csv", false, "o.csv"),
            ("p.txt", "o.results.tsv", true, "o.results.tsv"),
        ] {
            let output = (!output.is_empty()).then(|| folder.path(output));
            let files =
                RunFiles::complete(&folder.path(input), output.as_deref(), None, simulate, None);
            assert_eq!(files.table, Some(folder.path(table)));
            assert_eq!(files.output, folder.file(&format!("{table}.jsonl")));
            assert_eq!(files.errors, folder.file(&format!("{table}.errors.jsonl")));
        }
        let files = RunFiles::complete(
            &folder.path("p.csv"),
            Some(&folder.path("o.jsonl")),
            None,
            false,
            None,
        );
        assert_eq!((files.table, files.output), (None, folder.file("o.jsonl")));
    }

    #[cfg(feature = "rows")]
    #[test]
    fn a_table_is_a_file_of_its_own_made_of_one_that_can_be_read_twice() {
        let folder = Folder::new();
        fs::write(folder.path("p.csv"), "a\n").unwrap();
        folder.refused("p.csv", "p.csv", "", "is the input");
        folder.refused("p.csv", "o.csv", "o.csv", "is the errors file");
        folder.refused("p.csv", "o.csv", "o.csv.lock", "name another output");
        folder.refused("p.csv", "o.csv", "o.csv.tollgate-new", "name another table");
        folder.refused("-", "o.csv", "", "read twice");
        folder.resolve("p.csv", "o.csv", "").unwrap();
    }

    #[test]
    fn simulated_answers_have_files_of_their_own() {
        let folder = Folder::new();
        let files = RunFiles::complete(&folder.path("p.jsonl"), None, None, true, None);
        files.check().unwrap();
        assert_eq!(files.output, folder.file("p.simulated.jsonl"));
        assert_eq!(files.errors, folder.file("p.simulated.errors.jsonl"));
    }

    #[test]
    fn a_stream_in_is_a_stream_out_unless_named() {
        let folder = Folder::new();
        let files = folder.resolve("-", "o.jsonl", "").unwrap();
        assert_eq!(files.output, folder.file("o.jsonl"));
        assert_eq!(files.errors, folder.file("o.errors.jsonl"));
        let files = folder.resolve("p.jsonl", "-", "").unwrap();
        let both = (Location::Stream, Location::Stream);
        assert_eq!((files.output, files.errors), both);
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
        folder.refused("p.jsonl", "none/o.jsonl", "", "no directory");
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
        resolve(&folder.path("p.jsonl"), Some(null), Some(null)).unwrap();
        let alone = resolve(&folder.path("p.jsonl"), Some(null), None);
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
        let error = folder.file("none.jsonl").open_input().err().unwrap();
        assert!(error.to_string().contains("none.jsonl"), "{error}");
    }
}
