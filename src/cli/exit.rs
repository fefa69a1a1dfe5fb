//! How the tool ends: one number that a script can branch on.
//!
//! A run can end for several reasons at once (interrupted while rows had failed and the disk was
//! full). The one that asks most of whoever started it wins, so the order of the variants is the
//! order of weight.

use super::output::is_broken_pipe;
use crate::{Error, ErrorKind, Summary};

/// The exit codes, from the lightest to the gravest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Every row is answered.
    Success,
    /// Every row was dealt with, and some have failed.
    SomeFailed,
    /// Rows are left that a rerun takes up.
    Stopped,
    /// SIGHUP: the terminal has gone.
    HungUp,
    /// SIGINT: Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// The command line or the input is wrong; nothing was sent.
    Usage,
    /// A local file could not be read or written: what is on file may not be all that was paid for.
    LocalIo,
}

impl Exit {
    /// The number. A signal's is 128 and its own, as shells have it.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::SomeFailed => 1,
            Self::Usage => 2,
            Self::Stopped => 3,
            Self::LocalIo => 4,
            Self::HungUp => 128 + 1,
            Self::Interrupted => 128 + 2,
            Self::Terminated => 128 + 15,
        }
    }

    /// For a run that came to an end, early or not.
    pub(crate) fn of_summary(summary: &Summary) -> Self {
        match (&summary.stopped, summary.progress.failed) {
            (Some(_), _) => Self::Stopped,
            (None, 0) => Self::Success,
            (None, _) => Self::SomeFailed,
        }
    }

    /// For what could not start or not finish. A reader that has gone is no failure.
    pub(crate) fn of_error(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Config => Self::Usage,
            _ if is_broken_pipe(error) => Self::Stopped,
            _ => Self::LocalIo,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileProgress;
    use std::time::Duration;

    const ALL: [Exit; 8] = [
        Exit::Success,
        Exit::SomeFailed,
        Exit::Stopped,
        Exit::HungUp,
        Exit::Interrupted,
        Exit::Terminated,
        Exit::Usage,
        Exit::LocalIo,
    ];

    #[test]
    fn the_numbers_are_those_of_the_manual() {
        let codes = ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 3, 129, 130, 143, 2, 4]);
    }

    #[test]
    fn the_graver_reason_wins_whichever_came_first() {
        use Exit::{Interrupted, LocalIo, SomeFailed, Stopped, Success, Terminated};
        for (one, other, both) in [
            (Success, Success, Success),
            (Success, SomeFailed, SomeFailed),
            (SomeFailed, Stopped, Stopped),
            (Stopped, Interrupted, Interrupted),
            (SomeFailed, Interrupted, Interrupted),
            (Interrupted, Terminated, Terminated),
            (Interrupted, LocalIo, LocalIo),
            (Stopped, LocalIo, LocalIo),
        ] {
            assert_eq!(one.max(other), both);
            assert_eq!(other.max(one), both);
        }
        for exit in ALL {
            assert_eq!(exit.max(exit), exit);
            assert_eq!(Exit::Success.max(exit), exit);
        }
    }

    fn summary(failed: u64, stopped: Option<ErrorKind>) -> Summary {
        Summary {
            progress: FileProgress {
                failed,
                ..FileProgress::default()
            },
            requests: 10,
            not_attempted: 0,
            stopped: stopped.map(|kind| Error::new(kind, "stopped")),
            wall: Duration::ZERO,
        }
    }

    #[test]
    fn a_run_ends_as_its_rows_did_unless_it_was_stopped() {
        for (failed, stopped, exit) in [
            (0, None, Exit::Success),
            (3, None, Exit::SomeFailed),
            (0, Some(ErrorKind::Auth), Exit::Stopped),
            (3, Some(ErrorKind::Quota), Exit::Stopped),
        ] {
            assert_eq!(Exit::of_summary(&summary(failed, stopped)), exit);
        }
    }

    #[test]
    fn what_was_asked_for_wrongly_is_usage_and_the_rest_is_this_machine() {
        for (kind, exit) in [
            (ErrorKind::Config, Exit::Usage),
            (ErrorKind::Io, Exit::LocalIo),
            (ErrorKind::Panicked, Exit::LocalIo),
        ] {
            assert_eq!(Exit::of_error(&Error::new(kind, "x")), exit);
        }
    }
}
