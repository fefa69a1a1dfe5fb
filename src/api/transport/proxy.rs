//! Which proxy a URL goes through.
//!
//! The URL's scheme chooses among the settings, as curl and everybody else has it, and a loopback
//! address is never given to a proxy, which could not reach it.

use std::fmt;
use std::net::IpAddr;

use ureq::ProxyProtocol;

use super::error::{bare, origin};
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
    /// subdomains too (`.example.com` for those alone), IP addresses, networks (`10.0.0.0/8`), each
    /// with an optional `:port`, or `*`. An entry that cannot be read is warned of in the log.
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

/// What a [`ProxyPolicy`] comes to: a proxy for each scheme, and the hosts reached without.
#[derive(Default)]
pub(super) struct Proxies {
    pub(super) http: Option<ProxySetting>,
    pub(super) https: Option<ProxySetting>,
    no_proxy: String,
}

/// A proxy's URL and the name of the setting it came from, for messages: the URL may hold a
/// password.
#[derive(Clone)]
pub(super) struct ProxySetting {
    name: &'static str,
    url: String,
}

impl ProxySetting {
    /// The proxy, and how messages call it, or what is wrong.
    pub(super) fn parse(&self) -> Result<(ureq::Proxy, String), String> {
        // What ends a host ends it in a password as well: what follows would be shown and looked
        // up.
        let user = self.url.rsplit_once('@').map_or("", |(user, _)| user);
        let user = user.split_once("://").map_or(user, |(_, user)| user);
        let is_usable = |proxy: &ureq::Proxy| match proxy.protocol() {
            _ if user.contains(['/', '?', '#']) => false,
            ProxyProtocol::Http => true,
            ProxyProtocol::Https => cfg!(feature = "rustls"),
            _ => false,
        };
        let (name, proxy) = (self.name, ureq::Proxy::new(&self.url).ok());
        let Some(proxy) = proxy.filter(is_usable) else {
            return Err(format!(
                "{name} is not a usable proxy: give an http:// or https:// URL, with special \
                 characters of a password percent-encoded (%23 for #)"
            ));
        };
        let shown = format!("the proxy {} of {name}", origin(proxy.uri()));
        Ok((proxy, shown))
    }
}

impl Proxies {
    pub(super) fn new(policy: &ProxyPolicy, env: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|&name| {
                let url = env(name)?.trim().to_owned();
                (!url.is_empty()).then_some(ProxySetting { name, url })
            })
        };
        let (http, https, no_proxy) = match policy {
            ProxyPolicy::None => (None, None, None),
            ProxyPolicy::Url(url) => {
                let (name, url) = ("the proxy setting", url.clone());
                let setting = Some(ProxySetting { name, url });
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
        let list = no_proxy.map(|list| (list.name, list.url));
        let (name, no_proxy) = list.unwrap_or_default();
        for entry in entries(&no_proxy).filter(|entry| covers(entry, "", 0).is_none()) {
            log::warn!(
                "the entry {:?} of {name} cannot be read, so it counts for nothing: write a name, an \
                 IP address or a network such as 10.0.0.0/8, and behind it :port if only that is meant",
                entry.rsplit('@').next().unwrap_or_default()
            );
        }
        Self {
            http,
            https,
            no_proxy,
        }
    }

    /// Whether `host` is reached directly whatever the scheme's proxy.
    pub(super) fn is_direct(&self, host: &str, port: u16) -> bool {
        let host = bare(host);
        let mut entries = entries(&self.no_proxy);
        is_loopback(host) || entries.any(|entry| covers(entry, host, port) == Some(true))
    }
}

/// The entries of `NO_PROXY`, whatever separates them: no host's name holds any of these
/// characters.
fn entries(list: &str) -> impl Iterator<Item = &str> {
    let is_between = |c: char| c.is_whitespace() || ",;|\"'".contains(c);
    list.split(is_between).filter(|entry| !entry.is_empty())
}

/// Whether an entry of `NO_PROXY` names `host`, if the entry can be read. ureq's own list knows no
/// ports and no networks.
fn covers(entry: &str, host: &str, port: u16) -> Option<bool> {
    // A URL stands for its host.
    let url = entry.split_once("://");
    let entry = url.map_or(entry, |(_, rest)| rest.trim_end_matches('/'));
    let (name, only) = match entry.rsplit_once(':') {
        // A bare IPv6 address has colons and no port.
        Some((name, only)) if !name.contains(':') || name.contains(']') && !only.contains(']') => {
            (name, Some(only.parse().ok()?))
        }
        _ => (entry, None),
    };
    let is_named = name == "*" || is_within(host, name).or_else(|| is_below(host, name))?;
    Some(is_named && only.is_none_or(|only: u16| only == port))
}

/// Whether `host` is `domain` or in it, if that is a name: the last label of a name is no number.
fn is_below(host: &str, domain: &str) -> Option<bool> {
    let domain = domain.trim_start_matches('*').trim_end_matches('.');
    let name = domain.trim_start_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.chars().all(is_fit)
    };
    let last = name.rsplit('.').next()?;
    if !name.split('.').all(is_label) || last.parse::<u64>().is_ok() {
        return None;
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    Some(match host.strip_suffix(&name) {
        Some("") => !domain.starts_with('.'),
        Some(rest) => rest.ends_with('.'),
        None => false,
    })
}

/// Whether `host` is an address in `network`, if that is one: an address, or one with a number of
/// bits.
fn is_within(host: &str, network: &str) -> Option<bool> {
    let (address, bits) = network.split_once('/').unzip();
    let address = address.unwrap_or(network);
    if address.starts_with('[') != address.ends_with(']') {
        return None;
    }
    let address: IpAddr = bare(address).parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits: u32 = bits.map_or(Ok(all), str::parse).ok()?;
    let is_same = |host| (number(host) ^ number(address)).leading_zeros() >= 128 - all + bits;
    (bits <= all).then(|| host.parse().is_ok_and(is_same))
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
        (
            proxies.http.map(|setting| setting.url),
            proxies.https.map(|setting| setting.url),
        )
    }

    #[test]
    fn the_scheme_chooses() {
        let url = |text: &str| Some(text.to_owned());
        assert_eq!(chosen(&[]), (None, None));
        assert_eq!(
            chosen(&[("HTTP_PROXY", "http://h"), ("HTTPS_PROXY", "http://s")]),
            (url("http://h"), url("http://s"))
        );
        assert_eq!(
            chosen(&[("ALL_PROXY", "http://a"), ("https_proxy", "http://s")]),
            (url("http://a"), url("http://s"))
        );
        assert_eq!(
            chosen(&[("HTTP_PROXY", "http://h")]),
            (url("http://h"), None)
        );
        assert_eq!(
            chosen(&[("HTTP_PROXY", " "), ("all_proxy", "http://a")]),
            (url("http://a"), url("http://a")),
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
                "[::1]",
                "localhost",
                "LOCALHOST.",
                "a.localhost",
                "[::ffff:127.0.0.1]",
            ] {
                assert!(proxies.is_direct(host, 80), "{host}");
            }
            assert!(!proxies.is_direct("localhost.example.com", 80));
        }
    }

    #[test]
    fn no_proxy_is_read_as_curl_and_go_read_it() {
        let list = "example.com, .sub.test,*.star.test,10.0.0.0/8,192.0.2.1,[2001:db8::]/32,\
                    port.test:8443,,2001:db9::1";
        let proxies = from_env(&[("ALL_PROXY", "http://p"), ("NO_PROXY", list)]);
        for (host, port, direct) in [
            ("example.com", 443, true),
            ("API.Example.COM", 443, true),
            ("badexample.com", 443, false),
            ("sub.test", 443, false),
            ("a.sub.test", 443, true),
            ("star.test", 443, false),
            ("a.star.test", 443, true),
            ("10.200.0.1", 443, true),
            ("11.0.0.1", 443, false),
            ("192.0.2.1", 80, true),
            ("192.0.2.2", 80, false),
            ("[2001:db8:1::1]", 80, true),
            ("[2001:db9::1]", 80, true),
            ("port.test", 8443, true),
            ("port.test", 443, false),
        ] {
            assert_eq!(proxies.is_direct(host, port), direct, "{host}:{port}");
        }
        let all = from_env(&[("ALL_PROXY", "http://p"), ("no_proxy", "*")]);
        assert!(all.is_direct("anything.test", 1));
    }

    #[test]
    fn no_proxy_is_read_as_people_write_it_or_warned_of() {
        for list in [
            "other.test api.test",
            "other.test\tapi.test",
            "other.test , api.test",
            "other.test;api.test",
            "other.test|*.test|x",
            "\"other.test,api.test\"",
            "https://api.test",
            "https://api.test:443/",
            "API.Test.",
        ] {
            let proxies = from_env(&[("HTTPS_PROXY", "http://p"), ("NO_PROXY", list)]);
            assert!(proxies.is_direct("api.test", 443), "{list}");
            assert!(!proxies.is_direct("elsewhere.example", 443), "{list}");
        }
        for (entry, host) in [
            ("[::1", "::1"),
            ("2001:db8::1]", "2001:db8::1"),
            ("10.0.0.0/33", "10.0.0.0"),
            ("10.0.0.0/255.0.0.0", "10.0.0.1"),
            ("10.0.*", "10.0.0.1"),
            ("10.", "10.0.0.1"),
            ("10.0.0", "10.0.0.1"),
            ("10.0.0.1-10.0.0.9", "10.0.0.1"),
            ("api.test:https", "api.test"),
            ("api.test:99999", "api.test"),
            ("api.*.test", "api.a.test"),
            (r".*\.test", "a.test"),
            ("http://api.test/v1", "api.test"),
            ("<local>", "local"),
            ("b\u{fc}cher.test", "xn--bcher-kva.test"),
            ("api..test", "api.test"),
            (".", "api.test"),
            ("**", "api.test"),
        ] {
            assert_eq!(covers(entry, host, 443), None, "{entry}");
        }
    }

    #[test]
    fn a_proxy_is_an_http_url_with_or_without_credentials() {
        let parse = |url: &str| {
            let name = "the proxy setting";
            let url = url.to_owned();
            ProxySetting { name, url }.parse()
        };
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
