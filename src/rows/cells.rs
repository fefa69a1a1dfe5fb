//! A table as it is written: what a cell holds, and what the columns that are added are called.
//!
//! The user's own cells are written as they were read. What is added is a model's or a provider's
//! text, and nobody knows what is in it: a spreadsheet runs a cell that begins with `=`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};

pub(crate) const BOM: &str = "\u{feff}";

/// What the cells of a table are held apart by, and what it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) delimiter: u8,
    /// It begins with a byte order mark, by which Excel knows that it is UTF-8.
    pub(crate) has_bom: bool,
}

/// Commas, as RFC 4180 has it.
impl Default for Layout {
    fn default() -> Self {
        Self {
            delimiter: b',',
            has_bom: false,
        }
    }
}

/// Writes a table, cell by cell.
pub(crate) struct TableWriter<W: Write> {
    csv: csv::Writer<W>,
    raw_cells: bool,
}

impl<W: Write> TableWriter<W> {
    /// Begins a table. With `raw_cells`, texts that are added are written as they are.
    pub(crate) fn new(mut out: W, layout: Layout, raw_cells: bool) -> io::Result<Self> {
        if layout.has_bom {
            out.write_all(BOM.as_bytes())?;
        }
        let csv = csv::WriterBuilder::new()
            .delimiter(layout.delimiter)
            .from_writer(out);
        Ok(Self { csv, raw_cells })
    }

    /// Writes a cell of the user's own, to the byte.
    pub(crate) fn own(&mut self, cell: &[u8]) -> io::Result<()> {
        self.csv.write_field(cell).map_err(cause)
    }

    /// Writes a cell of a column that is added.
    pub(crate) fn added(&mut self, text: &str) -> io::Result<()> {
        let cell = if self.raw_cells {
            text.into()
        } else {
            guarded(text)
        };
        self.csv.write_field(cell.as_bytes()).map_err(cause)
    }

    /// Ends a row. All rows must have the same number of cells.
    pub(crate) fn end_row(&mut self) -> io::Result<()> {
        self.csv.write_record(None::<&[u8]>).map_err(cause)
    }

    /// Writes what is left in the buffer.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.csv.flush()
    }
}

/// What has failed below: the crate's own error hides of which kind it was.
fn cause(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// A text behind an apostrophe, if a spreadsheet might run it.
fn guarded(text: &str) -> Cow<'_, str> {
    if may_be_run(text) && !is_plain_number(text) {
        format!("'{text}").into()
    } else {
        text.into()
    }
}

/// By the list of OWASP's page on CSV injection. Some programs drop blanks at the start of a cell,
/// so these are looked past.
fn may_be_run(text: &str) -> bool {
    let is_dropped = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    let starts = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    text.starts_with(['\t', '\r']) || text.trim_start_matches(is_dropped).starts_with(starts)
}

/// `-1.5e3` is one, `-inf` and `-1+1` are none.
fn is_plain_number(text: &str) -> bool {
    let in_numbers = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    text.bytes().all(in_numbers) && text.parse::<f64>().is_ok()
}

/// The names of the columns of a table, each once. Names that differ in case only are the same, as
/// they are in SQL.
#[derive(Debug, Default)]
pub(crate) struct ColumnNames(HashSet<String>);

impl ColumnNames {
    /// With the names that the user's columns have.
    pub(crate) fn new(own: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let names = own.into_iter().map(|name| name.as_ref().to_lowercase());
        Self(names.collect())
    }

    /// A name for a column that is added: `answer`, or `answer_2` if there is an `answer`.
    pub(crate) fn add(&mut self, name: &str) -> String {
        let mut free = name.to_owned();
        let mut number = 2;
        while !self.0.insert(free.to_lowercase()) {
            free = format!("{name}_{number}");
            number += 1;
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(layout: Layout, raw_cells: bool, rows: &[Vec<(Vec<u8>, String)>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut table = TableWriter::new(&mut out, layout, raw_cells).unwrap();
        for row in rows {
            for (own, added) in row {
                table.own(own).unwrap();
                table.added(added).unwrap();
            }
            table.end_row().unwrap();
        }
        table.finish().unwrap();
        out
    }

    fn read(delimiter: u8, table: &[u8]) -> Vec<csv::ByteRecord> {
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .delimiter(delimiter)
            .from_reader(table);
        reader.into_byte_records().map(Result::unwrap).collect()
    }

    #[test]
    fn what_a_spreadsheet_would_run_gets_an_apostrophe() {
        for text in [
            "=1+1",
            "=cmd|' /C calc'!A0",
            "+1-1",
            "-1+1",
            "@SUM(A1)",
            "\t=1",
            "\tx",
            "\rx",
            "\n=1",
            " =1",
            "\u{feff}=1",
            "＝1",
            "＋a",
            "－a",
            "＠a",
            "-",
            "+",
            "-inf",
            "-nan",
            "+Infinity",
            "- a list",
            "--5",
            "-5 %",
            "-1,5",
            "+1e",
            "-0x1F",
            "-5\n",
        ] {
            assert_eq!(guarded(text), format!("'{text}"), "{text:?}");
        }
        for text in [
            "", "a", "1+1", "a=b", "-5", "+5", "-5.25", "-.5", "+1e9", "-1E-9", "'=1", "\nx", " x",
            "0", "é", "🦀",
        ] {
            assert_eq!(guarded(text), text, "{text:?}");
        }
    }

    #[test]
    fn own_cells_and_raw_ones_are_as_they_were() {
        let row = vec![(b"=1+1".to_vec(), "=2+2".to_owned())];
        let rows = [row];
        assert_eq!(written(Layout::default(), false, &rows), b"=1+1,'=2+2\n");
        assert_eq!(written(Layout::default(), true, &rows), b"=1+1,=2+2\n");
        let excel = Layout {
            delimiter: b';',
            has_bom: true,
        };
        assert_eq!(written(excel, true, &rows), b"\xef\xbb\xbf=1+1;=2+2\n");
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let mut names = ColumnNames::new(["text", "Answer", "answer_2"]);
        let added = ["answer", "error", "error", "ERROR", "text", ""].map(|name| names.add(name));
        assert_eq!(
            added,
            ["answer_3", "error", "error_2", "ERROR_3", "text_2", ""]
        );
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_what_was_written(
            rows in prop::collection::vec(prop::collection::vec((any::<Vec<u8>>(), any::<String>()), 3), 1..8),
            delimiter in prop::sample::select(vec![b',', b';', b'\t', b'|']),
            raw_cells: bool,
        ) {
            let layout = Layout { delimiter, has_bom: false };
            let back = read(delimiter, &written(layout, raw_cells, &rows));
            prop_assert_eq!(back.len(), rows.len());
            for (row, back) in rows.iter().zip(back) {
                for (n, (own, added)) in row.iter().enumerate() {
                    prop_assert_eq!(&back[2 * n], &own[..]);
                    let cell = str::from_utf8(&back[2 * n + 1]).unwrap();
                    let added = added.as_str();
                    let is_guarded = cell.strip_prefix('\'') == Some(added);
                    prop_assert!(cell == added || (is_guarded && !raw_cells));
                    prop_assert!(raw_cells || !cell.starts_with(['=', '@', '\t', '\r']));
                }
            }
        }
    }
}
