//! The rows of one input: read, and made into requests.

use std::sync::Arc;

use serde_json::Value as Json;

use super::render::Renderer;
use super::row::Row;
use super::table::{RecordEnds, Table, texts};
use super::template::Template;
use super::{RowFlaw, RowRequest};
use crate::error::{Error, Result, config};
use crate::escape::printable;

/// How many columns a message names.
const NAMED: usize = 30;

/// How the rows of an input become requests.
#[derive(Clone, Debug)]
pub(crate) struct RowFormat {
    renderer: Arc<Renderer>,
    /// The column that names the rows; without one they are named by their requests.
    id: Option<Arc<str>>,
    /// With one, rows are CSV whatever they look like.
    pub(crate) separator: Option<u8>,
    /// Of CSV, once its header has been read. Any other row is a JSON object.
    pub(crate) table: Option<Table>,
}

impl RowFormat {
    /// Reads the template of requests that go to the path `endpoint`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the setting.
    pub(crate) fn new(template: &Template, endpoint: &str) -> Result<Self> {
        let separator = template
            .separator
            .map(|separator| match u8::try_from(separator) {
                Ok(byte) if byte.is_ascii() && !b"\"\r\n".contains(&byte) => Ok(byte),
                _ => {
                    let why =
                        format!("{separator:?} cannot separate cells: name one ASCII character");
                    Err(config(why).with_settings(&["delimiter"]))
                }
            });
        Ok(Self {
            renderer: Arc::new(Renderer::new(template, endpoint)?),
            id: template.id.as_deref().map(Arc::from),
            separator: separator.transpose()?,
            table: None,
        })
    }

    /// Reads the header of CSV, which is then what all rows are.
    ///
    /// # Errors
    /// Those of [`check_columns`](Self::check_columns), and
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a header that cannot be read.
    pub(crate) fn read_header(&mut self, header: &[u8], has_tabs: bool) -> Result<()> {
        let header = str::from_utf8(header)
            .map_err(|_| config("the header is not UTF-8: convert the file, as `iconv` does"))?;
        if header.ends_with('\r') {
            let why = "the lines end in CR alone, as old Macs wrote them: end them in LF, as \
                       `tr '\\r' '\\n'` does";
            return Err(config(why));
        }
        let header = header.trim_end_matches(['\r', '\n']);
        let separator = self.separator.or(has_tabs.then_some(b'\t'));
        let table = Table::new(header, separator)
            .ok_or_else(|| config("a quote in the header is never closed"))?;
        // An empty file has nothing that could be missed.
        if !table.columns.is_empty() {
            self.check_columns(&table.columns)?;
        }
        self.table = Some(table);
        Ok(())
    }

    /// Looks for the columns that the templates name, and the one that names the rows.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the column that is missing or there
    /// twice, and those that there are.
    fn check_columns(&self, columns: &[String]) -> Result<()> {
        for name in self.needs() {
            match columns.iter().filter(|column| *column == name).count() {
                0 => return Err(self.no_column(name, columns)),
                1 => {}
                _ => {
                    let why = format!("more than one column {name:?}: rename one");
                    return Err(config(why).with_settings(self.setting(name)));
                }
            }
        }
        Ok(())
    }

    /// The error for an input without a column that rows need, which has these.
    pub(crate) fn no_column(&self, name: &str, columns: &[String]) -> Error {
        let why = format!("no column {name:?}: there are {}", listed(columns));
        config(why).with_settings(self.setting(name))
    }

    /// The setting that names a column.
    fn setting(&self, name: &str) -> &'static [&'static str] {
        match self.id.as_deref() {
            Some(id) if id == name && !self.renderer.names.contains(name) => &["id"],
            _ => &["prompt"],
        }
    }

    /// The columns that a row must have: those that the templates name, and that of ids.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &str> {
        let names = self.renderer.names.iter().map(String::as_str);
        names.chain(self.id.as_deref())
    }

    pub(crate) fn record_ends(&self) -> Option<RecordEnds> {
        self.table.as_ref().map(Table::record_ends)
    }

    pub(crate) fn is_csv(&self) -> bool {
        self.table.is_some()
    }

    /// Whether rows have no ids of their own.
    pub(crate) fn names_rows(&self) -> bool {
        self.id.is_none()
    }

    /// Reads a row, which may have more or fewer cells than there are columns.
    ///
    /// # Errors
    /// It has no cells: it is no JSON object, or a quote in it is not closed.
    pub(crate) fn row(&self, text: &str) -> Result<Row, RowFlaw> {
        let Some(table) = &self.table else {
            return Row::of_json(text).map_err(RowFlaw::Json);
        };
        let cells = table.cells(text.as_bytes()).ok_or_else(|| {
            let why = "a quote opens here and is never closed, so all lines to the end are one row";
            RowFlaw::Other("open_quote", why.into())
        })?;
        Ok(Row::of_texts(&table.columns, texts(cells)))
    }

    /// Makes the request of a row.
    pub(crate) fn request(&self, text: &str) -> RowRequest {
        let mut id = None;
        let body = self.row(text).and_then(|row| {
            let (cells, columns) = (row.cells.len(), row.columns.len());
            if cells != columns {
                let s = if cells == 1 { "" } else { "s" };
                let why = format!("has {cells} cell{s}, and the header has {columns}");
                return Err(RowFlaw::Other("cells", why.into()));
            }
            if let Some(column) = &self.id {
                id = Some(id_in(&row, column)?);
            }
            let body = self.renderer.body(row);
            body.map_err(|why| RowFlaw::Other("template", why.into()))
        });
        RowRequest { id, body }
    }

    /// What is added to all requests: the names of fields and messages.
    pub(crate) fn additions(&self) -> Vec<String> {
        self.renderer.additions()
    }
}

/// The id of a row: a text or a number.
fn id_in(row: &Row, column: &str) -> Result<String, RowFlaw> {
    let why = match row.get(column) {
        Some(Json::String(id)) if !id.is_empty() => return Ok(id.clone()),
        Some(Json::Number(id)) => return Ok(id.to_string()),
        Some(Json::String(_)) => format!("{column:?} is empty, and must name the row"),
        Some(_) => format!("{column:?} is neither text nor a number, and must name the row"),
        None => format!("no {column:?}, which must name the row"),
    };
    Err(RowFlaw::Other("custom_id", why.into()))
}

/// The columns as a message shows them.
fn listed(columns: &[String]) -> String {
    let named = columns.iter().take(NAMED);
    let mut named: Vec<String> = named
        .map(|name| format!("\"{}\"", printable(name, 60)))
        .collect();
    if columns.len() > NAMED {
        named.push(format!("{} more", columns.len() - NAMED));
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn format(template: &Template, header: &str) -> Result<RowFormat> {
        let mut format = RowFormat::new(template, "/v1/embeddings")?;
        format.read_header(header.as_bytes(), false)?;
        Ok(format)
    }

    fn why(request: &RowRequest) -> (&'static str, &str) {
        match &request.body {
            Err(RowFlaw::Other(kind, why)) => (kind, why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_column_that_is_missing_or_there_twice_is_refused_with_those_there_are() {
        for (prompt, id, header, words) in [
            (
                "{{ txet }}",
                None,
                "id,text\n",
                "no column \"txet\": there are \"id\", \"text\"",
            ),
            ("{{ text }}", Some("key"), "id,text\n", "no column \"key\""),
            ("{{ a }}", None, "a,b,a\n", "more than one column \"a\""),
        ] {
            let mut template = Template::new("m", prompt);
            template.id = id.map(str::to_owned);
            let error = format(&template, header).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        // What is not named does no harm, nor does a file with nothing in it.
        format(&Template::new("m", "{{ a }}"), "a,b,b,,\r\n").unwrap();
        format(&Template::new("m", "{{ a }}"), "").unwrap();
        assert!(RowFormat::new(&Template::new("m", "x").delimiter('é'), "/").is_err());
    }

    #[test]
    fn a_row_that_cannot_be_asked_says_why() {
        let by_id = format(&Template::new("m", "{{ text }}").id("id"), "id,text\n").unwrap();
        for (row, kind, words) in [
            ("1", "cells", "has 1 cell, and the header has 2"),
            ("1,2,3", "cells", "has 3 cells"),
            ("1,\"2", "open_quote", "never closed"),
            (",2", "custom_id", "\"id\" is empty"),
        ] {
            let request = by_id.request(row);
            let (found, told) = why(&request);
            assert_eq!(found, kind);
            assert!(told.contains(words), "{told}");
        }
        let request = by_id.request("7,");
        assert_eq!(request.id.as_deref(), Some("7"));
        assert_eq!(request.body.unwrap(), r#"{"input":"","model":"m"}"#);
        let json = RowFormat::new(&Template::new("m", "{{ text }}").id("id"), "/v1/embeddings");
        let json = json.unwrap();
        let request = json.request(r#"{"id":7}"#);
        assert_eq!(
            request.id.as_deref(),
            Some("7"),
            "a row that fails has its id"
        );
        assert_eq!(why(&request).0, "template");
        assert_eq!(
            why(&json.request(r#"{"id":null,"text":"x"}"#)).0,
            "custom_id"
        );
        assert_eq!(why(&json.request(r#"{"text":"x"}"#)).0, "custom_id");
        assert!(matches!(json.request("[]").body, Err(RowFlaw::Json(_))));
    }

    proptest! {
        #[test]
        fn any_cell_comes_through_to_the_request(
            cells in prop::collection::vec(any::<String>(), 1..5),
            separator in prop::sample::select(vec![',', ';', '\t']),
        ) {
            let columns: Vec<String> = (0..cells.len()).map(|n| format!("c{n}")).collect();
            let mut writer = csv::WriterBuilder::new().delimiter(separator as u8).from_writer(Vec::new());
            writer.write_record(&columns).unwrap();
            writer.write_record(&cells).unwrap();
            let written = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let (header, record) = written.split_once('\n').unwrap();
            let names: Vec<String> = columns.iter().map(|name| format!("{{{{ {name} }}}}")).collect();
            let template = Template::new("m", names.join("|")).delimiter(separator);
            let format = format(&template, header).unwrap();
            let body = format.request(record.strip_suffix('\n').unwrap()).body.unwrap();
            let body: Json = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(body["input"].as_str().unwrap(), cells.join("|"));
        }
    }
}
