//! What a program that logs everything sees of an exchange. In a process of its own: there is one
//! logger in each.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use tollgate::{Cancel, HttpConfig, HttpRequest, HttpTransport, ProxyPolicy, Transport};

/// All that was logged by anybody: whole records, and the text of dumps joined over their rows.
static SEEN: Mutex<(String, String)> = Mutex::new((String::new(), String::new()));

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nset-cookie: session=cr4cker\r\ncontent-length: 2\r\n\r\nok";

struct Everything;

impl Log for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let words = record.args().to_string();
        let mut seen = SEEN.lock().unwrap();
        writeln!(seen.0, "{} {words}", record.target()).unwrap();
        // A row is 16 bytes in hex and then as text.
        seen.1 += &words[words.len().saturating_sub(16)..];
    }

    fn flush(&self) {}
}

#[test]
fn no_key_password_or_query_is_logged_at_trace() {
    log::set_logger(&Everything).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let policy = format!("http://user:sesame@{}", proxy.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let connect = read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let request = read_head(&mut stream);
        stream.write_all(ANSWER).unwrap();
        (connect, request)
    });

    let config = HttpConfig::new().proxy(ProxyPolicy::Url(policy));
    let transport = HttpTransport::new(config).unwrap();
    let (cancel, deadline) = (Cancel::new(), Instant::now() + Duration::from_secs(60));
    let url = "http://api.invalid/v1/p4th?key=qu3ry";
    let mut call = HttpRequest::new("POST", url, deadline, &cancel);
    call.headers = &[
        ("authorization", "Bearer sk-b34r3r"),
        ("x-api-key", "4nthr0pic"),
        ("cookie", "session=b1scuit"),
    ];
    let answer = transport.send(&call).unwrap();
    assert_eq!(answer.headers["set-cookie"], "session=cr4cker");

    let (connect, request) = served.join().unwrap();
    let (records, text) = &*SEEN.lock().unwrap();
    // That much is to be heard, so the rest would be, too.
    assert!(text.contains("api.invalid"), "{records}");
    assert!(text.contains("HTTP/1.1.200"), "{records}");
    assert!(connect.contains("dXNlcjpzZXNhbWU="), "{connect}");
    for secret in ["sk-b34r3r", "4nthr0pic", "b1scuit", "qu3ry", "p4th"] {
        assert!(request.contains(secret), "{request}");
        assert!(!hears(records, text, secret), "{secret}: {records}");
    }
    for secret in ["sesame", "dXNlcjpzZXNhbWU=", "cr4cker"] {
        assert!(!hears(records, text, secret), "{secret}: {records}");
    }
}

fn hears(records: &str, text: &str, secret: &str) -> bool {
    records.contains(secret) || text.contains(secret)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}
