//! Foreign text made safe to show.
//!
//! Error texts, ids and answers of models come from elsewhere. Shown as they are, they could move a
//! terminal's cursor, write to its clipboard (OSC 52) or reverse the order in which a line is read.
//! So everything that goes to a terminal, a log or an error message passes through [`printable`].

/// `text` with its control characters written as escapes, cut to `max_chars` characters. An
/// ellipsis marks the cut.
///
/// Escaped are C0, DEL and C1 controls, characters that change the direction of text (Unicode Annex
/// 9; CVE-2021-42574), the two Unicode line separators and a few that are invisible. The rest stays
/// readable in any script.
pub(crate) fn printable(text: &str, max_chars: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(max_chars));
    let mut chars = 0;
    let mut escaped = String::new();
    for c in text.chars() {
        escaped.clear();
        if is_unsafe(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
        // Half an escape would read as something else.
        let width = escaped.chars().count();
        if chars + width > max_chars {
            shown.push('…');
            break;
        }
        shown.push_str(&escaped);
        chars += width;
    }
    shown
}

/// `text` with a 0 for each number, and for each word that looks like an id. Such a word has a
/// digit, and it is hexadecimal, long, or in letters of both cases. A hyphen is a part of the word,
/// as it is in a UUID.
pub(crate) fn without_numbers(text: &str) -> String {
    const LONG: usize = 16;
    let mut masked = String::with_capacity(text.len());
    for part in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
        let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
        let is_hex = !has(|byte| !byte.is_ascii_hexdigit() && *byte != b'-');
        if has(u8::is_ascii_digit) && (is_hex || is_mixed || word.len() >= LONG) {
            masked.push('0');
        } else {
            for c in word.chars() {
                let c = if c.is_ascii_digit() { '0' } else { c };
                if c != '0' || !masked.ends_with('0') {
                    masked.push(c);
                }
            }
        }
        masked.push_str(&part[word.len()..]);
    }
    masked
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' // marks
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // embeddings, overrides, isolates
            | '\u{2028}' | '\u{2029}' // line and paragraph separators
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' // byte order mark, annotations
            | '\u{e0000}'..='\u{e007f}') // invisible tags
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_ids_are_taken_out_and_words_are_left() {
        for (text, left) in [
            ("row 7 of 1234, 0.5 s", "row 0 of 0, 0.0 s"),
            ("id req_4f3a-0b, chatcmpl-x7Kp2Q!", "id req_0, 0!"),
            ("8d1f0c77-12ab-4cde-9f00-0123456789ab", "0"),
            (
                "request abcdefab-deca-4bfe-abcd-abcdefabcdef.",
                "request 0.",
            ),
            ("beef-deca", "beef-deca"),
            ("no model gpt-4o or llama3", "no model gpt-0o or llama0"),
            ("deadbeef is a WORD, über 2x", "deadbeef is a WORD, über 0x"),
            ("", ""),
        ] {
            assert_eq!(without_numbers(text), left);
        }
    }

    #[test]
    fn controls_are_written_out() {
        for (text, shown) in [
            ("plain, ünï, 漢字 🦀", "plain, ünï, 漢字 🦀"),
            ("two\r\nlines\t.", "two\\r\\nlines\\t."),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{1b}]52;c;aGk=\u{7}", "\\u{1b}]52;c;aGk=\\u{7}"),
            (
                "nul\0 del\u{7f} csi\u{9b}",
                "nul\\u{0} del\\u{7f} csi\\u{9b}",
            ),
            ("\u{202e}gnp.exe\u{2066}", "\\u{202e}gnp.exe\\u{2066}"),
            ("\u{200f}\u{061c}\u{2028}", "\\u{200f}\\u{61c}\\u{2028}"),
        ] {
            assert_eq!(printable(text, 100), shown);
        }
    }

    #[test]
    fn long_text_is_cut_at_a_whole_character_or_escape() {
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdef", 5), "abcde…");
        assert_eq!(printable("漢字漢字", 2), "漢字…");
        assert_eq!(printable("ab\u{1b}[0m", 5), "ab…");
        assert_eq!(printable("x", 0), "…");
        assert_eq!(printable("", 0), "");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_passes(text in any::<String>(), max in 0usize..80) {
            let shown = printable(&text, max);
            prop_assert!(!shown.chars().any(is_unsafe));
            prop_assert!(shown.chars().count() <= max + 1);
        }
    }
}
