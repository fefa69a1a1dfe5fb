//! The scripted server does what its scripts say: a fault test is worth no more than its faults.

pub mod support;

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::faultd::{Faultd, Reply, refused_addr};
use support::wire::Wire;

#[test]
fn replies_come_in_order_and_the_last_one_stays() {
    let server = Faultd::replies([
        Reply::error(429, "requests", "rate_limit_exceeded", "slow down")
            .header("retry-after", "2"),
        Reply::ok_chat("hello"),
    ]);
    let mut wire = Wire::connect(server.addr());
    let first = wire.post("/v1/chat/completions?x=1", r#"{"model":"m"}"#);
    assert_eq!(
        (first.status, first.header("retry-after")),
        (429, Some("2"))
    );
    assert_eq!(first.json()["error"]["code"], "rate_limit_exceeded");
    for _ in 0..2 {
        let answer = wire.post("/again", "");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["choices"][0]["message"]["content"], "hello");
    }
    let seen = server.requests();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].method, "POST");
    assert_eq!(seen[0].path, "/v1/chat/completions?x=1");
    assert_eq!(seen[0].header("Content-Length"), Some("13"));
    assert_eq!(seen[0].json()["model"], "m");
    assert!(seen[0].at <= seen[1].at);
    assert_eq!(
        (
            server.connections(),
            server.open_peak(),
            server.in_flight_peak()
        ),
        (1, 1, 1)
    );
}

#[test]
fn a_script_sees_the_request_and_chunked_bodies_are_put_together() {
    let server = Faultd::script(|seen| Reply::json(seen.body.clone()).chunked(3));
    let mut wire = Wire::connect(server.addr());
    wire.send("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n")
        .unwrap();
    assert_eq!(wire.receive(true).unwrap().status, 100);
    wire.send("4\r\n[1,2\r\n4\r\n,34]\r\n0\r\n\r\n").unwrap();
    let answer = wire.receive(true).unwrap();
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert_eq!(answer.text(), "[1,2,34]");
}

#[test]
fn connections_break_in_the_way_asked_for() {
    let server = Faultd::script(|seen| match seen.path.as_str() {
        "/close" => Reply::close(),
        "/reset" => Reply::reset(),
        "/half" => Reply::json("[1,2,3,4]").half_body(),
        "/short" => Reply::json("[]").content_length("3").then_close(),
        "/said" => Reply::json("[]").connection_close(),
        "/unsaid" => Reply::json("[]").then_close(),
        "/unending" => Reply::json("[]").without_length(),
        "/chunks" => Reply::chunked_garbage(),
        path => panic!("no script for {path}"),
    });
    let ask = |path: &str| {
        let mut wire = Wire::connect(server.addr());
        wire.exchange("GET", path, "").map_err(|error| error.kind())
    };
    assert_eq!(ask("/close"), Err(ErrorKind::UnexpectedEof));
    assert_eq!(ask("/reset"), Err(ErrorKind::ConnectionReset));
    assert_eq!(ask("/half"), Err(ErrorKind::UnexpectedEof));
    assert_eq!(ask("/short"), Err(ErrorKind::UnexpectedEof));
    assert_eq!(ask("/chunks"), Err(ErrorKind::InvalidData));
    assert_eq!(ask("/said").unwrap().header("connection"), Some("close"));
    assert_eq!(ask("/unending").unwrap().text(), "[]");
    let mut wire = Wire::connect(server.addr());
    assert_eq!(wire.get("/unsaid").header("connection"), None);
    assert!(wire.exchange("GET", "/unsaid", "").is_err());
}

#[test]
fn delays_and_drips_are_never_early() {
    let server = Faultd::script(|seen| match seen.path.as_str() {
        "/late" => Reply::json("[]").after(Duration::from_millis(30)),
        _ => Reply::raw("HTTP/1.1 204 x\r\n\r\n").drip(6, Duration::from_millis(10)),
    });
    let mut wire = Wire::connect(server.addr());
    let start = Instant::now();
    wire.get("/late");
    assert!(start.elapsed() >= Duration::from_millis(30));
    let start = Instant::now();
    wire.get("/drip");
    // 18 bytes in three pieces: two pauses before the last one.
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn an_answer_at_the_head_does_not_wait_for_the_body() {
    let server = Faultd::at_head(|_| Reply::status(413));
    let mut wire = Wire::connect(server.addr());
    wire.send("POST / HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n")
        .unwrap();
    assert_eq!(wire.receive(true).unwrap().status, 413);
    assert!(server.requests()[0].body.is_empty());
}

#[test]
fn a_stalled_client_is_let_go_when_the_server_is_dropped() {
    let server = Faultd::replies([Reply::stall()]);
    let mut wire = Wire::connect(server.addr());
    wire.send("GET / HTTP/1.1\r\n\r\n").unwrap();
    while server.count() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(server.open_connections(), 1);
    drop(server);
    assert!(wire.receive(true).is_err());
}

#[test]
fn nobody_listens_at_a_refused_address() {
    let error = TcpStream::connect(refused_addr()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
