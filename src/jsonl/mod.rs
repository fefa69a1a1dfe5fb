//! Files of requests in, files of results out: one JSON object a line.
//!
//! [`run`] puts a run over a file together. A request travels from [`lines`] (lines of bytes,
//! bounded) to [`mod@format`] (one request, its body untouched), [`rows`] (a job for the engine)
//! and the client. Its result goes through [`writer`] and [`record`] (one line) to [`journal`] (the
//! files), which a later run [reads back](readback). The [`tally`] counts all of it.
//!
//! A JSON [`array`] is read as lines, and what seems to be no requests is refused by [`judge`].
//! [`prompts`] stops a run whose model refuses a field of all prompts. The header of a [`table`] is
//! read first, and [`occurrences`] names rows that have no ids.
//!
//! [`answers`] finds the answers in records again, [`answer_table`] makes a table of them, and
//! [`merge`] one file of several.
//!
//! [`files`] says which files a run has, and [`sidecars`] which ones are beside them. [`scan`]
//! reads an input before anything is sent, in one [pass](parallel) on all cores, and a [`shard`] is
//! the share of an input that is one process's. `check` does the
//! same to report what is wrong.

#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "a name may hold terminal control sequences: messages quote and escape it"
)]

#[cfg(feature = "rows")]
pub(crate) mod answer_table;
#[cfg(feature = "rows")]
pub(crate) mod answers;
mod array;
#[cfg(feature = "cli")]
pub(crate) mod check;
#[cfg(feature = "cli")]
pub(crate) mod facts;
mod failures;
pub(crate) mod files;
mod flaw;
pub(crate) mod format;
mod hash;
mod ids;
pub(crate) mod io;
mod journal;
mod judge;
mod lines;
#[cfg(feature = "cli")]
mod look;
#[cfg(feature = "cli")]
pub(crate) mod merge;
mod occurrences;
mod parallel;
mod prompts;
mod readback;
mod record;
#[cfg(feature = "rows")]
pub(crate) mod row_source;
mod rows;
mod run;
mod scan;
pub(crate) mod shard;
pub(crate) mod sidecars;
pub(crate) mod summary;
#[cfg(feature = "rows")]
pub(crate) mod table;
mod tally;
mod writer;

#[cfg(feature = "rows")]
pub use answer_table::Column;
pub use failures::FailureGroup;
#[cfg(feature = "cli")]
pub(crate) use hash::LineHash;
pub use journal::Fsync;
#[cfg(feature = "cli")]
pub(crate) use journal::MAX_BODY;
pub use run::FileRun;
pub use summary::{FileProgress, ResumeInfo, Summary};
