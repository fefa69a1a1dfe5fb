//! Proxies, certificates and keys, as people set them.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::support::faultd::Faultd;
use crate::support::listener::Listener;
use crate::support::reply::Reply;
use crate::tool::{Folder, Tool};

/// A good answer, after which the connection ends.
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 84\r\nconnection: close\r\n\r\n\
    {\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}";

/// A proxy that says this to each CONNECT. Behind it, every request is answered.
fn proxy(answer: &'static str) -> Listener {
    Listener::start(move |_, mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(answer.as_bytes());
        if !read_head(&mut stream).is_empty() {
            let _ = stream.write_all(ANSWER.as_bytes());
        }
    })
}

fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Requests to an address that is not this machine, which only a proxy can reach.
fn elsewhere(folder: &Folder, base_url: &str) -> Tool {
    folder.requests(5);
    let flags = ["--allow-insecure-http", "--no-auth", "--base-url", base_url];
    folder.tool(&[&["run", "p.jsonl"][..], &flags].concat())
}

#[test]
fn an_entry_of_no_proxy_that_cannot_be_read_is_warned_of() {
    let proxy = proxy("HTTP/1.1 200 OK\r\n\r\n");
    for (list, warned) in [
        ("a.test 10.0.0.0/33", Some("10.0.0.0/33")),
        ("a.test,10.0.*", Some("10.0.*")),
        ("a.test b.test", None),
    ] {
        let folder = Folder::new();
        let ended = elsewhere(&folder, "http://api.invalid/v1")
            .env("HTTP_PROXY", &format!("http://{}", proxy.addr()))
            .env("NO_PROXY", list)
            .run()
            .code(0);
        match warned {
            Some(entry) => ended.says(&["warning: ", "NO_PROXY", entry]),
            None => ended.never_says(&["warning: "]),
        };
    }
}

#[test]
fn a_proxy_that_refuses_ends_the_run_at_once_and_is_named() {
    let over_tls = ("HTTPS_PROXY", "https://api.invalid/v1", "api.invalid:443");
    let plain = ("http_proxy", "http://api.invalid/v1", "api.invalid:80");
    for (answer, words) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n",
            ["HTTP 407", "user name and a password"],
        ),
        (
            "HTTP/1.0 407 x\r\nproxy-authenticate: NTLM\r\n\r\n",
            ["HTTP 407", "Basic"],
        ),
        (
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
            ["HTTP 401", "user name and a password"],
        ),
        (
            "HTTP/1.1 403 Filtered\r\ncontent-length: 3\r\n\r\nno!",
            ["HTTP 403", "allow CONNECT to this host and port"],
        ),
        (
            "HTTP/1.1 451 x\r\n\r\n",
            ["HTTP 451", "allow CONNECT to this host and port"],
        ),
        ("HTTP/1.1 405 Not Allowed\r\n\r\n", ["HTTP 405", "no proxy"]),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", ["HTTP 400", "no proxy"]),
        ("HTTP/1.1 501 x\r\n\r\n", ["HTTP 501", "no proxy"]),
    ] {
        for (variable, base_url, target) in [over_tls, plain] {
            let proxy = proxy(answer);
            let folder = Folder::new();
            let shown = format!("through the proxy http://{} of {variable}", proxy.addr());
            elsewhere(&folder, base_url)
                .env(variable, &format!("http://alice:sesame@{}", proxy.addr()))
                .run()
                .code(3)
                .says(&words)
                .says(&[&shown, target, "5 not done yet"])
                .never_says(&["alice", "sesame"]);
            let is_of_password =
                words[1] != "allow CONNECT to this host and port" && words[1] != "no proxy";
            assert!(
                proxy.accepted() == 1 || !is_of_password,
                "{answer}: one login"
            );
        }
    }
}

#[test]
fn a_refusal_in_the_middle_of_a_run_ends_it_too() {
    let proxy = Listener::start(|number, mut stream| {
        read_head(&mut stream);
        let status = if number < 2 { "200 OK" } else { "407 No" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\n\r\n");
        if !read_head(&mut stream).is_empty() {
            let _ = stream.write_all(ANSWER.as_bytes());
        }
    });
    let folder = Folder::new();
    let ended = elsewhere(&folder, "http://api.invalid/v1")
        .env(
            "HTTP_PROXY",
            &format!("http://alice:sesame@{}", proxy.addr()),
        )
        .run();
    ended.code(3).says(&[
        "HTTP 407",
        "HTTP_PROXY",
        "succeeded   2 of 5",
        "3 not done yet",
    ]);
}

#[test]
fn an_https_proxy_that_speaks_no_tls_is_blamed_and_not_the_server() {
    let proxy = Listener::start(|_, mut stream| {
        let _ = stream.read_exact(&mut [0; 5]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let folder = Folder::new();
    let shown = format!("through the proxy https://{} of HTTPS_PROXY", proxy.addr());
    elsewhere(&folder, "https://api.invalid/v1")
        .env("HTTPS_PROXY", &format!("https://{}", proxy.addr()))
        .run()
        .code(3)
        .says(&[
            &shown,
            "does not speak TLS",
            "write http:// in place of https:// in its URL",
        ])
        .never_says(&["base URL"]);
}

#[test]
fn a_404_says_which_url_was_asked() {
    let server = Faultd::replies([Reply::status(404).body("404 page not found")]);
    let kept =
        "/v1/chat/completions was asked: the base URL has no path, so the request's /v1 was kept";
    let twice = "/v1/chat/completions/chat/completions was asked";
    for (base, rows, code, asked) in [
        ("", 1, 1, kept),
        ("", 12, 3, kept),
        ("/v1/chat/completions", 1, 1, twice),
    ] {
        let folder = Folder::new();
        folder.requests(rows);
        let url = format!("{}{base}", server.url());
        let flags = ["run", "p.jsonl", "--no-auth", "--base-url", &url];
        let told = format!("{}{asked}", server.url());
        folder.tool(&flags).run().code(code).says(&[&told]);
    }
}

#[test]
fn a_key_in_quotes_is_said() {
    let folder = Folder::new();
    folder.requests(1);
    for (key, words) in [
        ("\"sk-0123456789\"", "begins and ends with a quote"),
        ("'sk-0123456789'", "begins and ends with a quote"),
        ("Bearer sk-0123456789", "begins with \"Bearer\""),
    ] {
        folder.write("key", key);
        let by_variable = folder.tool(&["run", "p.jsonl"]).env("OPENAI_API_KEY", key);
        let by_file = folder.tool(&["run", "p.jsonl", "--api-key-file=key"]);
        for tool in [by_variable, by_file] {
            let ended = tool.env("OPENAI_BASE_URL", "http://127.0.0.1:1/v1").run();
            ended.code(2).says(&[words]).never_says(&["0123456789"]);
        }
    }
}

/// A TLS server, and what a client has to trust, as PEM.
struct TlsServer {
    listener: Listener,
    root: String,
}

/// Asks its clients for a certificate that this root signed, if there is one.
fn tls_server(clients: Option<&Authority>) -> TlsServer {
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["127.0.0.1"]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.0.der().clone()).unwrap();
            let roots = Arc::new(roots);
            let wanted = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(wanted.unwrap())
        }
    };
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = builder.with_single_cert(vec![certificate.der().clone()], key);
    let config = Arc::new(config.unwrap());
    let listener = Listener::start(move |_, stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut session = StreamOwned::new(session, stream);
        read_head(&mut session);
        let _ = session.write_all(ANSWER.as_bytes());
        session.conn.send_close_notify();
        let _ = session.flush();
        let _ = session.read(&mut [0; 4096]);
    });
    let root = authority.0.pem();
    TlsServer { listener, root }
}

/// Signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

/// One request over TLS.
fn over_tls(folder: &Folder, server: &TlsServer, flags: &[&str]) -> Tool {
    folder.requests(1);
    let url = format!("https://{}/v1", server.listener.addr());
    let all = ["run", "p.jsonl", "--no-auth", "--base-url", &url];
    folder.tool(&[&all[..], flags].concat())
}

#[test]
fn certificates_are_read_as_tools_write_them_or_it_is_said_what_they_are() {
    let server = tls_server(None);
    let root = &server.root;
    let utf_16: Vec<u8> = ["\u{feff}", root]
        .concat()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let mut key_and_root = KeyPair::generate().unwrap().serialize_pem();
    key_and_root.push_str(root);
    for (name, text, refused) in [
        ("plain", root.clone().into_bytes(), None),
        (
            "a byte-order mark",
            ["\u{feff}", root].concat().into_bytes(),
            None,
        ),
        (
            "text before",
            ["subject=/CN=x\n\n", root].concat().into_bytes(),
            None,
        ),
        (
            "windows line ends",
            root.replace('\n', "\r\n").into_bytes(),
            None,
        ),
        ("a key beside it", key_and_root.into_bytes(), None),
        (
            "a root of version 1",
            [VERSION_1, root].concat().into_bytes(),
            None,
        ),
        (
            "trusted",
            root.replace("CERTIFICATE", "TRUSTED CERTIFICATE")
                .into_bytes(),
            Some("openssl x509 -in"),
        ),
        ("UTF-16", utf_16, Some("UTF-16")),
        (
            "DER",
            vec![0x30, 0x82, 1, 0, 0x30],
            Some("openssl x509 -inform der"),
        ),
        ("nothing", Vec::new(), Some("no certificate")),
        (
            "cut short",
            root.as_bytes()[..root.len() - 40].to_vec(),
            Some("broken off"),
        ),
        (
            "another's letters",
            root.replace('M', "*").into_bytes(),
            Some("garbled"),
        ),
        (
            "no certificate in it",
            root.replace("MII", "AII").into_bytes(),
            Some("no certificate that can be understood"),
        ),
    ] {
        let folder = Folder::new();
        folder.write("ca.pem", &text);
        for (by, tool) in [
            (
                "",
                over_tls(&folder, &server, &["--ca-file=ca.pem", "--overwrite"]),
            ),
            (
                "SSL_CERT_FILE",
                over_tls(&folder, &server, &["--overwrite"]).env("SSL_CERT_FILE", "ca.pem"),
            ),
        ] {
            let ended = tool.run();
            match refused {
                None => assert_eq!(ended.code, Some(0), "{name}: {ended:?}"),
                Some(why) => drop(ended.code(2).says(&["ca.pem", why, by])),
            }
        }
    }
}

#[test]
fn a_ca_file_goes_before_the_variable() {
    let (server, other) = (tls_server(None), tls_server(None));
    let folder = Folder::new();
    folder
        .write("ca.pem", &server.root)
        .write("other.pem", &other.root);
    let with = |file: &str, variable: &str| {
        let flags = ["--ca-file", file, "--overwrite"];
        over_tls(&folder, &server, &flags)
            .env("SSL_CERT_FILE", variable)
            .run()
    };
    with("ca.pem", "other.pem").code(0);
    with("other.pem", "ca.pem").code(3);
    over_tls(&folder, &server, &["--ca-file=ca.pem", "--overwrite"])
        .env("SSL_CERT_FILE", "")
        .run()
        .code(0);
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_asks() {
    let authority = Authority::new();
    let server = tls_server(Some(&authority));
    let (certificate, key) = authority.sign(&["client"]);
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let (_, other) = authority.sign(&["client"]);
    let other = other.serialize_pem();
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let folder = Folder::new();
    folder
        .write("ca.pem", &server.root)
        .write("cert.pem", &certificate)
        .write("key.pem", &key)
        .write("both.pem", ["\u{feff}", &key, &certificate].concat())
        .write("other.pem", &other)
        .write("encrypted.pem", encrypted)
        .write("broken.pem", &key[..key.len() - 40]);
    let two = |cert: &str, key: &str| {
        vec![
            format!("--client-cert={cert}"),
            format!("--client-key={key}"),
        ]
    };
    let one = |cert: &str| vec![format!("--client-cert={cert}")];
    for (flags, code, words) in [
        (two("cert.pem", "key.pem"), 0, vec![]),
        (two("cert.pem", "both.pem"), 0, vec![]),
        (one("both.pem"), 0, vec![]),
        (
            one("cert.pem"),
            2,
            vec!["client key \"cert.pem\"", "holds no private key"],
        ),
        (
            two("key.pem", "cert.pem"),
            2,
            vec!["key.pem", "holds no certificate"],
        ),
        (
            two("cert.pem", "other.pem"),
            2,
            vec!["other.pem", "not the key", "cert.pem"],
        ),
        (
            two("cert.pem", "encrypted.pem"),
            2,
            vec!["encrypted.pem", "openssl pkey"],
        ),
        (
            two("cert.pem", "broken.pem"),
            2,
            vec!["broken.pem", "holds no private key"],
        ),
        (
            two("cert.pem", "none.pem"),
            2,
            vec!["none.pem", "cannot be read"],
        ),
        (
            two("none.pem", "key.pem"),
            2,
            vec!["none.pem", "cannot be read"],
        ),
        (
            vec!["--client-key=key.pem".into()],
            2,
            vec!["--client-cert"],
        ),
    ] {
        let mut all = vec!["--ca-file=ca.pem", "--overwrite"];
        all.extend(flags.iter().map(String::as_str));
        let ended = over_tls(&folder, &server, &all)
            .run()
            .code(code)
            .says(&words);
        for line in key
            .lines()
            .chain(other.lines())
            .filter(|line| !line.contains("---"))
        {
            assert!(!ended.stderr.contains(line), "{flags:?}: {ended:?}");
        }
    }
    for written in ["--summary", "--errors", "-o"] {
        let flags = [
            &["--ca-file=ca.pem", "--client-cert=both.pem"][..],
            &[written, "both.pem"],
        ];
        over_tls(&folder, &server, &flags.concat())
            .run()
            .code(2)
            .says(&["--client-cert"]);
    }
}

/// A root as `openssl x509 -req -signkey` made it for decades, until 2126.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBJTCBywIUeYIN0Kp9CiMUdm51iWrU4Sd+L80wCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyNzEyNDgzOVoYDzIxMjYxMTAzMTI0ODM5
WjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AARZ86raZClkPdGYLqGXa0kSMCwZJ+VORz+762D1li08tw4VdKWYdWcytYXNpi6o
Qe1FGKTzBhz/UtwmjDBKIkHsMAoGCCqGSM49BAMCA0kAMEYCIQCseOJ47HPDXQGr
H6QNiiobMS9yRspBMgvq0w88Bo4XpgIhAIrveTOqQxZ6ROcKJgyMKdELTVCef00V
S2iSyaGmWnb5
-----END CERTIFICATE-----
";
