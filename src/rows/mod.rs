//! Rows of a table as requests: the cells of a row, and the request that a template makes of them.
//!
//! [`table`] reads CSV: where a record ends, its cells, the columns. [`row`] is one row, of CSV or
//! a JSON object, as a template sees it. [`template`] is what the user writes, and [`render`] makes
//! the body of a request of it and a row. [`RowFormat`] puts them together for `jsonl`.
//!
//! [`object`] is a JSON object as cells. [`cells`] goes the other way: it writes the cells
//! of a table.
//!
//! All of it is pure: files, lines, ids and what is done are the business of `jsonl`.

#[cfg(not(feature = "rows"))]
mod absent;
#[cfg(feature = "rows")]
pub(crate) mod cells;
#[cfg(feature = "rows")]
mod format;
#[cfg(feature = "rows")]
pub(crate) mod object;
#[cfg(feature = "rows")]
mod render;
#[cfg(feature = "rows")]
mod row;
#[cfg(feature = "rows")]
mod table;
#[cfg(feature = "rows")]
mod template;

#[cfg(not(feature = "rows"))]
pub(crate) use absent::{RecordEnds, RowFormat};
#[cfg(feature = "rows")]
pub(crate) use format::RowFormat;
#[cfg(feature = "rows")]
pub(crate) use table::{RecordEnds, header};
#[cfg(feature = "rows")]
pub use template::Template;

use std::borrow::Cow;

/// Why no request can be made of a row.
#[derive(Debug)]
#[cfg_attr(not(feature = "rows"), expect(dead_code))]
pub(crate) enum RowFlaw {
    /// It is no JSON object.
    Json(serde_json::Error),
    /// The kind of the flaw, as records and findings name it, and a message for people.
    Other(&'static str, Cow<'static, str>),
}

/// What a row asks for.
#[derive(Debug)]
pub(crate) struct RowRequest {
    /// Its id, if a column has ids and the cell is a valid one.
    pub(crate) id: Option<String>,
    /// The body of its request.
    pub(crate) body: Result<String, RowFlaw>,
}
