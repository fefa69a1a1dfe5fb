//! What a file of requests holds and what is wrong with it, found without sending anything.
//!
//! Each line is read as a run reads it, so that what is fine here is sent there, and what is not is
//! what a run would refuse or make a failed row of. The rules of a provider's own [batch](mod@batch)
//! service come on top where they are asked for; a run needs none of them.
//!
//! One [pass](super::parallel) on all cores finds it: some lines at a time make a [`Report`] of
//! their own, and those are put together in the order of the file. Memory grows by the table of
//! [ids](super::ids) alone; [findings] and names are kept up to a number, and counted beyond.

mod batch;
mod findings;
mod report;

use std::io::Read;

use serde_json::value::RawValue;

use super::files::Location;
use super::format::{Format, RowRequest};
use super::hash::LineHash;
use super::ids::duplicates;
use super::judge::judge_stream;
use super::lines::Line;
use super::parallel::{LineFold, fold};
use super::scan::ids_again;
use crate::api::json::fields;
use crate::api::{Chat, Provider, Size};
use crate::cancel::Cancel;
use crate::error::Result;

pub(crate) use findings::{Finding, Findings};
pub(crate) use report::{Names, Report};

use batch::Rules;

/// A check of one file.
pub(crate) struct Check {
    format: Format,
    /// The rules of a provider whose batch service is to take the file as it is.
    rules: Option<Rules>,
    found: Part,
}

/// What some lines hold.
#[derive(Default)]
pub(super) struct Part {
    report: Report,
    /// The ids, with their lines.
    ids: Vec<(LineHash, u64)>,
}

impl Check {
    /// The check of a file of requests, for a provider's own batch service if there is one.
    pub(crate) fn of_requests(provider: Option<Provider>) -> Self {
        Self {
            format: Format::default(),
            rules: provider.map(Rules::of),
            found: Part::default(),
        }
    }

    /// The check of a file of prompts, whose requests are yet to be made.
    pub(crate) fn of_prompts() -> Self {
        let mut check = Self::of_requests(None);
        check.format.prompts = Some(Chat::template(""));
        check
    }

    /// Checks a whole input, whose name is `location`.
    ///
    /// # Errors
    /// Those of [`Location::unreadable`].
    pub(crate) fn run<R: Read>(mut self, source: R, location: &Location) -> Result<Report> {
        let mut lines = self.format.lines(source);
        let unreadable = |error| location.unreadable(error);
        if let Some(refusal) = judge_stream(&mut lines, &self.format).map_err(unreadable)? {
            let finding = Finding::new("no_requests", None, refusal);
            self.found.report.findings.note(finding);
        }
        fold(&mut lines, &mut self, &Cancel::new(), unreadable)?;
        self.found.report.lines = lines.number;
        self.found.report.bytes = lines.offset;
        Ok(self.finish(location))
    }

    /// Adds what is found in the file as a whole.
    fn finish(self, location: &Location) -> Report {
        let Part { mut report, ids } = self.found;
        let duplicates = duplicates(ids);
        let mut ids = ids_again(location, &self.format, &duplicates).into_iter();
        for (first, again) in duplicates {
            let id = ids.next().unwrap_or_default();
            report
                .findings
                .note(Finding::of_duplicate(first, again, &id));
        }
        if let Some(rules) = self.rules {
            for finding in rules.judge(&report) {
                report.findings.note(finding);
            }
        }
        report
    }
}

impl LineFold for Check {
    type Part = Part;

    fn add_line(&self, part: &mut Part, line: Line<&[u8]>) {
        let (report, number) = (&mut part.report, line.number);
        let row = self.format.parse(line);
        match &row.request {
            Ok(request) => {
                let body = BodyFacts::of(request);
                report.requests += 1;
                report.note_tokens(&request.path, body.size);
                // A prompt says neither: where it goes is decided when it is sent.
                if self.format.prompts.is_none() {
                    report.endpoints.note(&request.path, number);
                    if let Some(model) = &body.model {
                        report.models.note(model, number);
                    }
                }
                if let Some(rules) = self.rules {
                    rules.note(line, &row, request, &body, report);
                }
            }
            Err(error) => {
                report.bad_lines += 1;
                report.findings.note(Finding::of_bad_line(number, error));
            }
        }
        // The failure of a bad line is recorded under the id that it has, so that is unique, too.
        if let Some(id) = &row.custom_id {
            part.ids.push((LineHash::of(id.as_bytes()), number));
        }
    }

    fn add_part(&mut self, later: Part) -> Result<()> {
        self.found.report.append(later.report);
        self.found.ids.extend(later.ids);
        Ok(())
    }
}

/// What is read in a body.
struct BodyFacts<'a> {
    model: Option<String>,
    input: Option<&'a RawValue>,
    size: Size,
}

impl<'a> BodyFacts<'a> {
    fn of(request: &'a RowRequest<'_>) -> Self {
        let body = request.body.as_ref();
        let [model, input] =
            fields(body, &["model", "input"]).map_or([None; 2], |found| found.values);
        Self {
            model: model.and_then(|model| serde_json::from_str(model.get()).ok()),
            input,
            size: Size::of(body.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn look(check: Check, file: &str) -> Report {
        check.run(file.as_bytes(), &Location::Stream).unwrap()
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
        let report = look(Check::of_requests(None), file);
        assert_eq!((report.requests, report.bad_lines), (3, 2));
        assert_eq!((report.lines, report.blank_lines()), (6, 1));
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
        let report = look(
            Check::of_requests(None),
            &format!("{{\"custom_id\":\"a\",\"body\":{body}}}"),
        );
        let size = Size::of(body.as_bytes());
        assert_eq!(report.prompt_tokens, size.prompt);
        assert_eq!(report.output_tokens, size.output(500));
    }

    #[test]
    fn prompts_are_counted_without_models_or_endpoints() {
        let report = look(Check::of_prompts(), "12345678\n\n12345678\n");
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
        let all = look(Check::of_requests(Some(Provider::OpenAi)), &lines.concat());
        assert!(all.bytes > 1 << 20, "too little for threads");
        let mut one = Check::of_requests(Some(Provider::OpenAi));
        for (number, line) in (1..).zip(&lines) {
            let mut part = Part::default();
            let text = line.trim_end().as_bytes();
            if !text.is_empty() {
                let line = Line {
                    number,
                    offset: 0,
                    ended: true,
                    text: Some(text),
                };
                one.add_line(&mut part, line);
            }
            one.add_part(part).unwrap();
        }
        one.found.report.lines = lines.len() as u64;
        one.found.report.bytes = all.bytes;
        assert_eq!(one.finish(&Location::Stream), all);
        assert!(all.models.others > 1_000);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let check = Check::of_requests(None);
        let refused = check.run(&b"\x1f\x8b\x08"[..], &Location::Stream);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    }
}
