//! Files of requests in, files of results out: one JSON object a line.
//!
//! [`run`] puts a run over a file together. A request travels from [`lines`] (lines of bytes,
//! bounded) to [`mod@format`] (one request, its body untouched), [`rows`] (a job for the engine)
//! and the client. Its result goes through [`writer`] and [`record`] (one line) to [`journal`] (the
//! files), which a later run [reads back](readback). The [`tally`] counts all of it.
//!
//! A JSON [`array`] is read as lines, and what seems to be no requests is refused by [`judge`].
//! [`ids`] has tables of ids, and names rows that have none.
//!
//! [`answer`] is what a record says to a person, and [`answers`] finds records by their ids. The
//! header of a [`table`] is read first and its rows once more for an [`answer_table`]. [`merge`]
//! makes one file of several.
//!
//! [`files`] says which files a run has, and [`sidecars`] which ones are beside them. [`scan`]
//! reads an input before anything is sent, in one [pass](parallel) on all cores, and a [`shard`] is
//! the share of an input that is one process's. `check` does the same to report what is wrong.

#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "a name may hold terminal control sequences: messages quote and escape it"
)]
#![cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        unused_imports,
        reason = "the tool uses more than a run does"
    )
)]

#[cfg(feature = "rows")]
mod answer;
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
pub(crate) mod ids;
pub(crate) mod io;
mod journal;
mod judge;
mod lines;
#[cfg(feature = "cli")]
pub(crate) mod merge;
mod parallel;
mod readback;
mod record;
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
pub(crate) use hash::LineHash;
pub use journal::Fsync;
pub(crate) use journal::MAX_BODY;
pub use run::FileRun;
pub use summary::{FileProgress, ResumeInfo, Summary};
