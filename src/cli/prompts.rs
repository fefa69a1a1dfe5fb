//! From the arguments about rows and prompts to what a run takes.

use std::fs;
use std::path::Path;

use super::args::Prompts;
use super::server::with;
use crate::api::classify::Promise;
use crate::error::config;
use crate::{FileRun, Provider, Result, Template};

/// Where lines without a `url` go, as the flag has it by default.
const CHAT: &str = "/v1/chat/completions";

/// Whether the lines of an input of this name are prompts.
pub(crate) fn is_prompts(input: &Path, prompts: &Prompts) -> bool {
    prompts.by_line || (!prompts.is_rows() && ends_in(input, &["txt"]))
}

pub(crate) fn ends_in(input: &Path, endings: &[&str]) -> bool {
    let own = input.extension();
    own.is_some_and(|own| {
        endings
            .iter()
            .any(|ending| own.eq_ignore_ascii_case(ending))
    })
}

/// The run with what is made of prompts or rows, and where they go: rows for Anthropic go to its
/// messages.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if the file of a template cannot be read.
pub(super) fn with_prompts<'p>(
    run: FileRun<'p>,
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
    Ok(with(run, prompts.model.as_deref(), |run, model| {
        let run = run.prompts(model, prompts.max_tokens, prompts.system.as_deref());
        let params = prompts.params.iter();
        params.fold(run, |run, (name, value)| run.param(name, value.clone()))
    }))
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
    if !is_rows && ends_in(input, &["csv", "tsv"]) {
        return Some(format!(
            "--prompt is missing: INPUT {input:?} is a table, so say what to ask of each row, such as \
             --prompt 'Classify: {{{{ text }}}}'"
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
        None
    } else {
        flaw_of_chats(endpoint, provider)
    }
}

/// What is wrong with the flags of prompts and rows, which need a model to be sent to.
pub(crate) fn flaw_of_prompts(
    input: &Path,
    prompts: &Prompts,
    endpoint: &str,
    provider: Option<Provider>,
) -> Option<String> {
    let flaw = flaw(input, prompts, endpoint, provider);
    flaw.or_else(|| flaw_of_model(input, prompts))
}

fn flaw_of_model(input: &Path, prompts: &Prompts) -> Option<String> {
    let what = match prompts.is_rows() {
        true => "INPUT is rows (--prompt)",
        false if is_prompts(input, prompts) => "INPUT is prompts (.txt or --prompts)",
        false => return None,
    };
    match prompts.model.as_deref() {
        None => Some(format!("--model is missing: {what}, which name no model")),
        Some("") => Some("--model is empty".to_owned()),
        Some(_) => None,
    }
}

/// Prompts are chats, and another endpoint would refuse a chat's body, row by row.
fn flaw_of_chats(endpoint: &str, provider: Option<Provider>) -> Option<String> {
    let path = endpoint.split('?').next().unwrap_or_default();
    let takes_others = Promise::of(path) != Promise::Anything || path.ends_with("/moderations");
    if provider == Some(Provider::Anthropic) {
        Some(
            "--provider anthropic: prompts (.txt or --prompts) are sent as OpenAI chats. Write Anthropic \
             batch lines into a .jsonl file."
                .to_owned(),
        )
    } else if takes_others && !path.ends_with("/chat/completions") {
        Some(format!(
            "--endpoint {endpoint:?}: prompts are sent as chats. For anything else write batch lines \
             into a .jsonl file."
        ))
    } else {
        None
    }
}
