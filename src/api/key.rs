//! The API key, which is never printed.

use std::fmt;
use std::sync::Arc;

use crate::error::{Result, config};

/// An API key. It prints as `[redacted]` wherever it is formatted and cannot be serialized.
///
/// ```
/// use tollgate::ApiKey;
///
/// let key = ApiKey::new("sk-example-0123456789\n")?; // as read from a file
/// assert_eq!(format!("{key} {key:?}"), "[redacted] ApiKey([redacted])");
/// assert!(ApiKey::new("two\nlines").is_err());
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone)]
pub struct ApiKey {
    /// All that is scrubbed. The key itself comes first.
    secrets: Vec<Arc<str>>,
}

/// What shells and files put around a value.
const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Replaces the key in texts.
const REDACTED: &str = "[redacted]";

/// A shorter key is not looked for in texts: ordinary words might contain it, and so short a key
/// protects nothing.
const MIN_SCRUBBED: usize = 8;

impl ApiKey {
    /// Takes a key as a file, a variable or a caller gives it: a byte order mark before it and one
    /// line end after it are dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if nothing is left, if the key begins or
    /// ends with a space, or if it is in quotes or begins with `Bearer`. Also if it holds a control
    /// character or one outside ASCII: it could not be sent as a header, or would smuggle a second
    /// header in. The message does not repeat the key.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = match text.strip_suffix('\n') {
            Some(line) => line.strip_suffix('\r').unwrap_or(line),
            None => text,
        };
        let wrong = if text.trim().is_empty() {
            "the API key is empty"
        } else if text.contains(['\r', '\n']) {
            "the API key has a line break inside; it must be a single line"
        } else if text.contains(|c: char| c.is_ascii_control()) {
            "the API key has a control character inside"
        } else if !text.is_ascii() {
            "the API key has a character outside ASCII; was it copied from formatted text?"
        } else if text.starts_with(' ') || text.ends_with(' ') {
            "the API key begins or ends with a space"
        } else if text.starts_with(QUOTES) && text.ends_with(QUOTES) {
            "the API key begins and ends with a quote; leave the quotes out"
        } else if text.starts_with(QUOTES) || text.ends_with(QUOTES) {
            "the API key begins or ends with a quote; is it complete?"
        } else if text.to_ascii_lowercase().starts_with("bearer ") {
            "the API key begins with \"Bearer\", which the client adds itself; leave it out"
        } else {
            let secrets = vec![text.into()];
            return Ok(Self { secrets });
        };
        Err(config(wrong))
    }

    /// The key itself, for the one place that puts it into a header.
    pub(crate) fn expose(&self) -> &str {
        self.secrets.first().map_or("", |key| key)
    }

    /// What is to be scrubbed: the key, if there is one, and the words in the values of headers
    /// whose name [tells of a secret](is_secret).
    pub(crate) fn with_headers(key: Option<Self>, headers: &[(String, String)]) -> Option<Self> {
        let secret = headers.iter().filter(|(name, _)| is_secret(name));
        let words = secret.flat_map(|(_, value)| value.split_ascii_whitespace());
        let mut secrets = key.map_or_else(Vec::new, |key| key.secrets);
        secrets.extend(words.map(Arc::from));
        (!secrets.is_empty()).then_some(Self { secrets })
    }

    /// `bytes` with each occurrence of the key replaced by `[redacted]`, also where it is escaped
    /// as in JSON (`\/`, `\u002b`).
    ///
    /// Scrub a text before it is cut short: half a key is not found. A text that arrived cut short
    /// may end within the key; such an end is replaced as well.
    pub(crate) fn scrub(&self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let [first, after @ ..] = rest {
            let mut secrets = self.secrets.iter();
            if let Some(len) = secrets.find_map(|key| match_at(key.as_bytes(), rest)) {
                clean.extend_from_slice(REDACTED.as_bytes());
                rest = &rest[len..];
            } else {
                clean.push(*first);
                rest = after;
            }
        }
        clean
    }

    /// As [`scrub`](Self::scrub), for text.
    pub(crate) fn scrub_str(&self, text: &str) -> String {
        // The key is ASCII, so only whole characters are replaced.
        String::from_utf8_lossy(&self.scrub(text.as_bytes())).into_owned()
    }
}

/// Whether a header of this name holds a secret, as a rule.
pub(crate) fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 6] = [
        "authorization",
        "cookie",
        "key",
        "token",
        "secret",
        "password",
    ];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// How many bytes at the start of `bytes` are the key, or are all of `bytes` and enough of the
/// key's beginning to be worth hiding.
fn match_at(key: &[u8], bytes: &[u8]) -> Option<usize> {
    if key.len() < MIN_SCRUBBED {
        return None;
    }
    if bytes.starts_with(key) {
        return Some(key.len());
    }
    let mut at = 0;
    for (matched, &byte) in key.iter().enumerate() {
        let rest = &bytes[at..];
        match unescaped(rest) {
            Some((found, len)) if found == byte => at += len,
            // Cut short, perhaps within an escape.
            _ if matched >= MIN_SCRUBBED && is_cut(rest) => return Some(bytes.len()),
            _ => return None,
        }
    }
    Some(at)
}

/// The byte a JSON text's next bytes stand for, and how many there are.
fn unescaped(bytes: &[u8]) -> Option<(u8, usize)> {
    match *bytes {
        [b'\\', b'u', b'0', b'0', high, low, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let value = digit(high)? * 16 + digit(low)?;
            Some((u8::try_from(value).ok()?, 6))
        }
        [b'\\', byte @ (b'"' | b'\\' | b'/'), ..] => Some((byte, 2)),
        [byte, ..] => Some((byte, 1)),
        [] => None,
    }
}

/// Whether `rest` is empty or an escape that ends too early.
fn is_cut(rest: &[u8]) -> bool {
    rest.is_empty() || rest == b"\\" || (rest.len() < 6 && rest.starts_with(b"\\u"))
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({REDACTED})")
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    const KEY: &str = "sk-ab/cd+ef=0123";

    #[test]
    fn one_line_end_and_a_byte_order_mark_are_dropped() {
        for text in [
            "sk-12345678",
            "sk-12345678\n",
            "sk-12345678\r\n",
            "\u{feff}sk-12345678\r\n",
        ] {
            assert_eq!(ApiKey::new(text).unwrap().expose(), "sk-12345678");
        }
    }

    #[test]
    fn what_cannot_be_a_header_is_refused_and_not_repeated() {
        for text in [
            "",
            "\n",
            "\r\n",
            "\u{feff}",
            "   ",
            "sk-secret\n\n",
            "sk-secret\r",
            "sk-\nsecret",
            "sk-secret\r\nx-evil: 1",
            "sk-\0secret",
            "sk-\tsecret",
            "sk-secret\u{7f}",
            "sk-sécret",
            "sk-secret\u{200b}",
            " sk-secret",
            "sk-secret ",
            "sk-secret \n",
            "\"sk-secret\"",
            "'sk-secret'\r\n",
            "`sk-secret`",
            "\"",
            "\"sk-secret",
            "sk-secret'",
            "Bearer sk-secret",
            "bearer sk-secret",
        ] {
            let error = ApiKey::new(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("the API key"), "{error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn formatting_shows_nothing() {
        let key = ApiKey::new(KEY).unwrap();
        let shown = format!("{key} {key:?} {key:#?} {:?}", Some(&key));
        assert!(!shown.contains("ab/cd"), "{shown}");
    }

    #[test]
    fn the_key_is_scrubbed_in_every_spelling() {
        let key = ApiKey::new(KEY).unwrap();
        for (text, clean) in [
            ("nothing here", "nothing here"),
            ("sk-ab/cd+ef=0124", "sk-ab/cd+ef=0124"),
            ("key sk-ab/cd+ef=0123.", "key [redacted]."),
            ("sk-ab/cd+ef=0123sk-ab/cd+ef=0123", "[redacted][redacted]"),
            ("sk-sk-ab/cd+ef=0123", "sk-[redacted]"),
            (r#""sk-ab\/cd+ef=0123""#, r#""[redacted]""#),
            (r#""sk-ab\u002Fcd\u002bef\u003d0123""#, r#""[redacted]""#),
            // Cut on arrival: eight bytes or more of it are worth hiding, fewer are anybody's.
            ("key sk-ab/cd+ef", "key [redacted]"),
            (r"key sk-ab\/cd+ef\u00", "key [redacted]"),
            ("key sk-ab/c", "key sk-ab/c"),
            ("key sk-ab/cd+ef then more", "key sk-ab/cd+ef then more"),
        ] {
            assert_eq!(key.scrub_str(text), clean);
            assert_eq!(key.scrub(text.as_bytes()), clean.as_bytes());
        }
    }

    #[test]
    fn keys_with_quotes_and_backslashes_are_found_plain_and_escaped() {
        let key = ApiKey::new(r"a\/b\\c0123456").unwrap();
        assert_eq!(key.scrub_str(r"<a\/b\\c0123456>"), "<[redacted]>");
        assert_eq!(key.scrub_str(r"<a\\\/b\\\\c0123456>"), "<[redacted]>");
        let key = ApiKey::new(r#"a"b\c/d0123456"#).unwrap();
        assert_eq!(key.scrub_str(r#"<a"b\c/d0123456>"#), "<[redacted]>");
        assert_eq!(key.scrub_str(r#"<a\"b\\c\/d0123456>"#), "<[redacted]>");
    }

    #[test]
    fn secret_headers_are_scrubbed_with_the_key_or_without_one() {
        let headers = [
            ("X-Auth-Token", "Bearer tok-0123456"),
            ("x-team", "everybody"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = "sk-ab/cd+ef=0123, Bearer tok-0123456 of everybody";
        let both = ApiKey::with_headers(Some(ApiKey::new(KEY).unwrap()), &headers).unwrap();
        let clean = "[redacted], Bearer [redacted] of everybody";
        assert_eq!(both.scrub_str(text), clean);
        let no_key = ApiKey::with_headers(None, &headers).unwrap();
        let clean = "sk-ab/cd+ef=0123, Bearer [redacted] of everybody";
        assert_eq!(no_key.scrub_str(text), clean);
        assert!(ApiKey::with_headers(None, &headers[1..]).is_none());
    }

    #[test]
    fn a_short_key_is_left_alone() {
        let key = ApiKey::new("test").unwrap();
        assert_eq!(key.scrub_str("a test of tests"), "a test of tests");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_leave_the_key(
            before in any::<Vec<u8>>(), after in any::<Vec<u8>>(), cut in 0usize..16,
        ) {
            let key = ApiKey::new(KEY).unwrap();
            let whole = [&before[..], KEY.as_bytes(), &after].concat();
            let clean = key.scrub(&whole);
            prop_assert!(!clean.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
            let _ = key.scrub(&[&before[..], &KEY.as_bytes()[..cut]].concat());
        }

        #[test]
        fn no_text_makes_a_key_that_cannot_be_a_header(text in any::<String>()) {
            if let Ok(key) = ApiKey::new(&text) {
                prop_assert!(key.expose().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            }
        }
    }
}
