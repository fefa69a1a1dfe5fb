//! The input whose order results are to be in, and what its lines are.

use super::args::OfInput;
use super::check::nobodys_client;
use super::prompts::{self, with_prompts};
use crate::error::{config, refuse};
use crate::jsonl::files::{Location, RunFiles};
use crate::jsonl::format::Format;
use crate::jsonl::sidecars::is_table;
use crate::{FileRun, Result};

/// Opens it, if there is one.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for flags that do not go together, and for an
/// input that cannot be opened or does not fit them.
pub(super) fn opened(args: &OfInput) -> Result<Option<(Location, Format)>> {
    let Some(input) = args.ordered_by.as_deref() else {
        return Ok(None);
    };
    let (prompts, endpoint, provider) = (&args.prompts, &args.endpoint, args.provider);
    if is_table(input) && !prompts.is_rows() {
        return Err(config(format!(
            "--prompt is missing: INPUT {input:?} is a table, so give the flags of the run that made the \
             results, as they name its rows: --prompt, --model and so on"
        )));
    }
    refuse(prompts::flaw(input, prompts, endpoint, provider))?;
    let files = RunFiles::complete(input, Some("-".as_ref()), None, false, None);
    let run = FileRun::over(&nobodys_client()?, files);
    let run = with_prompts(run, prompts, endpoint, provider)?;
    if prompts::is_prompts(input, prompts) {
        return run.prompts("", None, None).input().map(Some);
    }
    run.input().map(Some)
}
