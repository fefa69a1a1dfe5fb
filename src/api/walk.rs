//! One pass over a JSON text that keeps only what is asked for.
//!
//! Building a `serde_json::Value` of a body takes three times as long as skipping through it and
//! several times its memory, and deriving visitors would add six crates to every build. So the
//! readers of bodies implement [`Sink`], and only the callbacks they need.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Takes what a JSON value turns out to be; whatever it has no callback for is skipped.
pub(crate) trait Sink {
    /// A member of an object. Must take its value: with [`into`], or with [`skip`].
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let _ = name;
        skip(map)
    }

    /// Takes the next element of an array; false if there is none.
    fn element<'de, A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error> {
        Ok(seq.next_element::<IgnoredAny>()?.is_some())
    }

    /// A string, unescaped.
    fn text(&mut self, text: &str) {
        let _ = text;
    }

    /// A number. A float holds every count below 2^53 exactly, and no plausible count is above.
    fn number(&mut self, number: f64) {
        let _ = number;
    }
}

/// Reads the JSON `text` into `sink`.
pub(crate) fn read(text: &str, sink: &mut impl Sink) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Feed(sink).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Reads a member's value into `sink`.
pub(crate) fn into<'de, A: MapAccess<'de>>(
    map: &mut A,
    sink: &mut impl Sink,
) -> Result<(), A::Error> {
    map.next_value_seed(Feed(sink))
}

/// Reads the next element into `sink`; false if there is none.
pub(crate) fn next<'de, A: SeqAccess<'de>>(
    seq: &mut A,
    sink: &mut impl Sink,
) -> Result<bool, A::Error> {
    Ok(seq.next_element_seed(Feed(sink))?.is_some())
}

/// Passes over a member's value, however deep it is: skipping takes no stack.
pub(crate) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

struct Feed<'s, S>(&'s mut S);

impl<'de, S: Sink> DeserializeSeed<'de> for Feed<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Feed<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            self.0.member(&name, &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while self.0.element(&mut seq)? {}
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.text(text);
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.0.number(number);
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A member's name: borrowed unless it holds an escape, where `Cow`'s own impl always copies.
pub(crate) struct Name<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

/// A count: a number from 0 to a million million. Anything else is as good as absent.
#[derive(Default)]
pub(crate) struct Count(pub(crate) Option<u64>);

impl Count {
    const MAX: f64 = 1e12;

    /// A member's value as a count.
    pub(crate) fn of<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<u64>, A::Error> {
        let mut count = Self::default();
        into(map, &mut count)?;
        Ok(count.0)
    }
}

impl Sink for Count {
    fn number(&mut self, number: f64) {
        if (0.0..=Self::MAX).contains(&number) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "in range, so that only a fraction is dropped"
            )]
            let count = number as u64;
            self.0 = Some(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Trace(String);

    impl Sink for Trace {
        fn member<'de, A: MapAccess<'de>>(
            &mut self,
            name: &str,
            map: &mut A,
        ) -> Result<(), A::Error> {
            self.0 += name;
            self.0 += ":";
            if name == "skipped" {
                skip(map)
            } else {
                into(map, self)
            }
        }

        fn element<'de, A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error> {
            self.0 += ",";
            next(seq, self)
        }

        fn text(&mut self, text: &str) {
            self.0 += text;
        }

        fn number(&mut self, number: f64) {
            self.0 += &number.to_string();
        }
    }

    #[test]
    fn everything_is_seen_once_and_in_order() {
        let mut trace = Trace::default();
        let text = r#"{"a":"x\ny","\u0062":[1,-2.5,true,null],"skipped":{"c":1},"d":{}}"#;
        read(text, &mut trace).unwrap();
        assert_eq!(trace.0, "a:x\nyb:,1,-2.5,,,skipped:d:");
    }

    #[test]
    fn wrong_json_is_an_error() {
        for text in ["", "{", "{}x", r#"{"a"}"#, "[1,]", "nul", r#"{"a":01}"#] {
            assert!(read(text, &mut Trace::default()).is_err(), "{text}");
        }
        // Deep values are skipped without stack, and refused where they are read.
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(read(&format!(r#"{{"skipped":{deep}}}"#), &mut Trace::default()).is_ok());
        assert!(read(&deep, &mut Trace::default()).is_err());
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
            ("null", None),
            ("true", None),
            ("\"12\"", None),
            ("[12]", None),
            ("{\"n\":12}", None),
        ] {
            let mut count = Count::default();
            read(text, &mut count).unwrap();
            assert_eq!(count.0, expected, "{text}");
        }
    }
}
