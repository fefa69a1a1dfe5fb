//! What can be chosen about a run over a file, and whether it goes together.

#[cfg(feature = "rows")]
use super::answer_table::TableOptions;
use super::files::{Location, OpenInput};
use super::format::Format;
use super::journal::JournalOptions;
#[cfg(feature = "rows")]
use super::table;
use super::tally::SpendLimits;
use crate::cancel::Cancel;
use crate::error::{Error, Result, config};
#[cfg(feature = "rows")]
use crate::rows::Template;

/// What can be chosen about a run.
#[derive(Default)]
pub(super) struct Choices {
    pub(super) format: Format,
    pub(super) ordered: bool,
    pub(super) strict: bool,
    pub(super) journal: JournalOptions,
    #[cfg(feature = "rows")]
    pub(super) table: TableOptions,
    pub(super) limits: SpendLimits,
    /// What rows of a table become.
    #[cfg(feature = "rows")]
    pub(super) template: Option<Template>,
    /// A setting that cannot be kept, told by `run`.
    pub(super) refused: Option<Error>,
}

impl Choices {
    /// Opens the input, and reads the header of a table.
    #[cfg_attr(not(feature = "rows"), expect(unused_variables))]
    pub(super) fn open(&self, location: &Location, cancel: &Cancel) -> Result<(OpenInput, Format)> {
        let (input, format) = (location.open_input()?, self.format.clone());
        #[cfg(feature = "rows")]
        if let Some(template) = &self.template {
            return table::open(template, format, input, location, cancel);
        }
        Ok((input, format))
    }

    /// How to treat what is in the output, once it is sure that the settings go together.
    pub(super) fn checked(&self) -> Result<JournalOptions> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let options = self.journal;
        for (is_set, pair) in [
            (options.policy.retry_failed, &["overwrite", "retry_failed"]),
            (options.policy.force_resume, &["overwrite", "force_resume"]),
            (options.repair, &["overwrite", "repair"]),
        ] {
            if options.overwrite && is_set {
                let why =
                    "overwrite deletes what the other setting works on: leave one of them out";
                return Err(config(why).with_settings(pair));
            }
        }
        self.limits.check()?;
        Ok(options)
    }
}
