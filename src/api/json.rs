//! One pass over a JSON text that keeps only what is asked for.
//!
//! Building a `serde_json::Value` of a body takes three times as long as skipping through it and
//! several times its memory, and deriving visitors would add six crates to every build. Requests
//! and answers also pass through byte for byte: numbers beyond 2⁵³, duplicate keys and key order
//! are the sender's business. So a reader of bodies implements [`JsonVisitor`], and [`fields`] cuts
//! named members of one object out as slices of the text.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;
use serde_json::value::RawValue;

/// What a visitor wants of a value.
pub(crate) enum Take<P> {
    /// To skip it. Skipping takes no stack, however deep the value is nested.
    Nothing,
    /// To be shown what is in it; this is its place. The elements of an array have the array's.
    Inside(P),
    /// To have its JSON text.
    Raw(P),
    /// Nothing more: the pass ends with an error.
    Stop,
}

/// Says which values of a JSON text it wants, and is shown them.
pub(crate) trait JsonVisitor<'de> {
    /// Tells values apart by where they are, as far as the visitor needs it.
    type Place: Copy;

    /// What it wants of the member `name` of the object at `place`.
    fn member(&mut self, place: Self::Place, name: &str) -> Take<Self::Place>;

    /// There is a string at `place`; its escapes are resolved.
    fn text(&mut self, _place: Self::Place, _text: &str) {}

    /// There is a number at `place`.
    fn number(&mut self, _place: Self::Place) {}

    /// The text of the value at `place`.
    fn raw(&mut self, _place: Self::Place, _json: &'de RawValue) {}
}

/// Shows `json` to `visitor`; the place of the whole value is `top`.
///
/// # Errors
/// If `json` is not JSON, or is nested deeper than 127 where the visitor looks.
pub(crate) fn visit<'de, V: JsonVisitor<'de>>(
    json: &'de str,
    visitor: &mut V,
    top: V::Place,
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Cursor::new(visitor, top).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// As [`visit`], of an object.
///
/// # Errors
/// `json` is not JSON (`Category::Syntax` or `Eof`), or it is JSON but no object
/// (`Category::Data`).
pub(crate) fn visit_object<'de, V: JsonVisitor<'de>>(
    json: &'de str,
    visitor: &mut V,
    top: V::Place,
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_map(Cursor::new(visitor, top))?;
    deserializer.end()
}

/// A visitor, and the place of what it is shown next.
struct Cursor<'v, V, P> {
    visitor: &'v mut V,
    place: P,
}

impl<'v, V, P> Cursor<'v, V, P> {
    fn new(visitor: &'v mut V, place: P) -> Self {
        Self { visitor, place }
    }
}

impl<'de, V: JsonVisitor<'de>> DeserializeSeed<'de> for Cursor<'_, V, V::Place> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, V: JsonVisitor<'de>> Visitor<'de> for Cursor<'_, V, V::Place> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { visitor, place } = self;
        while let Some(take) = map.next_key_seed(Key(Cursor::new(&mut *visitor, place)))? {
            match take {
                Take::Nothing => drop(map.next_value::<IgnoredAny>()?),
                Take::Inside(place) => map.next_value_seed(Cursor::new(&mut *visitor, place))?,
                Take::Raw(place) => visitor.raw(place, map.next_value()?),
                Take::Stop => return Err(A::Error::custom("there is more")),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { visitor, place } = self;
        while let Some(()) = seq.next_element_seed(Cursor::new(&mut *visitor, place))? {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.visitor.text(self.place, text);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.visitor.number(self.place);
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.visitor.number(self.place);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.visitor.number(self.place);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a member's name and asks the visitor at once, so that no name is copied.
struct Key<'v, V, P>(Cursor<'v, V, P>);

impl<'de, V: JsonVisitor<'de>> DeserializeSeed<'de> for Key<'_, V, V::Place> {
    type Value = Take<V::Place>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, V: JsonVisitor<'de>> Visitor<'de> for Key<'_, V, V::Place> {
    type Value = Take<V::Place>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.visitor.member(self.0.place, name))
    }
}

/// The values of the members that were asked for, in the order they were asked for; of several
/// members with one name, the last.
#[derive(Debug)]
pub(crate) struct Fields<'n, 'a, const N: usize> {
    names: &'n [&'static str; N],
    stops_early: bool,
    pub(crate) values: [Option<&'a RawValue>; N],
    /// A member that was asked for and is there twice: parsers disagree on which one counts.
    pub(crate) twice: Option<&'static str>,
}

/// Cuts the members `names` out of the object in `json`, checking that all of it is JSON.
///
/// # Errors
/// Those of [`visit_object`].
pub(crate) fn fields<'n, 'a, const N: usize>(
    json: &'a str,
    names: &'n [&'static str; N],
) -> serde_json::Result<Fields<'n, 'a, N>> {
    let mut found = Fields::new(names, false);
    visit_object(json, &mut found, 0)?;
    Ok(found)
}

/// As [`fields`], of the object that `text` begins with, whatever follows it.
pub(crate) fn fields_at_start<'a, const N: usize>(
    text: &'a str,
    names: &[&'static str; N],
) -> serde_json::Result<[Option<&'a RawValue>; N]> {
    let mut found = Fields::new(names, false);
    serde_json::Deserializer::from_str(text).deserialize_map(found.top())?;
    Ok(found.values)
}

/// As [`fields`], but stops when all of them are found and does not read the rest, which may be
/// long. So `json` must be known to be JSON.
pub(crate) fn first_fields<'a, const N: usize>(
    json: &'a str,
    names: &[&'static str; N],
) -> [Option<&'a RawValue>; N] {
    let mut found = Fields::new(names, true);
    // The only error is that of stopping early.
    let _more = serde_json::Deserializer::from_str(json).deserialize_map(found.top());
    found.values
}

impl<'n, const N: usize> Fields<'n, '_, N> {
    fn new(names: &'n [&'static str; N], stops_early: bool) -> Self {
        Self {
            names,
            stops_early,
            values: [None; N],
            twice: None,
        }
    }

    fn top(&mut self) -> Cursor<'_, Self, usize> {
        Cursor::new(self, 0)
    }
}

impl<'de, const N: usize> JsonVisitor<'de> for Fields<'_, 'de, N> {
    /// An index into the names.
    type Place = usize;

    fn member(&mut self, _: usize, name: &str) -> Take<usize> {
        if self.stops_early && self.values.iter().all(Option::is_some) {
            return Take::Stop;
        }
        let place = self.names.iter().position(|known| *known == name);
        place.map_or(Take::Nothing, Take::Raw)
    }

    fn raw(&mut self, place: usize, json: &'de RawValue) {
        if self.values[place].replace(json).is_some() {
            self.twice.get_or_insert(self.names[place]);
        }
    }
}

/// The [`first_fields`] of a value, none if it is no object.
pub(crate) fn members<'a, const N: usize>(
    value: Option<&'a RawValue>,
    names: &[&'static str; N],
) -> [Option<&'a RawValue>; N] {
    value.map_or([None; N], |value| first_fields(value.get(), names))
}

/// The text of a string; `None` of anything else.
pub(crate) fn string(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

/// A number from 0 to a million million, without its fraction. Anything else is no count.
pub(crate) fn count(json: &RawValue) -> Option<u64> {
    whole(json.get().parse().ok()?)
}

/// As [`count`], of a number that has been read.
pub(crate) fn whole(number: f64) -> Option<u64> {
    // A float holds every count below 2⁵³ exactly.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range, so that only a fraction is dropped"
    )]
    (0.0..=1e12).contains(&number).then_some(number as u64)
}

/// Where the JSON of a body begins: behind a byte-order mark, blank lines, and comments of
/// server-sent events, which some servers send to keep a connection alive.
pub(crate) fn start(body: &[u8]) -> usize {
    let mut rest = body;
    loop {
        rest = rest.trim_ascii_start();
        rest = match rest {
            [0xef, 0xbb, 0xbf, rest @ ..] => rest,
            [b':', ..] => {
                let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                &rest[end.unwrap_or(rest.len())..]
            }
            _ => return body.len() - rest.len(),
        };
    }
}

/// Takes away what stands before the JSON, if there is JSON behind it. Blanks belong to JSON.
pub(crate) fn drop_preamble(body: &mut Vec<u8>) {
    let start = start(body);
    if start < body.len() && !body[..start].trim_ascii().is_empty() {
        body.drain(..start);
    }
}

/// Whether a JSON value says more than null, false, 0 and nothing, at any depth.
pub(crate) fn says(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        // Python's and JavaScript's words for nothing become strings on the way.
        Value::String(text) => !["", "null", "none", "nan", "undefined"]
            .iter()
            .any(|nothing| text.trim().eq_ignore_ascii_case(nothing)),
        Value::Array(elements) => elements.iter().any(says),
        Value::Object(members) => members.values().any(says),
    }
}

/// As [`says`], of a text that is JSON.
pub(crate) fn says_something(json: &str) -> bool {
    // A value that is too long or too deep to parse says something.
    json.len() > LONGEST_PARSED || serde_json::from_str(json).map_or(true, |value| says(&value))
}

/// The longest JSON that is parsed into a value, in bytes: a value takes several times its text.
pub(crate) const LONGEST_PARSED: usize = 64 << 10;

/// `json` with null for each number that JSON does not have (`NaN`, `Infinity`), as Python writes
/// them. `None` if there is none.
pub(crate) fn with_nulls(json: &str) -> Option<String> {
    const NUMBERS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    if !NUMBERS.iter().any(|number| json.contains(number)) {
        return None;
    }
    let mut in_string = false;
    let mut out = String::with_capacity(json.len());
    for part in json.split_inclusive('"') {
        let text = part.strip_suffix('"').unwrap_or(part);
        let slashes = text.len() - text.trim_end_matches('\\').len();
        if in_string {
            out.push_str(part);
        } else {
            let put_right = |part: String, number| part.replace(number, "null");
            out += &NUMBERS.into_iter().fold(part.to_owned(), put_right);
        }
        in_string ^= !in_string || slashes.is_multiple_of(2);
    }
    Some(out)
}

/// `body` with the usual slips of a writer of JSON put right: bare words (`NaN`, `-Infinity`,
/// `None`) become null, strings may have single quotes, control characters, wrong escapes and bytes
/// that are no UTF-8, and a list may end with a comma. Anything else stays, so that the result of a
/// body that is no JSON at all is none either.
pub(crate) fn mended(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        let is_word = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        match first {
            '"' | '\'' => {
                out.push('"');
                while let Some(c) = chars.next().filter(|c| *c != first) {
                    match c {
                        '\\' => match chars.next() {
                            Some(c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' | 'u')) => {
                                out.extend(['\\', c]);
                            }
                            other => out.extend(other),
                        },
                        '"' => out.push_str("\\\""),
                        c if c.is_ascii_control() => out.push(' '),
                        c => out.push(c),
                    }
                }
                out.push('"');
            }
            '}' | ']' => {
                let end = out.trim_end().trim_end_matches(',').len();
                out.truncate(end);
                out.push(first);
            }
            first if is_word(&first) => {
                let from = out.len();
                out.push(first);
                while let Some(c) = chars.next_if(is_word) {
                    out.push(c);
                }
                if serde_json::from_str::<IgnoredAny>(&out[from..]).is_err() {
                    out.truncate(from);
                    out.push_str("null");
                }
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::error::Category;

    use super::*;

    #[derive(Default)]
    struct Trace(String);

    impl<'de> JsonVisitor<'de> for Trace {
        type Place = ();

        fn member(&mut self, (): (), name: &str) -> Take<()> {
            self.0 += name;
            self.0 += ":";
            match name {
                "skipped" => Take::Nothing,
                "raw" => Take::Raw(()),
                _ => Take::Inside(()),
            }
        }

        fn text(&mut self, (): (), text: &str) {
            self.0 += text;
        }

        fn number(&mut self, (): ()) {
            self.0 += "#";
        }

        fn raw(&mut self, (): (), json: &'de RawValue) {
            self.0 += json.get();
        }
    }

    #[test]
    fn numbers_that_json_does_not_have_become_null_outside_strings() {
        for (json, expected) in [
            (
                r#"{"a":NaN,"b":[-Infinity,Infinity]}"#,
                Some(r#"{"a":null,"b":[null,null]}"#),
            ),
            (
                r#"{"NaN":"a \"NaN\" \\","b":NaN}"#,
                Some(r#"{"NaN":"a \"NaN\" \\","b":null}"#),
            ),
            (r#"{"a":nan}"#, None),
        ] {
            assert_eq!(with_nulls(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn everything_is_seen_once_and_in_order() {
        let mut trace = Trace::default();
        let text =
            r#"{"a":"x\ny","\u0062":[1,-2.5,true,null],"skipped":{"c":1},"raw":{"e": 1} ,"d":{}}"#;
        visit(text, &mut trace, ()).unwrap();
        assert_eq!(
            trace.0,
            r#"a:x
yb:##skipped:raw:{"e": 1}d:"#
        );
    }

    #[test]
    fn wrong_json_is_an_error() {
        let read = |text: &str| visit(text, &mut Trace::default(), ());
        for text in ["", "{", "{}x", r#"{"a"}"#, "[1,]", "nul", r#"{"a":01}"#] {
            assert!(read(text).is_err(), "{text}");
        }
        // Deep values are skipped without stack, and refused where they are visited.
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(read(&format!(r#"{{"skipped":{deep}}}"#)).is_ok());
        assert!(read(&deep).is_err());
    }

    #[test]
    fn the_first_of_many_fields_are_found_without_what_follows() {
        let [status] = first_fields(
            r#"{"a":{"status":1},"status": 200 ,"rest":..."#,
            &["status"],
        );
        assert_eq!(status.map(RawValue::get), Some("200"));
        let [a, b] = first_fields(r#"{"b":[1],"c":"x","a":"y"}"#, &["a", "b"]);
        assert_eq!(a.map(RawValue::get), Some("\"y\""));
        assert_eq!(b.map(RawValue::get), Some("[1]"));
        for json in ["null", "[]", "\"status\"", "{}", r#"{"x":1}"#] {
            assert!(first_fields(json, &["status"])[0].is_none(), "{json}");
        }
    }

    #[test]
    fn fields_are_cut_out_byte_for_byte() {
        let json = r#" { "b" : {"n":1e400, "n":9007199254740993 } , "x":[], "\u0061":" \"q" } "#;
        let fields = fields(json, &["a", "b", "c"]).unwrap();
        let texts = fields.values.map(|value| value.map(RawValue::get));
        assert_eq!(
            texts,
            [
                Some(r#"" \"q""#),
                Some(r#"{"n":1e400, "n":9007199254740993 }"#),
                None
            ]
        );
        assert_eq!(fields.twice, None);
    }

    #[test]
    fn a_field_that_is_there_twice_is_told() {
        assert_eq!(
            fields(r#"{"a":1,"b":2,"a":3}"#, &["a"]).unwrap().twice,
            Some("a")
        );
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        for (json, category) in [
            ("[1]", Category::Data),
            ("3", Category::Data),
            ("{\"a\":", Category::Eof),
            ("{\"a\" 1}", Category::Syntax),
            ("{} {}", Category::Syntax),
            ("", Category::Eof),
        ] {
            assert_eq!(
                fields(json, &["a"]).unwrap_err().classify(),
                category,
                "{json}"
            );
        }
    }

    #[test]
    fn implausible_counts_are_absent() {
        for (text, expected) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("1000000000000", Some(1_000_000_000_000)),
            ("1000000000001", None),
            ("18446744073709551615", None),
            ("-1", None),
            ("1e300", None),
            ("1e999", None),
            ("null", None),
            ("true", None),
            ("\"12\"", None),
            ("[12]", None),
            ("{\"n\":12}", None),
        ] {
            let json: &RawValue = serde_json::from_str(text).unwrap();
            assert_eq!(count(json), expected, "{text}");
        }
    }

    #[test]
    fn what_stands_before_the_json_is_passed_over() {
        for (body, json) in [
            ("{}", "{}"),
            (" \n{}", "{}"),
            ("\u{feff}{}", "{}"),
            ("\r\n\u{feff} {}", "{}"),
            (": OPENROUTER PROCESSING\n\n: again\r\r{}", "{}"),
            (": {}", ""),
            ("\n\n\n", ""),
            ("data: {}", "data: {}"),
        ] {
            assert_eq!(&body[start(body.as_bytes())..], json, "{body:?}");
        }
        for (body, left) in [
            ("\n {}", "\n {}"),
            ("\u{feff}{}", "{}"),
            (": a\n{}\n", "{}\n"),
            (": a\n", ": a\n"),
        ] {
            let mut bytes = body.as_bytes().to_vec();
            drop_preamble(&mut bytes);
            assert_eq!(bytes, left.as_bytes(), "{body:?}");
        }
    }

    #[test]
    fn an_error_without_a_word_says_nothing() {
        for (json, says) in [
            ("null", false),
            ("false", false),
            ("\"\"", false),
            ("\" \"", false),
            ("\"None\"", false),
            ("\"none of it\"", true),
            ("{ }", false),
            ("[]", false),
            ("0", false),
            (r#"{"code":null,"message":"","details":[]}"#, false),
            ("true", true),
            ("1", true),
            ("\"busy\"", true),
            (r#"{"code":502}"#, true),
            ("1e400", true),
        ] {
            assert_eq!(says_something(json), says, "{json}");
        }
    }

    #[test]
    fn the_slips_of_writers_of_json_are_mended_and_nothing_else_is() {
        for (body, expected) in [
            (
                &b"{\"a\": NaN, \"b\":[-Infinity,1.5,true,]}"[..],
                r#"{"a": null, "b":[null,1.5,true]}"#,
            ),
            (
                b"{'a': \"it's\", 'b': None, 'c': 'say \"x\" \\'y\\'',\n}",
                r#"{"a": "it's", "b": null, "c": "say \"x\" 'y'"}"#,
            ),
            (
                b"{\"a\":\"line\nbreak \\x41 \\u0041 NaN\"}",
                r#"{"a":"line break x41 \u0041 NaN"}"#,
            ),
            (
                b"{\"a\":\"\xff\",\"b\":+1,\"c\":.5}",
                "{\"a\":\"\u{fffd}\",\"b\":null,\"c\":null}",
            ),
        ] {
            let mended = mended(body);
            assert_eq!(mended, expected);
            assert!(
                serde_json::from_str::<IgnoredAny>(&mended).is_ok(),
                "{mended}"
            );
        }
        for body in [
            "<html><p class='x'>NaN</p></html>",
            r#"{"choices":[{"message":{"content":"cut of"#,
            r#"{"a":NaN"#,
            "data: {}",
            "{} {}",
            "Internal Server Error",
            "",
        ] {
            let mended = mended(body.as_bytes());
            assert!(
                serde_json::from_str::<IgnoredAny>(&mended).is_err(),
                "{mended}"
            );
        }
    }
}
