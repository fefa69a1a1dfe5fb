//! When written results are flushed to disk.

use std::time::Duration;

/// When written results are flushed to disk (`fdatasync`).
///
/// A killed process loses nothing that it has written: the system has it. A power failure or a
/// crash of the machine loses what was not flushed, and the next run sends those rows again and
/// pays for them again.
///
/// ```
/// use std::time::Duration;
/// use tollgate::Fsync;
///
/// assert_eq!(Fsync::default(), Fsync::Interval(Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fsync {
    /// When the system does so by itself: within half a minute or so.
    None,
    /// When something written has waited for this long, and at the end of the run. Default: one
    /// second.
    Interval(Duration),
    /// After each write, before its rows count as done. A flush takes 0.1 to 10 ms on an SSD, and
    /// more on other disks. Rows that finish meanwhile share the next one, so this slows a run of
    /// thousands of rows a second, and not one whose rows take seconds.
    Always,
}

impl Default for Fsync {
    fn default() -> Self {
        Self::Interval(Duration::from_secs(1))
    }
}
