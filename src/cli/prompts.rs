//! From the arguments about rows and prompts to what a run takes.

use std::fs;
use std::path::Path;

use super::args::{OfInput, Prompts};
use super::server::with;
use crate::api::classify::Promise;
use crate::api::path;
use crate::error::{config, refuse};
use crate::jsonl::files::{Location, RunFiles};
use crate::jsonl::format::Format;
use crate::jsonl::sidecars::{has_ending, is_table};
use crate::{Client, FileRun, Provider, Result, Template};

/// Where lines without a `url` go, as the flag has it by default.
const CHAT: &str = "/v1/chat/completions";

/// Whether the lines of an input of this name are prompts.
pub(crate) fn is_prompts(input: &Path, prompts: &Prompts) -> bool {
    prompts.by_line || (!prompts.is_rows() && has_ending(input, "txt"))
}

/// The run with what is made of prompts or rows, and where they go: rows for Anthropic go to its
/// messages.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if the file of a template cannot be read.
pub(super) fn with_prompts<'p>(
    run: FileRun<'p>,
    input: &Path,
    prompts: &Prompts,
    endpoint: &str,
    provider: Option<Provider>,
) -> Result<FileRun<'p>> {
    let is_anthropics = prompts.is_rows() && provider == Some(Provider::Anthropic);
    let run = run.endpoint(match endpoint {
        CHAT if is_anthropics => "/v1/messages",
        _ => endpoint,
    });
    if let Some(template) = template(prompts)? {
        return Ok(run.rows(template));
    }
    if !is_prompts(input, prompts) {
        return Ok(run);
    }
    // What sends nothing needs no model.
    let model = prompts.model.as_deref().unwrap_or_default();
    let run = run.prompts(model, prompts.max_tokens, prompts.system.as_deref());
    let params = prompts.params.iter();
    Ok(params.fold(run, |run, (name, value)| run.param(name, value.clone())))
}

/// A run over the input alone, whatever results there are, which is not to send anything.
///
/// # Errors
/// Those of [`check_endpoint`] and [`with_prompts`].
pub(super) fn unsent_run(
    input: &Path,
    prompts: &Prompts,
    endpoint: &str,
    provider: Option<Provider>,
) -> Result<FileRun<'static>> {
    check_endpoint(endpoint)?;
    let files = RunFiles::complete(input, Some("-".as_ref()), None, false, None);
    let run = FileRun::over(&nobodys_client()?, files);
    with_prompts(run, input, prompts, endpoint, provider)
}

/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is no path.
pub(super) fn check_endpoint(endpoint: &str) -> Result<()> {
    path::check_path(endpoint).map_err(|what| config(format!("--endpoint {endpoint:?} {what}")))
}

/// A client for runs that send nothing, which needs neither an address nor a key.
///
/// # Errors
/// None: there is nothing wrong with its settings.
pub(super) fn nobodys_client() -> Result<Client> {
    let builder = Client::builder().base_url("http://127.0.0.1/v1");
    builder.no_auth().build()
}

/// The input whose order results are to be in, and what its lines are.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for flags that do not go together, and for an
/// input that cannot be opened or does not fit them.
pub(super) fn ordered_by(args: &OfInput) -> Result<Option<(Location, Format)>> {
    let Some(input) = args.ordered_by.as_deref() else {
        return Ok(None);
    };
    let (prompts, endpoint, provider) = (&args.prompts, &args.endpoint, args.provider);
    refuse(flaw(input, prompts, endpoint, provider))?;
    unsent_run(input, prompts, endpoint, provider)?
        .input()
        .map(Some)
}

/// The template of rows, if the input is rows.
fn template(prompts: &Prompts) -> Result<Option<Template>> {
    let prompt = match (&prompts.prompt, &prompts.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => fs::read_to_string(file).map_err(|error| {
            config(format!("cannot read --prompt-file {file:?}: {error}")).with_source(error)
        })?,
        (None, None) => return Ok(None),
    };
    let template = Template::new(prompts.model.as_deref().unwrap_or_default(), prompt);
    let template = with(template, prompts.system.as_deref(), Template::system);
    let template = with(template, prompts.max_tokens, Template::max_tokens);
    let template = with(template, prompts.id.as_deref(), Template::id);
    let template = with(template, prompts.delimiter, Template::delimiter);
    let params = prompts.params.iter();
    Ok(Some(params.fold(template, |template, (name, value)| {
        template.param(name, value.clone())
    })))
}

/// What is wrong with the flags of prompts and rows, but for the model.
pub(crate) fn flaw(
    input: &Path,
    prompts: &Prompts,
    endpoint: &str,
    provider: Option<Provider>,
) -> Option<String> {
    let is_rows = prompts.is_rows();
    if !is_rows && is_table(input) {
        return Some(format!(
            "--prompt is missing: INPUT {input:?} is a table, so say what to ask of each row, such as \
             --prompt 'Classify: {{{{ text }}}}' and --model"
        ));
    }
    if !is_rows && !is_prompts(input, prompts) {
        let given = [
            ("--model", prompts.model.is_some()),
            ("--max-tokens", prompts.max_tokens.is_some()),
            ("--system", prompts.system.is_some()),
            ("--param", !prompts.params.is_empty()),
        ];
        let (flag, _) = given.into_iter().find(|(_, given)| *given)?;
        return Some(format!(
            "{flag} is for rows (with --prompt) and prompts (INPUT ends in .txt, or --prompts): \
             requests name their own"
        ));
    }
    for (at, (name, _)) in prompts.params.iter().enumerate() {
        if prompts.params[..at].iter().any(|(other, _)| other == name) {
            return Some(format!("--param {name} is given twice"));
        }
        if name == "max_tokens" && prompts.max_tokens.is_some() {
            return Some("--param max_tokens is what --max-tokens says: leave one out".to_owned());
        }
    }
    if is_rows {
        return None;
    }
    // Prompts are chats, and another endpoint would refuse a chat's body, row by row.
    if provider == Some(Provider::Anthropic) {
        return Some(
            "--provider anthropic: prompts (.txt or --prompts) are sent as OpenAI chats. Write Anthropic \
             batch lines into a .jsonl file."
                .to_owned(),
        );
    }
    let path = endpoint.split('?').next().unwrap_or_default();
    let takes_others = Promise::of(path) != Promise::Anything || path.ends_with("/moderations");
    (takes_others && !path.ends_with("/chat/completions")).then(|| {
        format!(
            "--endpoint {endpoint:?}: prompts are sent as chats. For anything else write batch lines \
             into a .jsonl file."
        )
    })
}

/// What is wrong with the flags of prompts and rows, which need a model to be sent to.
pub(crate) fn flaw_of_prompts(
    input: &Path,
    prompts: &Prompts,
    endpoint: &str,
    provider: Option<Provider>,
) -> Option<String> {
    let flaw = flaw(input, prompts, endpoint, provider);
    flaw.or_else(|| {
        let what = match prompts.is_rows() {
            true => "rows (--prompt)",
            false if is_prompts(input, prompts) => "prompts (.txt or --prompts)",
            false => return None,
        };
        let has_model = prompts.model.as_deref().is_some_and(|it| !it.is_empty());
        (!has_model).then(|| format!("--model is missing: INPUT is {what}, which name no model"))
    })
}
