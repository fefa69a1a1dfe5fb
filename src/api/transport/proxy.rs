//! Which proxy a URL goes through.
//!
//! The URL's scheme chooses among the settings, as curl and everybody else has it, and a loopback
//! address is never given to a proxy, which could not reach it.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use ureq::ProxyProtocol;

use super::error::{bare_host, is_https, origin};
use crate::api::path::is_loopback;

/// Where proxies come from.
///
/// A proxy is an `http://` or `https://` URL, with `user:password@` if it asks for them, and is
/// spoken to with `CONNECT` (RFC 9110, 9.3.6), for plain http too. Loopback addresses and
/// `localhost` are never proxied.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyPolicy {
    /// From the environment, by the URL's scheme: `HTTPS_PROXY` or `HTTP_PROXY`, then `ALL_PROXY`,
    /// each also in lower case; hosts in `NO_PROXY` are reached directly. The default.
    ///
    /// `NO_PROXY` is a list, separated by commas or blanks, of names, which stand for their
    /// subdomains too (a `.` or `*.` in front and a `.` behind change nothing), IP addresses,
    /// networks (`10.0.0.0/8`), or `*`. Any other entry, one with a port for instance, is warned of
    /// in the log.
    #[default]
    FromEnv,
    /// None, whatever the environment says.
    None,
    /// This one for every URL.
    Url(String),
}

impl fmt::Debug for ProxyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromEnv => "FromEnv",
            Self::None => "None",
            // It may hold a password.
            Self::Url(_) => "Url(..)",
        })
    }
}

/// A proxy, and how messages call it: its URL may hold a password.
pub(super) type NamedProxy = (ureq::Proxy, String);

/// What a [`ProxyPolicy`] comes to: for each scheme a proxy, or what is wrong with its setting; and
/// the hosts reached without.
pub(super) struct Proxies {
    http: Option<Result<NamedProxy, String>>,
    https: Option<Result<NamedProxy, String>>,
    no_proxy: String,
}

impl Proxies {
    pub(super) fn new(policy: &ProxyPolicy, env: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|&name| {
                let value = env(name)?.trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        let (http, https, no_proxy) = match policy {
            ProxyPolicy::None => (None, None, None),
            ProxyPolicy::Url(url) => {
                let setting = Some(("the proxy setting", url.clone()));
                (setting.clone(), setting, None)
            }
            ProxyPolicy::FromEnv => {
                let http = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
                // In a CGI program the client's `Proxy:` header arrives as HTTP_PROXY
                // (CVE-2016-5385); the lower-case name is safe.
                let http = first(&http[usize::from(env("REQUEST_METHOD").is_some())..]);
                let https = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
                let is_used = http.is_some() || https.is_some();
                let no_proxy = first(&["NO_PROXY", "no_proxy"]).filter(|_| is_used);
                (http, https, no_proxy)
            }
        };
        let (name, no_proxy) = no_proxy.unwrap_or_default();
        for entry in entries(&no_proxy).filter(|entry| covers(entry, "").is_none()) {
            log::warn!(
                "the entry {:?} of {name} cannot be read, so it counts for nothing: write a name, an \
                 IP address or a network such as 10.0.0.0/8",
                entry.rsplit('@').next().unwrap_or_default()
            );
        }
        Self {
            http: http.map(named),
            https: https.map(named),
            no_proxy,
        }
    }

    /// The proxy that reaches `uri`, if one does, or what is wrong with its setting.
    pub(super) fn of(&self, uri: &Uri) -> Result<Option<&NamedProxy>, &str> {
        let proxy = if is_https(uri) {
            &self.https
        } else {
            &self.http
        };
        let proxy = proxy.as_ref().filter(|_| !self.is_direct(bare_host(uri)));
        let proxy = proxy.map(|proxy| proxy.as_ref().map_err(String::as_str));
        proxy.transpose()
    }

    /// Whether `host` is reached directly whatever the scheme's proxy.
    fn is_direct(&self, host: &str) -> bool {
        let mut entries = entries(&self.no_proxy);
        is_loopback(host) || entries.any(|entry| covers(entry, host) == Some(true))
    }
}

/// The proxy of this URL, which the setting of this name has, or what is wrong.
fn named((name, url): (&str, String)) -> Result<NamedProxy, String> {
    let is_usable = |proxy: &ureq::Proxy| match proxy.protocol() {
        // A `/`, `?` or `#` in a password ends the host: what follows would be shown and looked up.
        _ if url.contains('@') && proxy.username().is_none() => false,
        ProxyProtocol::Http => true,
        ProxyProtocol::Https => cfg!(feature = "rustls"),
        _ => false,
    };
    let Some(proxy) = ureq::Proxy::new(&url).ok().filter(is_usable) else {
        return Err(format!(
            "{name} is not a usable proxy: give an http:// or https:// URL, with special \
             characters of a password percent-encoded (%23 for #)"
        ));
    };
    let shown = format!("the proxy {} of {name}", origin(proxy.uri()));
    Ok((proxy, shown))
}

/// The entries of `NO_PROXY`.
fn entries(list: &str) -> impl Iterator<Item = &str> {
    let entries = list.split(|c: char| c == ',' || c.is_whitespace());
    entries.filter(|entry| !entry.is_empty())
}

/// Whether an entry of `NO_PROXY` names `host`, if the entry can be read. ureq's own list knows no
/// networks, and a name there does not stand for its subdomains.
fn covers(entry: &str, host: &str) -> Option<bool> {
    let (address, bits) = entry.split_once('/').unzip();
    if let Ok(network) = address.unwrap_or(entry).parse::<IpAddr>() {
        let all = if network.is_ipv4() { 32 } else { 128 };
        let bits: u32 = bits.map_or(Ok(all), str::parse).ok()?;
        let is_same = |host| (number(host) ^ number(network)).leading_zeros() >= 128 - all + bits;
        return (bits <= all).then(|| host.parse().is_ok_and(is_same));
    }
    let domain = entry.trim_start_matches(['*', '.']).to_ascii_lowercase();
    let domain = domain.trim_end_matches('.');
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let has_letter = domain.contains(|c: char| c.is_ascii_alphabetic());
    let is_name = has_letter && domain.chars().all(is_fit) && !domain.contains("..");
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let above = host.strip_suffix(domain).filter(|_| is_name);
    let is_below = above.is_some_and(|above| above.is_empty() || above.ends_with('.'));
    (is_name || entry == "*").then_some(is_below || entry == "*")
}

/// An address as IPv6 writes it.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn from_env(vars: &[(&str, &str)]) -> Proxies {
        Proxies::new(&ProxyPolicy::FromEnv, |name| {
            let var = vars.iter().find(|(candidate, _)| *candidate == name);
            var.map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(vars: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let proxies = from_env(vars);
        let host = |uri| {
            let proxy = proxies.of(&Uri::from_static(uri)).unwrap();
            proxy.map(|(proxy, _)| proxy.host().to_owned())
        };
        (host("http://api.test"), host("https://api.test"))
    }

    #[test]
    fn the_scheme_chooses() {
        let host = |text: &str| Some(text.to_owned());
        assert_eq!(chosen(&[]), (None, None));
        assert_eq!(
            chosen(&[("HTTP_PROXY", "http://h"), ("HTTPS_PROXY", "http://s")]),
            (host("h"), host("s"))
        );
        assert_eq!(
            chosen(&[("ALL_PROXY", "http://a"), ("https_proxy", "http://s")]),
            (host("a"), host("s"))
        );
        assert_eq!(chosen(&[("HTTP_PROXY", "http://h")]), (host("h"), None));
        assert_eq!(
            chosen(&[("HTTP_PROXY", " "), ("all_proxy", "http://a")]),
            (host("a"), host("a")),
            "an empty variable is an unset one"
        );
        assert_eq!(
            chosen(&[("HTTP_PROXY", "http://evil"), ("REQUEST_METHOD", "GET")]),
            (None, None)
        );
    }

    #[test]
    fn loopback_is_never_proxied() {
        for policy in [ProxyPolicy::FromEnv, ProxyPolicy::Url("http://p".into())] {
            let proxies = Proxies::new(&policy, |_| Some("http://p".into()));
            for host in [
                "127.0.0.1",
                "127.8.8.8",
                "::1",
                "localhost",
                "LOCALHOST.",
                "a.localhost",
                "::ffff:127.0.0.1",
            ] {
                assert!(proxies.is_direct(host), "{host}");
            }
            assert!(!proxies.is_direct("localhost.example.com"));
        }
    }

    #[test]
    fn no_proxy_is_read_as_curl_reads_it() {
        let list = "example.com, .sub.test,*.star.test\t10.0.0.0/8,192.0.2.1 2001:db8::/32,\
                    ,2001:db9::1,Dot.test.";
        let proxies = from_env(&[("ALL_PROXY", "http://p"), ("NO_PROXY", list)]);
        for (host, direct) in [
            ("example.com", true),
            ("API.Example.COM", true),
            ("api.example.com.", true),
            ("a.dot.test", true),
            ("badexample.com", false),
            ("sub.test", true),
            ("a.sub.test", true),
            ("star.test", true),
            ("a.star.test", true),
            ("a.bstar.test", false),
            ("10.200.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", true),
            ("2001:db9::2", false),
        ] {
            assert_eq!(proxies.is_direct(host), direct, "{host}");
        }
        let all = from_env(&[("ALL_PROXY", "http://p"), ("no_proxy", "*")]);
        assert!(all.is_direct("anything.test"));
    }

    #[test]
    fn an_entry_of_no_proxy_that_cannot_be_read_is_known() {
        for (entry, host) in [
            ("10.0.0.0/33", "10.0.0.0"),
            ("10.0.0.0/255.0.0.0", "10.0.0.1"),
            ("10.0.*", "10.0.0.1"),
            ("10.", "10.0.0.1"),
            ("10.0.0", "10.0.0.1"),
            ("10.0.0.1-10.0.0.9", "10.0.0.1"),
            ("api.test:443", "api.test"),
            ("a.test;b.test", "b.test"),
            ("api.*.test", "api.a.test"),
            (r".*\.test", "a.test"),
            ("http://api.test/v1", "api.test"),
            ("<local>", "local"),
            ("b\u{fc}cher.test", "xn--bcher-kva.test"),
            ("api..test", "api.test"),
            (".", "api.test"),
            ("**", "api.test"),
        ] {
            assert_eq!(covers(entry, host), None, "{entry}");
        }
    }

    #[test]
    fn a_proxy_is_an_http_url_with_or_without_credentials() {
        let parse = |url: &str| named(("the proxy setting", url.to_owned()));
        let credentials = |url| {
            let proxy = parse(url).unwrap().0;
            let of = |part: Option<&str>| part.unwrap_or_default().to_owned();
            (of(proxy.username()), of(proxy.password()))
        };
        let plain = |user: &str, password: &str| (user.to_owned(), password.to_owned());
        assert_eq!(credentials("http://proxy:3128"), plain("", ""));
        assert_eq!(credentials("proxy:3128"), plain("", ""));
        assert_eq!(
            credentials("http://us%40er:w:rd@proxy"),
            plain("us@er", "w:rd")
        );
        assert_eq!(credentials("http://user@proxy/"), plain("user", ""));
        for unusable in [
            "socks5://proxy",
            "http://",
            "",
            "/",
            "http://%ff@proxy",
            "http://user:w#rd@proxy",
            "http://user:w/rd@proxy",
            "user:w?rd@proxy",
        ] {
            let why = parse(unusable).unwrap_err();
            assert!(why.contains("the proxy setting"), "{unusable}: {why}");
        }
        assert_eq!(parse("https://proxy").is_ok(), cfg!(feature = "rustls"));
    }

    #[test]
    fn a_proxy_url_is_not_printed() {
        let policy = ProxyPolicy::Url("http://user:secret@proxy".into());
        assert!(!format!("{policy:?}").contains("secret"));
    }
}
