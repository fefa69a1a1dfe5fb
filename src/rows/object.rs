//! A JSON object as cells: of an input of plain objects, and of an answer.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::api::json::string;

/// The members of a JSON object, in their order.
#[derive(Default)]
pub(crate) struct Members<'a> {
    pub(crate) keys: Vec<String>,
    pub(super) values: Vec<&'a RawValue>,
}

impl<'a> Deserialize<'a> for Members<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'a> Visitor<'a> for Members<'a> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((key, value)) = map.next_entry()? {
            self.keys.push(key);
            self.values.push(value);
        }
        Ok(self)
    }
}

impl<'a> Members<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// `json` is not JSON (`Category::Syntax` or `Eof`), or it is JSON but no object
    /// (`Category::Data`).
    pub(crate) fn of(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    /// As [`of`](Self::of), of an answer; `None` if it is no object. It may be in a code fence of
    /// Markdown, as models like to write it.
    pub(crate) fn of_answer(text: &'a str) -> Option<Self> {
        let mut json = text.trim();
        if let Some(fenced) = json
            .strip_prefix("```")
            .and_then(|rest| rest.strip_suffix("```"))
        {
            // The first line names the language.
            json = fenced.split_once('\n')?.1.trim();
        }
        Self::of(json).ok()
    }

    /// A string is its text, null is empty, and anything else is its JSON. Of two members with one
    /// name the last counts.
    pub(crate) fn cell(&self, key: &str) -> String {
        let at = self.keys.iter().rposition(|known| known == key);
        match at.map(|at| self.values[at]) {
            None => String::new(),
            Some(json) if json.get() == "null" => String::new(),
            Some(json) => string(json).unwrap_or_else(|| json.get().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(members: Option<Members<'_>>) -> Vec<(String, String)> {
        let members = members.unwrap();
        let keys = members.keys.iter();
        keys.map(|key| (key.clone(), members.cell(key))).collect()
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs
            .map(|(key, cell)| (key.to_owned(), cell.to_owned()))
            .to_vec()
    }

    #[test]
    fn a_text_is_itself_and_anything_else_its_json() {
        let object = r#" {"b": "x\n\"y\"", "a": null, "n": 12345678901234567890123, "l": [1, {"z": 2}], "e": ""}"#;
        let expected = pairs([
            ("b", "x\n\"y\""),
            ("a", ""),
            ("n", "12345678901234567890123"),
            ("l", "[1, {\"z\": 2}]"),
            ("e", ""),
        ]);
        assert_eq!(cells(Members::of(object).ok()), expected);
        let twice = cells(Members::of(r#"{"a": 1, "a": 2}"#).ok());
        assert_eq!(twice, pairs([("a", "2"), ("a", "2")]));
        assert_eq!(Members::of("{}").unwrap().cell("none"), "");
        for other in ["", "[1]", "7", "{\"a\":", "{} x", "```{}```"] {
            assert!(Members::of(other).is_err(), "{other}");
        }
    }

    #[test]
    fn an_answer_may_stand_in_a_fence() {
        let expected = pairs([("a", "1")]);
        for answer in [
            "{\"a\": 1}",
            "\n{\"a\": 1}\n",
            "```json\n{\"a\": 1}\n```\n",
            "```\r\n{\"a\": 1}\r\n```",
        ] {
            assert_eq!(cells(Members::of_answer(answer)), expected, "{answer}");
        }
        for other in [
            "```",
            "``````",
            "```json\nno\n```",
            "Here: {\"a\": 1}",
            "```json {\"a\": 1}```",
        ] {
            assert!(Members::of_answer(other).is_none(), "{other}");
        }
    }
}
