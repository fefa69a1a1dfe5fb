//! `tollgate check`: what a file holds and what is wrong with it, on standard output.
//!
//! The report is the command's product, so it goes where a pipe takes it, in one write. Names and
//! messages come from the file and are made safe to show; as JSON they are what they are.

use serde_json::{Map, Value, json};

use super::args;
use super::console::{Console, with_flags};
use super::exit::Exit;
use super::format::{aligned, count, counted};
use super::prompts::{flaw, is_prompts, unsent_run};
use super::{output, signals};
use crate::Result;
use crate::error::{config, refuse};
use crate::escape::printable;
use crate::jsonl::check::{Finding, Names, Report};

/// How many findings of a kind are shown; `--json` has more.
const SHOWN: usize = 20;

/// How many models, or endpoints, are named.
const NAMED: usize = 5;

/// How much of a name, or of a message, is shown, in characters.
const LONGEST_NAME: usize = 60;
const LONGEST_MESSAGE: usize = 300;

/// Checks a file; the answer says whether anything is wrong.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for arguments that do not go together,
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the report cannot be written.
pub(crate) fn check(args: &args::Check, console: &Console) -> Result<Exit> {
    signals::stop_at_once()?;
    let (input, prompts, provider) = (&args.input, &args.prompts, args.provider);
    refuse(flaw(input, prompts, &args.endpoint, None))?;
    if is_prompts(input, prompts) && provider.is_some() {
        return Err(config(
            "--provider is for files of requests: INPUT is prompts (.txt or --prompts), which no batch \
             service takes",
        ));
    }
    let run = unsent_run(input, prompts, &args.endpoint, provider)?;
    // Rows are in no batch's form: what they become is.
    let rules = provider.filter(|_| !prompts.is_rows());
    let report = match run.look(rules, |_, _| ()) {
        Ok(report) => report,
        // Whatever it was that kept it from being read: the file has not been found good.
        Err(error) => {
            console.error(&error);
            return Ok(Exit::Usage);
        }
    };
    let text = if args.json {
        format!("{}\n", to_json(&report))
    } else {
        to_text(&report)
    };
    output::show(&text)?;
    Ok(exit(&report))
}

/// Whether anything is wrong.
pub(super) fn exit(report: &Report) -> Exit {
    if report.findings.total() == 0 {
        Exit::Success
    } else {
        Exit::SomeFailed
    }
}

/// The findings, and below them, where a terminal is left, the totals.
pub(super) fn to_text(report: &Report) -> String {
    let mut lines = Vec::new();
    for of_a_kind in &report.findings.by_kind {
        lines.extend(of_a_kind.kept.iter().take(SHOWN).map(told));
        let more = of_a_kind.total.saturating_sub(SHOWN as u64);
        if more > 0 {
            lines.push(format!("and {} more like these", count(more)));
        }
    }
    if !lines.is_empty() {
        lines.push("\n".to_owned());
    }
    lines.join("\n") + &aligned(&facts(report))
}

fn told(finding: &Finding) -> String {
    let message = printable(&with_flags(&finding.message), LONGEST_MESSAGE);
    match finding.line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let lines = counted(report.lines, "line", "lines");
    let bytes = counted(report.bytes, "byte", "bytes");
    let requests = format!("{} in {lines} of {bytes}", count(report.requests));
    let mut facts = vec![("requests", requests)];
    for (label, lines) in [
        ("bad lines", report.bad_lines),
        ("blank lines", report.blank_lines),
    ] {
        if lines > 0 {
            facts.push((label, count(lines)));
        }
    }
    for (label, names) in [("models", &report.models), ("endpoints", &report.endpoints)] {
        facts.extend(most_used(names).map(|names| (label, names)));
    }
    if report.requests > 0 {
        let prompts = format!("about {}", count(report.prompt_tokens));
        facts.push(("prompt tokens", prompts));
        facts.extend(output_tokens(report).map(|tokens| ("output tokens", tokens)));
    }
    let findings = match report.findings.total() {
        0 => "none".to_owned(),
        total => count(total),
    };
    facts.push(("findings", findings));
    facts
}

fn most_used(names: &Names) -> Option<String> {
    let by_requests = names.by_requests();
    let (first, rest) = by_requests.split_at(by_requests.len().min(NAMED));
    let mut told: Vec<String> = first
        .iter()
        .map(|(name, used)| {
            let name = printable(name, LONGEST_NAME);
            format!("{name} ({})", count(used.requests))
        })
        .collect();
    let rest: u64 = rest.iter().map(|(_, used)| used.requests).sum();
    let rest = rest + names.others;
    if rest > 0 {
        told.push(format!("others ({})", count(rest)));
    }
    (!told.is_empty()).then(|| told.join(", "))
}

fn output_tokens(report: &Report) -> Option<String> {
    let mut told = Vec::new();
    if report.output_tokens > 0 {
        told.push(format!("at most {}", count(report.output_tokens)));
    }
    if report.unlimited > 0 {
        let requests = counted(report.unlimited, "request sets", "requests set");
        told.push(format!("{requests} no limit"));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

/// The keys are documented in the guide, and stay.
fn to_json(report: &Report) -> Value {
    let names = |names: &Names| -> Vec<Value> {
        let used = names.by_requests().into_iter();
        used.map(|(name, used)| json!({ "name": name, "requests": used.requests }))
            .collect()
    };
    let (mut by_kind, mut findings) = (Map::new(), Vec::new());
    for of_a_kind in &report.findings.by_kind {
        let kind = of_a_kind.kind;
        by_kind.insert(kind.to_owned(), of_a_kind.total.into());
        for finding in &of_a_kind.kept {
            findings.push(json!({
                "kind": kind,
                "line": finding.line,
                "column": finding.column,
                "first_line": finding.first_line,
                "message": with_flags(&finding.message),
            }));
        }
    }
    json!({
        "requests": report.requests,
        "bad_lines": report.bad_lines,
        "blank_lines": report.blank_lines,
        "lines": report.lines,
        "bytes": report.bytes,
        "models": names(&report.models),
        "other_models_requests": report.models.others,
        "endpoints": names(&report.endpoints),
        "other_endpoints_requests": report.endpoints.others,
        "prompt_tokens": report.prompt_tokens,
        "output_tokens": report.output_tokens,
        "requests_without_limit": report.unlimited,
        "findings_total": report.findings.total(),
        "findings_by_kind": by_kind,
        "findings": findings,
    })
}
