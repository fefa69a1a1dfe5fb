//! Files of requests in, files of results out: one JSON object a line.
//!
//! [`run`] puts a run over a file together. A request travels [`lines`] (lines of bytes, bounded)
//! → [`mod@format`] (one request, its body untouched) → [`rows`] (the engine's side of it) → the client →
//! [`record`] (one result line) → [`journal`] (the files), which a later run [reads back](readback).
//! [`files`] decides which files those are (and [`sidecars`] where they are), and [`scan`] looks through
//! an input before anything is sent, in one [pass](parallel) on all cores. `check` is that look for its
//! own sake, with all there is to say.

#[cfg(feature = "cli")]
pub(crate) mod check;
pub(crate) mod files;
mod flaw;
mod format;
mod hash;
mod ids;
pub(crate) mod io;
mod journal;
mod lines;
mod parallel;
mod readback;
mod record;
mod rows;
mod run;
mod scan;
pub(crate) mod sidecars;
pub(crate) mod summary;
mod tally;
mod writer;

pub use journal::Fsync;
pub use run::FileRun;
pub use summary::{FileProgress, ResumeInfo, Summary};
