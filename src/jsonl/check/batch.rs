//! What a provider's own batch service asks of a file, beyond what a run does.
//!
//! The figures are the providers' own, as their documents had them in 2026: `OpenAI`'s from its API
//! description (`CreateBatchRequest`) and its batch guide, Anthropic's from the reference of
//! `/v1/messages/batches` and its guide to batch processing, Azure's from its batch limits at
//! learn.microsoft.com. Where they say MB, a million bytes is meant: a file within that is within
//! either reading.

use super::super::format::{Dialect, InputRow};
use super::super::lines::Line;
use super::Finding;
use super::report::Report;
use crate::api::Provider;
use crate::api::json::fields;

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
}

const OPENAI: Rules = Rules {
    whose: "OpenAI's batches",
    dialect: Dialect::OpenAi,
    requests: 50_000,
    bytes: 200 * MB,
    no_blank_lines: true,
    all_alike: true,
};

const AZURE: Rules = Rules {
    whose: "Azure's batches",
    requests: 100_000,
    no_blank_lines: false,
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
    pub(super) fn findings(self, line: Line<&[u8]>, row: &InputRow<'_>) -> Vec<Finding> {
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
            }
            Dialect::OpenAi => {
                if let Some(field) = missing_field(line) {
                    wrong("batch_form", format!("no \"{field}\", which {whose} need"));
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
        let blank_lines = report.blank_lines;
        if self.no_blank_lines && blank_lines > 0 {
            let message = format!("blank lines: {blank_lines}; {whose} have none");
            wrong("batch_blank_lines", None, message);
        }
        for (kind, number, cap, what) in [
            ("batch_requests", rows, self.requests, "requests"),
            ("batch_bytes", report.bytes, self.bytes, "bytes"),
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
        let kinds = report.findings.by_kind().iter();
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
        }
        let messages = r#"{"custom_id":"a_-9","params":{"model":"m","max_tokens":1}}"#;
        assert_eq!(found(Provider::Anthropic, messages), []);
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
        assert_eq!(found(Provider::Azure, &(first + "\n")), []);
    }

    #[test]
    fn anthropics_ids_are_plain() {
        for id in ["a.b", "\u{e9}", &"x".repeat(65)] {
            let line = format!("{{\"custom_id\":\"{id}\",\"params\":{{\"max_tokens\":1}}}}");
            let finding = [("batch_custom_id", Some(1))];
            assert_eq!(found(Provider::Anthropic, &line), finding, "{line}");
        }
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
}
