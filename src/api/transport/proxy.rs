//! Which proxy a URL goes through.
//!
//! The URL's scheme chooses among the settings, as curl and everybody else has it, and a loopback
//! address is never given to a proxy, which could not reach it.

use std::fmt;
use std::net::IpAddr;

use ureq::ProxyProtocol;

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

/// What a [`ProxyPolicy`] comes to: a proxy for each scheme, and where none is used.
#[derive(Clone, Default)]
pub(super) struct Proxies {
    pub(super) http: Option<ProxySetting>,
    pub(super) https: Option<ProxySetting>,
    direct: Vec<Exception>,
}

/// A proxy's URL and the name of the setting it came from, for messages: the URL may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProxySetting {
    pub(super) name: &'static str,
    pub(super) url: String,
}

impl ProxySetting {
    /// The proxy, or what is wrong: the setting is named and not shown, for it may hold a password.
    pub(super) fn parse(&self) -> Result<ureq::Proxy, String> {
        ureq::Proxy::new(&self.url)
            .ok()
            .filter(|proxy| match proxy.protocol() {
                ProxyProtocol::Http => true,
                ProxyProtocol::Https => tls::AVAILABLE,
                _ => false,
            })
            .ok_or_else(|| {
                format!(
                    "{} is not a usable proxy: give an http:// or https:// URL",
                    self.name
                )
            })
    }
}

impl Proxies {
    pub(super) fn new(policy: ProxyPolicy, env: impl Fn(&str) -> Option<String>) -> Self {
        match policy {
            ProxyPolicy::None => Self::default(),
            ProxyPolicy::Url(url) => {
                let setting = ProxySetting {
                    name: "the proxy setting",
                    url,
                };
                Self {
                    http: Some(setting.clone()),
                    https: Some(setting),
                    direct: Vec::new(),
                }
            }
            ProxyPolicy::FromEnv => {
                let first = |names: &[&'static str]| {
                    names.iter().find_map(|&name| {
                        let url = env(name)?.trim().to_owned();
                        (!url.is_empty()).then_some(ProxySetting { name, url })
                    })
                };
                // In a CGI program the client's `Proxy:` header arrives as HTTP_PROXY
                // (CVE-2016-5385); the lower-case name is safe.
                let http: &[_] = if env("REQUEST_METHOD").is_some() {
                    &["http_proxy", "ALL_PROXY", "all_proxy"]
                } else {
                    &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
                };
                let no_proxy = first(&["NO_PROXY", "no_proxy"]);
                Self {
                    http: first(http),
                    https: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
                    direct: no_proxy.map_or_else(Vec::new, |list| {
                        list.url.split(',').filter_map(Exception::parse).collect()
                    }),
                }
            }
        }
    }

    /// Whether `host` is reached directly whatever the scheme's proxy.
    pub(super) fn is_direct(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        is_loopback(host) || self.direct.iter().any(|entry| entry.covers(host, port))
    }
}

/// One entry of `NO_PROXY`.
#[derive(Clone)]
struct Exception {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone)]
enum Hosts {
    All,
    /// A domain, without the leading dot, and whether it stands for itself too.
    Domain {
        name: String,
        itself: bool,
    },
    Network {
        address: IpAddr,
        bits: u32,
    },
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim();
        if entry.is_empty() {
            return None;
        }
        let (host, port) = split_port(entry);
        let hosts = if host == "*" {
            Hosts::All
        } else if let Some(network) = parse_network(host) {
            network
        } else {
            let name = host.trim_start_matches('*').to_ascii_lowercase();
            Hosts::Domain {
                itself: !name.starts_with('.'),
                name: name.trim_matches('.').to_owned(),
            }
        };
        Some(Self { hosts, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        match &self.hosts {
            Hosts::All => true,
            Hosts::Domain { name, itself } => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                match host.strip_suffix(name.as_str()) {
                    Some("") => *itself,
                    Some(rest) => rest.ends_with('.'),
                    None => false,
                }
            }
            Hosts::Network { address, bits } => host
                .parse::<IpAddr>()
                .is_ok_and(|host| in_network(host.to_canonical(), *address, *bits)),
        }
    }
}

/// `host:port` apart; a bare IPv6 address has colons and no port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

fn parse_network(text: &str) -> Option<Hosts> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = bare.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some(Hosts::Network { address, bits })
}

fn in_network(host: IpAddr, network: IpAddr, bits: u32) -> bool {
    let differ = match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) => {
            (host.to_bits() ^ network.to_bits()).leading_zeros()
        }
        (IpAddr::V6(host), IpAddr::V6(network)) => {
            (host.to_bits() ^ network.to_bits()).leading_zeros()
        }
        _ => return false,
    };
    differ >= bits
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
