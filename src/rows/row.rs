//! One row, as a template sees it: names and values.

use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectExt};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::object::Members;

/// A row of a table: its cells are texts, or what a JSON object has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) columns: Arc<[String]>,
    pub(crate) cells: Vec<Json>,
}

impl Row {
    pub(crate) fn of_texts(columns: &Arc<[String]>, cells: Vec<String>) -> Self {
        Self {
            columns: Arc::clone(columns),
            cells: cells.into_iter().map(Json::String).collect(),
        }
    }

    /// Reads a JSON object, in its own order.
    ///
    /// # Errors
    /// `text` is not JSON (`Category::Syntax` or `Eof`), or it is JSON but no object
    /// (`Category::Data`).
    pub(crate) fn of_json(text: &str) -> serde_json::Result<Self> {
        let members = Members::of(text)?;
        // What is JSON and cannot be held, as 1e999, stands as its text.
        let cell = |json: &RawValue| {
            serde_json::from_str(json.get()).unwrap_or_else(|_| json.get().into())
        };
        Ok(Self {
            columns: members.keys.into(),
            cells: members.values.into_iter().map(cell).collect(),
        })
    }

    /// The cell of a column. `None` if there is no such column, or more than one.
    pub(crate) fn get(&self, column: &str) -> Option<&Json> {
        let mut found = self.columns.iter().zip(&self.cells);
        let (_, cell) = found.find(|(name, _)| *name == column)?;
        found.all(|(name, _)| name != column).then_some(cell)
    }
}

/// `{{ row["a name"] }}`, `{{ row | tojson }}`, `{% for name in row %}`.
impl Object for Row {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match self.get(key.as_str()?)? {
            Json::String(text) => Value::from(text.as_str()),
            other => Value::from_serialize(other),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|row| Box::new(row.columns.iter().map(|name| name.as_str().into())))
    }
}

/// What a template can name: the columns, and the whole row as `row`.
#[derive(Debug)]
pub(super) struct Names(pub(super) Arc<Row>);

/// The name of the whole row.
pub(super) const ROW: &str = "row";

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            ROW => Some(Value::from_dyn_object(Arc::clone(&self.0))),
            _ => self.0.get_value(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_keeps_its_order_and_a_name_that_is_there_twice_is_none() {
        let row = Row::of_json(r#"{"b": 1, "a": {"x": [null]}, "c": 2, "c": 3}"#).unwrap();
        assert_eq!(*row.columns, ["b", "a", "c", "c"]);
        assert_eq!(row.get("a"), Some(&json!({"x": [null]})));
        assert_eq!((row.get("c"), row.get("d")), (None, None));
        let error = Row::of_json("[1]").unwrap_err();
        assert_eq!(error.classify(), serde_json::error::Category::Data);
    }
}
