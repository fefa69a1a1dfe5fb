//! Where a request may point, and the URL that comes of it.
//!
//! A request names a *path*, never a host: the key goes only where the user's own base URL says.
//! Whatever could lead elsewhere, or reads differently to a proxy than to the server behind it, is
//! refused: a scheme, `//`, `..` (encoded, too), a fragment, a control byte.

use std::borrow::Cow;

/// Checks the path of a request.
///
/// # Errors
/// What is wrong with it, to be read after its name.
pub(crate) fn check(url: &str) -> Result<(), &'static str> {
    if !url.starts_with('/') {
        return Err("must be a path that begins with \"/\", without scheme and host");
    }
    // On the request line a space would end the path, and the rest would pass for the protocol.
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds a space, a control byte or a character that must be percent-encoded");
    }
    if url.contains('#') {
        return Err("holds a fragment (\"#\")");
    }
    let path = url.split('?').next().unwrap_or(url);
    // Decoded twice: one proxy in between may decode once before the server does.
    let mut bytes = Cow::Borrowed(path.as_bytes());
    for _ in 0..3 {
        if bytes.windows(2).any(|pair| pair == b"..") {
            return Err("holds \"..\"");
        }
        // A backslash is a slash to some parsers.
        let slash = |byte: u8| matches!(byte, b'/' | b'\\');
        if bytes
            .windows(2)
            .any(|pair| slash(pair[0]) && slash(pair[1]))
        {
            return Err("holds \"//\"");
        }
        if bytes.iter().any(u8::is_ascii_control) {
            return Err("holds an encoded control byte");
        }
        if !bytes.contains(&b'%') {
            break;
        }
        bytes = decoded(&bytes).into();
    }
    Ok(())
}

/// Percent-decodes once; a `%` that begins no escape stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|d| char::from(*d).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (first, digit(0), digit(1)) {
            #[expect(clippy::cast_possible_truncation, reason = "two hex digits")]
            out.push((high * 16 + low) as u8);
            rest = &after[2..];
        } else {
            out.push(first);
            rest = after;
        }
    }
    out
}

/// The URL a path stands for under a base URL.
///
/// A leading `/v1` of the path stands for the API root: it is replaced by the base URL's path where
/// that has one, and kept where it has none. Any other path is appended. A query of the base URL
/// (Azure's `?api-version=…`) goes behind the path.
pub(crate) fn join(base_url: &str, path: &str) -> String {
    let (base, query) = match base_url.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (base_url, None),
    };
    let base = base.trim_end_matches('/');
    let after_scheme = base.find("://").map_or(0, |at| at + 3);
    let base_has_path = base[after_scheme..].contains('/');
    let rest = match path.strip_prefix("/v1") {
        // `/v1beta` is another root, not this one with more behind it.
        Some(rest) if base_has_path && (rest.is_empty() || rest.starts_with(['/', '?'])) => rest,
        _ => path,
    };
    let mut url = format!("{base}{rest}");
    if let Some(query) = query {
        url.push(if rest.contains('?') { '&' } else { '?' });
        url.push_str(query);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_pass() {
        for url in [
            "/v1/chat/completions",
            "/v1/responses",
            "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
            "/v1/models/meta%2Fllama:generate",
            "/v1/x?redirect=http://a..b//c",
            "/",
            "/100%",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn whatever_could_lead_elsewhere_is_refused() {
        for url in [
            "",
            "v1/chat",
            "https://evil.example/v1",
            "//evil.example/v1",
            "/\\evil.example/v1",
            "/v1//chat",
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "/v1/%2E./admin",
            "/v1/%252e%252e/admin",
            "/v1/..%2fadmin",
            "/%2fevil.example",
            "/v1/chat#x",
            "/v1/chat HTTP/1.1",
            "/v1/\r\nx: y",
            "/v1/%0d%0ax:y",
            "/v1/\0",
            "/v1/é",
        ] {
            assert!(check(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn the_leading_v1_is_the_api_root() {
        for (base, path, url) in [
            (
                "https://a.example/v1",
                "/v1/chat",
                "https://a.example/v1/chat",
            ),
            (
                "https://a.example/v1/",
                "/v1/chat",
                "https://a.example/v1/chat",
            ),
            ("https://a.example", "/v1/chat", "https://a.example/v1/chat"),
            (
                "https://a.example/",
                "/v1/chat",
                "https://a.example/v1/chat",
            ),
            (
                "https://a.example/api/v3",
                "/v1/chat",
                "https://a.example/api/v3/chat",
            ),
            ("https://a.example/v1", "/v1", "https://a.example/v1"),
            (
                "https://a.example/v1",
                "/v1?a=b",
                "https://a.example/v1?a=b",
            ),
            (
                "https://a.example/v1",
                "/v1beta/chat",
                "https://a.example/v1/v1beta/chat",
            ),
            ("https://a.example/v1", "/chat", "https://a.example/v1/chat"),
            (
                "http://127.0.0.1:8000",
                "/v1/chat",
                "http://127.0.0.1:8000/v1/chat",
            ),
            (
                "https://a.example/d/m?api-version=1",
                "/v1/chat",
                "https://a.example/d/m/chat?api-version=1",
            ),
            (
                "https://a.example/d?v=1",
                "/v1/chat?w=2",
                "https://a.example/d/chat?w=2&v=1",
            ),
        ] {
            assert_eq!(join(base, path), url, "{base} {path}");
        }
    }
}
