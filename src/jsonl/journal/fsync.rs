//! How much of what was written a crash of the machine may take.

use std::time::Duration;

/// When results are brought to the disk (`fdatasync`).
///
/// A process that is killed loses nothing that it has written: the system has it. What is lost in a
/// power failure or a crash of the machine is what was not on the disk, and those rows are sent and
/// paid for again.
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
    /// When the system sees fit: within half a minute or so.
    None,
    /// When something that was written has waited for so long, and at the end of the run. The
    /// default is a second.
    Interval(Duration),
    /// After each write, before its rows count as done. Each takes 0.1 to 10 ms on an SSD and more
    /// on other disks, and rows that finish meanwhile share the next one, so runs of seconds a row
    /// do not feel it and those of thousands of rows a second do.
    Always,
}

impl Default for Fsync {
    fn default() -> Self {
        Self::Interval(Duration::from_secs(1))
    }
}
