//! One line of an input file, read as one request.
//!
//! Three forms are taken: `OpenAI`'s batch lines (`custom_id`, `method`, `url`, `body`), the same
//! without method and URL as Together writes them, and Anthropic's (`custom_id`, `params`); told
//! apart line by line. A fourth, plain prompts, builds the request itself. Whatever the form, the
//! body goes on byte for byte: it is a slice of the line, never a tree of values.
//!
//! A line that is no request is a [`BadLine`]: one failed row, with all that is known of it.

use serde_json::error::Category;
use serde_json::value::RawValue;

use super::flaw::{Flaw, flaw};
use super::hash::LineHash;
use super::problem::{BadLine, Problem};
use super::reader::Line;
use crate::api::json::{fields, first_fields};
use crate::api::path;

/// Where a line without `url` goes, unless `--endpoint` says otherwise.
pub(crate) const DEFAULT_ENDPOINT: &str = "/v1/chat/completions";

/// The form a request came in, which its result goes out in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    #[default]
    OpenAi,
    Anthropic,
}

/// One request of a file. It is always a `POST`: no other method is accepted.
#[derive(Clone, Debug)]
pub(crate) struct RequestLine {
    /// The physical line, from 1.
    pub(crate) number: u64,
    /// The user's name for the row, unique in the file. Any text at all: never a file name.
    pub(crate) custom_id: String,
    /// A checked path, to be [joined](path::join) to the base URL.
    pub(crate) path: String,
    /// The JSON object to send, byte for byte as it stood in the line.
    pub(crate) body: Box<RawValue>,
    pub(crate) dialect: Dialect,
    /// Tells a resume whether the row still asks the same.
    pub(crate) hash: LineHash,
}

/// What the lines of an input are.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// One JSON request a line; those without a `url` go to the endpoint.
    Requests { endpoint: String },
    /// One prompt a line.
    Prompts(Prompts),
}

impl Format {
    /// Reads one line.
    ///
    /// # Errors
    /// The [`BadLine`] it is. Boxed: bad lines are rare, and good ones travel by value.
    pub(crate) fn parse(&self, line: Line<'_>) -> Result<RequestLine, Box<BadLine>> {
        let mut bad = BadLine {
            number: line.number,
            custom_id: None,
            dialect: Dialect::OpenAi,
            hash: None,
            problem: Problem::NotAnObject,
        };
        let parsed = match line.text {
            None => Err(Problem::TooLong),
            Some(text) => {
                // Blanks around the object are not part of the request.
                let indent = text.len() - text.trim_ascii_start().len();
                let text = text.trim_ascii();
                let hash = LineHash::of(text);
                bad.hash = Some(hash);
                let parsed = match (str::from_utf8(text), self) {
                    (Err(error), _) => Err(Problem::NotUtf8 {
                        column: error.valid_up_to() + 1,
                    }),
                    (Ok(text), Self::Requests { endpoint }) => {
                        request(text, endpoint, hash, &mut bad)
                    }
                    (Ok(text), Self::Prompts(prompts)) => Ok(prompts.request(text, line.number)),
                };
                parsed.map_err(|problem| problem.indented(indent))
            }
        };
        parsed.map_err(|problem| Box::new(BadLine { problem, ..bad }))
    }

    /// The id of a line and its hash, found without reading the line to its end: of one that has
    /// been [parsed](Self::parse) before, as it stands.
    pub(crate) fn name(&self, line: &Line<'_>) -> Option<(LineHash, LineHash)> {
        let (Self::Requests { .. }, Some(text)) = (self, line.text) else {
            return None;
        };
        let text = str::from_utf8(text.trim_ascii()).ok()?;
        let [custom_id] = first_fields(text, &["custom_id"]);
        let id = LineHash::of(string(custom_id?)?.as_bytes());
        Some((id, LineHash::of(text.as_bytes())))
    }
}

/// Reads one JSON line; what becomes known of it on the way is left in `bad`, in case it is.
fn request(
    text: &str,
    endpoint: &str,
    hash: LineHash,
    bad: &mut BadLine,
) -> Result<RequestLine, Problem> {
    const NAMES: [&str; 5] = ["custom_id", "method", "url", "body", "params"];
    let found = fields(text, &NAMES).map_err(|error| not_json(&error))?;
    let [custom_id, method, path, body, params] = found.values;
    if params.is_some() && body.is_none() {
        bad.dialect = Dialect::Anthropic;
    }
    let custom_id = self::custom_id(custom_id);
    bad.custom_id = custom_id.as_ref().ok().cloned();
    match flaw(text) {
        Some(Flaw::TooDeep(at)) => return Err(Problem::TooDeep { column: at + 1 }),
        Some(Flaw::LoneSurrogate(at)) => return Err(Problem::LoneSurrogate { column: at + 1 }),
        None => {}
    }
    if let Some(field) = found.twice {
        return Err(Problem::Twice(field));
    }
    let custom_id = custom_id?;
    let (dialect, path, body) = match (params, body) {
        (Some(params), None) if method.is_none() && path.is_none() => {
            let body = sendable("params", params)?;
            (Dialect::Anthropic, "/v1/messages".to_owned(), body)
        }
        (Some(_), _) => return Err(Problem::TwoForms),
        (None, body) => {
            if method.is_some_and(|method| string(method).as_deref() != Some("POST")) {
                return Err(Problem::Method);
            }
            let path = match path {
                Some(path) => string(path).ok_or(Problem::Url("is not a string"))?,
                None => endpoint.to_owned(),
            };
            path::check_path(&path).map_err(Problem::Url)?;
            let body = sendable("body", body.ok_or(Problem::Missing("body"))?)?;
            (Dialect::OpenAi, path, body)
        }
    };
    Ok(RequestLine {
        number: bad.number,
        custom_id,
        path,
        body: body.to_owned(),
        dialect,
        hash,
    })
}

fn not_json(error: &serde_json::Error) -> Problem {
    if error.classify() == Category::Data {
        return Problem::NotAnObject;
    }
    // Its message ends with the place, of which the line number is not the file's.
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    Problem::NotJson {
        column: error.column(),
        what: what.to_owned(),
    }
}

fn custom_id(value: Option<&RawValue>) -> Result<String, Problem> {
    let value = value.ok_or(Problem::Missing("custom_id"))?;
    match string(value) {
        Some(id) if id.is_empty() => Err(Problem::CustomId("is empty")),
        Some(id) => Ok(id),
        None if value.get() == "null" => Err(Problem::CustomId("is null")),
        None => Err(Problem::CustomId("is not a string")),
    }
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A body that a blocking call can send: an object that does not ask for a stream.
fn sendable<'a>(name: &'static str, body: &'a RawValue) -> Result<&'a RawValue, Problem> {
    let found = fields(body.get(), &["stream"]).map_err(|_| Problem::BodyNotAnObject(name))?;
    // Of two, the server may take either.
    if let Some(field) = found.twice {
        return Err(Problem::Twice(field));
    }
    match found.values {
        [Some(stream)] if stream.get() == "true" => Err(Problem::Stream),
        _ => Ok(body),
    }
}

/// Turns plain prompts into chat requests, named `line-N` by their physical line.
#[derive(Clone, Debug)]
pub(crate) struct Prompts {
    endpoint: String,
    /// The body up to the prompt's text, and from there on.
    before: String,
    after: String,
}

impl Prompts {
    pub(crate) fn new(
        model: &str,
        max_tokens: Option<u64>,
        system: Option<&str>,
        endpoint: impl Into<String>,
    ) -> Self {
        let system = system.map_or_else(String::new, |text| {
            format!("{{\"role\":\"system\",\"content\":{}}},", quoted(text))
        });
        let before = format!(
            "{{\"model\":{},\"messages\":[{system}{{\"role\":\"user\",\"content\":",
            quoted(model)
        );
        let after = match max_tokens {
            Some(max_tokens) => format!("}}],\"max_tokens\":{max_tokens}}}"),
            None => "}]}".to_owned(),
        };
        Self {
            endpoint: endpoint.into(),
            before,
            after,
        }
    }

    fn request(&self, prompt: &str, number: u64) -> RequestLine {
        // `before` and `after` are of this module's making: what a user gave is quoted.
        let body = [&self.before, quoted(prompt).as_str(), &self.after].concat();
        // The whole body and not the prompt alone: another model is another question.
        let hash = LineHash::of(body.as_bytes());
        RequestLine {
            number,
            custom_id: format!("line-{number}"),
            path: self.endpoint.clone(),
            body: RawValue::from_string(body).expect("an object put together from quoted strings"),
            dialect: Dialect::OpenAi,
            hash,
        }
    }
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    // Written into memory, a string has nothing to fail on.
    serde_json::to_string(text).expect("a string is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: impl AsRef<[u8]>) -> Result<RequestLine, Box<BadLine>> {
        Format::Requests {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
        }
        .parse(Line {
            number: 7,
            offset: 0,
            ended: true,
            text: Some(text.as_ref()),
        })
    }

    #[test]
    fn an_openai_line_keeps_its_body_byte_for_byte() {
        let body = r#"{"model": "m","n":9007199254740993,"x":1e400,"a":1,"a":2, "s":"\u00e9é"}"#;
        let line = parse(format!(
            r#" {{"custom_id":"a","method":"POST","url":"/v1/embeddings","body": {body} ,"more":[]}} "#
        ))
        .unwrap();
        assert_eq!(line.body.get(), body);
        assert_eq!(
            (line.number, line.custom_id.as_str(), line.path.as_str()),
            (7, "a", "/v1/embeddings")
        );
        assert_eq!(line.dialect, Dialect::OpenAi);
    }

    #[test]
    fn lines_without_a_url_and_anthropic_lines_know_where_to_go() {
        let together = parse(r#"{"custom_id":"a","body":{"model":"m","stream":false}}"#).unwrap();
        assert_eq!(together.path, DEFAULT_ENDPOINT);
        let anthropic = parse(r#"{"custom_id":"a","params":{"max_tokens":5}}"#).unwrap();
        assert_eq!(anthropic.path, "/v1/messages");
        assert_eq!(anthropic.body.get(), r#"{"max_tokens":5}"#);
        assert_eq!(anthropic.dialect, Dialect::Anthropic);
    }

    #[test]
    fn any_text_is_an_id() {
        let long = "x".repeat(64 << 10);
        for id in ["../../etc/passwd", "\0", "a\nb", "\u{1b}[31m", &long] {
            let line = format!(r#"{{"custom_id":{},"body":{{}}}}"#, quoted(id));
            assert_eq!(parse(line).unwrap().custom_id, id);
        }
    }

    #[test]
    fn every_bad_line_says_what_is_wrong() {
        let bomb = format!(
            r#"{{"custom_id":"a","body":{{"x":{}{}}}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        for (line, message) in [
            (r#"{"custom_id":"a","body":{}"#, "not JSON at column 26"),
            (r#"{"custom_id":"a","body":{},}"#, "not JSON at column 28"),
            (r#"{"custom_id":"a" "body":{}}"#, "not JSON at column 18"),
            ("hello", "not JSON at column 1"),
            ("{} {}", "not JSON at column 4"),
            ("[1,2]", "not a JSON object"),
            ("null", "not a JSON object"),
            (r#"{"body":{}}"#, "no \"custom_id\""),
            (r#"{"custom_id":"","body":{}}"#, "is empty"),
            (r#"{"custom_id":7,"body":{}}"#, "is not a string"),
            (r#"{"custom_id":null,"body":{}}"#, "is null"),
            (r#"{"custom_id":"\ud800","body":{}}"#, "surrogate"),
            (r#"{"custom_id":"a","body":{"x":"\ud800"}}"#, "surrogate"),
            (r#"{"custom_id":"a","custom_id":"b","body":{}}"#, "twice"),
            (r#"{"custom_id":"a","method":"DELETE","body":{}}"#, "POST"),
            (r#"{"custom_id":"a","method":1,"body":{}}"#, "POST"),
            (r#"{"custom_id":"a","url":1,"body":{}}"#, "\"url\""),
            (
                r#"{"custom_id":"a","url":"https://e/","body":{}}"#,
                "\"url\"",
            ),
            (r#"{"custom_id":"a","url":"/v1/..","body":{}}"#, "\"url\""),
            (r#"{"custom_id":"a","url":"/v1/\n","body":{}}"#, "\"url\""),
            (r#"{"custom_id":"a"}"#, "no \"body\""),
            (r#"{"custom_id":"a","body":[]}"#, "\"body\" is not"),
            (r#"{"custom_id":"a","params":"x"}"#, "\"params\" is not"),
            (r#"{"custom_id":"a","params":{},"body":{}}"#, "Anthropic"),
            (
                r#"{"custom_id":"a","params":{},"url":"/v1/x"}"#,
                "Anthropic",
            ),
            (r#"{"custom_id":"a","body":{"stream":true}}"#, "stream"),
            (r#"{"custom_id":"a","params":{"stream": true }}"#, "stream"),
            (
                r#"{"custom_id":"a","body":{"stream":false,"stream":true}}"#,
                "twice",
            ),
            (&bomb, "nested deeper than 128 levels at column"),
        ] {
            let bad = parse(line).unwrap_err();
            let told = bad.to_string();
            let shown = &line[..line.len().min(80)];
            assert!(told.starts_with("line 7: "), "{told}");
            assert!(told.contains(message), "{shown}: {told}");
        }
        let bad = parse(b"{\"custom_id\":\"\xc0\xaf\",\"body\":{}}").unwrap_err();
        assert_eq!(bad.problem, Problem::NotUtf8 { column: 15 });
    }

    #[test]
    fn columns_are_those_of_the_line_as_it_stands_in_the_file() {
        for text in [
            &b"{\"custom_id\":\"\xff\",\"body\":{}}"[..],
            b"{\"custom_id\":\"a\" \"body\":{}}",
            b"{\"custom_id\":\"a\",\"body\":{\"x\":\"\\ud800\"}}",
        ] {
            let column = |text: &[u8]| parse(text).unwrap_err().problem.column().unwrap();
            let indented = [b"\t  ", text, b" "].concat();
            assert_eq!(column(&indented), column(text) + 3);
        }
    }

    #[test]
    fn a_bad_line_keeps_its_id_where_it_has_one() {
        let bad = parse(r#"{"custom_id":"a","params":{"stream":true}}"#).unwrap_err();
        assert_eq!(bad.custom_id.as_deref(), Some("a"));
        assert_eq!(bad.dialect, Dialect::Anthropic);
        assert!(bad.hash.is_some());
    }

    #[test]
    fn the_hash_is_of_the_request_and_not_of_the_blanks_around_it() {
        let line = r#"{"custom_id":"a","body":{}}"#;
        let hash = parse(line).unwrap().hash;
        assert_eq!(parse(format!("\t{line}  ")).unwrap().hash, hash);
        let other = r#"{"custom_id":"a","body":{ }}"#;
        assert_ne!(parse(other).unwrap().hash, hash);
    }

    #[test]
    fn a_prompt_becomes_a_chat_request() {
        let prompt = |model: &str| {
            let prompts = Prompts::new(model, Some(9), Some("Be \"brief\"."), DEFAULT_ENDPOINT);
            Format::Prompts(prompts)
                .parse(Line {
                    number: 3,
                    offset: 0,
                    ended: true,
                    text: Some("Say \\ \"hé\"\u{2028}".as_bytes()),
                })
                .unwrap()
        };
        let line = prompt("m");
        assert_eq!(line.custom_id, "line-3");
        assert_eq!(line.path, DEFAULT_ENDPOINT);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(line.body.get()).unwrap(),
            serde_json::json!({
                "model": "m",
                "messages": [
                    {"role": "system", "content": "Be \"brief\"."},
                    {"role": "user", "content": "Say \\ \"hé\"\u{2028}"},
                ],
                "max_tokens": 9,
            })
        );
        assert_ne!(line.hash, prompt("another").hash);
    }

    /// Text that is nearly a request: what finds mistakes that plain noise never reaches.
    fn nearly_a_request() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                "{",
                "}",
                "[",
                "]",
                ":",
                ",",
                "\"",
                "\\",
                "\\u",
                "d800",
                "null",
                "true",
                "1e999",
                "\"custom_id\"",
                "\"body\"",
                "\"params\"",
                "\"url\"",
                "\"method\"",
                "\"POST\"",
                "\"stream\"",
                "\"/v1/x\"",
                " ",
                "é",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..3),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn never_panics_and_accepts_only_what_can_be_sent(text in nearly_a_request()) {
            if let Ok(line) = parse(&text) {
                let is_object = line.body.get().starts_with('{');
                prop_assert!(is_object && !line.custom_id.is_empty());
                prop_assert!(line.path.starts_with('/'));
            }
        }

        #[test]
        fn ids_and_bodies_come_through(id in ".{1,40}", text in ".{0,40}") {
            let body = format!("{{\"messages\":[{}]}}", quoted(&text));
            let line = parse(format!("{{\"custom_id\":{},\"body\":{body}}}", quoted(&id))).unwrap();
            prop_assert_eq!(line.custom_id, id);
            prop_assert_eq!(line.body.get(), body);
        }
    }
}
