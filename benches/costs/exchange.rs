//! What a request costs on its way: one at a time over the loopback, on a connection that is kept, to
//! a server on another thread that answers at once. [`by_hand`] is the same on a bare socket, and what
//! [`transport`] needs more is HTTP: a head written, 25 lines of a head read, the connection looked after.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use divan::Bencher;
use tollgate::{Cancel, HttpConfig, HttpRequest, HttpTransport, Transport};

use super::answers::{LIMITS, USUAL, chat};

const PATH: &str = "/v1/chat/completions";
const QUESTION: &[u8] = &[b' '; 1_000];

fn answer() -> Vec<u8> {
    let body = chat();
    let lines: String = USUAL
        .iter()
        .chain(&LIMITS)
        .flat_map(|(name, value)| [name, ": ", value, "\r\n"])
        .collect();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\n{lines}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// Answers whatever ends like the question, on one thread for each connection, for ever.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || converse(stream));
        }
    });
    address
}

fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = answer();
    let mut asked = Vec::new();
    let mut part = [0; 4_096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(read) => asked.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if asked.ends_with(QUESTION) {
            asked.clear();
            stream.write_all(&answer)?;
        }
    }
}

#[divan::bench]
fn transport(bencher: Bencher) {
    let url = format!("http://{}{PATH}", serve());
    let transport = HttpTransport::new(HttpConfig::default()).expect("plain settings");
    let cancel = Cancel::new();
    let headers = [
        ("authorization", "Bearer a-key-that-opens-nothing"),
        ("content-type", "application/json"),
    ];
    bencher.bench_local(|| {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut call = HttpRequest::new("POST", &url, deadline, &cancel);
        (call.headers, call.body) = (&headers, QUESTION);
        let answer = transport.send(&call).expect("a server at hand");
        assert_eq!(answer.status, 200);
        answer
    });
}

#[divan::bench]
fn by_hand(bencher: Bencher) {
    let mut stream = TcpStream::connect(serve()).expect("a server at hand");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut question = format!("POST {PATH} HTTP/1.1\r\n\r\n").into_bytes();
    question.extend_from_slice(QUESTION);
    let mut answer = answer();
    bencher.bench_local(|| {
        stream.write_all(&question).expect("a server at hand");
        stream.read_exact(&mut answer).expect("a whole answer");
    });
}
