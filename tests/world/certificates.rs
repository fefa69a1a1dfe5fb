//! Certificates and keys, as other tools write them.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::network::{ANSWER, read_head};
use crate::support::faultd::Faultd;
use crate::support::listener::Listener;
use crate::support::reply::Reply;
use crate::tool::{Folder, Tool};

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
        ("nothing", Vec::new(), Some("is empty")),
        (
            "a key",
            b"-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n".to_vec(),
            Some("private key and no certificate"),
        ),
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
            Some("no certificate in PEM"),
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
fn the_variable_of_the_certificates_does_not_matter_without_tls() {
    let folder = Folder::new();
    folder.requests(1);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let tool = folder.tool(&["run", "p.jsonl"]).at(&server);
    tool.env("SSL_CERT_FILE", "none.pem").run().code(0);
    let tool = folder.tool(&["run", "p.jsonl"]).at(&server);
    let tool = tool.env("SSL_CERT_FILE", "none.pem");
    let tool = tool.env("HTTP_PROXY", "https://127.0.0.1:9");
    tool.run().code(2).says(&["none.pem"]);
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
            vec!["key.pem", "private key and no certificate"],
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
