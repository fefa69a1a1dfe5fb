//! An input that is a table: its header is read before a run begins, as the template must fit it,
//! and its rows can be read again, each with the id that the run gives it, its own cells and its
//! record.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};

use csv::ByteRecord;

use super::answer::Answer;
use super::answers::{Answers, row_key};
use super::array::ArrayAsLines;
use super::files::{Location, OpenInput};
use super::format::Format;
use super::ids::Occurrences;
use super::lines::Lines;
use super::sidecars::{has_ending, is_table};
use crate::cancel::Cancel;
use crate::error::{Error, Result, config};
use crate::rows::cells::{BOM, Layout};
use crate::rows::object::Members;
use crate::rows::{RowFormat, Template, header};

/// The longest header, in bytes.
const LONGEST_HEADER: usize = 64 << 10;

/// Makes `format` that of rows, which become what `template` says. The input that is given back can
/// be read from its beginning.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for an invalid template, or one that names a
/// column that the input does not have; [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), and
/// those of [`Location::unreadable`].
pub(crate) fn open(
    template: &Template,
    mut format: Format,
    mut input: OpenInput,
    location: &Location,
    cancel: &Cancel,
) -> Result<(OpenInput, Format)> {
    let mut rows = RowFormat::new(template, &format.endpoint)?;
    let unreadable = |error| location.unreadable(error);
    let here = |error: Error| error.behind(&format!("input {location}"));
    let has_tabs = location.path().is_some_and(|path| has_ending(path, "tsv"));
    let is_csv = rows.separator.is_some() || location.path().is_some_and(is_table);
    let start = match &mut input {
        OpenInput::Regular(file) => beginning(file, is_csv),
        OpenInput::Stream(stream) => beginning(stream, is_csv),
    };
    let start = start.map_err(unreadable)?;
    if is_csv || !is_json(&start) {
        let at_end = start.len() < LONGEST_HEADER;
        let header = header(&start, at_end)
            .ok_or_else(|| here(config("the header is longer than 64 KiB")))?;
        rows.read_header(header, has_tabs).map_err(here)?;
    }
    let input = match input {
        OpenInput::Regular(mut file) => {
            file.rewind().map_err(unreadable)?;
            if !rows.is_csv() {
                find_columns(&file, &rows, location, cancel)?;
                file.rewind().map_err(unreadable)?;
            }
            OpenInput::Regular(file)
        }
        OpenInput::Stream(stream) => OpenInput::Stream(Box::new(Cursor::new(start).chain(stream))),
    };
    format.rows = Some(rows);
    Ok((input, format))
}

/// What an input begins with, as far as it takes to know its header, or that it is JSON. A pipe is
/// not waited for beyond that.
fn beginning(source: &mut dyn Read, is_csv: bool) -> io::Result<Vec<u8>> {
    let mut lines = Lines::new(source);
    let start = lines.preview(LONGEST_HEADER, |start, at_end| {
        (!is_csv && is_json(start)) || header(start, at_end).is_some()
    })?;
    Ok(start.to_vec())
}

fn is_json(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    matches!(start.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// Looks for the columns that rows need in a file of JSON objects, as far as it takes: as a rule,
/// the first object has all of them.
fn find_columns(file: &File, rows: &RowFormat, location: &Location, cancel: &Cancel) -> Result<()> {
    let has = |keys: &[String], name: &str| keys.iter().any(|key| key == name);
    let all = |keys: &[String]| rows.needs().all(|name| has(keys, name));
    let keys = keys_of_objects(file, location, cancel, all)?;
    match rows.needs().find(|name| !has(&keys, name)) {
        // Of what holds no objects at all, somebody else tells what it is.
        Some(name) if !keys.is_empty() => {
            let error = rows.no_column(name, &keys);
            Err(error.behind(&format!("input {location}")))
        }
        _ => Ok(()),
    }
}

/// The keys of the objects of an input, in the order in which they come, until they are `enough`.
fn keys_of_objects(
    source: impl Read,
    location: &Location,
    cancel: &Cancel,
    enough: impl Fn(&[String]) -> bool,
) -> Result<Vec<String>> {
    let (mut known, mut keys) = (HashSet::new(), Vec::new());
    let mut lines = Lines::new(ArrayAsLines::new(source, true));
    while !enough(&keys)
        && let Some(line) = lines.next().map_err(|error| location.unreadable(error))?
    {
        cancel.check()?;
        let text = String::from_utf8_lossy(line.text.unwrap_or_default());
        let object = Members::of(&text).unwrap_or_default();
        let new = object.keys.into_iter();
        keys.extend(new.filter(|key| known.insert(key.clone())));
    }
    Ok(keys)
}

/// The rows of a table in the order of the input, bad ones included.
pub(crate) struct TableRows<R> {
    lines: Lines<ArrayAsLines<R>>,
    format: Format,
    occurrences: Option<Occurrences>,
}

/// A row as it stands in the input.
pub(crate) struct TableRow<'a> {
    /// Its first physical line, from 1.
    pub(crate) line: u64,
    /// Its id in the records of a run. `None` if it has none: the record of its failure is then
    /// named by its line.
    pub(crate) id: Option<String>,
    /// The whole of it. `None` if it is too long.
    pub(crate) bytes: Option<&'a [u8]>,
}

impl TableRow<'_> {
    /// The whole of it, in which bytes that are no UTF-8 have been replaced.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes.unwrap_or_default())
    }
}

impl<R: Read> TableRows<R> {
    /// Reads an input whose header has been [read](open).
    pub(crate) fn new(source: R, format: Format) -> Self {
        Self {
            lines: format.lines(source),
            occurrences: format.names_rows().then(Occurrences::default),
            format,
        }
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// Those of [`Lines::next`].
    pub(crate) fn next(&mut self) -> io::Result<Option<TableRow<'_>>> {
        let Some(line) = self.lines.next()? else {
            return Ok(None);
        };
        let bytes = line.text;
        let mut parsed = self.format.parse(line);
        if let Some(occurrences) = &mut self.occurrences {
            occurrences.name(&mut parsed);
        }
        Ok(Some(TableRow {
            line: parsed.number,
            id: parsed.custom_id,
            bytes,
        }))
    }
}

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
        match format.rows.as_ref().map(|rows| &rows.table) {
            Some(Some(table)) => {
                source.columns = table.columns.to_vec();
                source.own_layout = Layout {
                    delimiter: table.separator,
                    has_bom: begins_with_bom(&mut open_again(location)?),
                };
            }
            Some(None) => {
                let objects = open_again(location)?;
                source.columns = keys_of_objects(objects, location, &Cancel::new(), |_| false)?;
            }
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
        let mut rows = TableRows::new(open_again(location)?, format.clone());
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
        match format.rows.as_ref().map(|rows| &rows.table) {
            Some(Some(table)) => own.extend(table.fitted_cells(row.bytes.unwrap_or_default())),
            Some(None) => {
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

pub(super) fn open_again(location: &Location) -> Result<File> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of an input: line, id, and the cells as JSON.
    fn read(
        template: &Template,
        input: &'static str,
    ) -> Result<Vec<(u64, Option<String>, String)>> {
        let input = OpenInput::Stream(Box::new(input.as_bytes()));
        let format = Format::default();
        let (input, format) = open(template, format, input, &Location::Stream, &Cancel::new())?;
        let OpenInput::Stream(stream) = input else {
            panic!("a stream");
        };
        let mut rows = TableRows::new(stream, format.clone());
        let (rows_format, mut found) = (format.rows.unwrap(), Vec::new());
        while let Some(row) = rows.next().unwrap() {
            let cells = rows_format.row(&row.text()).map_or_else(
                |_| String::new(),
                |row| serde_json::to_string(&row.cells).unwrap(),
            );
            found.push((row.line, row.id, cells));
        }
        Ok(found)
    }

    #[test]
    fn rows_have_their_first_line_their_id_and_their_cells() {
        let by_id = Template::new("m", "{{ text }}").id("id");
        let id = |id: &str| Some(id.to_owned());
        let csv =
            "\u{feff}id,text\r\n\r\n1,\"two\r\nlines\"\r\n2,\r\n\r\n3,a,b\r\n  ,x\r\n4,\"open\n5,y";
        assert_eq!(
            read(&by_id, csv).unwrap(),
            [
                (3, id("1"), r#"["1","two\r\nlines"]"#.to_owned()),
                (5, id("2"), r#"["2",""]"#.to_owned()),
                (7, None, r#"["3","a","b"]"#.to_owned()),
                (8, id("  "), r#"["  ","x"]"#.to_owned()),
                (9, None, String::new()),
            ]
        );
        let tabs = "text\tid\n\t\n\t\t\n";
        let cells: Vec<_> = read(&by_id, tabs)
            .unwrap()
            .into_iter()
            .map(|row| row.2)
            .collect();
        assert_eq!(cells, [r#"["",""]"#, r#"["","",""]"#]);
        let json = "{\"id\":1,\"text\":\"a\"}\nno\n\n{\"text\":\"b\"}\n";
        let lines: Vec<_> = read(&by_id, json)
            .unwrap()
            .into_iter()
            .map(|row| (row.0, row.1))
            .collect();
        assert_eq!(lines, [(1, id("1")), (2, None), (4, None)]);
        let array = "[{\"id\":\"x\",\n \"text\":[1]},\n{\"id\":\"y\",\"text\":{}}]";
        let ids: Vec<_> = read(&by_id, array)
            .unwrap()
            .into_iter()
            .map(|row| row.1)
            .collect();
        assert_eq!(ids, [id("x"), id("y")]);
    }

    #[test]
    fn rows_without_a_column_of_ids_are_named_by_their_requests() {
        let template = Template::new("m", "{{ text }}");
        let ids = |input| -> Vec<String> {
            let rows = read(&template, input).unwrap().into_iter();
            rows.map(|(_, id, _)| id.unwrap()).collect()
        };
        let first = ids("n,text\n1,a\n2,b\n3,a\n4,\n4,x,y\n");
        assert_eq!(first[2], format!("{}-2", first[0]));
        let moved = ids("text,n\nnew,0\na,9\n,4\nb,2\na,1\n");
        assert_eq!(
            [&moved[1], &moved[2], &moved[3], &moved[4]],
            [&first[0], &first[3], &first[1], &first[2]]
        );
    }

    #[test]
    fn what_does_not_fit_the_template_is_refused_with_the_input() {
        let template = Template::new("m", "{{ text }}");
        let error = read(&template, "id,txt\n1,2\n").err().unwrap();
        assert_eq!(
            error.to_string(),
            "input -: no column \"text\": there are \"id\", \"txt\" (`prompt`)"
        );
        assert!(read(&template, "").unwrap().is_empty());
        assert!(read(&template, "text\n").unwrap().is_empty());
        let long: &'static str = format!("\"{}\"", "x".repeat(LONGEST_HEADER)).leak();
        assert!(
            read(&template, long)
                .err()
                .unwrap()
                .to_string()
                .contains("64 KiB")
        );
    }

    #[test]
    fn a_name_is_looked_for_in_all_objects_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let columns = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let location = Location::new(&path);
            let template = Template::new("m", "{{ text }}");
            let (input, format) = (location.open_input().unwrap(), Format::default());
            open(&template, format, input, &location, &Cancel::new()).map(drop)
        };
        columns("{\"a\":1}\nno\n{\"text\":1}\n").unwrap();
        columns("").unwrap();
        columns("{no\n").unwrap();
        let told = columns("{\"a\":1}\n{\"b\":1}\n").unwrap_err().to_string();
        assert!(
            told.contains("no column \"text\": there are \"a\", \"b\""),
            "{told}"
        );
    }
}
