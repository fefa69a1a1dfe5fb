//! A few named fields of one JSON object, left as the text they were.
//!
//! Requests and answers pass through byte for byte: numbers beyond 2⁵³, duplicate keys, key order
//! and spelling are the sender's business. So nothing here builds a tree of values; the fields a
//! layer needs are cut out as slices of the line.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deep a line may nest; `serde_json`'s own limit, which it does not apply to text it only
/// passes over.
pub(crate) const MAX_DEPTH: usize = 128;

/// The values of the fields that were asked for, in the order they were asked for.
#[derive(Debug)]
pub(crate) struct Fields<'a, const N: usize> {
    pub(crate) values: [Option<&'a RawValue>; N],
    /// A field that was asked for and is there twice: parsers disagree on which one counts.
    pub(crate) twice: Option<&'static str>,
}

/// Cuts the fields `names` out of the object in `json`, checking that all of it is JSON.
///
/// # Errors
/// `json` is not JSON (`Category::Syntax` or `Eof`), or it is JSON but no object (`Category::Data`).
pub(crate) fn fields<'a, const N: usize>(
    json: &'a str,
    names: &[&'static str; N],
) -> serde_json::Result<Fields<'a, N>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let fields = deserializer.deserialize_map(FieldsVisitor { names })?;
    deserializer.end()?;
    Ok(fields)
}

struct FieldsVisitor<'n, const N: usize> {
    names: &'n [&'static str; N],
}

impl<'de, const N: usize> Visitor<'de> for FieldsVisitor<'_, N> {
    type Value = Fields<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields {
            values: [None; N],
            twice: None,
        };
        while let Some(known) = map.next_key_seed(Name { names: self.names })? {
            let Some(index) = known else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if fields.values[index].is_some() {
                fields.twice.get_or_insert(self.names[index]);
            }
            fields.values[index] = Some(map.next_value::<&RawValue>()?);
        }
        Ok(fields)
    }
}

/// As [`fields`], but stops where all of them have been found: what stands behind them, maybe an
/// answer as long as a book, is not gone over. So `json` must be known to be JSON.
pub(crate) fn first_fields<'a, const N: usize>(
    json: &'a str,
    names: &[&'static str; N],
) -> [Option<&'a RawValue>; N] {
    let mut values = [None; N];
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let first = FirstFields {
        names,
        values: &mut values,
    };
    // An error at most says that there is more of it.
    let _more = deserializer.deserialize_map(first);
    values
}

struct FirstFields<'n, 'a, const N: usize> {
    names: &'n [&'static str; N],
    values: &'n mut [Option<&'a RawValue>; N],
}

impl<'de, const N: usize> Visitor<'de> for FirstFields<'_, 'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while self.values.iter().any(Option::is_none)
            && let Some(known) = map.next_key_seed(Name { names: self.names })?
        {
            match known {
                Some(index) => self.values[index] = Some(map.next_value::<&RawValue>()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A key, as its place among the names asked for.
struct Name<'n, const N: usize> {
    names: &'n [&'static str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Name<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for Name<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.names.iter().position(|name| *name == key))
    }
}

/// What passing over text does not find, with the byte offset where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep(usize),
    /// Half of a surrogate pair (`\ud800`), which is no character.
    LoneSurrogate(usize),
}

/// Looks through text that is known to be JSON for what a receiver would choke on.
///
/// A loop over the bytes and not a visitor: a visitor decodes numbers too, and would refuse `1e400`,
/// which is to be passed on as it is.
pub(crate) fn flaw(json: &str) -> Option<Flaw> {
    let bytes = json.as_bytes();
    // Nearly every line is told at a glance: the loop below takes ten times as long.
    if !json.contains("\\u") && openings(bytes) <= MAX_DEPTH {
        return None;
    }
    let (mut at, mut depth, mut in_string) = (0, 0_usize, false);
    while at < bytes.len() {
        match (in_string, bytes[at]) {
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(Flaw::TooDeep(at));
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (true, b'\\') => match unit(bytes, at) {
                Some(0xd800..=0xdbff) => match unit(bytes, at + 6) {
                    Some(0xdc00..=0xdfff) => at += 11,
                    _ => return Some(Flaw::LoneSurrogate(at)),
                },
                Some(0xdc00..=0xdfff) => return Some(Flaw::LoneSurrogate(at)),
                // What follows a backslash never ends the string.
                _ => at += 1,
            },
            _ => {}
        }
        at += 1;
    }
    None
}

/// How many brackets open, those in strings counted in: no text nests deeper than that.
fn openings(bytes: &[u8]) -> usize {
    // `[` and `{` differ in one bit. Stretches that a byte can count keep it to a few instructions
    // for many bytes at once.
    let opens = |byte: &u8| u8::from(byte | 0x20 == b'{');
    let stretches = bytes.chunks(usize::from(u8::MAX));
    stretches
        .map(|stretch| usize::from(stretch.iter().map(opens).sum::<u8>()))
        .sum()
}

/// The UTF-16 unit of the escape `\uXXXX` at `at`, if that is what stands there.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::error::Category;

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
    fn depth_counts_brackets_outside_strings_only() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(flaw(&nested(MAX_DEPTH)), None);
        assert_eq!(flaw(&nested(MAX_DEPTH + 1)), Some(Flaw::TooDeep(MAX_DEPTH)));
        assert_eq!(flaw(&nested(100_000)), Some(Flaw::TooDeep(MAX_DEPTH)));
        assert_eq!(flaw(&format!(r#"{{"a":"\"{}"}}"#, "[".repeat(500))), None);
    }

    #[test]
    fn half_a_surrogate_pair_is_found() {
        for (json, expected) in [
            (r#""\ud83d\ude00""#, None),
            (r#""\ud800""#, Some(Flaw::LoneSurrogate(1))),
            (r#""a\udc00""#, Some(Flaw::LoneSurrogate(2))),
            (r#""\ud800\u0041""#, Some(Flaw::LoneSurrogate(1))),
            (r#""\\ud800""#, None),
        ] {
            assert_eq!(flaw(json), expected, "{json}");
        }
    }
}
