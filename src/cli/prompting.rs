//! From the arguments about rows and prompts to what a run takes.

use std::fs;
use std::path::Path;

use super::args::Prompting;
use super::server::with;
use crate::api::classify::Promise;
use crate::error::config;
use crate::{Provider, Result, Template};

/// Where lines without a `url` go, as the flag has it by default.
const CHAT: &str = "/v1/chat/completions";

/// Whether the lines of an input of this name are prompts.
pub(crate) fn is_prompts(input: &Path, prompting: &Prompting) -> bool {
    prompting.prompts || (!prompting.is_rows() && ends_in(input, &["txt"]))
}

fn ends_in(input: &Path, endings: &[&str]) -> bool {
    let own = input.extension();
    own.is_some_and(|own| {
        endings
            .iter()
            .any(|ending| own.eq_ignore_ascii_case(ending))
    })
}

/// Where requests go: rows for Anthropic to its own endpoint.
pub(crate) fn endpoint<'a>(
    given: &'a str,
    prompting: &Prompting,
    provider: Option<Provider>,
) -> &'a str {
    match provider {
        Some(Provider::Anthropic) if prompting.is_rows() && given == CHAT => "/v1/messages",
        _ => given,
    }
}

/// The template of rows, if the input is rows.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if the file of the template cannot be read.
pub(crate) fn template(prompting: &Prompting) -> Result<Option<Template>> {
    let prompt = match (&prompting.prompt, &prompting.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => fs::read_to_string(file).map_err(|error| {
            config(format!("cannot read --prompt-file {file:?}: {error}")).with_source(error)
        })?,
        (None, None) => return Ok(None),
    };
    let template = Template::new(prompting.model.as_deref().unwrap_or_default(), prompt);
    let template = with(template, prompting.system.as_deref(), Template::system);
    let template = with(template, prompting.max_tokens, Template::max_tokens);
    let template = with(template, prompting.id.as_deref(), Template::id);
    let template = with(template, prompting.delimiter, Template::delimiter);
    let params = prompting.params.iter();
    Ok(Some(params.fold(template, |template, (name, value)| {
        template.param(name, value.clone())
    })))
}

/// What is wrong with the flags of prompts and rows.
pub(crate) fn flaw(
    input: &Path,
    prompting: &Prompting,
    endpoint: &str,
    provider: Option<Provider>,
) -> Option<String> {
    let is_rows = prompting.is_rows();
    if !is_rows && ends_in(input, &["csv", "tsv"]) {
        return Some(format!(
            "--prompt is missing: INPUT {input:?} is a table, so say what to ask of each row, such as \
             --prompt 'Classify: {{{{ text }}}}'"
        ));
    }
    if !is_rows && !is_prompts(input, prompting) {
        let given = [
            ("--model", prompting.model.is_some()),
            ("--max-tokens", prompting.max_tokens.is_some()),
            ("--system", prompting.system.is_some()),
            ("--param", !prompting.params.is_empty()),
        ];
        let (flag, _) = given.into_iter().find(|(_, given)| *given)?;
        return Some(format!(
            "{flag} is for rows (with --prompt) and prompts (INPUT ends in .txt, or --prompts): \
             requests name their own"
        ));
    }
    for (at, (name, _)) in prompting.params.iter().enumerate() {
        if prompting.params[..at]
            .iter()
            .any(|(other, _)| other == name)
        {
            return Some(format!("--param {name} is given twice"));
        }
        if name == "max_tokens" && prompting.max_tokens.is_some() {
            return Some("--param max_tokens is what --max-tokens says: leave one out".to_owned());
        }
    }
    if is_rows {
        None
    } else {
        flaw_of_chats(endpoint, provider)
    }
}

/// What is wrong with the model of rows and prompts, which a run needs.
pub(crate) fn flaw_of_model(input: &Path, prompting: &Prompting) -> Option<String> {
    let what = match prompting.is_rows() {
        true => "INPUT is rows (--prompt)",
        false if is_prompts(input, prompting) => "INPUT is prompts (.txt or --prompts)",
        false => return None,
    };
    match prompting.model.as_deref() {
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
