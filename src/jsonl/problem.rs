//! What is wrong with a line of an input file, in words.

use std::fmt;

use super::flaw::MAX_DEPTH;
use super::hash::LineHash;
use super::line::Dialect;
use super::reader::MAX_LINE;

/// A line that is no request, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) number: u64,
    pub(crate) custom_id: Option<String>,
    pub(crate) dialect: Dialect,
    /// `None` where the line was too long to keep.
    pub(crate) hash: Option<LineHash>,
    pub(crate) problem: Problem,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.number, self.problem)
    }
}

/// Why a line is no request. The words never quote the line: it may hold anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    TooLong,
    /// Columns are bytes, counted from 1.
    NotUtf8 {
        column: usize,
    },
    NotJson {
        column: usize,
        what: String,
    },
    NotAnObject,
    TooDeep {
        column: usize,
    },
    LoneSurrogate {
        column: usize,
    },
    Missing(&'static str),
    Twice(&'static str),
    CustomId(&'static str),
    /// An id that is good in itself, and not to be sent in this line.
    TakenId {
        id: String,
        why: &'static str,
    },
    Method,
    Url(&'static str),
    BodyNotAnObject(&'static str),
    TwoForms,
    Stream,
}

impl Problem {
    /// Where it is, if it is in one place of the line.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn column(&self) -> Option<usize> {
        match self {
            Self::NotUtf8 { column }
            | Self::NotJson { column, .. }
            | Self::TooDeep { column }
            | Self::LoneSurrogate { column } => Some(*column),
            _ => None,
        }
    }

    /// The same, in a line that begins with so many bytes more.
    pub(super) fn indented(mut self, bytes: usize) -> Self {
        if let Self::NotUtf8 { column }
        | Self::NotJson { column, .. }
        | Self::TooDeep { column }
        | Self::LoneSurrogate { column } = &mut self
        {
            *column += bytes;
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {} MiB", MAX_LINE >> 20),
            Self::NotUtf8 { column } => write!(f, "not UTF-8 at column {column}"),
            Self::NotJson { column, what } => write!(f, "not JSON at column {column}: {what}"),
            Self::NotAnObject => f.write_str("not a JSON object"),
            Self::TooDeep { column } => {
                write!(
                    f,
                    "nested deeper than {MAX_DEPTH} levels at column {column}"
                )
            }
            Self::LoneSurrogate { column } => write!(
                f,
                "half of a surrogate pair, which is no character, at column {column}"
            ),
            Self::Missing(field) => write!(f, "no \"{field}\""),
            Self::Twice(field) => write!(f, "\"{field}\" is there twice"),
            Self::CustomId(what) => write!(f, "\"custom_id\" {what}"),
            Self::TakenId { id, why } => write!(f, "\"custom_id\" {id:?} {why}"),
            Self::Method => f.write_str("\"method\" must be \"POST\""),
            Self::Url(what) => write!(f, "\"url\" {what}"),
            Self::BodyNotAnObject(field) => write!(f, "\"{field}\" is not a JSON object"),
            Self::TwoForms => f.write_str(
                "has \"params\" (Anthropic's form) beside \"method\", \"url\" or \"body\" (OpenAI's)",
            ),
            Self::Stream => f.write_str("asks for a stream; remove \"stream\": true"),
        }
    }
}
