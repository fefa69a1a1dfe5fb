//! What a file of requests holds and what is wrong with it, found without sending anything.
//!
//! Each line is read as a run reads it, so that what is fine here is sent there, and what is not is
//! what a run would refuse or make a failed row of. The rules of a provider's own
//! [batch](mod@batch) service come on top where they are asked for; a run needs none of them.
//!
//! One [pass](super::parallel) on all cores reads the lines, and one thread makes a [`Report`] of
//! what they say, in the order of the file. Memory grows by the table of [ids](super::ids) alone;
//! [findings] and names are kept up to a number, and counted beyond.

mod batch;
mod findings;
mod report;

use std::io::Read;

use super::files::Location;
use super::format::Format;
use super::hash::LineHash;
use super::journal::{ResumeIndex, RowStatus};
use super::judge::judge_stream;
use super::lines::Line;
use super::occurrences::Occurrences;
use super::parallel::fold;
use super::scan::repeated_ids;
use crate::api::classify::Promise;
use crate::api::json::{fields, string};
use crate::api::{Provider, Size};
use crate::cancel::Cancel;
use crate::error::Result;

pub(crate) use findings::{Finding, Findings};
pub(crate) use report::{Names, Report};

use batch::{Rules, embedding_inputs};

/// Checks a whole file of requests, whose name is `location` and whose lines are of this `format`,
/// for a provider's own batch service if there is one. Each request that `index` leaves to do is
/// also shown to `each`, with the hash of its id.
///
/// # Errors
/// Those of [`Location::unreadable`].
pub(crate) fn check<R: Read>(
    source: R,
    location: &Location,
    format: &Format,
    index: &ResumeIndex,
    provider: Option<Provider>,
    mut each: impl FnMut(Option<LineHash>, &RequestFacts),
) -> Result<Report> {
    let rules = provider.map(Rules::of);
    let mut lines = format.lines(source);
    let unreadable = |error| location.unreadable(error);
    let mut report = Report::default();
    if let Some(refusal) = judge_stream(&mut lines, format).map_err(unreadable)? {
        report
            .findings
            .note(Finding::new("no_requests", None, refusal));
    }
    // With their lines.
    let mut ids = Vec::new();
    let mut occurrences = format.names_rows().then(Occurrences::new);
    let read = |line: Line<&[u8]>| LineFacts::read(line, format, index, rules);
    let add = |mut facts: LineFacts| {
        if let Some(occurrences) = &mut occurrences {
            let id = facts.hash.and_then(|hash| occurrences.id(hash));
            facts.rename(id.as_deref(), format, index);
        }
        if facts.is_elsewhere {
            if facts.has_record {
                report.findings.note(Finding::of_other_shard(facts.number));
            }
            return Ok(());
        }
        if !format.names_rows() {
            ids.extend(facts.id.map(|id| (id, facts.number)));
        }
        if let Some(request) = facts.request.as_ref().filter(|_| facts.is_to_do) {
            each(facts.id, request);
        }
        // Where a prompt goes and to which model is decided when it is sent.
        report.note(facts, format.prompts.is_none());
        Ok(())
    };
    fold(&mut lines, &Cancel::new(), unreadable, read, add)?;
    report.lines = lines.number;
    report.blank_lines = lines.blanks;
    report.bytes = lines.offset;
    judge_whole(&mut report, ids, location, format, rules);
    Ok(report)
}

/// Adds what is found in the file as a whole.
fn judge_whole(
    report: &mut Report,
    ids: Vec<(LineHash, u64)>,
    location: &Location,
    format: &Format,
    rules: Option<Rules>,
) {
    for (first, again, id) in repeated_ids(location, format, ids) {
        report
            .findings
            .note(Finding::of_duplicate(first, again, &id));
    }
    for finding in rules.map_or_else(Vec::new, |rules| rules.judge(report)) {
        report.findings.note(finding);
    }
}

/// What a line says.
struct LineFacts {
    number: u64,
    id: Option<LineHash>,
    hash: Option<LineHash>,
    is_to_do: bool,
    /// It has a record in the output.
    has_record: bool,
    is_elsewhere: bool,
    /// `None` if the line is no request.
    request: Option<RequestFacts>,
    findings: Vec<Finding>,
}

/// What a request says of itself.
pub(crate) struct RequestFacts {
    pub(crate) path: String,
    model: Option<String>,
    pub(crate) size: Size,
    /// Embedding inputs, if there are rules to count them by.
    inputs: u64,
}

impl LineFacts {
    fn read(line: Line<&[u8]>, format: &Format, index: &ResumeIndex, rules: Option<Rules>) -> Self {
        let row = format.parse(line);
        let id = row.id();
        let status = id.map(|id| index.status(id, row.hash, row.promise()));
        let status = status.unwrap_or(RowStatus::ToDo);
        let mut facts = Self {
            number: line.number,
            // The failure of a bad line is recorded under the id that it has, so that is unique,
            // too.
            id,
            hash: row.hash,
            is_to_do: is_to_do(status),
            has_record: status != RowStatus::ToDo,
            is_elsewhere: !format.takes(row.custom_id.as_deref(), line.number),
            request: None,
            findings: Vec::new(),
        };
        if status == RowStatus::Changed {
            facts.findings.push(Finding::of_changed(line.number));
        }
        match &row.request {
            Ok(request) => {
                let body = request.body.as_ref();
                let found = fields(body, &["model", "input"]);
                let [model, input] = found.map_or([None; 2], |found| found.values);
                let size = Size::of(body.as_bytes());
                let mut inputs = 0;
                if let Some(rules) = rules {
                    facts
                        .findings
                        .extend(rules.findings(line, &row, request, size));
                    inputs = embedding_inputs(&request.path, input);
                }
                facts.request = Some(RequestFacts {
                    path: request.path.to_string(),
                    // Rows may be checked before a model is chosen.
                    model: model.and_then(string).filter(|name| !name.is_empty()),
                    size,
                    inputs,
                });
            }
            Err(error) => facts
                .findings
                .push(Finding::of_bad_line(line.number, error)),
        }
        facts
    }

    /// Takes another id, if there is one.
    fn rename(&mut self, id: Option<&str>, format: &Format, index: &ResumeIndex) {
        if let Some((name, request)) = id.zip(self.request.as_ref()) {
            let id = LineHash::of(name);
            let status = index.status(id, self.hash, Promise::of(&request.path));
            self.id = Some(id);
            self.is_to_do = is_to_do(status);
            self.has_record = status != RowStatus::ToDo;
            self.is_elsewhere = !format.takes(Some(name), self.number);
        }
    }
}

fn is_to_do(status: RowStatus) -> bool {
    matches!(status, RowStatus::ToDo | RowStatus::ToDoLast)
}

impl Report {
    /// Adds what a line says, with the names in it if they count.
    fn note(&mut self, facts: LineFacts, with_names: bool) {
        for finding in facts.findings {
            self.findings.note(finding);
        }
        let Some(request) = facts.request else {
            self.bad_lines += 1;
            return;
        };
        self.requests += 1;
        self.note_tokens(&request.path, request.size);
        self.embedding_inputs = self.embedding_inputs.saturating_add(request.inputs);
        if with_names {
            self.endpoints.note(&request.path, facts.number);
            if let Some(model) = &request.model {
                self.models.note(model, facts.number);
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
            .by_kind()
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
    fn all_cores_and_one_find_the_same() {
        let line = |n: u32| match n % 97 {
            13 => "no request\n".to_owned(),
            14 => "\n".to_owned(),
            _ => format!(
                "{{\"custom_id\":\"{}\",\"body\":{{\"model\":\"m{}\",\"stream\":{}}}}}\n",
                n % 29_000,
                n % 1_500,
                n.is_multiple_of(50),
            ),
        };
        let lines: Vec<String> = (0..30_000).map(line).collect();
        let all = look(&lines.concat(), Some(Provider::OpenAi));
        assert!(all.bytes > 1 << 20, "too little for threads");
        let (format, rules) = (Format::default(), Some(Rules::of(Provider::OpenAi)));
        let (mut one, mut ids) = (Report::default(), Vec::new());
        for (number, line) in (1..).zip(&lines) {
            let text = line.trim_end().as_bytes();
            if !text.is_empty() {
                let line = Line {
                    number,
                    offset: 0,
                    ended: true,
                    text: Some(text),
                };
                let facts = LineFacts::read(line, &format, &ResumeIndex::default(), rules);
                ids.extend(facts.id.map(|id| (id, number)));
                one.note(facts, true);
            }
        }
        one.lines = lines.len() as u64;
        one.blank_lines = lines.iter().filter(|line| *line == "\n").count() as u64;
        one.bytes = all.bytes;
        judge_whole(&mut one, ids, &Location::Stream, &format, rules);
        assert_eq!(one, all);
        assert!(all.models.others > 1_000);
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
