//! The limit that a run shares with other processes.

#![expect(clippy::doc_markdown, reason = "help is read on a terminal")]

use clap::Args;

use crate::cli::parse;

/// Which processes share the limits, and what to do when their store is gone.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct SharedLimit {
    /// Share the limits with all processes that name the same URL: --rps, --rpm, --tpm and --burst
    /// are then those of all of them together. The URL names the store of the limits: `file:PATH`
    /// for processes on one machine, `redis://HOST:PORT/DB?key=NAME` (with TLS `rediss://`) for
    /// many. Put a URL with a password into TOLLGATE_SHARED_LIMIT, as other users of this machine
    /// can read a command line [default: from TOLLGATE_SHARED_LIMIT, else none]
    #[arg(long, value_name = "URL")]
    pub(crate) shared_limit: Option<String>,

    /// While the store of the shared limit cannot be reached, send at this share of the limits:
    /// give share=1/8 if eight processes share them [default: send nothing and wait for the store]
    #[arg(long, value_name = "share=1/N", value_parser = parse::share)]
    pub(crate) shared_limit_fallback: Option<u32>,
}
