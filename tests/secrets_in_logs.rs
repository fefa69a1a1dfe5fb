//! What a program that logs everything sees of an exchange. In a process of its own: there is one
//! logger in each.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use tollgate::{
    Cancel, Client, HttpConfig, HttpRequest, HttpResponse, HttpTransport, MemoryTransport,
    ProxyPolicy, Transport, http,
};

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

fn listen() {
    // The other test may have done so.
    let _done_already = log::set_logger(&Everything);
    log::set_max_level(LevelFilter::Trace);
}

#[test]
fn an_attempt_is_a_record_with_the_headers_that_are_on_the_list_and_no_other() {
    listen();
    let key = "sk-4ttempt-0123456789";
    let calls = AtomicUsize::new(0);
    let transport = MemoryTransport::new(move |_| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        let headers = [
            ("x-request-id", format!("req-{key}")),
            ("x-ratelimit-remaining-requests", "59".to_owned()),
            ("retry-after-ms", "20".to_owned()),
            ("set-cookie", "session=sh0rtbread".to_owned()),
            ("x-echo", "m4caroon".to_owned()),
        ];
        let headers = headers.iter().map(|(name, value)| {
            let name: http::HeaderName = name.parse().unwrap();
            (name, value.parse().unwrap())
        });
        let (status, body) = if first {
            let body = br#"{"error":{"message":"slow down","code":"slow"}}"#;
            (429, body.to_vec())
        } else {
            (200, br#"{"choices":[{"text":"yes"}]}"#.to_vec())
        };
        Ok(HttpResponse {
            status: http::StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body,
        })
    });
    let client = Client::builder().api_key(key).transport(transport);
    let reply = client.build().unwrap().chat("m", "hi").send().unwrap();
    assert_eq!(reply.attempts(), 2);

    let records = SEEN.lock().unwrap().0.clone();
    let told: Vec<&str> = records
        .lines()
        .filter_map(|line| line.strip_prefix("tollgate::attempt item 0, /v1/chat/completions, "))
        .collect();
    let [refused, why, answered] = told[..] else {
        panic!("{records}")
    };
    let in_order = refused.starts_with("attempt 1: status 429 in ");
    let (one, two) = if in_order {
        (refused, why)
    } else {
        (why, refused)
    };
    assert!(one.starts_with("attempt 1: status 429 in 0."), "{one}");
    assert!(two.contains("slow down"), "{two}");
    assert!(
        answered.starts_with("attempt 2: status 200 in "),
        "{answered}"
    );
    assert!(!answered.contains("a wait of 0.000 s"), "{answered}");
    for told in [one, answered] {
        let headers = "; x-request-id: req-[redacted]; x-ratelimit-remaining-requests: 59; retry-after-ms: 20";
        assert!(told.ends_with(headers), "{told}");
    }
    for secret in [key, "sh0rtbread", "m4caroon"] {
        assert!(!records.contains(secret), "{records}");
    }
}

#[test]
fn no_key_password_or_query_is_logged_at_trace() {
    listen();
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
    for secret in ["sesame", "dXNlcjpzZXNhbWU="] {
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
