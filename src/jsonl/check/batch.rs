//! What a provider's own batch service asks of a file, beyond what a run does.
//!
//! The figures are the providers' own, as their documents had them in 2026: `OpenAI`'s from its API
//! description (`CreateBatchRequest`) and its batch guide, Anthropic's from the reference of
//! `/v1/messages/batches` and its guide to batch processing, Azure's from its batch limits at
//! learn.microsoft.com. Where they say MB, a million bytes is meant: a file within that is within
//! either reading.

use serde_json::value::RawValue;

use super::super::format::{Dialect, InputRow, RowRequest};
use super::super::lines::Line;
use super::Finding;
use super::report::Report;
use crate::api::json::fields;
use crate::api::{Provider, Size};

const MB: u64 = 1_000_000;

/// The rules of one provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Whose they are, as a message says it.
    whose: &'static str,
    dialect: Dialect,
    requests: u64,
    bytes: u64,
    /// Blank lines are not skipped.
    no_blank_lines: bool,
    /// All requests go to one endpoint, and name one model.
    all_alike: bool,
    embedding_inputs: u64,
    /// Those that requests may go to; any, where none is listed.
    endpoints: &'static [&'static str],
}

const OPENAI: Rules = Rules {
    whose: "OpenAI's batches",
    dialect: Dialect::OpenAi,
    requests: 50_000,
    bytes: 200 * MB,
    no_blank_lines: true,
    all_alike: true,
    embedding_inputs: 50_000,
    endpoints: &[
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/completions",
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/videos",
    ],
};

const AZURE: Rules = Rules {
    whose: "Azure's batches",
    requests: 100_000,
    no_blank_lines: false,
    embedding_inputs: u64::MAX,
    endpoints: &[],
    ..OPENAI
};

const ANTHROPIC: Rules = Rules {
    whose: "Anthropic's batches",
    dialect: Dialect::Anthropic,
    bytes: 256 * MB,
    all_alike: false,
    ..AZURE
};

impl Rules {
    pub(super) fn of(provider: Provider) -> Self {
        match provider {
            Provider::OpenAi => OPENAI,
            Provider::Anthropic => ANTHROPIC,
            Provider::Azure => AZURE,
        }
    }

    /// Judges one request by itself.
    pub(super) fn findings(
        self,
        line: Line<&[u8]>,
        row: &InputRow<'_>,
        request: &RowRequest<'_>,
        size: Size,
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut wrong = |kind, message| found.push(Finding::new(kind, Some(line.number), message));
        let whose = self.whose;
        if row.dialect != self.dialect {
            let what = match self.dialect {
                Dialect::Anthropic => "take \"custom_id\" and \"params\" only",
                Dialect::OpenAi => "take no \"params\", but a \"body\"",
            };
            wrong("batch_form", format!("{whose} {what}"));
            return found;
        }
        match self.dialect {
            Dialect::Anthropic => {
                if !row.custom_id.as_deref().is_some_and(is_plain_id) {
                    let rule = "1 to 64 letters, digits, _ or -";
                    let message = format!("\"custom_id\" must be {rule} in {whose}");
                    wrong("batch_custom_id", message);
                }
                if size.max_output.is_none_or(|tokens| tokens == 0) {
                    let message = format!("{whose} need a \"max_tokens\" of 1 or more");
                    wrong("batch_max_tokens", message);
                }
            }
            Dialect::OpenAi => {
                if let Some(field) = missing_field(line) {
                    wrong("batch_form", format!("no \"{field}\", which {whose} need"));
                }
                if !self.endpoints.is_empty() && !self.endpoints.contains(&&*request.path) {
                    let message = format!("\"url\" is not among those that {whose} take");
                    wrong("batch_endpoint", message);
                }
            }
        }
        found
    }

    /// Judges the file as a whole.
    pub(super) fn judge(self, report: &Report) -> Vec<Finding> {
        let whose = self.whose;
        let mut found = Vec::new();
        let mut wrong = |kind, line, message| found.push(Finding::new(kind, line, message));
        let rows = report.requests + report.bad_lines;
        if rows == 0 {
            let message = format!("no requests; {whose} have at least one");
            wrong("batch_empty", None, message);
        }
        let blank_lines = report.blank_lines;
        if self.no_blank_lines && blank_lines > 0 {
            let message = format!("blank lines: {blank_lines}; {whose} have none");
            wrong("batch_blank_lines", None, message);
        }
        let (inputs, most) = (report.embedding_inputs, self.embedding_inputs);
        for (kind, number, cap, what) in [
            ("batch_requests", rows, self.requests, "requests"),
            ("batch_bytes", report.bytes, self.bytes, "bytes"),
            ("batch_embedding_inputs", inputs, most, "embedding inputs"),
        ] {
            if number > cap {
                let message = format!("{what}: {number}; {whose} have at most {cap}");
                wrong(kind, None, message);
            }
        }
        for (kind, names, what) in [
            ("batch_endpoints", &report.endpoints, "endpoint"),
            ("batch_models", &report.models, "model"),
        ] {
            if self.all_alike
                && let Some((name, line)) = names.second()
            {
                let message =
                    format!("{name:?} is another {what}: {whose} have one for all requests");
                wrong(kind, Some(line), message);
            }
        }
        found
    }
}

/// A field that a run can do without.
fn missing_field(line: Line<&[u8]>) -> Option<&'static str> {
    const NAMES: [&str; 2] = ["method", "url"];
    let found = fields(str::from_utf8(line.text?).ok()?, &NAMES).ok()?;
    let missing = found.values.iter().position(Option::is_none)?;
    Some(NAMES[missing])
}

fn is_plain_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&id.len()) && id.bytes().all(plain)
}

/// How many texts a request has embedded. A list has many, unless its items are the tokens of one.
pub(super) fn embedding_inputs(path: &str, input: Option<&RawValue>) -> u64 {
    let Some(input) = input.filter(|_| path.ends_with("/embeddings")) else {
        return 0;
    };
    match serde_json::from_str::<Vec<&RawValue>>(input.get()) {
        Ok(items) if items.iter().all(|item| item.get().starts_with(['"', '['])) => {
            items.len() as u64
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::files::Location;
    use super::super::super::format::Format;
    use super::super::super::journal::ResumeIndex;
    use super::super::check;
    use super::*;

    /// The kinds of what is found in a file, with the line of the first of each.
    fn found(provider: Provider, file: &str) -> Vec<(&'static str, Option<u64>)> {
        let (format, index) = (Format::default(), ResumeIndex::default());
        let report = check(
            file.as_bytes(),
            &Location::Stream,
            &format,
            &index,
            Some(provider),
            |_, _| (),
        );
        let report = report.unwrap();
        let kinds = report.findings.by_kind.iter();
        kinds.map(|kind| (kind.kind, kind.kept[0].line)).collect()
    }

    fn row(id: u32, path: &str, body: &str) -> String {
        format!(
            "{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"{path}\",\"body\":{body}}}\n"
        )
    }

    const CHAT: &str = "/v1/chat/completions";
    const EMBEDDINGS: &str = "/v1/embeddings";

    #[test]
    fn a_plain_file_of_its_own_form_is_fine_for_each_provider() {
        let chat = row(1, CHAT, r#"{"model":"m"}"#) + &row(2, CHAT, r#"{"model":"m"}"#);
        for provider in [Provider::OpenAi, Provider::Azure] {
            assert_eq!(found(provider, &chat), []);
            assert_eq!(found(provider, ""), [("batch_empty", None)]);
        }
        let messages = r#"{"custom_id":"a_-9","params":{"model":"m","max_tokens":1}}"#;
        assert_eq!(found(Provider::Anthropic, messages), []);
        assert_eq!(found(Provider::Anthropic, ""), [("batch_empty", None)]);
    }

    #[test]
    fn the_form_is_the_providers_own() {
        let chat = row(1, CHAT, r#"{"max_tokens":1}"#);
        let messages = "{\"custom_id\":\"2\",\"params\":{\"max_tokens\":1}}\n";
        let bare = "{\"custom_id\":\"3\",\"url\":\"/v1/chat/completions\",\"body\":{}}\n";
        let all = [&chat, messages, bare].concat();
        let endpoints = ("batch_endpoints", Some(2));
        for provider in [Provider::OpenAi, Provider::Azure] {
            assert_eq!(found(provider, &all), [("batch_form", Some(2)), endpoints]);
            let alike = [&chat, bare].concat();
            assert_eq!(found(provider, &alike), [("batch_form", Some(2))]);
        }
        assert_eq!(found(Provider::Anthropic, &all), [("batch_form", Some(1))]);
    }

    #[test]
    fn openais_files_are_of_one_kind_without_blanks() {
        let first = row(1, CHAT, r#"{"model":"m"}"#);
        for (second, finding) in [
            (row(2, CHAT, r#"{"model":"n"}"#), ("batch_models", Some(2))),
            (
                row(2, EMBEDDINGS, r#"{"model":"m"}"#),
                ("batch_endpoints", Some(2)),
            ),
            ("\n".to_owned(), ("batch_blank_lines", None)),
        ] {
            assert_eq!(
                found(Provider::OpenAi, &(first.clone() + &second)),
                [finding]
            );
        }
        let unknown = row(1, "/v1/rerank", r#"{"model":"m"}"#);
        assert_eq!(
            found(Provider::OpenAi, &unknown),
            [("batch_endpoint", Some(1))]
        );
        assert_eq!(found(Provider::Azure, &unknown), []);
        assert_eq!(found(Provider::Azure, &(first + "\n")), []);
    }

    #[test]
    fn anthropics_ids_are_plain_and_its_answers_limited() {
        for (id, tokens, finding) in [
            ("a.b", "1", "batch_custom_id"),
            ("\u{e9}", "1", "batch_custom_id"),
            (&"x".repeat(65), "1", "batch_custom_id"),
            ("a", "0", "batch_max_tokens"),
            ("a", "null", "batch_max_tokens"),
        ] {
            let line = format!("{{\"custom_id\":\"{id}\",\"params\":{{\"max_tokens\":{tokens}}}}}");
            assert_eq!(
                found(Provider::Anthropic, &line),
                [(finding, Some(1))],
                "{line}"
            );
        }
    }

    #[test]
    fn embedding_inputs_are_counted_over_all_lines() {
        let texts = |count: usize| {
            let body = format!(r#"{{"input":[{}"a"]}}"#, "\"a\",".repeat(count - 2));
            row(1, EMBEDDINGS, r#"{"input":"a"}"#) + &row(2, EMBEDDINGS, &body)
        };
        assert_eq!(found(Provider::OpenAi, &texts(50_000)), []);
        let over = [("batch_embedding_inputs", None)];
        assert_eq!(found(Provider::OpenAi, &texts(50_001)), over);
        assert_eq!(found(Provider::Azure, &texts(50_001)), []);
    }

    #[test]
    fn caps_are_kept_to_the_last_one_allowed() {
        for (rules, requests, bytes) in [
            (OPENAI, 50_000, 200_000_000),
            (AZURE, 100_000, 200_000_000),
            (ANTHROPIC, 100_000, 256_000_000),
        ] {
            let kinds = |requests, bad_lines, bytes| {
                let report = Report {
                    requests,
                    bad_lines,
                    lines: requests + bad_lines,
                    bytes,
                    ..Report::default()
                };
                let findings = rules.judge(&report);
                findings.iter().map(|it| it.kind).collect::<Vec<_>>()
            };
            assert!(kinds(requests, 0, bytes).is_empty());
            assert_eq!(kinds(requests, 1, bytes), ["batch_requests"]);
            assert_eq!(kinds(requests, 0, bytes + 1), ["batch_bytes"]);
        }
    }

    #[test]
    fn a_list_of_token_numbers_is_one_input() {
        for (input, expected) in [
            ("\"a\"", 1),
            ("[\"a\", \"b\"]", 2),
            ("[1,2,3]", 1),
            ("[[1,2],[3]]", 2),
            ("[]", 0),
            ("{}", 1),
        ] {
            let raw: &RawValue = serde_json::from_str(input).unwrap();
            assert_eq!(embedding_inputs(EMBEDDINGS, Some(raw)), expected, "{input}");
            assert_eq!(embedding_inputs(CHAT, Some(raw)), 0);
        }
    }
}
