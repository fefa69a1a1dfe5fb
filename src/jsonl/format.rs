//! One line of an input file, read as one request.
//!
//! Three forms are accepted, and told apart line by line: `OpenAI`'s batch lines (`custom_id`,
//! `method`, `url`, `body`), the same without method and URL, as Together writes them, and
//! Anthropic's (`custom_id`, `params`). Whatever the form, the body is sent byte for byte: it is a
//! slice of the line, never a tree of values. Two more forms build the request themselves: plain
//! prompts, and [rows](crate::rows) of a table.
//!
//! A line that is no request is a row, too: it fails with a [`LineError`].

use std::borrow::Cow;
use std::io::Read;

use serde_json::error::Category;
use serde_json::value::RawValue;

use super::array::ArrayAsLines;
use super::flaw::flaw;
use super::hash::LineHash;
use super::lines::{Line, Lines};
use super::shard::Shard;
use crate::api::classify::Promise;
use crate::api::json::{fields, first_fields, string};
use crate::api::{Chat, path};
use crate::rows::{RecordEnds, RowFlaw, RowFormat};

/// The form a request came in, which its result goes out in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    #[default]
    OpenAi,
    Anthropic,
}

/// One row of the input: a line that is not blank.
#[derive(Clone, Debug)]
pub(crate) struct InputRow<'a> {
    /// The physical line, from 1.
    pub(crate) number: u64,
    /// The user's name for the row, unique in the file. Any text at all: never a file name. `None`
    /// where it cannot be read.
    pub(crate) custom_id: Option<String>,
    pub(crate) dialect: Dialect,
    /// Tells a resume whether the row still asks the same. `None` where the line is too long to
    /// keep.
    pub(crate) hash: Option<LineHash>,
    pub(crate) request: Result<RowRequest<'a>, LineError>,
}

/// What a row asks for. It is always a `POST`: no other method is accepted.
#[derive(Clone, Debug)]
pub(crate) struct RowRequest<'a> {
    /// A checked path, to be [joined](path::join) to the base URL.
    pub(crate) path: Cow<'a, str>,
    /// The JSON object to send, byte for byte as it stands in the line.
    pub(crate) body: Cow<'a, str>,
}

impl InputRow<'_> {
    /// What the row's endpoint answers with.
    pub(crate) fn promise(&self) -> Promise {
        let request = self.request.as_ref();
        request.map_or(Promise::Anything, |request| Promise::of(&request.path))
    }
}

/// Why a line is no request. The message never quotes the line: it may hold anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    pub(crate) message: Cow<'static, str>,
    /// A word for programs, such as `not_json`.
    pub(crate) kind: &'static str,
    /// In bytes, from 1, where it is one place in the line.
    pub(crate) column: Option<usize>,
}

impl LineError {
    fn new(kind: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            kind,
            column: None,
        }
    }

    fn at(column: usize, kind: &'static str, what: &str, more: &str) -> Self {
        Self {
            column: Some(column),
            ..Self::new(kind, format!("{what} at column {column}{more}"))
        }
    }
}

/// What the lines of an input are.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    /// Where lines without a `url` go.
    pub(crate) endpoint: String,
    /// What is made of a line that is one prompt; `None` where a line is one JSON request.
    pub(crate) prompts: Option<Chat>,
    /// What is made of a line that is a row of a table.
    pub(crate) rows: Option<RowFormat>,
    /// The share of the rows that is to be done; `None` for all of them.
    pub(crate) shard: Option<Shard>,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            endpoint: "/v1/chat/completions".to_owned(),
            prompts: None,
            rows: None,
            shard: None,
        }
    }
}

impl Format {
    /// The lines of an input. A JSON array has its elements as lines.
    pub(super) fn lines<R: Read>(&self, source: R) -> Lines<ArrayAsLines<R>> {
        let is_csv = self.rows.as_ref().is_some_and(RowFormat::is_csv);
        let may_be_array = self.prompts.is_none() && !is_csv;
        Lines::new(ArrayAsLines::new(source, may_be_array)).of_table(self.record_ends())
    }

    /// Of CSV: where its records end.
    pub(super) fn record_ends(&self) -> Option<RecordEnds> {
        self.rows.as_ref().and_then(RowFormat::record_ends)
    }

    /// Whether rows have no ids of their own. Each then has its hash for an id, which is not unique
    /// before [`Occurrences`](super::ids::Occurrences) have made it so.
    pub(super) fn names_rows(&self) -> bool {
        self.rows.as_ref().is_some_and(RowFormat::names_rows)
    }

    /// Whether a row is one of those that are to be done. A row is given by its id, if it has one,
    /// and its line.
    pub(crate) fn takes(&self, id: Option<&str>, line: u64) -> bool {
        self.shard.is_none_or(|shard| shard.has(id, line))
    }

    /// What is added to the requests of all rows: the names of fields and messages.
    pub(super) fn additions(&self) -> Vec<String> {
        let prompts = self.prompts.iter().flat_map(Chat::additions);
        let rows = self.rows.iter().flat_map(RowFormat::additions);
        prompts.map(str::to_owned).chain(rows).collect()
    }

    /// Reads one line.
    pub(crate) fn parse<'a>(&'a self, line: Line<&'a [u8]>) -> InputRow<'a> {
        let mut row = InputRow {
            number: line.number,
            custom_id: None,
            dialect: Dialect::OpenAi,
            hash: None,
            request: Err(LineError::new("too_long", "longer than 64 MiB")),
        };
        let Some(whole) = line.text else {
            return row;
        };
        // Blanks around an object are not part of the request; those of a prompt or a cell are its
        // own.
        let is_object = self.prompts.is_none() && self.rows.is_none();
        let (text, indent) = if is_object {
            let start = whole.trim_ascii_start();
            (start.trim_ascii_end(), whole.len() - start.len())
        } else {
            (whole, 0)
        };
        row.hash = Some(LineHash::of(text));
        row.request = match (str::from_utf8(text), &self.prompts, &self.rows) {
            (Ok(text), None, None) => request(text, indent, &self.endpoint, &mut row),
            (Ok(text), Some(prompts), _) => Ok(RowRequest {
                path: self.endpoint.as_str().into(),
                body: prompt(text, prompts, &mut row),
            }),
            (Ok(text), None, Some(rows)) => cells(text, rows, &self.endpoint, &mut row),
            (Err(error), ..) => {
                let column = indent + error.valid_up_to() + 1;
                Err(LineError::at(column, "not_utf8", "not UTF-8", ""))
            }
        };
        if self.names_rows() {
            row.custom_id = row.hash.map(|hash| hash.to_string());
        }
        row
    }

    /// The id of a line and its hash, found without reading the line to its end. The line must have
    /// been [parsed](Self::parse) before, as it stands.
    pub(crate) fn name(&self, line: &Line<&[u8]>) -> Option<(String, LineHash)> {
        if self.prompts.is_some() || self.rows.is_some() {
            return None;
        }
        let text = str::from_utf8(line.text?.trim_ascii()).ok()?;
        let [custom_id] = first_fields(text, &["custom_id"]);
        Some((string(custom_id?)?, LineHash::of(text)))
    }
}

/// Reads one JSON line, which `indent` bytes precede. What it learns of the row it notes there.
fn request<'a>(
    text: &'a str,
    indent: usize,
    endpoint: &'a str,
    row: &mut InputRow<'a>,
) -> Result<RowRequest<'a>, LineError> {
    const NAMES: [&str; 5] = ["custom_id", "method", "url", "body", "params"];
    let found = fields(text, &NAMES).map_err(|error| not_json(&error, indent))?;
    let [custom_id, method, url, body, params] = found.values;
    if params.is_some() && body.is_none() {
        row.dialect = Dialect::Anthropic;
    }
    row.custom_id = custom_id.and_then(string).filter(|id| !id.is_empty());
    if let Some((at, (kind, what))) = flaw(text) {
        return Err(LineError::at(indent + at + 1, kind, what, ""));
    }
    if let Some(field) = found.twice {
        return Err(twice(field));
    }
    if row.custom_id.is_none() {
        return Err(bad_id(custom_id));
    }
    match (params, body) {
        (Some(params), None) if method.is_none() && url.is_none() => Ok(RowRequest {
            path: "/v1/messages".into(),
            body: sendable("params", params)?,
        }),
        (Some(_), _) => Err(LineError::new(
            "two_forms",
            "has \"params\" (Anthropic's form) beside \"method\", \"url\" or \"body\" (OpenAI's)",
        )),
        (None, body) => {
            if method.is_some_and(|method| string(method).as_deref() != Some("POST")) {
                return Err(LineError::new("method", "\"method\" must be \"POST\""));
            }
            let wrong_url = |what| LineError::new("url", format!("\"url\" {what}"));
            let path = match url {
                Some(url) => Cow::Owned(string(url).ok_or(wrong_url("is not a string"))?),
                None => Cow::Borrowed(endpoint),
            };
            path::check_path(&path).map_err(wrong_url)?;
            let body = sendable("body", body.ok_or_else(|| missing("body"))?)?;
            Ok(RowRequest { path, body })
        }
    }
}

fn not_json(error: &serde_json::Error, indent: usize) -> LineError {
    if error.classify() == Category::Data {
        return LineError::new("not_an_object", "not a JSON object");
    }
    // Its message ends with the place, of which the line number is not the file's.
    let told = error.to_string();
    let what = match told.split(" at line ").next().unwrap_or_default() {
        "expected ident" => "a word that is none of true, false and null",
        "expected value" => "a value is missing or cannot be read: texts need double quotes",
        "key must be a string" => "the name of a field needs double quotes",
        "trailing characters" => "something follows the object",
        "recursion limit exceeded" => "nested too deep",
        _ if error.is_eof() => "the line ends too early",
        what => what,
    };
    let column = indent + error.column();
    LineError::at(column, "not_json", "not JSON", &format!(": {what}"))
}

fn missing(field: &str) -> LineError {
    LineError::new("missing_field", format!("no \"{field}\""))
}

fn twice(field: &str) -> LineError {
    LineError::new("field_twice", format!("\"{field}\" is there twice"))
}

/// Why there is no id to use.
fn bad_id(custom_id: Option<&RawValue>) -> LineError {
    let what = match custom_id.map(RawValue::get) {
        None => return missing("custom_id"),
        Some("null") => "is null",
        Some("\"\"") => "is empty",
        Some(_) => "is not a string",
    };
    LineError::new("custom_id", format!("\"custom_id\" {what}"))
}

/// A body that a blocking call can send: an object that does not ask for a stream.
fn sendable<'a>(name: &str, body: &'a RawValue) -> Result<Cow<'a, str>, LineError> {
    let not_an_object = |_| {
        let what = format!("\"{name}\" is not a JSON object");
        LineError::new("body_not_an_object", what)
    };
    let found = fields(body.get(), &["stream"]).map_err(not_an_object)?;
    // Of two, the server may take either.
    if let Some(field) = found.twice {
        return Err(twice(field));
    }
    match found.values {
        [Some(stream)] if stream.get() == "true" => Err(LineError::new(
            "stream",
            "asks for a stream; remove \"stream\": true",
        )),
        _ => Ok(body.get().into()),
    }
}

/// The chat request that a line's text is the prompt of, named by its physical line.
fn prompt<'a>(text: &str, template: &Chat, row: &mut InputRow<'_>) -> Cow<'a, str> {
    let body = template.clone().message("user", text).to_body().to_string();
    row.custom_id = Some(format!("line-{}", row.number));
    // The whole body and not the prompt alone: another model is another question.
    row.hash = Some(LineHash::of(&body));
    body.into()
}

/// The request that the cells of a row become.
fn cells<'a>(
    text: &str,
    rows: &RowFormat,
    endpoint: &'a str,
    row: &mut InputRow<'_>,
) -> Result<RowRequest<'a>, LineError> {
    if Promise::of(endpoint) == Promise::Message {
        row.dialect = Dialect::Anthropic;
    }
    let request = rows.request(text);
    row.custom_id = request.id;
    let body = request.body.map_err(|flaw| match flaw {
        RowFlaw::Json(error) => not_json(&error, 0),
        RowFlaw::Other(kind, message) => LineError::new(kind, message),
    })?;
    // Of the whole body, as that of a prompt.
    row.hash = Some(LineHash::of(&body));
    Ok(RowRequest {
        path: endpoint.into(),
        body: body.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static REQUESTS: LazyLock<Format> = LazyLock::new(Format::default);

    fn parse<T: AsRef<[u8]> + ?Sized>(text: &T) -> InputRow<'_> {
        REQUESTS.parse(Line {
            number: 7,
            offset: 0,
            ended: true,
            text: Some(text.as_ref()),
        })
    }

    fn error<T: AsRef<[u8]> + ?Sized>(text: &T) -> LineError {
        parse(text).request.unwrap_err()
    }

    #[test]
    fn an_openai_line_keeps_its_body_byte_for_byte() {
        let body = r#"{"model": "m","n":9007199254740993,"x":1e400,"a":1,"a":2, "s":"\u00e9é"}"#;
        let line = format!(
            r#" {{"custom_id":"a","method":"POST","url":"/v1/embeddings","body": {body} ,"more":[]}} "#
        );
        let row = parse(&line);
        assert_eq!((row.number, row.custom_id.as_deref()), (7, Some("a")));
        assert_eq!(row.dialect, Dialect::OpenAi);
        let request = row.request.unwrap();
        assert_eq!(request.body, body);
        assert_eq!(request.path, "/v1/embeddings");
    }

    #[test]
    fn lines_without_a_url_and_anthropic_lines_know_where_to_go() {
        let together = parse(r#"{"custom_id":"a","body":{"model":"m","stream":false}}"#);
        assert_eq!(together.request.unwrap().path, "/v1/chat/completions");
        let anthropic = parse(r#"{"custom_id":"a","params":{"max_tokens":5}}"#);
        assert_eq!(anthropic.dialect, Dialect::Anthropic);
        let request = anthropic.request.unwrap();
        assert_eq!(request.path, "/v1/messages");
        assert_eq!(request.body, r#"{"max_tokens":5}"#);
    }

    #[test]
    fn any_text_is_an_id() {
        let long = "x".repeat(64 << 10);
        for id in ["../../etc/passwd", "\0", "a\nb", "\u{1b}[31m", &long] {
            let line = format!(r#"{{"custom_id":{},"body":{{}}}}"#, serde_json::json!(id));
            let row = parse(&line);
            assert!(row.request.is_ok());
            assert_eq!(row.custom_id.as_deref(), Some(id));
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
            (r#"{"custom_id":tru}"#, "none of true, false and null"),
            (r#"{'custom_id':"a"}"#, "double quotes"),
            (r#"{"custom_id":"a"#, "the line ends too early"),
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
            let told = error(line).message;
            let shown = &line[..line.len().min(80)];
            assert!(told.contains(message), "{shown}: {told}");
        }
        let wrong = error(b"{\"custom_id\":\"\xc0\xaf\",\"body\":{}}");
        assert_eq!((wrong.kind, wrong.column), ("not_utf8", Some(15)));
    }

    #[test]
    fn columns_are_those_of_the_line_as_it_stands_in_the_file() {
        for text in [
            &b"{\"custom_id\":\"\xff\",\"body\":{}}"[..],
            b"{\"custom_id\":\"a\" \"body\":{}}",
            b"{\"custom_id\":\"a\",\"body\":{\"x\":\"\\ud800\"}}",
        ] {
            let column = |text: &[u8]| error(text).column.unwrap();
            let indented = [b"\t  ", text, b" "].concat();
            assert_eq!(column(&indented), column(text) + 3);
        }
    }

    #[test]
    fn a_bad_line_keeps_its_id_where_it_has_one() {
        let bad = parse(r#"{"custom_id":"a","params":{"stream":true}}"#);
        assert!(bad.request.is_err());
        assert_eq!(bad.custom_id.as_deref(), Some("a"));
        assert_eq!(bad.dialect, Dialect::Anthropic);
        assert!(bad.hash.is_some());
    }

    #[test]
    fn the_hash_is_of_the_request_and_not_of_the_blanks_around_it() {
        let line = r#"{"custom_id":"a","body":{}}"#;
        let hash = parse(line).hash;
        assert_eq!(parse(&format!("\t{line}  ")).hash, hash);
        let other = r#"{"custom_id":"a","body":{ }}"#;
        assert_ne!(parse(other).hash, hash);
    }

    #[test]
    fn a_prompt_becomes_a_chat_request() {
        let prompts = |model: &str| {
            let system = "Be \"brief\".";
            Format {
                prompts: Some(Chat::new((), model).system(system).max_tokens(9)),
                ..Format::default()
            }
        };
        let line = Line {
            number: 3,
            offset: 0,
            ended: true,
            text: Some("\tSay \\ \"hé\"\u{2028}  ".as_bytes()),
        };
        let prompts_of_m = prompts("m");
        let row = prompts_of_m.parse(line);
        assert_eq!(row.custom_id.as_deref(), Some("line-3"));
        assert_ne!(row.hash, prompts("another").parse(line).hash);
        let request = row.request.unwrap();
        assert_eq!(request.path, "/v1/chat/completions");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&request.body).unwrap(),
            serde_json::json!({
                "model": "m",
                "messages": [
                    {"role": "system", "content": "Be \"brief\"."},
                    {"role": "user", "content": "\tSay \\ \"hé\"\u{2028}  "},
                ],
                "max_tokens": 9,
            })
        );
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
            let row = parse(&text);
            if let Ok(request) = row.request {
                let is_object = request.body.starts_with('{');
                prop_assert!(is_object && row.custom_id.is_some_and(|id| !id.is_empty()));
                prop_assert!(request.path.starts_with('/'));
            }
        }

        #[test]
        fn ids_and_bodies_come_through(id in ".{1,40}", text in ".{0,40}") {
            let body = format!("{{\"messages\":[{}]}}", serde_json::json!(text));
            let line = format!("{{\"custom_id\":{},\"body\":{body}}}", serde_json::json!(id));
            let row = parse(&line);
            prop_assert_eq!(row.custom_id, Some(id));
            prop_assert_eq!(row.request.unwrap().body, body);
        }
    }
}
