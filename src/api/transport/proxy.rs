//! Which proxy a URL goes through.
//!
//! The URL's scheme chooses among the settings, as curl and everybody else has it, and a loopback
//! address is never given to a proxy, which could not reach it.

use std::fmt;
use std::net::IpAddr;

use ureq::ProxyProtocol;

use super::error::bare;
use super::tls;
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
    /// `NO_PROXY` is a list of names, which stand for their subdomains too (`.example.com` for
    /// those alone), IP addresses, networks (`10.0.0.0/8`), each with an optional `:port`, or `*`.
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
    direct: String,
}

/// A proxy's URL and the name of the setting it came from, for messages: the URL may hold a password.
#[derive(Clone)]
pub(super) struct ProxySetting {
    name: &'static str,
    url: String,
}

impl ProxySetting {
    /// The proxy, or what is wrong.
    pub(super) fn parse(&self) -> Result<ureq::Proxy, String> {
        let proxy = ureq::Proxy::new(&self.url).ok();
        let is_usable = |proxy: &ureq::Proxy| match proxy.protocol() {
            ProxyProtocol::Http => true,
            ProxyProtocol::Https => tls::AVAILABLE,
            _ => false,
        };
        proxy.filter(is_usable).ok_or_else(|| {
            let name = self.name;
            format!("{name} is not a usable proxy: give an http:// or https:// URL")
        })
    }
}

impl Proxies {
    pub(super) fn new(policy: ProxyPolicy, env: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|&name| {
                let url = env(name)?.trim().to_owned();
                (!url.is_empty()).then_some(ProxySetting { name, url })
            })
        };
        match policy {
            ProxyPolicy::None => Self::default(),
            ProxyPolicy::Url(url) => {
                let name = "the proxy setting";
                let setting = Some(ProxySetting { name, url });
                Self {
                    http: setting.clone(),
                    https: setting,
                    direct: String::new(),
                }
            }
            ProxyPolicy::FromEnv => {
                let http = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
                // In a CGI program the client's `Proxy:` header arrives as HTTP_PROXY
                // (CVE-2016-5385); the lower-case name is safe.
                let unsafe_names = usize::from(env("REQUEST_METHOD").is_some());
                let direct = first(&["NO_PROXY", "no_proxy"]);
                Self {
                    http: first(&http[unsafe_names..]),
                    https: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
                    direct: direct.map_or_else(String::new, |list| list.url),
                }
            }
        }
    }

    /// Whether `host` is reached directly whatever the scheme's proxy.
    pub(super) fn is_direct(&self, host: &str, port: u16) -> bool {
        let host = bare(host);
        let mut entries = self.direct.split(',').map(str::trim);
        is_loopback(host) || entries.any(|entry| covers(entry, host, port))
    }
}

/// Whether an entry of `NO_PROXY` names `host`. ureq's own list knows no ports and no networks.
fn covers(entry: &str, host: &str, port: u16) -> bool {
    let (name, only) = match entry.rsplit_once(':') {
        // A bare IPv6 address has colons and no port.
        Some((name, only)) if !name.contains(':') || name.ends_with(']') => (name, Some(only)),
        _ => (entry, None),
    };
    if only.is_some_and(|only| only.parse() != Ok(port)) {
        return false;
    }
    if let Some(is_within) = is_within(host, name) {
        return is_within;
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let domain = name.trim_start_matches('*').to_ascii_lowercase();
    match host.strip_suffix(domain.trim_matches('.')) {
        Some("") => !domain.starts_with('.'),
        Some(rest) => name == "*" || rest.ends_with('.'),
        None => false,
    }
}

/// Whether `host` is an address in `network`, if that is one: an address, or one with a number of bits.
fn is_within(host: &str, network: &str) -> Option<bool> {
    let (address, bits) = network.split_once('/').unwrap_or((network, "128"));
    let address: IpAddr = bare(address).parse().ok()?;
    let bits: u32 = bits.parse().ok()?;
    let bits = bits.saturating_add(if address.is_ipv4() { 96 } else { 0 });
    let host: Result<IpAddr, _> = host.parse();
    Some(host.is_ok_and(|host| (number(host) ^ number(address)).leading_zeros() >= bits.min(128)))
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
        Proxies::new(ProxyPolicy::FromEnv, |name| {
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
            let proxies = Proxies::new(policy, |_| Some("http://p".into()));
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
    fn a_proxy_is_an_http_url_with_or_without_credentials() {
        let parse = |url: &str| {
            let name = "the proxy setting";
            let url = url.to_owned();
            ProxySetting { name, url }.parse()
        };
        let credentials = |url| {
            let proxy = parse(url).unwrap();
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
        for unusable in ["socks5://proxy", "http://", "", "/", "http://%ff@proxy"] {
            let why = parse(unusable).unwrap_err();
            assert!(why.contains("the proxy setting"), "{unusable}: {why}");
        }
        assert_eq!(parse("https://proxy").is_ok(), tls::AVAILABLE);
    }

    #[test]
    fn a_proxy_url_is_not_printed() {
        let policy = ProxyPolicy::Url("http://user:secret@proxy".into());
        assert!(!format!("{policy:?}").contains("secret"));
    }
}
