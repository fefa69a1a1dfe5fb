//! The rows that a table of answers has, each with its cells and its record.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;

use csv::ByteRecord;

use super::answers::{Answer, Answers, row_key};
use super::files::{Location, OpenInput};
use super::format::Format;
use super::table::{TableRow, TableRows};
use crate::error::{Result, config};
use crate::rows::cells::{BOM, Layout};
use crate::rows::object::Members;

/// The rows of a table: all rows of an input in its order, or the rows that have a record in the
/// order of the records.
pub(crate) struct RowSource<'a> {
    input: Option<(&'a Location, &'a Format)>,
    pub(super) columns: Vec<String>,
    own_layout: Layout,
}

impl<'a> RowSource<'a> {
    /// The rows that have a record.
    pub(crate) fn of_records() -> Self {
        Self {
            input: None,
            columns: vec!["id".to_owned()],
            own_layout: Layout::default(),
        }
    }

    /// All rows of an input, or those of its shard, whose header has been read if it is a table.
    ///
    /// # Errors
    /// Those of reading the input.
    pub(crate) fn of_input(location: &'a Location, format: &'a Format) -> Result<Self> {
        let mut source = Self {
            input: Some((location, format)),
            ..Self::of_records()
        };
        match &format.rows {
            Some(rows) if rows.is_csv() => {
                let columns = rows.columns().into_iter();
                source.columns = columns.flat_map(|own| own.iter().cloned()).collect();
                source.own_layout = Layout {
                    delimiter: rows.separator().unwrap_or(source.own_layout.delimiter),
                    has_bom: begins_with_bom(&mut open(location)?),
                };
            }
            Some(_) => source.columns = columns_of_objects(location, format)?,
            None if format.prompts.is_some() => source.columns.push("prompt".to_owned()),
            None => {}
        }
        Ok(source)
    }

    /// How a table of these rows is laid out. Without tabs it has the delimiter of the user's own,
    /// if that is no tab.
    pub(crate) fn layout(&self, has_tabs: bool) -> Layout {
        let delimiter = match self.own_layout.delimiter {
            _ if has_tabs => b'\t',
            b'\t' => b',',
            delimiter => delimiter,
        };
        Layout {
            delimiter,
            ..self.own_layout
        }
    }

    /// Calls `show` with the cells that each row has of its own, and what its record says.
    ///
    /// # Errors
    /// Those of reading the input and the records, and of `show`.
    pub(crate) fn each(
        &self,
        answers: &mut Answers,
        mut show: impl FnMut(&ByteRecord, Option<&Answer>) -> Result<()>,
    ) -> Result<()> {
        let Some((location, format)) = self.input else {
            return answers.in_order().into_iter().try_for_each(|place| {
                let answer = answers.read(place)?;
                let id = answer.custom_id.as_deref().unwrap_or_default();
                show(&ByteRecord::from(&[id][..]), Some(&answer))
            });
        };
        let mut rows = TableRows::new(open(location)?, format.clone());
        let mut own = ByteRecord::new();
        while let Some(row) = rows.next().map_err(|error| location.unreadable(error))? {
            if !format.takes(row.id.as_deref(), row.line) {
                continue;
            }
            own.clear();
            self.push_cells(&mut own, &row, format);
            let key = row_key(row.id.as_deref(), row.line);
            show(&own, answers.get(key)?.as_ref())?;
        }
        Ok(())
    }

    /// As many cells as there are columns. A row of CSV that has more or fewer has failed, and
    /// shows what it has as well as can be.
    fn push_cells(&self, own: &mut ByteRecord, row: &TableRow<'_>, format: &Format) {
        match &format.rows {
            Some(rows) if rows.is_csv() => {
                let cells = rows.fitted_cells(row.bytes.unwrap_or_default());
                own.extend(cells.unwrap_or_default());
            }
            Some(_) => {
                let text = row.text();
                let object = Members::of(&text).unwrap_or_default();
                for column in &self.columns {
                    own.push_field(object.cell(column).as_bytes());
                }
            }
            None => {
                let unnamed = || Cow::Owned(format!("line-{}", row.line));
                let id = row.id.as_deref().map_or_else(unnamed, Cow::Borrowed);
                own.push_field(id.as_bytes());
                if format.prompts.is_some() {
                    own.push_field(row.text().as_bytes());
                }
            }
        }
    }
}

pub(super) fn open(location: &Location) -> Result<File> {
    match location.open_input()? {
        OpenInput::Regular(file) => Ok(file),
        OpenInput::Stream(_) => {
            let why = format!("input {location} is no file, and can be read only once");
            Err(config(why))
        }
    }
}

fn begins_with_bom(file: &mut File) -> bool {
    let mut start = [0; BOM.len()];
    file.read_exact(&mut start).is_ok() && start == *BOM.as_bytes()
}

/// The keys of all objects of an input, in the order in which they come.
fn columns_of_objects(location: &Location, format: &Format) -> Result<Vec<String>> {
    let (mut known, mut columns) = (HashSet::new(), Vec::new());
    let mut rows = TableRows::new(open(location)?, format.clone());
    while let Some(row) = rows.next().map_err(|error| location.unreadable(error))? {
        let text = row.text();
        let object = Members::of(&text);
        let keys = object.unwrap_or_default().keys.into_iter();
        columns.extend(keys.filter(|key| known.insert(key.clone())));
    }
    Ok(columns)
}
