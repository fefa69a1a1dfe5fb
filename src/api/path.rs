//! The paths that a request may have, and the URL that a path and a base URL make.
//!
//! A request names a path, never a host, so the key goes only to the host of the user's base URL.
//! A path is refused if it could lead elsewhere, or if a proxy could read it differently than the
//! server behind it: a scheme, `//`, `..` (also encoded), a fragment, a control byte.

use std::borrow::Cow;
use std::net::IpAddr;

use http::uri::Authority;
use percent_encoding::percent_decode;

use crate::error::{Error, Result, refuse};

/// Checks the path of a request.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with "the path".
pub(crate) fn check_path(url: &str) -> Result<(), &'static str> {
    if !url.starts_with('/') {
        return Err("must be a path that begins with \"/\", without scheme and host");
    }
    // A space would end the path on the request line, and the rest would be read as the protocol.
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds a space, a control byte or a character that must be percent-encoded");
    }
    if url.contains('#') {
        return Err("holds a fragment (\"#\")");
    }
    let path = url.split('?').next().unwrap_or(url);
    // Decoded twice: a proxy may decode once before the server does.
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
        bytes = percent_decode(&bytes).collect::<Vec<u8>>().into();
    }
    Ok(())
}

/// The URL of a path under a base URL.
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
    let rest = match path.strip_prefix("/v1") {
        // `/v1beta` is another root, not this one with more behind it.
        Some(rest) if has_path(base) && (rest.is_empty() || rest.starts_with(['/', '?'])) => rest,
        _ => path,
    };
    let mut url = format!("{base}{rest}");
    if let Some(query) = query {
        url.push(if rest.contains('?') { '&' } else { '?' });
        url.push_str(query);
    }
    url
}

fn has_path(base_url: &str) -> bool {
    let base = base_url.split('?').next().unwrap_or(base_url);
    let after_scheme = base.find("://").map_or(0, |at| at + 3);
    base[after_scheme..].trim_end_matches('/').contains('/')
}

/// For a message: which URL was asked for a path, and why that one. Its query is left out, as it
/// may hold a secret.
pub(crate) fn asked(base_url: &str, path: &str) -> String {
    let url = join(base_url, path);
    let url = url.split('?').next().unwrap_or_default();
    if path.starts_with("/v1/") && !has_path(base_url) {
        return format!(
            "{url} was asked: the base URL has no path, so the request's /v1 was kept; \
             if the API's root is elsewhere, give the base URL with its path"
        );
    }
    format!("{url} was asked")
}

/// Checks a base URL without connecting. The messages do not repeat it: it may hold a password.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn check_base_url(url: &str, insecure_http: bool) -> Result<()> {
    let flaw = base_url_flaw(url, insecure_http);
    let settings: &[_] = match flaw {
        Some(PLAIN_HTTP) => &["allow_insecure_http"],
        _ => &[],
    };
    let named = |error: Error| error.with_settings(settings);
    refuse(flaw.map(|flaw| format!("the base URL {flaw}"))).map_err(named)
}

const PLAIN_HTTP: &str = "is plain http to another machine, where everyone on the way can read the \
                          key: use https, or allow it";

fn base_url_flaw(url: &str, insecure_http: bool) -> Option<&'static str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Some("has no scheme: write https://host/path, or http://127.0.0.1:port/path");
    };
    if url.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Some("holds a space or a character that must be percent-encoded");
    }
    if url.contains('#') {
        return Some("holds a fragment (\"#\"); leave it out");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let Ok(authority) = authority.parse::<Authority>() else {
        return Some("has no host");
    };
    if authority.as_str().contains('@') {
        return Some("holds a user name or password; give the key apart from it");
    }
    match scheme {
        "https" => None,
        "http" if insecure_http || is_loopback(authority.host()) => None,
        "http" => Some(PLAIN_HTTP),
        _ => Some("must begin with https:// or http://"),
    }
}

/// Whether `host` is this machine: `localhost`, a name under `.localhost` (RFC 6761) or a loopback
/// address, with or without brackets. It decides where plain `http` is allowed and what is never
/// sent through a proxy.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

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
            assert_eq!(check_path(url), Ok(()), "{url}");
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
            assert!(check_path(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn it_is_said_that_the_v1_was_kept_where_it_was() {
        for (base, path, url, is_kept) in [
            (
                "https://a.test",
                "/v1/chat",
                "https://a.test/v1/chat was",
                true,
            ),
            (
                "https://a.test/?k=s",
                "/v1/chat",
                "https://a.test/v1/chat was",
                true,
            ),
            (
                "https://a.test/v1/",
                "/v1/chat",
                "https://a.test/v1/chat was",
                false,
            ),
            (
                "https://a.test/api?k=s",
                "/v1/c?q=s",
                "https://a.test/api/c was",
                false,
            ),
            ("https://a.test", "/chat", "https://a.test/chat was", false),
        ] {
            let told = asked(base, path);
            assert!(told.starts_with(url), "{told}");
            assert_eq!(
                told.contains("the request's /v1 was kept"),
                is_kept,
                "{told}"
            );
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

    #[test]
    fn base_urls_are_checked_before_anything_is_sent() {
        for good in [
            "https://api.example.com/v1",
            "http://127.0.0.1:8000",
            "http://localhost/v1",
            "http://[::1]:9/v1",
            "http://[::1]/v1",
            "http://[::ffff:127.0.0.1]:9/v1",
            "http://LOCALHOST.:80",
            "http://a.localhost/v1",
            "https://x.example/openai/deployments/m?api-version=2024-10-21",
        ] {
            assert!(check_base_url(good, false).is_ok(), "{good}");
        }
        for bad in [
            "",
            "api.example.com/v1",
            "http://api.example.com/v1",
            "http://127.0.0.1.example.com/v1",
            "http://localhost.example.com",
            "http://notlocalhost",
            "http://[::2]:80",
            "https://",
            "https:///v1",
            "https://user:pass@example.com/",
            "http://127.0.0.1@example.com/",
            "ftp://example.com",
            "https://example.com/a b",
            "https://example.com/#x",
        ] {
            let error = check_base_url(bad, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
        }
        assert!(check_base_url("http://api.example.com/v1", true).is_ok());
    }
}
