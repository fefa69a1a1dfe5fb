//! Lines out of any stream of bytes, with memory bounded whatever the stream holds.
//!
//! Lines are counted from 1, so that a message can name one. A line is bytes, and need not be
//! UTF-8: one bad line is no reason to refuse the others. A stream that is no text at all (gzip, an
//! archive, UTF-16) is refused as a whole: one message says more than a million failed rows.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::mem;
use std::ops::Range;

use crate::rows::RecordEnds;

/// The longest line of an input, in bytes: 64 MiB.
pub(crate) const MAX_LINE: usize = 64 << 20;

/// How much is read at a time, and how much of the start is looked at.
const BLOCK: usize = 64 << 10;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One line of the input, without its end. `T` is its text, or says where that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<T> {
    /// Its number in the file, from 1. Blank lines count. A record of a table has that of its first
    /// line.
    pub(crate) number: u64,
    /// Where its text starts, in bytes from the start of the stream. Byte order marks count.
    pub(crate) offset: u64,
    /// Whether it ends with a line feed. The last line of a stream may not.
    pub(crate) ended: bool,
    /// `None` for a line that is longer than the reader keeps.
    pub(crate) text: Option<T>,
}

impl<T> Line<T> {
    /// The same line, with its text in another form.
    pub(super) fn map<U>(&self, form: impl FnOnce(&T) -> U) -> Line<U> {
        Line {
            number: self.number,
            offset: self.offset,
            ended: self.ended,
            text: self.text.as_ref().map(form),
        }
    }
}

/// A bounded line reader. LF ends a line. A CR before it, a byte order mark at the start of a line
/// and blank lines are dropped. A record of a table may be several lines.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    source: BufReader<Chain<Cursor<Vec<u8>>, R>>,
    has_begun: bool,
    text_only: bool,
    line: Vec<u8>,
    /// Lines read so far, blank ones included.
    pub(super) number: u64,
    /// Bytes read so far.
    pub(super) offset: u64,
    /// Blank lines read so far.
    pub(super) blanks: u64,
    cap: usize,
    /// Of a table: where its records end.
    record_ends: Option<RecordEnds>,
    /// The first record is a header, and no row.
    skips_header: bool,
}

impl<R: Read> Lines<R> {
    /// The lines of a stream that is to be plain UTF-8 text. Nothing is read yet.
    pub(crate) fn new(source: R) -> Self {
        Self {
            source: BufReader::with_capacity(BLOCK, Cursor::new(Vec::new()).chain(source)),
            has_begun: false,
            text_only: true,
            line: Vec::new(),
            number: 0,
            offset: 0,
            blanks: 0,
            cap: MAX_LINE,
            record_ends: None,
            skips_header: false,
        }
    }

    /// The records of a table, its header left out, if `record_ends` says where these end.
    pub(super) fn of_table(self, record_ends: Option<RecordEnds>) -> Self {
        Self {
            skips_header: record_ends.is_some(),
            record_ends,
            ..self
        }
    }

    /// The lines, of at most `cap` bytes, of whatever stream: a power cut may have left nothing but
    /// zeros in a results file.
    pub(crate) fn of_anything(source: R, cap: usize) -> Self {
        Self {
            text_only: false,
            cap,
            ..Self::new(source)
        }
    }

    /// Shows what a stream begins with, before its lines are read: more and more of it, until it is
    /// `enough`, at its end or `most` bytes long. `enough` is told whether it is the end.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub(super) fn preview(
        &mut self,
        most: usize,
        mut enough: impl FnMut(&[u8], bool) -> bool,
    ) -> io::Result<&[u8]> {
        self.begin()?;
        let (start, source) = self.source.get_mut().get_mut();
        let mut at_end = false;
        while !enough(start.get_ref(), at_end) && !at_end && start.get_ref().len() < most {
            at_end = read_more(source, start.get_mut())? == 0;
        }
        Ok(start.get_ref())
    }

    /// Reads the first bytes. It waits for no more than four, less than any request has: a pipe
    /// that stalls after its first line does not hold that line up.
    fn begin(&mut self) -> io::Result<()> {
        if self.has_begun {
            return Ok(());
        }
        let (start, source) = self.source.get_mut().get_mut();
        while start.get_ref().len() < 4 && read_more(source, start.get_mut())? > 0 {}
        if self.text_only
            && let Some(what) = not_text(start.get_ref())
        {
            let message = format!("looks like {what}: give plain UTF-8 text");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.has_begun = true;
        Ok(())
    }

    /// The next line that is not blank; `None` at the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a stream that is no text as a whole, or the source's own
    /// error. A caller that goes on after one may miss part of a line.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<&[u8]>>> {
        self.begin()?;
        loop {
            let (number, offset) = (self.number + 1, self.offset);
            if !self.read_record()? {
                return Ok(None);
            }
            let mut ended = self.line.ends_with(b"\n");
            let length = trimmed(&self.line).len();
            let is_whole = length <= self.cap;
            // Of a file that was put together from others, each may have begun with a mark.
            let marks = marks(&self.line[..length]);
            if !is_whole {
                // The memory of a very long line is freed, not kept for the rest of the run.
                self.line = Vec::new();
                ended = ended || self.skip_rest()?;
            }
            if is_whole && self.is_blank(marks..length) {
                self.blanks += 1;
            } else if !mem::take(&mut self.skips_header) {
                return Ok(Some(Line {
                    number,
                    offset: offset + marks as u64,
                    ended,
                    text: is_whole.then(|| &self.line[marks..length]),
                }));
            }
        }
    }

    /// Reads one line, or as many as a record of a table has. False at the end.
    fn read_record(&mut self) -> io::Result<bool> {
        // Room for the line's end: a line of just the cap is accepted with CR and LF.
        let most = self.cap.saturating_add(2);
        self.line.clear();
        loop {
            let start = self.line.len();
            let room = most.saturating_sub(start) as u64;
            let mut source = self.source.by_ref().take(room);
            let read = source.read_until(b'\n', &mut self.line)?;
            self.number += u64::from(read > 0);
            self.offset += read as u64;
            let goes_on = match &mut self.record_ends {
                Some(ends) if read > 0 => {
                    if start == 0 {
                        ends.begin();
                    }
                    let is_blank = start == 0 && trimmed(&self.line).is_empty();
                    !is_blank && self.line.ends_with(b"\n") && !ends.end_with(&self.line[start..])
                }
                _ => false,
            };
            if !goes_on {
                return Ok(!self.line.is_empty());
            }
        }
    }

    /// Blanks alone are a cell of a table.
    fn is_blank(&self, text: Range<usize>) -> bool {
        let text = &self.line[text];
        text.is_empty() || (self.record_ends.is_none() && text.trim_ascii().is_empty())
    }

    /// Skips the rest of a line, in bounded memory. Whether its end was there.
    fn skip_rest(&mut self) -> io::Result<bool> {
        let mut part = Vec::new();
        loop {
            part.clear();
            let mut source = self.source.by_ref().take(BLOCK as u64);
            let read = source.read_until(b'\n', &mut part)?;
            self.offset += read as u64;
            if read == 0 || part.ends_with(b"\n") {
                return Ok(read > 0);
            }
        }
    }
}

/// Appends what the source has, up to a block of it. Returns how many bytes that is: 0 at the end.
fn read_more(source: &mut impl Read, start: &mut Vec<u8>) -> io::Result<usize> {
    let length = start.len();
    start.resize(length + BLOCK, 0);
    loop {
        match source.read(&mut start[length..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => {
                start.truncate(length + *read.as_ref().unwrap_or(&0));
                return read;
            }
        }
    }
}

/// The line without its end: one LF, and one CR before it or at the end of the file.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How many bytes of byte order marks a line begins with.
fn marks(line: &[u8]) -> usize {
    let marks = line.chunks(BOM.len()).take_while(|chunk| *chunk == BOM);
    marks.count() * BOM.len()
}

/// What a stream looks like by its first bytes, if not like text.
fn not_text(start: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 4] = [
        (b"\x1f\x8b", "gzip"),
        (b"PK\x03\x04", "a zip archive (or a spreadsheet)"),
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
    ];
    if let Some((_, name)) = MAGIC.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(name);
    }
    if !start.contains(&0) {
        return None;
    }
    // One damaged line, such as the zeros a power cut leaves, does not make the file binary.
    let has_object = start
        .split(|byte| *byte == b'\n')
        .any(|line| line.trim_ascii_start().starts_with(b"{") && !line.contains(&0));
    if has_object {
        return None;
    }
    // ASCII text as UTF-16 without a mark: every other byte is zero.
    let zeros = |odd: usize| start.iter().skip(odd).step_by(2).all(|byte| *byte == 0);
    Some(if zeros(0) || zeros(1) {
        "UTF-16"
    } else {
        "a binary file"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn capped<R: Read>(source: R, cap: usize) -> Lines<R> {
        Lines {
            cap,
            ..Lines::new(source)
        }
    }

    fn all(bytes: &[u8], cap: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines = capped(bytes, cap);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            seen.push((line.number, line.text.map(<[u8]>::to_vec)));
        }
        seen
    }

    #[cfg(feature = "rows")]
    #[test]
    fn a_record_of_a_table_is_read_as_one_line_within_the_cap() {
        use crate::rows::{RowFormat, Template};
        let mut format = RowFormat::new(&Template::new("m", "x"), "/").unwrap();
        format.read_header(b"a,b", false).unwrap();
        let table = "\u{feff}a,b\n\r\n1,\"x\r\n\r\ny\"\r\n \n2,\"much\nlonger\",\"\n3,z\n\"4\n5";
        let lines = capped(table.as_bytes(), 10);
        let mut lines = lines.of_table(format.record_ends());
        let mut seen = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            let text = line
                .text
                .map(|text| String::from_utf8_lossy(text).into_owned());
            assert!(line.text.is_none_or(|text| {
                table.as_bytes()[usize::try_from(line.offset).unwrap()..].starts_with(text)
            }));
            seen.push((line.number, text));
        }
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            (3, text("1,\"x\r\n\r\ny\"")),
            (6, text(" ")),
            (7, None),
            (9, text("3,z")),
            (10, text("\"4\n5")),
        ];
        assert_eq!(seen, expected);
        assert_eq!((lines.number, lines.blanks), (11, 1));
        assert_eq!(lines.offset, table.len() as u64);
    }

    #[test]
    fn ends_blanks_and_marks_are_dropped_and_counted() {
        let input = b"\xef\xbb\xbf{1}\r\n\n  \t\n{2}\xe2\x80\xa8x\n\r\n{3}";
        assert_eq!(
            all(input, 100),
            [
                (1, Some(b"{1}".to_vec())),
                (4, Some(b"{2}\xe2\x80\xa8x".to_vec())),
                (6, Some(b"{3}".to_vec())),
            ]
        );
        let put_together = b"{1}\n\xef\xbb\xbf{2}\n\xef\xbb\xbf\xef\xbb\xbf\n{3}\xef\xbb\xbf";
        assert_eq!(
            all(put_together, 100),
            [
                (1, Some(b"{1}".to_vec())),
                (2, Some(b"{2}".to_vec())),
                (4, Some(b"{3}\xef\xbb\xbf".to_vec())),
            ]
        );
        assert_eq!(all(b"", 100), []);
        assert_eq!(all(b"\n\n\r\n", 100), []);
    }

    #[test]
    fn a_line_over_the_cap_is_told_and_the_next_one_found() {
        let whole = |number, text: &[u8]| (number, Some(text.to_vec()));
        for end in ["\n", "\r\n"] {
            let input = format!(
                "aaaa{end}aaaaa{end}{}{end}b{end}aaaaaa",
                "a".repeat(500_000)
            );
            assert_eq!(
                all(input.as_bytes(), 4),
                [
                    whole(1, b"aaaa"),
                    (2, None),
                    (3, None),
                    whole(4, b"b"),
                    (5, None)
                ]
            );
        }
    }

    #[test]
    fn each_line_knows_where_it_starts_and_whether_it_has_ended() {
        let places = |input: &[u8]| {
            let mut lines = capped(input, 4);
            let mut seen = Vec::new();
            while let Some(line) = lines.next().unwrap() {
                seen.push((line.offset, line.ended));
            }
            seen
        };
        let monster = "a".repeat(3 * BLOCK);
        for (input, expected) in [
            ("{1}\n{2}\n".to_owned(), &[(0, true), (4, true)][..]),
            (
                "\u{feff}{1}\r\n\n\r\n{2}".to_owned(),
                &[(3, true), (11, false)],
            ),
            (
                format!("{monster}\n{{2}}"),
                &[(0, true), (3 * BLOCK as u64 + 1, false)],
            ),
            (format!("\n{monster}"), &[(1, false)]),
            ("abcde\n{2}\n".to_owned(), &[(0, true), (6, true)]),
            ("abcdef\n".to_owned(), &[(0, true)]),
        ] {
            let start = input.get(..8).unwrap_or(&input);
            assert_eq!(places(input.as_bytes()), expected, "{start:?}");
        }
    }

    #[test]
    fn a_line_of_half_a_gigabyte_costs_no_memory() {
        let monster = io::repeat(b'a').take(512 << 20);
        let mut lines = capped(monster.chain(&b"\n{}"[..]), 1 << 20);
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line.text, None);
        assert_eq!(lines.line.capacity(), 0);
        let line = lines.next().unwrap().unwrap();
        assert_eq!((line.number, line.text), (2, Some(&b"{}"[..])));
    }

    #[test]
    fn what_is_no_text_is_refused_by_name() {
        let utf16: Vec<u8> = "{\"custom_id\":\"a\"}\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (start, name) in [
            (&b"\x1f\x8b\x08rest"[..], "gzip"),
            (b"PK\x03\x04rest", "zip"),
            (b"\xff\xfe{\0", "UTF-16"),
            (&utf16, "UTF-16"),
            (b"\x7fELF\x02\0\0\0\n", "binary"),
        ] {
            let error = Lines::new(start).next().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let message = error.to_string();
            assert!(
                message.contains(name) && message.contains("plain UTF-8"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_damaged_line_among_good_ones_is_no_binary_file() {
        let input = b"\0\0\0\0\n{\"custom_id\":\"a\"}\n";
        assert_eq!(all(input, 100).len(), 2);
    }

    #[test]
    fn a_source_that_gives_a_byte_at_a_time_and_is_interrupted_reads_the_same() {
        struct Trickle<'a>(&'a [u8], bool);
        impl Read for Trickle<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let most = buffer.len().min(1);
                self.0.read(&mut buffer[..most])
            }
        }
        let mut lines = Lines::new(Trickle(b"\xef\xbb\xbf{1}\n{2}", false));
        let first = lines.next().unwrap().unwrap();
        assert_eq!((first.number, first.text), (1, Some(&b"{1}"[..])));
        let second = lines.next().unwrap().unwrap();
        assert_eq!((second.number, second.text), (2, Some(&b"{2}"[..])));
        assert_eq!(lines.next().unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_read_as_a_plain_split_would(
            input in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b' '), 1_u8..=255],
                0..400,
            ),
            cap in 0_usize..20,
        ) {
            prop_assume!(not_text(&input).is_none());
            let body = input.strip_prefix(BOM).unwrap_or(&input);
            let expected: Vec<_> = body
                .split(|byte| *byte == b'\n')
                .zip(1..)
                .filter_map(|(line, number)| {
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    let blank = line.trim_ascii().is_empty();
                    let text = (line.len() <= cap).then(|| line.to_vec());
                    (text.is_none() || !blank).then_some((number, text))
                })
                .collect();
            prop_assert_eq!(all(&input, cap), expected);
        }

        #[test]
        fn what_stands_at_a_lines_offset_is_the_line(
            input in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b' '), 1_u8..=255],
                0..400,
            ),
            cap in 0_usize..20,
        ) {
            prop_assume!(not_text(&input).is_none());
            let mut lines = capped(&input[..], cap);
            while let Some(line) = lines.next().unwrap() {
                let rest = &input[usize::try_from(line.offset).unwrap()..];
                let end = rest.iter().position(|byte| *byte == b'\n');
                prop_assert_eq!(line.ended, end.is_some());
                let there = trimmed(&rest[..end.unwrap_or(rest.len())]);
                match line.text {
                    Some(text) => prop_assert_eq!(text, there),
                    None => prop_assert!(there.len() > cap),
                }
            }
        }
    }
}
