//! What a receiver would choke on in a line that is JSON all the same.

/// How deep a line may nest; `serde_json`'s own limit, which it does not apply to text it only
/// passes over.
const MAX_DEPTH: usize = 128;

/// What passing over text does not find: a word for programs, and what it is.
pub(crate) type Flaw = (&'static str, &'static str);

const TOO_DEEP: Flaw = ("too_deep", "nested deeper than 128 levels");
const LONE_SURROGATE: Flaw = (
    "lone_surrogate",
    "half of a surrogate pair, which is not a character,",
);

/// Looks through text that is known to be JSON for what a receiver would choke on, with the byte
/// offset where it is.
///
/// A loop over the bytes and not a visitor: a visitor decodes numbers too, and would refuse
/// `1e400`, which is to be passed on as it is.
pub(crate) fn flaw(json: &str) -> Option<(usize, Flaw)> {
    let bytes = json.as_bytes();
    // Nearly every line is told at a glance: the loop below takes ten times as long.
    if !json.contains("\\u") && openings(bytes) <= MAX_DEPTH {
        return None;
    }
    let (mut at, mut depth, mut in_string) = (0, 0_usize, false);
    while at < bytes.len() {
        match (in_string, bytes[at]) {
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some((at, TOO_DEEP));
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (true, b'\\') => match unit(bytes, at) {
                Some(0xd800..=0xdbff) => match unit(bytes, at + 6) {
                    Some(0xdc00..=0xdfff) => at += 11,
                    _ => return Some((at, LONE_SURROGATE)),
                },
                Some(0xdc00..=0xdfff) => return Some((at, LONE_SURROGATE)),
                // What follows a backslash never ends the string.
                _ => at += 1,
            },
            _ => {}
        }
        at += 1;
    }
    None
}

/// How many brackets open, those in strings counted in: no text nests deeper than that.
fn openings(bytes: &[u8]) -> usize {
    let opens = |byte: &&u8| matches!(byte, b'{' | b'[');
    bytes.iter().filter(opens).count()
}

/// The UTF-16 unit of the escape `\uXXXX` at `at`, if that is what stands there.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(flaw(&nested(MAX_DEPTH)), None);
        assert_eq!(flaw(&nested(MAX_DEPTH + 1)), Some((MAX_DEPTH, TOO_DEEP)));
        assert_eq!(flaw(&nested(100_000)), Some((MAX_DEPTH, TOO_DEEP)));
        assert_eq!(flaw(&format!(r#"{{"a":"\"{}"}}"#, "[".repeat(500))), None);
    }

    #[test]
    fn half_a_surrogate_pair_is_found() {
        for (json, expected) in [
            (r#""\ud83d\ude00""#, None),
            (r#""\ud800""#, Some((1, LONE_SURROGATE))),
            (r#""a\udc00""#, Some((2, LONE_SURROGATE))),
            (r#""\ud800\u0041""#, Some((1, LONE_SURROGATE))),
            (r#""\\ud800""#, None),
        ] {
            assert_eq!(flaw(json), expected, "{json}");
        }
    }
}
