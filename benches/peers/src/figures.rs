//! What is measured of a process, by itself, at its end.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::Result;

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Figures {
    /// From before the client was made to the last answer.
    pub wall_s: f64,
    /// User and system time of the whole process.
    pub cpu_s: f64,
    /// The most memory it held at any time (`VmHWM`).
    pub peak_kib: u64,
    /// Whole answers.
    pub answers: usize,
}

impl Figures {
    /// # Errors
    /// `/proc` cannot be read: this is not Linux.
    pub fn of_this_process(wall: Duration, answers: usize) -> Result<Self> {
        Ok(Self {
            wall_s: wall.as_secs_f64(),
            cpu_s: cpu().as_secs_f64(),
            peak_kib: peak_kib()?,
            answers,
        })
    }
}

/// CPU time of this process so far, ended threads included, in user and system mode.
pub fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn peak_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Raises the soft limit of open files to the hard one.
///
/// # Errors
/// The hard one is too low for `connections`, with what to do about it.
pub fn raise_descriptor_limit(connections: usize) -> Result<()> {
    // Standard streams, an event queue, a certificate file, and room.
    const OTHERS: u64 = 64;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let needed = connections as u64 + OTHERS;
    if let Some(maximum) = maximum.filter(|&maximum| maximum < needed) {
        return Err(format!(
            "{connections} connections need {needed} open files, and the hard limit is {maximum}: \
             raise it (ulimit -Hn {needed}, as root), or leave this row out (--rows)"
        )
        .into());
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    Ok(())
}
