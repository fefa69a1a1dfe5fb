//! Which shard this process takes: the one that was typed or, with `auto`, the one that Slurm or
//! Kubernetes gives it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::args::{ShardArg, Sharding};
use super::format::counted;
use super::server::with;
use crate::error::config;
use crate::jsonl::shard::Shard;
use crate::jsonl::sidecars;
use crate::{FileRun, Result};

const SLURM: &str = "SLURM_ARRAY_TASK_ID";
const KUBERNETES: &str = "JOB_COMPLETION_INDEX";

/// What is between the stem and the ending of an output that is named by default.
const RESULTS: &str = ".results.";

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

/// The run over the shard that is asked for.
///
/// # Errors
/// Those of [`Sharding::resolve`].
pub(super) fn with_shard<'p>(run: FileRun<'p>, sharding: &Sharding) -> Result<FileRun<'p>> {
    let shard = sharding.resolve()?;
    Ok(with(run, shard, |run, shard| {
        run.shard(shard.index, shard.count)
    }))
}

fn auto(
    shards: Option<u32>,
    variable: impl Fn(&str) -> Option<String>,
) -> std::result::Result<Shard, String> {
    let number = |name: &str| match variable(name) {
        None => Ok(None),
        Some(text) => match text.trim().parse::<u32>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!(
                "{name} is {text:?} and no number: give --shard I/N"
            )),
        },
    };
    let needed = |name: &str| {
        number(name)?.ok_or_else(|| format!("{name} is not set, and {SLURM} is: give --shard I/N"))
    };
    let (index, count) = match (number(SLURM)?, number(KUBERNETES)?, shards) {
        (Some(_), Some(_), _) => {
            return Err(format!(
                "both {SLURM} and {KUBERNETES} are set, so it is not clear which counts: give --shard \
                 I/N"
            ));
        }
        (None, None, _) => {
            return Err(format!(
                "neither {SLURM} nor {KUBERNETES} is set, so this is no task of a Slurm array and no \
                 pod of an indexed Job: give --shard I/N"
            ));
        }
        (None, Some(_), None) => {
            return Err(format!(
                "--shards is missing: {KUBERNETES} does not say how many pods there are, so give the \
                 Job's completions as --shards N"
            ));
        }
        (None, Some(index), Some(count)) => (index, count),
        (Some(id), None, shards) => {
            let (min, count) = (
                needed("SLURM_ARRAY_TASK_MIN")?,
                needed("SLURM_ARRAY_TASK_COUNT")?,
            );
            let max = number("SLURM_ARRAY_TASK_MAX")?;
            let step = number("SLURM_ARRAY_TASK_STEP")?;
            let spans = max.map(|max| u64::from(max) + 1 - u64::from(min.min(max)));
            if step.is_some_and(|step| step != 1) || spans.is_some_and(|it| it != u64::from(count))
            {
                return Err(format!(
                    "the tasks of this Slurm array are not numbered one by one (SLURM_ARRAY_TASK_MIN \
                     is {min}, _MAX {}, _COUNT {count}, _STEP {}): use --array=0-{}, or give --shard \
                     I/N",
                    shown(max),
                    shown(step),
                    count.saturating_sub(1)
                ));
            }
            if let Some(shards) = shards.filter(|shards| *shards != count) {
                return Err(format!(
                    "--shards is {shards}, and this Slurm array has {}. If these are some of {shards} \
                     tasks that run again, give --shard I/{shards}",
                    counted(count.into(), "task", "tasks")
                ));
            }
            let index = id.checked_sub(min);
            (
                index.ok_or_else(|| format!("{SLURM} is {id}, below the array's first, {min}"))?,
                count,
            )
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
    let (false, Some((stem, kind))) =
        (output.exists(), name.and_then(|it| it.rsplit_once(RESULTS)))
    else {
        return Ok(());
    };
    let own = shard.map(|shard| format!(".{}", shard.name()));
    let stem = stem
        .strip_suffix(own.as_deref().unwrap_or_default())
        .unwrap_or(stem);
    let count = |name: &str| {
        let (middle, other) = name.strip_prefix(stem)?.rsplit_once(RESULTS)?;
        match (middle, middle.strip_prefix(".shard-")) {
            _ if other != kind => None,
            ("", _) => Some(None),
            (_, shard) => shard?.split_once("-of-")?.1.parse::<u32>().ok().map(Some),
        }
    };
    let Ok(beside) = fs::read_dir(sidecars::folder(output)) else {
        return Ok(());
    };
    let (mut other, own_count) = (None, shard.map(|shard| shard.count));
    for entry in beside.flatten() {
        let has_answers = entry.metadata().is_ok_and(|metadata| metadata.len() > 0);
        match entry.file_name().to_str().and_then(count) {
            // This was checked when the first of these outputs began.
            Some(count) if count == own_count => return Ok(()),
            Some(_) if has_answers => other = Some(output.with_file_name(entry.file_name())),
            _ => {}
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

fn shown(number: Option<u32>) -> String {
    number.map_or_else(|| "not set".to_owned(), |number| number.to_string())
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
                "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX",
            ),
            (String::new(), Some(8), "neither"),
            (format!("{ID} JOB_COMPLETION_INDEX=1"), Some(8), "both"),
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
            (
                slurm("ID=7 COUNT=8"),
                None,
                "SLURM_ARRAY_TASK_MIN is not set",
            ),
            (
                slurm("ID=7 MIN=0"),
                None,
                "SLURM_ARRAY_TASK_COUNT is not set",
            ),
            (slurm("ID=4 MIN=0 MAX=14 COUNT=8 STEP=2"), None, "_STEP 2"),
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
