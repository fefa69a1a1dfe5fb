//! CSV: where a record ends, what its cells are, and what the columns are called.
//!
//! To `jsonl` a record is a line, which any thread may read: so it is cut out first, and its cells
//! are looked at later. The readers of the `csv` crate own their stream, and the one below them
//! cannot be cloned, so the two passes are made here of one [`step`]; the tests compare it with
//! that crate. Like it, this takes what others refuse: quotes within a cell that does not begin
//! with one are text, and so is what follows a closing quote.

use std::mem;
use std::sync::Arc;

use memchr::memchr_iter;

/// The separators that are found by themselves. Of two that come as often, the later one counts.
const SEPARATORS: [u8; 3] = [b'\t', b';', b','];

/// Where in a record a byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    CellStart,
    Plain,
    Quoted,
    /// Behind a quote that closes, unless another follows.
    Closed,
}

/// What a byte of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Text,
    Quote,
    CellEnd,
    RecordEnd,
}

/// What a byte at this place is, and the place behind it.
fn step(place: Place, byte: u8, separator: u8) -> (Place, Part) {
    match (place, byte) {
        (Place::CellStart, b'"') => (Place::Quoted, Part::Quote),
        (Place::Quoted, b'"') => (Place::Closed, Part::Quote),
        (Place::Quoted, _) | (Place::Closed, b'"') => (Place::Quoted, Part::Text),
        (_, b'\n') => (Place::CellStart, Part::RecordEnd),
        (_, byte) if byte == separator => (Place::CellStart, Part::CellEnd),
        _ => (Place::Plain, Part::Text),
    }
}

/// Tells where the records of a table end: a cell in quotes may have line ends in it.
#[derive(Clone, Debug)]
pub(crate) struct RecordEnds {
    separator: u8,
    place: Place,
}

impl RecordEnds {
    /// Forgets the lines so far: the next one begins a record.
    pub(crate) fn begin(&mut self) {
        self.place = Place::CellStart;
    }

    /// Whether the record that has begun ends with this line, whose line feed is its last byte.
    pub(crate) fn end_with(&mut self, line: &[u8]) -> bool {
        line.iter().any(|byte| {
            let (place, part) = step(self.place, *byte, self.separator);
            self.place = place;
            part == Part::RecordEnd
        })
    }
}

/// A table whose header has been read.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) separator: u8,
    pub(crate) columns: Arc<[String]>,
}

impl Table {
    /// Reads the header; the separator is seen in it unless it is given. `None` if a quote in it is
    /// not closed.
    pub(crate) fn new(header: &str, separator: Option<u8>) -> Option<Self> {
        let separator = separator.unwrap_or_else(|| separator_of(header));
        let mut table = Self {
            separator,
            columns: Arc::new([]),
        };
        // A table without any column has a header that is blank.
        if !header.is_empty() {
            table.columns = texts(table.cells(header.as_bytes())?).into();
        }
        Some(table)
    }

    pub(crate) fn record_ends(&self) -> RecordEnds {
        RecordEnds {
            separator: self.separator,
            place: Place::CellStart,
        }
    }

    /// The cells of a record, without its line end. `None` if a quote is not closed.
    pub(crate) fn cells(&self, record: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (cells, place) = self.split(record);
        (place != Place::Quoted).then_some(cells)
    }

    /// As many cells as there are columns, of any record: those that are too many stay in the last
    /// one, and a quote that is not closed takes all that follows.
    pub(crate) fn fitted_cells(&self, record: &[u8]) -> Vec<Vec<u8>> {
        let (mut cells, _) = self.split(record);
        let columns = self.columns.len().max(1);
        if cells.len() > columns {
            let last = cells.split_off(columns - 1).join(&self.separator);
            cells.push(last);
        }
        cells.resize(columns, Vec::new());
        cells
    }

    fn split(&self, record: &[u8]) -> (Vec<Vec<u8>>, Place) {
        let (mut cells, mut cell, mut place) = (Vec::new(), Vec::new(), Place::CellStart);
        for byte in record {
            let (next, part) = step(place, *byte, self.separator);
            place = next;
            match part {
                Part::Text => cell.push(*byte),
                Part::Quote => {}
                Part::CellEnd | Part::RecordEnd => cells.push(mem::take(&mut cell)),
            }
        }
        cells.push(cell);
        (cells, place)
    }
}

/// The cells of a record that is UTF-8. They are so, too: what parts them is ASCII.
pub(crate) fn texts(cells: Vec<Vec<u8>>) -> Vec<String> {
    let text = |cell| String::from_utf8(cell).unwrap_or_default();
    cells.into_iter().map(text).collect()
}

/// The header of a table, with its line end, if all of it is in `start`: the first line that is not
/// blank, and those that belong to it as they end in quotes. A CR alone ends it, too.
pub(crate) fn header(start: &[u8], at_end: bool) -> Option<&[u8]> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let blank = start
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'));
    let start = &start[blank.count()..];
    let mut in_quotes = false;
    let end = start.iter().enumerate().position(|(at, byte)| {
        in_quotes ^= *byte == b'"';
        let is_alone = || {
            start
                .get(at + 1)
                .is_some_and(|next| !b"\r\n".contains(next))
        };
        !in_quotes && (*byte == b'\n' || (*byte == b'\r' && is_alone()))
    });
    match end {
        Some(end) => Some(&start[..=end]),
        None => at_end.then_some(start),
    }
}

/// What separates the names of a header: of a comma, a semicolon and a tab the one that comes most
/// often outside quotes, and a comma if none does.
fn separator_of(header: &str) -> u8 {
    let mut in_quotes = false;
    let outside = header.bytes().filter(|byte| {
        in_quotes ^= *byte == b'"';
        !in_quotes
    });
    let outside: Vec<u8> = outside.collect();
    let number = |separator: &u8| memchr_iter(*separator, &outside).count();
    SEPARATORS.into_iter().max_by_key(number).unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(header: &str) -> Table {
        Table::new(header, None).unwrap()
    }

    #[test]
    fn the_separator_is_seen_outside_quotes() {
        for (header, columns) in [
            ("a,b;c,d", &["a", "b;c", "d"][..]),
            ("a;b", &["a", "b"]),
            ("a\tb", &["a", "b"]),
            ("\"a;b;c\",d", &["a;b;c", "d"]),
            ("a", &["a"]),
            ("a;b,c", &["a;b", "c"]),
            ("\ta", &["", "a"]),
            ("\"a\nb\",c", &["a\nb", "c"]),
        ] {
            assert_eq!(*table(header).columns, *columns, "{header}");
        }
        let piped = Table::new("a|b,c", Some(b'|')).unwrap();
        assert_eq!(*piped.columns, ["a", "b,c"]);
        assert!(Table::new("\"a,b", None).is_none());
    }

    #[test]
    fn cells_lose_their_quotes_and_nothing_else() {
        for (record, cells) in [
            ("1,2", &["1", "2"][..]),
            (",", &["", ""]),
            ("\"\"", &[""]),
            ("\"say \"\"hi\"\"\", \"x\"", &["say \"hi\"", " \"x\""]),
            ("\"a\r\nb\",\"é\u{1f980}\"", &["a\r\nb", "é\u{1f980}"]),
            ("5\" disk,2", &["5\" disk", "2"]),
            ("1", &["1"]),
            ("1,2,3", &["1", "2", "3"]),
        ] {
            assert_eq!(
                texts(table("a,b").cells(record.as_bytes()).unwrap()),
                cells,
                "{record}"
            );
        }
        assert_eq!(table("a,b").cells(b"1,\"2"), None);
    }

    #[test]
    fn a_record_ends_with_a_line_end_outside_quotes() {
        let mut ends = table("a,b").record_ends();
        for (lines, last) in [
            (&["1,2\n"][..], true),
            (&["1,\"2\n", "\n", "3\"\r\n"], true),
            (&["5\" disk,2\n"], true),
            (&["1,\"2\n"], false),
            (&["1,2"], false),
        ] {
            ends.begin();
            let (end, before) = lines.split_last().unwrap();
            for line in before {
                assert!(!ends.end_with(line.as_bytes()), "{line}");
            }
            assert_eq!(ends.end_with(end.as_bytes()), last, "{lines:?}");
        }
    }

    #[test]
    fn a_header_is_the_first_record_that_is_not_blank() {
        assert_eq!(header(b"\r\n\na,b\r\n1,2\n", false), Some(&b"a,b\r\n"[..]));
        assert_eq!(header(b"\"a\nb\",c\n1", false), Some(&b"\"a\nb\",c\n"[..]));
        assert_eq!(header(b"a,b", false), None);
        assert_eq!(header(b"a,b", true), Some(&b"a,b"[..]));
        assert_eq!(header(b"\n", true), Some(&b""[..]));
        // A CR alone ends it, too, so that it can be refused. What follows a CR may come later.
        assert_eq!(
            header(b"a,\"\rb\"\r1,x\r", false),
            Some(&b"a,\"\rb\"\r"[..])
        );
        assert_eq!(header(b"a,b\r", false), None);
        assert_eq!(header(b"a,b\r\r\n1", false), Some(&b"a,b\r\r\n"[..]));
    }

    /// The records that the `csv` crate reads, but for blank lines.
    fn by_crate(text: &str, separator: u8) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new();
        let reader = reader
            .delimiter(separator)
            .has_headers(false)
            .flexible(true);
        let reader = reader.terminator(csv::Terminator::Any(b'\n'));
        let records = reader.from_reader(text.as_bytes()).into_records();
        records
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .collect()
    }

    /// The records of a text, and whether the last one is whole.
    fn records(text: &str, separator: u8) -> (Vec<Vec<String>>, bool) {
        let table = Table::new("a", Some(separator)).unwrap();
        let mut ends = table.record_ends();
        let (mut records, mut record) = (Vec::new(), String::new());
        for line in text.split_inclusive('\n') {
            record.push_str(line);
            if record == "\n" {
                record.clear();
            } else if ends.end_with(line.as_bytes()) {
                let cells = table.cells(&record.as_bytes()[..record.len() - 1]);
                records.push(texts(cells.unwrap()));
                record.clear();
            }
        }
        let cells = table.cells(record.as_bytes()).map(texts);
        let is_whole = cells.is_some();
        records.extend(cells.filter(|_| !record.is_empty()));
        (records, is_whole)
    }

    proptest! {
        #[test]
        fn any_text_has_the_records_that_the_csv_crate_reads(
            text in "[ab,;\"\n\r \u{e9}]{0,40}",
            separator in prop::sample::select(vec![b',', b';']),
        ) {
            let (mut found, is_whole) = records(&text, separator);
            let mut expected = by_crate(&text, separator);
            if !is_whole {
                found.truncate(expected.len() - 1);
                expected.pop();
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn what_the_csv_crate_writes_is_read(
            cells in prop::collection::vec(any::<String>(), 1..5),
            separator in prop::sample::select(vec![b',', b';', b'\t', b'|']),
        ) {
            let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
            writer.write_record(&cells).unwrap();
            let written = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assert_eq!(records(&written, separator), (vec![cells], true));
        }
    }
}
