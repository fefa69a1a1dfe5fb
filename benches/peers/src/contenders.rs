//! Who is measured, and how each one's program is built or found.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use peers::Result;
use peers::task::Task;

use crate::rows::Row;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    /// As `--clients` takes it: any part of it. Without a comma, which parts the names there.
    pub(crate) name: &'static str,
    program: Program,
    way: &'static str,
    /// With more requests it would hold up the sitting for minutes.
    most_requests: usize,
}

#[derive(Clone, Copy, Debug)]
enum Program {
    /// A binary of this crate, by its name without `client-`, which its feature shares.
    Own(&'static str),
    /// `clients.py`, with the package that is the way's name.
    Python,
}

const fn own(name: &'static str, client: &'static str, way: &'static str) -> Contender {
    Contender {
        name,
        program: Program::Own(client),
        way,
        most_requests: usize::MAX,
    }
}

const fn python(name: &'static str, package: &'static str, most_requests: usize) -> Contender {
    Contender {
        name,
        program: Program::Python,
        way: package,
        most_requests,
    }
}

/// The first is what the others are compared with.
pub(crate) const CONTENDERS: [Contender; 11] = [
    own("tollgate: chat_all", "tollgate", "chat_all"),
    own("tollgate: for_each", "tollgate", "for_each"),
    own("reqwest + tokio: a task each", "reqwest", "spawn"),
    own(
        "reqwest + tokio: whole answers kept",
        "reqwest",
        "spawn-whole",
    ),
    own("reqwest + tokio: buffer_unordered", "reqwest", "buffered"),
    own("async-openai", "async-openai", ""),
    own("ureq by hand: defaults", "ureq", "defaults"),
    own("ureq by hand: small buffers", "ureq", "per-thread"),
    own(FLOOR, "raw", ""),
    python("Python: aiohttp", "aiohttp", usize::MAX),
    python("Python: openai", "openai", 4_000),
];

/// The one that shows what the server can do.
pub(crate) const FLOOR: &str = "raw sockets on threads";

/// How the Rust clients are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Cargo's own, which a library's users get.
    Release,
    /// Fat link-time optimisation and one codegen unit, as tollgate's tool is built.
    Tuned,
}

impl Profile {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Tuned => "tuned",
        }
    }
}

/// A contender that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Entrant {
    pub(crate) contender: Contender,
    pub(crate) profile: Profile,
    program: PathBuf,
}

impl Entrant {
    pub(crate) fn name(&self) -> String {
        match (self.contender.program, self.profile) {
            (Program::Own(_), Profile::Tuned) => format!("{} (tuned)", self.contender.name),
            _ => self.contender.name.to_owned(),
        }
    }

    pub(crate) fn enters(&self, row: &Row) -> bool {
        row.requests <= self.contender.most_requests
    }

    pub(crate) fn task(&self, row: &Row, base_url: String, ca_file: &Path) -> Task {
        Task {
            way: self.contender.way.to_owned(),
            ca_file: base_url.starts_with("https").then(|| ca_file.to_owned()),
            base_url,
            requests: row.requests,
            at_once: row.at_once,
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if matches!(self.contender.program, Program::Python) {
            command.arg(script());
        }
        command
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients.py")
}

/// Who takes part, and who would if Python had the package.
#[derive(Debug, Default)]
pub(crate) struct Field {
    pub(crate) entrants: Vec<Entrant>,
    pub(crate) absent: Vec<&'static str>,
}

/// The contenders whose names hold one of `parts`, in any case; all of them if there are none.
///
/// # Errors
/// A part that fits nobody.
pub(crate) fn named(parts: &[String]) -> Result<Vec<Contender>> {
    let fits = |one: &Contender, part: &String| {
        let name = one.name.to_ascii_lowercase();
        name.contains(&part.to_ascii_lowercase())
    };
    if let Some(stranger) = parts
        .iter()
        .find(|&part| !CONTENDERS.iter().any(|one| fits(one, part)))
    {
        return Err(format!("no client is called {stranger:?}: --list names them").into());
    }
    let mut chosen = CONTENDERS.to_vec();
    if !parts.is_empty() {
        chosen.retain(|one| parts.iter().any(|part| fits(one, part)));
    }
    Ok(chosen)
}

/// Makes the contenders ready; says who cannot enter.
///
/// # Errors
/// A client that does not build, or nobody who can enter.
pub(crate) fn ready(contenders: &[Contender], profiles: &[Profile]) -> Result<Field> {
    let mut field = Field::default();
    for &profile in profiles {
        for &contender in contenders {
            let program = match contender.program {
                Program::Own(client) => build(&format!("client-{client}"), client, profile)?,
                // One Python is as good as another.
                Program::Python if profile != profiles[0] => continue,
                Program::Python => {
                    let Some(python) = python_with(contender.way) else {
                        field.absent.push(contender.name);
                        continue;
                    };
                    python
                }
            };
            field.entrants.push(Entrant {
                contender,
                profile,
                program,
            });
        }
    }
    if field.entrants.is_empty() {
        return Err("none of these clients can take part here: see above what they lack".into());
    }
    Ok(field)
}

/// Builds one program of this crate with nothing in it but its own feature.
///
/// # Errors
/// It does not build, or there is no cargo.
pub(crate) fn build(program: &str, feature: &str, profile: Profile) -> Result<PathBuf> {
    // Beside this program's own folder, which is named after a profile, too. Left to itself cargo
    // may build elsewhere, and an older client would be found there and measured.
    let own = env::current_exe()?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .ok_or("no target folder")?;
    let built = Command::new(cargo())
        .args(["build", "--quiet", "--locked", "--no-default-features"])
        .args(["--profile", profile.name()])
        .args(["--features", feature, "--bin", program])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !built.success() {
        return Err(format!("{program} does not build ({built})").into());
    }
    Ok(target.join(profile.name()).join(program))
}

pub(crate) fn cargo() -> std::ffi::OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The Python in `PEERS_PYTHON`, or `python3`, if it has the package.
fn python_with(package: &str) -> Option<PathBuf> {
    let python: PathBuf = env::var_os("PEERS_PYTHON").map_or("python3".into(), Into::into);
    let has = Command::new(&python)
        .arg(script())
        .args(["--has", package])
        .stderr(Stdio::null())
        .status();
    if has.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    eprintln!(
        "\n*** LEFT OUT: {} has no {package}. `python3 -m venv DIR && DIR/bin/pip install {package}`, \
         then PEERS_PYTHON=DIR/bin/python.\n",
        python.display(),
    );
    None
}

#[cfg(test)]
mod tests {
    use super::{CONTENDERS, named};

    fn names(parts: &[&str]) -> Result<Vec<&'static str>, String> {
        let parts: Vec<_> = parts.iter().map(|&part| part.to_owned()).collect();
        let named = named(&parts).map_err(|error| error.to_string())?;
        Ok(named.iter().map(|one| one.name).collect())
    }

    #[test]
    fn any_part_of_a_name_will_do_and_a_strangers_is_refused() {
        assert_eq!(names(&[]).unwrap().len(), CONTENDERS.len());
        let two = names(&["python: openai", "CHAT_ALL"]).unwrap();
        assert_eq!(two, ["tollgate: chat_all", "Python: openai"]);
        assert!(
            names(&["raw", "nobody"])
                .unwrap_err()
                .contains("\"nobody\"")
        );
    }

    #[test]
    fn every_name_can_be_given_whole() {
        for one in CONTENDERS {
            assert!(!one.name.contains(','), "{}", one.name);
            assert_eq!(names(&[one.name]).unwrap(), [one.name]);
        }
    }
}
