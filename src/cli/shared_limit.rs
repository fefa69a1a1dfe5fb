//! The limit that a run shares with other processes, from a flag or from the environment.

use std::env;
use std::path::Path;

use super::args::Run;
use crate::error::{config, refuse};
use crate::jsonl::sidecars;
use crate::{Result, Shared};

const FLAG: &str = "--shared-limit";
const VARIABLE: &str = "TOLLGATE_SHARED_LIMIT";

/// What the run shares, if anything. Its store is not asked yet.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config), which names the flag or the variable and shows
/// no password.
pub(crate) fn shared(run: &Run) -> Result<Option<Shared>> {
    let Some((url, from)) = url(run)? else {
        return Ok(None);
    };
    let shared = Shared::open(&url).map_err(|error| error.behind(from))?;
    Ok(Some(match run.shared.shared_limit_fallback {
        Some(processes) => shared.fallback_share(processes)?,
        None => shared,
    }))
}

/// Whether the run shares its limits. Nothing is made, not even the file that would be.
///
/// # Errors
/// Those of [`shared`].
pub(crate) fn would_share(run: &Run) -> Result<bool> {
    let Some((url, from)) = url(run)? else {
        return Ok(false);
    };
    let file = url.strip_prefix("file:").map(Path::new);
    let would_be_made =
        file.is_some_and(|file| sidecars::resolved(file).is_some() && !file.exists());
    if !would_be_made {
        Shared::open(&url).map_err(|error| error.behind(from))?;
    }
    Ok(true)
}

/// What must be set for the same command to share the same limit again.
///
/// # Errors
/// Those of [`shared`].
pub(crate) fn variable(run: &Run) -> Result<Option<&'static str>> {
    let from = url(run)?.map(|(_, from)| from);
    Ok(from.filter(|from| *from == VARIABLE))
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
