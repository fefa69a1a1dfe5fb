//! A JSON array of requests, read as lines: each element becomes one.

use std::io::{self, Read};

/// A stream whose content, if it is a JSON array, is turned into one line an element.
///
/// Byte for byte: brackets around the array and line ends within an element become blanks, and
/// commas between elements become line ends. So nothing is kept in memory, and columns stay what
/// they are.
#[derive(Debug)]
pub(super) struct ArrayAsLines<R> {
    source: R,
    state: ArrayState,
    in_string: bool,
    /// The byte before is a backslash in a string.
    escaped: bool,
}

#[derive(Clone, Copy, Debug)]
enum ArrayState {
    /// Nothing but blanks, and arrays that have ended.
    Start,
    /// In an array, and in so many objects and arrays of an element.
    Array(u32),
    /// No array: all is left as it is.
    Plain,
}

impl<R: Read> ArrayAsLines<R> {
    /// A stream that may be an array, or that stays as it is, whatever it holds.
    pub(super) fn new(source: R, may_be_array: bool) -> Self {
        Self {
            source,
            state: if may_be_array {
                ArrayState::Start
            } else {
                ArrayState::Plain
            },
            in_string: false,
            escaped: false,
        }
    }

    fn turn(&mut self, byte: &mut u8) {
        match (self.state, *byte) {
            (ArrayState::Array(_), _) if self.in_string => {
                self.in_string = self.escaped || *byte != b'"';
                self.escaped = !self.escaped && *byte == b'\\';
            }
            (ArrayState::Start, b'[') => {
                *byte = b' ';
                self.state = ArrayState::Array(0);
            }
            // Blanks and a byte order mark.
            (ArrayState::Start, b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf) => {}
            (ArrayState::Start | ArrayState::Plain, _) => self.state = ArrayState::Plain,
            (ArrayState::Array(_), b'"') => self.in_string = true,
            (ArrayState::Array(depth), b'{' | b'[') => {
                self.state = ArrayState::Array(depth.saturating_add(1));
            }
            (ArrayState::Array(0), b']') => {
                *byte = b' ';
                self.state = ArrayState::Start;
            }
            (ArrayState::Array(depth), b'}' | b']') => {
                self.state = ArrayState::Array(depth.saturating_sub(1));
            }
            (ArrayState::Array(0), b',') => *byte = b'\n',
            (ArrayState::Array(_), b'\n' | b'\r') => *byte = b' ',
            (ArrayState::Array(_), _) => {}
        }
    }
}

impl<R: Read> Read for ArrayAsLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        for byte in &mut buffer[..read] {
            if matches!(self.state, ArrayState::Plain) {
                break;
            }
            self.turn(byte);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> String {
        let mut text = String::new();
        let mut lines = ArrayAsLines::new(source.as_bytes(), true);
        lines.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn an_array_becomes_a_line_an_element_of_the_same_length() {
        for (array, lines) in [
            ("[{\"a\":[1,2]},{}]\n", " {\"a\":[1,2]}\n{} \n"),
            (
                "\u{feff} [\n  {\r\n\"a\": 1}\n,{}\n]",
                "\u{feff}     {  \"a\": 1} \n{}  ",
            ),
            (
                r#"[{"a":"],[\"\\"},{"b":"\\\""}]"#,
                " {\"a\":\"],[\\\"\\\\\"}\n{\"b\":\"\\\\\\\"\"} ",
            ),
            ("[]", "  "),
            // More of them, what is behind them, and what is cut off.
            ("[1]\n[2,3]\n", " 1 \n 2\n3 \n"),
            ("[1]\n{}\n[2,3]\n", " 1 \n{}\n[2,3]\n"),
            ("[{},{", " {}\n{"),
        ] {
            assert_eq!(read(array), lines);
            assert_eq!(array.len(), lines.len());
        }
    }

    #[test]
    fn anything_else_is_left_as_it_is() {
        for text in ["", "\n\n", "{\"a\":[1,\n2]}\n[1,2]\n", "a [1,2]"] {
            assert_eq!(read(text), text);
        }
        let mut text = String::new();
        let mut prompts = ArrayAsLines::new(&b"[a,b]"[..], false);
        prompts.read_to_string(&mut text).unwrap();
        assert_eq!(text, "[a,b]");
    }
}
