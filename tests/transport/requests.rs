//! What goes on the wire, and over which connection.

use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tollgate::{Cancel, HttpRequest, Transport, TransportErrorKind, TransportStage};

use crate::server::*;

#[test]
fn sequential_calls_share_one_connection() {
    let (tell, seen) = mpsc::channel();
    let address = server(keep_alive(tell));
    let transport = transport();
    for _ in 0..50 {
        assert_eq!(post(&transport, &url(address), b"{}").unwrap().body, b"ok");
    }
    assert_eq!(connections(&seen), 1);
}

#[test]
fn a_connection_closed_while_idle_is_not_used_again() {
    let (tell, closed) = mpsc::channel();
    let tell = Mutex::new(tell);
    let address = server(move |_, mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(OK);
        // Closed is then closed for both: the call returns when the client's end has heard of it.
        socket2::SockRef::from(&stream)
            .set_linger(Some(AMPLE))
            .unwrap();
        drop(stream);
        tell.lock().unwrap().send(()).unwrap();
    });
    let transport = transport();
    for _ in 0..10 {
        assert_eq!(post(&transport, &url(address), b"{}").unwrap().body, b"ok");
        closed.recv().unwrap();
    }
}

#[test]
fn what_comes_behind_an_answer_is_not_the_next_one() {
    // In one write with it, when it ends where a read does and when it does not; and later.
    for (length, pause) in [
        (4095, None),
        (4096, None),
        (4097, None),
        (100, Some(Duration::from_millis(30))),
    ] {
        let (tell, sent) = mpsc::channel();
        let tell = Mutex::new(tell);
        let address = server(move |number, mut stream| {
            while read_request(&mut stream).is_some() {
                if number > 0 {
                    let _ = stream.write_all(OK);
                    continue;
                }
                let mut answer = answer_of(length);
                if let Some(pause) = pause {
                    let _ = stream.write_all(&answer);
                    answer.clear();
                    thread::sleep(pause);
                }
                answer.extend(answer_of(50));
                let _ = stream.write_all(&answer);
                tell.lock().unwrap().send(()).unwrap();
            }
        });
        let transport = transport();
        let first = post(&transport, &url(address), b"{}").unwrap();
        assert!(first.body.ends_with(b"x"));
        sent.recv().unwrap();
        thread::sleep(Duration::from_millis(50));
        for _ in 0..2 {
            let next = post(&transport, &url(address), b"{}").unwrap();
            assert_eq!(next.body, b"ok", "behind {length} bytes, after {pause:?}");
        }
    }
}

#[test]
fn more_than_an_answer_closes_the_connection_though_nobody_asks_again() {
    let (tell, closed) = mpsc::channel();
    let tell = Mutex::new(tell);
    let address = server(move |_, mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(&[OK, OK].concat());
        hold(stream);
        tell.lock().unwrap().send(()).unwrap();
    });
    let transport = transport();
    post(&transport, &url(address), b"{}").unwrap();
    assert!(closed.recv_timeout(AMPLE).is_ok());
}

#[test]
fn a_request_arrives_byte_for_byte() {
    let (tell, seen) = mpsc::channel();
    let tell = Mutex::new(tell);
    let address = server(move |_, mut stream| {
        let (head, body) = read_request(&mut stream).unwrap();
        let request = [head.into_bytes(), body].concat();
        tell.lock().unwrap().send(request).unwrap();
        let _ = stream.write_all(OK);
        hold(stream);
    });
    let transport = transport();
    let (url, cancel) = (url(address), Cancel::new());
    let mut call = HttpRequest::new("POST", &url, Instant::now() + AMPLE, &cancel);
    call.headers = &[
        ("authorization", "Bearer k"),
        ("content-type", "application/json"),
    ];
    call.body = b"{ \"n\":1e400,\"a\":1,\"a\":2 }";
    transport.send(&call).unwrap();
    let expected = format!(
        "POST /v1/x HTTP/1.1\r\nhost: {address}\r\ncontent-length: 25\r\n\
         user-agent: tollgate/{}\r\naccept: */*\r\naccept-encoding: identity\r\nauthorization: Bearer k\r\n\
         content-type: application/json\r\n\r\n{{ \"n\":1e400,\"a\":1,\"a\":2 }}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(String::from_utf8(seen.recv().unwrap()).unwrap(), expected);
}

#[test]
fn a_header_may_be_longer_than_a_buffer() {
    let address = server(|_, mut stream| {
        let (head, _) = read_request(&mut stream).unwrap();
        let long = head.lines().find_map(|line| line.strip_prefix("x-long: "));
        let body = long.unwrap().len().to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = stream.write_all((answer + &body).as_bytes());
        hold(stream);
    });
    let (url, cancel) = (url(address), Cancel::new());
    let long = "y".repeat(40_000);
    let headers = [("x-long", &long[..]), ("x-short", "z")];
    let mut call = HttpRequest::new("POST", &url, Instant::now() + AMPLE, &cancel);
    (call.headers, call.body) = (&headers, b"{}");
    assert_eq!(transport().send(&call).unwrap().body, b"40000");
}

#[test]
fn large_bodies_pass_both_ways() {
    let address = server(|_, mut stream| {
        while let Some((_, body)) = read_request(&mut stream) {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    let transport = transport();
    for size in [0, 1, 16_000, 16_384, 40_000, 3_000_000] {
        let body: Vec<u8> = (0..=250).cycle().take(size).collect();
        let answer = post(&transport, &url(address), &body).unwrap();
        assert!(answer.body == body, "{size}");
    }
}

#[test]
fn a_fresh_connection_closed_without_an_answer_is_sent() {
    let address = answering("");
    let error = post(&transport(), &url(address), b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Broken, TransportStage::Sent)
    );
}

#[test]
fn connection_close_and_http_1_0_are_understood() {
    for head in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\nok",
    ] {
        let address = answering(head);
        let transport = transport();
        for _ in 0..3 {
            assert_eq!(
                post(&transport, &url(address), b"{}").unwrap().body,
                b"ok",
                "{head}"
            );
        }
    }
}
