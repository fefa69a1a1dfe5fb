//! JSON read in one pass, of which only what is asked for is kept.
//!
//! Building a `serde_json::Value` of a body takes three times as long as skipping through it and
//! several times its memory. Requests and answers also pass through byte for byte: numbers beyond
//! 2⁵³, duplicate keys and key order are the sender's business. So [`fields`] cuts named members of
//! one object out as slices of the text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

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
/// `json` is not JSON (`Category::Syntax` or `Eof`), or it is JSON but no object
/// (`Category::Data`).
pub(crate) fn fields<'n, 'a, const N: usize>(
    json: &'a str,
    names: &'n [&'static str; N],
) -> serde_json::Result<Fields<'n, 'a, N>> {
    let mut found = Fields::new(names, false);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_map(&mut found)?;
    deserializer.end()?;
    Ok(found)
}

/// As [`fields`], of the object that `text` begins with, whatever follows it.
pub(crate) fn fields_at_start<'a, const N: usize>(
    text: &'a str,
    names: &[&'static str; N],
) -> serde_json::Result<[Option<&'a RawValue>; N]> {
    let mut found = Fields::new(names, false);
    serde_json::Deserializer::from_str(text).deserialize_map(&mut found)?;
    Ok(found.values)
}

/// As [`fields`], but stops when all of them are found and does not read the rest, which may be
/// long. So `json` must be known to be JSON.
pub(crate) fn first_fields<'a, const N: usize>(
    json: &'a str,
    names: &[&'static str; N],
) -> [Option<&'a RawValue>; N] {
    let mut found = Fields::new(names, true);
    // The only error is that more follows where it stopped.
    let _more = serde_json::Deserializer::from_str(json).deserialize_map(&mut found);
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
}

impl<'de, const N: usize> Visitor<'de> for &mut Fields<'_, 'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    // A value is skipped or cut out without stack, however deep it is nested.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(place) = map.next_key_seed(Place(self.names))? {
            let Some(place) = place else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if self.values[place].replace(map.next_value()?).is_some() {
                self.twice.get_or_insert(self.names[place]);
            }
            if self.stops_early && self.values.iter().all(Option::is_some) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Looks a member's name up among those asked for, so that no name is copied.
struct Place<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Place<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == name))
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

/// What `value` has at `paths`, JSON pointers with bars between them, in their order.
pub(crate) fn at<'a>(value: &'a Value, paths: &str) -> impl Iterator<Item = &'a Value> {
    paths.split('|').filter_map(|path| value.pointer(path))
}

/// A number, or a text that is not empty.
pub(crate) fn text_or_number(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
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

/// `json` with null for each of Python's words that JSON does not have (`NaN`, `None`). `None` if
/// there is none.
pub(crate) fn with_nulls(json: &str) -> Option<String> {
    const WORDS: [&str; 6] = ["NaN", "-Infinity", "Infinity", "None", "True", "False"];
    if !WORDS.iter().any(|word| json.contains(word)) {
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
            let put_right = |part: String, word| part.replace(word, "null");
            out += &WORDS.into_iter().fold(part.to_owned(), put_right);
        }
        in_string ^= !in_string || slashes.is_multiple_of(2);
    }
    Some(out)
}

/// `json` with the other usual slips of its writers put right: single quotes, control characters
/// and wrong escapes in strings, and a comma behind the last element. Anything else stays, so that
/// what is no JSON at all does not become any.
pub(crate) fn mended(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut quote = None;
    let mut chars = json.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            // Behind a letter, a single one is an apostrophe.
            ('"' | '\'', None) if c == '"' || out.trim_end().ends_with(['{', '[', ',', ':']) => {
                quote = Some(c);
                out.push('"');
            }
            (_, Some(open)) if c == open => {
                quote = None;
                out.push('"');
            }
            ('"', Some(_)) => out.push_str("\\\""),
            ('\\', Some(_)) => match chars.next() {
                Some(c) if "\"\\/bfnrtu".contains(c) => out.extend(['\\', c]),
                other => out.extend(other),
            },
            (_, Some(_)) if c.is_ascii_control() => out.push(' '),
            ('}' | ']', None) => {
                out.truncate(out.trim_end().trim_end_matches(',').len());
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::error::Category;

    use super::*;

    #[test]
    fn the_slips_of_writers_of_json_are_mended_and_nothing_else_is() {
        for (body, expected) in [
            (
                "{\"a\": -1.5, \"b\":[null,true,]}",
                r#"{"a": -1.5, "b":[null,true]}"#,
            ),
            (
                "{'a': \"it's\", 'c': 'say \"x\" \\'y\\'',\n}",
                r#"{"a": "it's", "c": "say \"x\" 'y'"}"#,
            ),
            (
                "{\"a\":\"line\nbreak \\x41 \\u0041 \\\\\"}",
                r#"{"a":"line break x41 \u0041 \\"}"#,
            ),
        ] {
            let mended = mended(body);
            assert_eq!(mended, expected);
            let value = serde_json::from_str::<IgnoredAny>(&mended);
            assert!(value.is_ok(), "{mended}");
        }
        for body in [
            "<html><p class='x'>NaN</p></html>",
            r#"{"choices":[{"message":{"content":"cut of"#,
            r#"{"a":1"#,
            "data: {}",
            "{} {}",
            "Internal Server Error",
            "",
        ] {
            let value = serde_json::from_str::<IgnoredAny>(&mended(body));
            assert!(value.is_err(), "{body}");
        }
    }

    #[test]
    fn words_that_json_does_not_have_become_null_outside_strings() {
        for (json, expected) in [
            (
                r#"{"a":NaN,"b":[-Infinity,Infinity]}"#,
                Some(r#"{"a":null,"b":[null,null]}"#),
            ),
            (
                r#"{"NaN":"a \"NaN\" \\","b":NaN}"#,
                Some(r#"{"NaN":"a \"NaN\" \\","b":null}"#),
            ),
            (r#"{"None":None}"#, Some(r#"{"None":null}"#)),
            (r#"{"a":nan}"#, None),
        ] {
            assert_eq!(with_nulls(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn deep_values_are_skipped_and_cut_out() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let json = format!(r#"{{"skipped":{deep},"deep":{deep}}}"#);
        let [cut] = fields(&json, &["deep"]).unwrap().values;
        assert_eq!(cut.map(RawValue::get), Some(&*deep));
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
}
