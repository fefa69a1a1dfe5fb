//! What a file of requests holds and what is wrong with it, found without sending anything.
//!
//! Each line is read as a run reads it, so that what is fine here is sent there, and what is not is
//! what a run would refuse or make a failed row of. The rules of a provider's own
//! [batch](mod@batch) service come on top where they are asked for; a run needs none of them.
//!
//! One [pass](super::scan::fold_rows) on all cores reads the lines, and one thread makes a
//! [`Report`] of what they say, in the order of the file. Memory grows by the table of
//! [ids](super::ids) alone; findings and names are kept up to a number, and counted beyond.

mod batch;
mod report;

use std::io::Read;

use super::answer_table::RunTable;
use super::files::Location;
use super::format::{Format, InputRow};
use super::hash::LineHash;
use super::journal::{ResumeIndex, RowStatus, recover};
use super::judge;
use super::lines::Line;
use super::run::FileRun;
use super::scan::{RowFacts, fold_rows, repeated_ids};
use crate::api::json::{fields, string};
use crate::api::{Provider, Size};
use crate::cancel::Cancel;
use crate::error::Result;

pub(crate) use report::{Finding, Names, Report};

use batch::{Rules, embedding_inputs};

impl FileRun<'_> {
    /// Looks through the input as a run would, and changes nothing: what it holds, with the rules
    /// of a provider's own batch service if there is one. Each request that is left to send is
    /// shown to `each`, with the hash of its id.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), but for ids that are in two lines and rows that have changed:
    /// these are findings.
    pub(crate) fn look(
        self,
        provider: Option<Provider>,
        each: impl FnMut(Option<LineHash>, &RequestFacts),
    ) -> Result<Report> {
        let options = self.checked()?;
        self.files.check()?;
        let (cancel, location) = (&self.client.settings().cancel, &self.files.input);
        let (index, _) = recover(&self.files, options, cancel)?;
        let (input, format) = self.choices.open(location, cancel)?;
        RunTable::new(&self.files, &format, options, self.choices.table)?;
        check(input.into_read(), location, &format, &index, provider, each)
    }

    /// The input and what its lines are, for others than a run.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an input that cannot be opened, or a
    /// header that does not fit.
    pub(crate) fn input(self) -> Result<(Location, Format)> {
        let cancel = &self.client.settings().cancel;
        let (_, format) = self.choices.open(&self.files.input, cancel)?;
        Ok((self.files.input, format))
    }
}

/// Checks a whole file of requests, whose name is `location` and whose lines are of this `format`.
///
/// # Errors
/// Those of [`Location::unreadable`].
fn check<R: Read>(
    source: R,
    location: &Location,
    format: &Format,
    index: &ResumeIndex,
    provider: Option<Provider>,
    mut each: impl FnMut(Option<LineHash>, &RequestFacts),
) -> Result<Report> {
    let rules = provider.map(Rules::of);
    let mut lines = format.lines(source);
    let refusal = judge::refusal(&mut lines, format, judge::OF_STREAM);
    let refusal = refusal.map_err(|error| location.unreadable(error))?;
    let mut report = Report::default();
    if let Some(refusal) = refusal {
        let finding = Finding::new("no_requests", None, format!("the input {refusal}"));
        report.findings.note(finding);
    }
    // With their lines.
    let mut ids = Vec::new();
    let read = |line: Line<&[u8]>| {
        let row = format.parse(line);
        let facts = RowFacts::of(&row, format, index);
        (facts, LineFacts::of(line, &row, rules))
    };
    let add = |facts: RowFacts, line: LineFacts| {
        let number = Some(facts.number);
        if facts.is_elsewhere {
            if facts.status != RowStatus::ToDo {
                let finding = Finding::new("other_shard", number, OTHER_SHARD.to_owned());
                report.findings.note(finding);
            }
            return;
        }
        if facts.status == RowStatus::Changed {
            let finding = Finding::new("changed", number, CHANGED.to_owned());
            report.findings.note(finding);
        }
        if !format.names_rows() {
            ids.extend(facts.id.map(|id| (id, facts.number)));
        }
        let is_to_do = matches!(facts.status, RowStatus::ToDo | RowStatus::ToDoLast);
        if let Some(request) = line.request.as_ref().filter(|_| is_to_do) {
            each(facts.id, request);
        }
        // Where a prompt goes and to which model is decided when it is sent.
        report.note(facts.number, line, format.prompts.is_none());
    };
    let cancel = Cancel::new();
    fold_rows(&mut lines, location, format, index, &cancel, read, add)?;
    report.lines = lines.number;
    report.blank_lines = lines.blanks;
    report.bytes = lines.offset;
    for (first, again, id) in repeated_ids(location, format, ids) {
        let message = format!("has the \"custom_id\" of line {first}{id}");
        report.findings.note(Finding {
            first_line: Some(first),
            ..Finding::new("duplicate_id", Some(again), message)
        });
    }
    for finding in rules.map_or_else(Vec::new, |rules| rules.judge(&report)) {
        report.findings.note(finding);
    }
    Ok(report)
}

const CHANGED: &str = "has changed since it was answered: give it another id, keep its old answer \
                       (`force_resume`), or start anew (`overwrite`)";
const OTHER_SHARD: &str = "has a record in the output, and is in another shard: give each shard an \
                           output of its own";

/// What a line says.
struct LineFacts {
    /// `None` if the line is no request.
    request: Option<RequestFacts>,
    findings: Vec<Finding>,
}

/// What a request says of itself.
pub(crate) struct RequestFacts {
    pub(crate) path: String,
    model: Option<String>,
    pub(crate) size: Size,
    embedding_inputs: u64,
}

impl LineFacts {
    fn of(line: Line<&[u8]>, row: &InputRow<'_>, rules: Option<Rules>) -> Self {
        let request = match &row.request {
            Ok(request) => request,
            // A run would make a failed row of it.
            Err(error) => {
                let message = error.message.to_string();
                let finding = Finding {
                    column: error.column,
                    ..Finding::new(error.kind, Some(line.number), message)
                };
                return Self {
                    request: None,
                    findings: vec![finding],
                };
            }
        };
        let body = request.body.as_ref();
        let found = fields(body, &["model", "input"]);
        let [model, input] = found.map_or([None; 2], |found| found.values);
        let size = Size::of(body.as_bytes());
        let findings = rules.map(|rules| rules.findings(line, row, request, size));
        Self {
            request: Some(RequestFacts {
                path: request.path.to_string(),
                // Rows may be checked before a model is chosen.
                model: model.and_then(string).filter(|name| !name.is_empty()),
                size,
                embedding_inputs: embedding_inputs(&request.path, input),
            }),
            findings: findings.unwrap_or_default(),
        }
    }
}

impl Report {
    /// Adds what a line says, with the names in it if they count.
    fn note(&mut self, number: u64, line: LineFacts, with_names: bool) {
        for finding in line.findings {
            self.findings.note(finding);
        }
        let Some(request) = line.request else {
            self.bad_lines += 1;
            return;
        };
        self.requests += 1;
        self.note_tokens(&request.path, request.size);
        self.embedding_inputs += request.embedding_inputs;
        if with_names {
            self.endpoints.note(&request.path, number);
            if let Some(model) = &request.model {
                self.models.note(model, number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Chat;
    use crate::error::ErrorKind;

    fn look(file: &str, provider: Option<Provider>) -> Report {
        check(
            file.as_bytes(),
            &Location::Stream,
            &Format::default(),
            &ResumeIndex::default(),
            provider,
            |_, _| (),
        )
        .unwrap()
    }

    #[test]
    fn a_file_is_counted_and_what_is_wrong_has_its_place() {
        let file = concat!(
            r#"{"custom_id":"a","url":"/v1/completions","body":{"model":"m","prompt":"1234","max_tokens":10,"n":2}}"#,
            "\n\r\n",
            r#"  {"custom_id":"b" "body":{}}"#,
            "\n",
            r#"{"custom_id":"c","body":{"model":"n","messages":[{"role":"user","content":"1234"}]}}"#,
            "\n",
            r#"{"custom_id":"a","url":"/v1/embeddings","body":{"model":"m","input":"1234"}}"#,
            "\n",
            r#"{"custom_id":"d","body":{"stream":true}}"#,
        );
        let report = look(file, None);
        assert_eq!((report.requests, report.bad_lines), (3, 2));
        assert_eq!((report.lines, report.blank_lines), (6, 1));
        assert_eq!(report.bytes, file.len() as u64);
        // 1 + (2 + 4 + 1) + 1, and twice 10; the chat alone has no limit.
        assert_eq!((report.prompt_tokens, report.output_tokens), (9, 20));
        assert_eq!(report.unlimited, 1);
        let models = report.models.by_requests();
        assert_eq!(
            models.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["m", "n"]
        );
        assert_eq!(report.endpoints.by_requests().len(), 3);
        let found: Vec<_> = report
            .findings
            .by_kind
            .iter()
            .flat_map(|of| {
                of.kept
                    .iter()
                    .map(|it| (of.kind, it.line, it.column, it.first_line))
            })
            .collect();
        assert_eq!(
            found,
            [
                ("not_json", Some(3), Some(20), None),
                ("stream", Some(6), None, None),
                ("duplicate_id", Some(5), None, Some(1)),
            ]
        );
    }

    #[test]
    fn tokens_are_those_that_the_limiter_reserves() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"What is this?"}],"max_tokens":70,"n":3}"#;
        let report = look(&format!("{{\"custom_id\":\"a\",\"body\":{body}}}"), None);
        let size = Size::of(body.as_bytes());
        assert_eq!(report.prompt_tokens, size.prompt);
        assert_eq!(report.output_tokens, size.output(500));
    }

    #[test]
    fn prompts_are_counted_without_models_or_endpoints() {
        let prompts = b"12345678\n\n12345678\n";
        let format = Format {
            prompts: Some(Chat::new((), "")),
            ..Format::default()
        };
        let report = check(
            &prompts[..],
            &Location::Stream,
            &format,
            &ResumeIndex::default(),
            None,
            |_, _| (),
        )
        .unwrap();
        assert_eq!((report.requests, report.prompt_tokens), (2, 16));
        assert!(report.models.by_requests().is_empty());
        assert!(report.endpoints.by_requests().is_empty());
        assert_eq!(report.findings.total(), 0);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let refused = check(
            &b"\x1f\x8b\x08"[..],
            &Location::Stream,
            &Format::default(),
            &ResumeIndex::default(),
            None,
            |_, _| (),
        );
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    }
}
