//! A proxy, and the tunnel through it: `CONNECT` (RFC 9110, 9.3.6), for plain http too.

use std::fmt::Write;

use base64::prelude::{BASE64_STANDARD, Engine};
use ureq_proto::http::uri::PathAndQuery;
use ureq_proto::http::{StatusCode, Uri};

use super::TransportErrorKind;
use super::answer::not_http;
use super::exchange::Exchange;
use super::fault::{Failure, port};
use super::head::Head;
use super::link::Link;
use super::proxy::ProxySetting;
use super::request::USER_AGENT;
use super::tls;

/// A proxy that can be used.
pub(super) struct Proxy {
    pub(super) uri: Uri,
    /// What is sent as `Proxy-Authorization`, with a password in it.
    credentials: Option<String>,
}

impl Proxy {
    /// The proxy, or what is wrong: the setting is named and not shown, for it may hold a password.
    pub(super) fn new(setting: &ProxySetting) -> Result<Self, String> {
        parse(&setting.url).ok_or_else(|| {
            format!(
                "{} is not a usable proxy: give an http:// or https:// URL",
                setting.name
            )
        })
    }

    /// Has the proxy at the other end of `link` connect it to the server of `target`.
    pub(super) fn connect(
        &self,
        link: &mut dyn Link,
        target: &Uri,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Failure> {
        let server = format!("{}:{}", target.host().unwrap_or_default(), port(target));
        let mut request = format!(
            "CONNECT {server} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: {USER_AGENT}\r\n\
             Proxy-Connection: Keep-Alive\r\n"
        );
        if let Some(credentials) = &self.credentials {
            // Writing to a string cannot fail.
            let _ = write!(request, "Proxy-Authorization: Basic {credentials}\r\n");
        }
        request.push_str("\r\n");
        link.send(request.as_bytes(), exchange)?;
        let status = answer(link, exchange)?;
        if !status.is_success() {
            let why = format!("the proxy refused the connection with status {status}");
            return Err(Failure::new(TransportErrorKind::Proxy, why));
        }
        let is_open = link.take_in();
        // It would pass for what the server says, to a request it has not seen. What comes a moment
        // later cannot be told from that, but by TLS.
        if !link.input().is_empty() {
            let why = "the proxy sent more than its answer to CONNECT";
            return Err(Failure::new(TransportErrorKind::Proxy, why));
        }
        if !is_open {
            let why = "the proxy closed the connection after its answer to CONNECT";
            return Err(Failure::new(TransportErrorKind::Connect, why));
        }
        Ok(())
    }
}

/// Waits for the proxy's answer to `CONNECT`; interim ones are passed over.
fn answer(link: &mut dyn Link, exchange: &mut Exchange<'_>) -> Result<StatusCode, Failure> {
    loop {
        let arrived = link.input();
        let Some(head) = Head::parse(arrived.bytes()).map_err(Failure::of_the_proxy)? else {
            if !link.receive(exchange)? {
                let why = "the proxy closed the connection without an answer";
                return Err(Failure::new(TransportErrorKind::Connect, why));
            }
            continue;
        };
        arrived.consume(head.length);
        if !head.is_interim() {
            return StatusCode::from_u16(head.status)
                .map_err(|error| not_http(error).of_the_proxy());
        }
    }
}

fn parse(url: &str) -> Option<Proxy> {
    let mut parts = url.parse::<Uri>().ok()?.into_parts();
    // `proxy.example.com:3128` means http.
    if parts.scheme.is_none() {
        parts.scheme = Some(ureq_proto::http::uri::Scheme::HTTP);
    }
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    let uri = Uri::from_parts(parts).ok()?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if tls::AVAILABLE => {}
        _ => return None,
    }
    let credentials = match uri.authority()?.as_str().rsplit_once('@') {
        Some((user, _)) => {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            let mut plain = percent_decoded(user)?;
            plain.push(b':');
            plain.extend(percent_decoded(password)?);
            Some(BASE64_STANDARD.encode(&plain))
        }
        None => None,
    };
    Some(Proxy { uri, credentials })
}

/// The bytes of `text` with every `%xx` resolved, if they are UTF-8.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, later)) = rest.split_first() {
        let hex = |at: usize| char::from(*later.get(at)?).to_digit(16);
        if let (b'%', Some(high), Some(low)) = (first, hex(0), hex(1)) {
            decoded.extend(u8::try_from(high << 4 | low));
            rest = &later[2..];
        } else {
            decoded.push(first);
            rest = later;
        }
    }
    str::from_utf8(&decoded).is_ok().then_some(decoded)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_url_with_or_without_credentials() {
        let credentials = |url| parse(url).map(|proxy| proxy.credentials);
        assert_eq!(credentials("http://proxy:3128"), Some(None));
        assert_eq!(credentials("proxy:3128"), Some(None));
        let of = |plain: &str| Some(Some(BASE64_STANDARD.encode(plain)));
        assert_eq!(credentials("http://us%40er:w:rd@proxy"), of("us@er:w:rd"));
        assert_eq!(credentials("http://user@proxy/"), of("user:"));
        assert_eq!(credentials("http://100%:%4@proxy"), of("100%:%4"));
        for unusable in ["socks5://proxy", "http://", "", "/", "http://%ff@proxy"] {
            assert!(parse(unusable).is_none(), "{unusable}");
        }
        assert_eq!(parse("https://proxy").is_some(), tls::AVAILABLE);
    }
}
