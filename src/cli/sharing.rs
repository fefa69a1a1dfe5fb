//! Sharing with other processes: which shard of the input this one takes, and which limits are
//! those of all of them together.
//!
//! The shard is the one that was typed or, with `--shard auto`, the one that Slurm or Kubernetes
//! gives this process. The shared limit is from a flag or from the environment.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::args::{Run, ShardArg, Sharding};
use super::format::counted;
use crate::error::{config, refuse};
use crate::jsonl::shard::Shard;
use crate::jsonl::sidecars;
use crate::{Result, Shared};

const KUBERNETES: &str = "JOB_COMPLETION_INDEX";
const GIVE: &str = "give --shard I/N";

impl Sharding {
    /// The shard, if there is one. Variables of the environment are read for `auto` only.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the flag or the variable.
    pub(crate) fn resolve(&self) -> Result<Option<Shard>> {
        let auto = || {
            let variable = |name: &str| env::var(name).ok();
            auto(self.shards, variable).map_err(|why| config(format!("--shard auto: {why}")))
        };
        match (self.shard, self.shards) {
            (None, _) => Ok(None),
            (Some(ShardArg::Auto), _) => auto().map(Some),
            (Some(ShardArg::Given(shard)), None) => Ok(Some(shard)),
            (Some(ShardArg::Given(_)), Some(_)) => Err(config(
                "--shards is for --shard auto: I/N says how many there are, so leave --shards out",
            )),
        }
    }
}

fn auto(
    shards: Option<u32>,
    variable: impl Fn(&str) -> Option<String>,
) -> std::result::Result<Shard, String> {
    let number = |name: &str| {
        let parse = |text: String| {
            let number = text.trim().parse::<u32>();
            number.map_err(|_| format!("{name} is {text:?} and no number: {GIVE}"))
        };
        variable(name).map(parse).transpose()
    };
    let slurm = |part: &str| number(&format!("SLURM_ARRAY_TASK_{part}"));
    let array = (slurm("ID")?, slurm("MIN")?, slurm("COUNT")?);
    let (index, count) = match (array, number(KUBERNETES)?) {
        ((Some(id), Some(min), Some(count)), None) => {
            let end = u64::from(min) + u64::from(count);
            let ends_there = slurm("MAX")?.is_none_or(|max| u64::from(max) + 1 == end);
            if !ends_there || slurm("STEP")?.is_some_and(|step| step != 1) {
                let last = count.saturating_sub(1);
                return Err(format!(
                    "the tasks of this Slurm array are not numbered one by one: use --array=0-{last}, \
                     or {GIVE}"
                ));
            }
            if let Some(shards) = shards.filter(|shards| *shards != count) {
                return Err(format!(
                    "--shards is {shards}, and this Slurm array has {}. If these are some of {shards} \
                     tasks that run again, give --shard I/{shards}",
                    counted(count.into(), "task", "tasks")
                ));
            }
            let below = || format!("task {id} is below the array's first, {min}: {GIVE}");
            (id.checked_sub(min).ok_or_else(below)?, count)
        }
        ((None, ..), Some(index)) => {
            let count = shards.ok_or_else(|| {
                format!(
                    "--shards is missing: {KUBERNETES} does not say how many pods there are, so give \
                     the Job's completions as --shards N"
                )
            });
            (index, count?)
        }
        _ => {
            return Err(format!(
                "SLURM_ARRAY_TASK_ID, _MIN and _COUNT of a Slurm array or {KUBERNETES} of an indexed \
                 Job must be set, and not both: {GIVE}"
            ));
        }
    };
    Shard::new(index, count).map_err(|error| error.to_string())
}

/// Refuses to begin an output beside results of the same input with another number of shards, as
/// the answers in them would be paid for again. `output` is named by default.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config), naming such a file.
pub(super) fn check_other_cuts(output: &Path, shard: Option<Shard>) -> Result<()> {
    let name = output.file_name().and_then(OsStr::to_str);
    let Some(name) = name.filter(|_| !output.exists()) else {
        return Ok(());
    };
    // What the results are called without shards, and how many shards there are.
    let cut = |name: &str| match Shard::of_file(name) {
        Some((_, shard)) => {
            let part = format!("{}.", shard.name());
            (name.replace(&part, ""), Some(shard.count))
        }
        None => (name.to_owned(), None),
    };
    let (results, own_count) = cut(name);
    let mut other = None;
    let beside = fs::read_dir(sidecars::folder(output));
    for entry in beside.into_iter().flatten().flatten() {
        let (its_results, count) = cut(&entry.file_name().to_string_lossy());
        if its_results == results && count == own_count {
            // This was checked when the first of these outputs began.
            return Ok(());
        }
        if its_results == results && entry.metadata().is_ok_and(|it| it.len() > 0) {
            other = Some(output.with_file_name(entry.file_name()));
        }
    }
    let Some(other) = other else {
        return Ok(());
    };
    let run = shard.map_or("this run".to_owned(), |shard| shard.to_string());
    Err(config(format!(
        "{other:?} has answers to INPUT under another number of shards, and {run} would pay for them \
         again: give --shard the number that they have, or tollgate merge them and carry on without \
         --shard, or name an output with -o to pay again"
    )))
}

const FLAG: &str = "--shared-limit";
const VARIABLE: &str = "TOLLGATE_SHARED_LIMIT";

/// What the run shares, if anything, and the variable that must be set for the same command to
/// share it again. Its store is not asked yet.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config), which names the flag or the variable and shows
/// no password.
pub(crate) fn shared(run: &Run) -> Result<(Option<Shared>, Option<&'static str>)> {
    let Some((url, from)) = url(run)? else {
        return Ok((None, None));
    };
    let mut shared = Shared::open(&url).map_err(|error| error.behind(from))?;
    if let Some(processes) = run.shared.shared_limit_fallback {
        shared = shared.fallback_share(processes)?;
    }
    let variable = (from == VARIABLE).then_some(VARIABLE);
    Ok((Some(shared), variable))
}

/// Whether the run shares its limits. Nothing is made, not even the file that would be.
///
/// # Errors
/// Those of [`shared`].
pub(crate) fn is_shared(run: &Run) -> Result<bool> {
    let Some((url, from)) = url(run)? else {
        return Ok(false);
    };
    let is_folder = |folder: &Path| folder.as_os_str().is_empty() || folder.is_dir();
    let file = url.strip_prefix("file:").map(Path::new);
    let would_be_made = |file: &Path| !file.exists() && file.parent().is_some_and(is_folder);
    if !file.is_some_and(would_be_made) {
        Shared::open(&url).map_err(|error| error.behind(from))?;
    }
    Ok(true)
}

/// The URL, and the flag or variable that it is from.
fn url(run: &Run) -> Result<Option<(String, &'static str)>> {
    let given = &run.shared.shared_limit;
    let url = match given {
        Some(url) => Some(url.clone()),
        // Of the environment a simulated run takes nothing: it would use up what real ones share.
        None if run.server.simulate.is_some() => None,
        None => env::var_os(VARIABLE)
            .filter(|url| !url.is_empty())
            .map(|url| {
                let text = url.into_string();
                text.map_err(|_| config(format!("{VARIABLE} is not text")))
            })
            .transpose()?,
    };
    let Some(url) = url else {
        refuse(run.shared.shared_limit_fallback.map(|_| {
            format!("--shared-limit-fallback needs a shared limit: give {FLAG} or set {VARIABLE}")
        }))?;
        return Ok(None);
    };
    if given.is_none() {
        return Ok(Some((url, VARIABLE)));
    }
    refuse(has_password(&url).then(|| {
        format!(
            "{FLAG} has a password, and other users of this machine can read a command line: put \
             the URL into the environment variable {VARIABLE} instead"
        )
    }))?;
    Ok(Some((url, FLAG)))
}

/// Whether there is anything before an @ in the part of a URL that names the server, but for a
/// user.
fn has_password(url: &str) -> bool {
    let server = url.split_once("://").map_or("", |(_, rest)| rest);
    let server = server.split(['/', '?']).next().unwrap_or_default();
    server
        .rsplit_once('@')
        .is_some_and(|(login, _)| login.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "SLURM_ARRAY_TASK_ID=7";

    /// What comes of `NAME=value` words.
    fn from(words: &str, shards: Option<u32>) -> std::result::Result<Shard, String> {
        let mut pairs = words.split(' ').filter_map(|word| word.split_once('='));
        let pairs: Vec<_> = pairs.by_ref().collect();
        auto(shards, |name| {
            let found = pairs.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn slurm(rest: &str) -> String {
        let words = rest
            .split(' ')
            .map(|word| format!("SLURM_ARRAY_TASK_{word}"));
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_task_of_an_array_has_the_shard_of_its_place_in_it() {
        for (rest, shards, index, count) in [
            ("ID=0 MIN=0 MAX=7 COUNT=8 STEP=1", None, 0, 8),
            ("ID=7 MIN=0 MAX=7 COUNT=8 STEP=1", Some(8), 7, 8),
            ("ID=8 MIN=1 MAX=8 COUNT=8", None, 7, 8),
            ("ID=12 MIN=10 COUNT=4", None, 2, 4),
            ("ID=5 MIN=5 MAX=5 COUNT=1 STEP=1", None, 0, 1),
        ] {
            let shard = from(&slurm(rest), shards);
            assert_eq!(shard, Ok(Shard::new(index, count).unwrap()), "{rest}");
        }
    }

    #[test]
    fn a_pod_has_the_shard_of_its_index() {
        let shard = from("JOB_COMPLETION_INDEX=3", Some(4));
        assert_eq!(shard, Ok(Shard::new(3, 4).unwrap()));
    }

    #[test]
    fn what_is_not_clear_is_refused_with_what_to_give() {
        for (words, shards, told) in [
            (
                String::new(),
                None,
                "SLURM_ARRAY_TASK_ID, _MIN and _COUNT of a Slurm array or JOB_COMPLETION_INDEX",
            ),
            (String::new(), Some(8), "must be set"),
            (format!("{ID} JOB_COMPLETION_INDEX=1"), None, "both"),
            (
                "JOB_COMPLETION_INDEX=3".to_owned(),
                None,
                "--shards is missing",
            ),
            (
                "JOB_COMPLETION_INDEX=4".to_owned(),
                Some(4),
                "the last of 4 is 3",
            ),
            (
                "JOB_COMPLETION_INDEX=x".to_owned(),
                Some(4),
                "\"x\" and no number",
            ),
            (slurm("ID= MIN=0 COUNT=8"), None, "\"\" and no number"),
            (slurm("ID=7 COUNT=8"), None, "_MIN and _COUNT"),
            (slurm("ID=7 MIN=0"), None, "_MIN and _COUNT"),
            (
                slurm("ID=4 MIN=0 MAX=14 COUNT=8 STEP=2"),
                None,
                "one by one",
            ),
            (slurm("ID=4 MIN=0 MAX=14 COUNT=8"), None, "one by one"),
            (slurm("ID=4 MIN=8 MAX=0 COUNT=8"), None, "one by one"),
            (
                slurm("ID=3 MIN=3 MAX=3 COUNT=1 STEP=1"),
                Some(8),
                "give --shard I/8",
            ),
            (slurm("ID=3 MIN=4 MAX=7 COUNT=4"), None, "below"),
            (
                slurm("ID=9 MIN=0 MAX=7 COUNT=8"),
                None,
                "the last of 8 is 7",
            ),
            (slurm("ID=0 MIN=0 COUNT=0"), None, "0 shards"),
        ] {
            let error = from(&words, shards).unwrap_err();
            assert!(error.contains(told), "{words}: {error}");
        }
    }
}
