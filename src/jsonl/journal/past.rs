//! What is known of the rows before a run begins.

use std::collections::HashMap;

use super::super::hash::LineHash;
use super::super::line::RequestLine;
use crate::error::{Error, ErrorKind, Result};

/// What earlier runs made of the rows, by the hash of their id, with the hash of the request line
/// where the record has it.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(super) done: HashMap<LineHash, Option<LineHash>>,
    /// Failed for a reason that will not pass.
    pub(super) failed: HashMap<LineHash, Option<LineHash>>,
}

/// Where a row stands when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    ToDo,
    Done,
    Failed,
}

impl Past {
    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.failed.is_empty()
    }

    /// Where the row stands. One that has failed as another request stands anew.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is done as another request: the answer on file is not its own.
    pub(crate) fn standing(&self, id: LineHash, line: &RequestLine) -> Result<Standing> {
        let same = |hash: &Option<LineHash>| hash.is_none_or(|hash| hash == line.hash);
        match self.done.get(&id) {
            None if self.failed.get(&id).is_some_and(same) => Ok(Standing::Failed),
            None => Ok(Standing::ToDo),
            Some(hash) if same(hash) => Ok(Standing::Done),
            Some(_) => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "line {}: the request {:?} has changed since it was answered: give it another \
                     custom_id, or start anew with --overwrite",
                    line.number, line.custom_id
                ),
            )),
        }
    }
}
