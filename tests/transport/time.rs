//! Deadlines and the other limits of time: never early, and never without end.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tollgate::{HttpTransport, TransportErrorKind, TransportStage};

use crate::server::*;

#[test]
fn a_silent_server_is_left_at_the_deadline_and_not_before() {
    let address = server(|_, stream| hold(stream));
    for millis in [1, 30, 300] {
        let time = Duration::from_millis(millis);
        let started = Instant::now();
        let error = post_within(&transport(), &url(address), b"{}", time).unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::Timeout, "{error:?}");
        assert!(started.elapsed() >= time);
        assert!(started.elapsed() < AMPLE / 2);
    }
}

#[test]
fn a_dripping_server_is_left_at_the_deadline() {
    for start in ["", "HTTP/1.1 200 OK\r\n\r\n"] {
        let address = server(move |_, mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(start.as_bytes());
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
            while stream.write_all(b"y").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        });
        let (started, time) = (Instant::now(), Duration::from_millis(300));
        let error = post_within(&transport(), &url(address), b"{}", time).unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Timeout, TransportStage::Answering)
        );
        assert!(started.elapsed() >= time && started.elapsed() < AMPLE / 2);
    }
}

#[test]
fn a_refusal_does_not_wait_for_its_words_until_the_deadline() {
    let address = server(|_, mut stream| {
        read_request(&mut stream);
        let head = "HTTP/1.1 429 No\r\nretry-after: 1\r\ncontent-length: 99\r\n\r\n";
        let _ = stream.write_all(format!("{head}part").as_bytes());
        hold(stream);
    });
    let started = Instant::now();
    let answer = post(&transport(), &url(address), b"{}").unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (429, &b"part"[..])
    );
    assert!(started.elapsed() < AMPLE / 2);
}

#[test]
fn an_upload_nobody_reads_is_left_at_the_deadline() {
    let address = server(|_, stream| {
        thread::sleep(AMPLE);
        drop(stream);
    });
    let (started, time) = (Instant::now(), Duration::from_millis(300));
    let body = vec![b'x'; 32 << 20];
    let error = post_within(&transport(), &url(address), &body, time).unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Timeout, TransportStage::Sent)
    );
    assert!(started.elapsed() >= time && started.elapsed() < AMPLE / 2);
}

#[test]
fn the_connect_time_out_does_not_leak_into_the_wait_for_the_answer() {
    let address = server(|_, mut stream| {
        read_request(&mut stream);
        thread::sleep(Duration::from_millis(400));
        let _ = stream.write_all(OK);
    });
    let config = direct().connect_timeout(Duration::from_millis(200));
    let transport = HttpTransport::new(config).unwrap();
    assert_eq!(post(&transport, &url(address), b"{}").unwrap().body, b"ok");
}

#[test]
fn a_deadline_that_has_passed_sends_nothing() {
    let (tell, seen) = mpsc::channel();
    let address = server(keep_alive(tell));
    let error = post_within(&transport(), &url(address), b"{}", Duration::ZERO).unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Timeout, TransportStage::NothingSent)
    );
    assert_eq!(connections(&seen), 0);
}
