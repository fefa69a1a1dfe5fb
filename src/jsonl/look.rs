//! The input of a run, for others than the run: what it holds, and what its lines are.

use super::answer_table::RunTable;
use super::check;
use super::files::{Location, OpenInput};
use super::format::Format;
use super::hash::LineHash;
use super::journal::recover;
use super::run::FileRun;
use crate::api::Provider;
use crate::error::Result;

impl FileRun<'_> {
    /// Looks through the input as a run would, and changes nothing: what it holds, as
    /// [`check`](check::check) says it, with the rules of a provider's own batch service if there
    /// is one. Each request that is left to send is shown to `each`, with the hash of its id. Lines
    /// of the output are not repaired.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), but for ids that are in two lines and rows that have changed:
    /// these are findings.
    pub(crate) fn look(
        self,
        provider: Option<Provider>,
        each: impl FnMut(Option<LineHash>, &check::RequestFacts),
    ) -> Result<check::Report> {
        let mut options = self.checked()?;
        options.repair = false;
        self.files.check()?;
        let (cancel, location) = (&self.client.settings().cancel, &self.files.input);
        let (index, _) = recover(&self.files, options, cancel)?;
        let (input, format) = self.choices.open(location, cancel)?;
        RunTable::new(&self.files, &format, options, self.choices.table)?;
        match input {
            OpenInput::Regular(it) => check::check(it, location, &format, &index, provider, each),
            OpenInput::Stream(it) => check::check(it, location, &format, &index, provider, each),
        }
    }

    /// The input and what its lines are, for others than a run.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an input that cannot be opened, or a header that does not fit.
    pub(crate) fn input(self) -> Result<(Location, Format)> {
        let cancel = &self.client.settings().cancel;
        let (_, format) = self.choices.open(&self.files.input, cancel)?;
        Ok((self.files.input, format))
    }
}
