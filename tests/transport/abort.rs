//! An abort ends what it is meant for, at once, and nothing else.

use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Instant;

use tollgate::{Cancel, HttpRequest, Transport, TransportErrorKind, TransportStage};

use crate::server::*;

#[test]
fn an_abort_ends_a_blocked_exchange_and_no_other() {
    let (tell, arrived) = mpsc::channel();
    let tell = Mutex::new(tell);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let address = server(move |_, mut stream| {
        let Some((head, _)) = read_request(&mut stream) else {
            return;
        };
        tell.lock().unwrap().send(()).unwrap();
        if head.contains("/other") {
            let _ = released.lock().unwrap().recv();
            stream.write_all(OK).unwrap();
        }
        hold(stream);
    });
    let transport = transport();
    let (mine, yours) = (Cancel::new(), Cancel::new());
    let send = |path: &str, cancel: &Cancel| {
        let url = format!("http://{address}/{path}");
        transport.send(&HttpRequest::new(
            "GET",
            &url,
            Instant::now() + AMPLE,
            cancel,
        ))
    };
    thread::scope(|scope| {
        let blocked: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| send("mine", &mine)))
            .collect();
        let other = scope.spawn(|| send("other", &yours));
        for _ in 0..5 {
            arrived.recv().unwrap();
        }
        let started = Instant::now();
        mine.abort();
        for exchange in blocked {
            let error = exchange.join().unwrap().unwrap_err();
            assert_eq!(
                (error.kind, error.stage),
                (TransportErrorKind::Aborted, TransportStage::Sent)
            );
        }
        assert!(started.elapsed() < AMPLE / 2);
        release.send(()).unwrap();
        assert_eq!(other.join().unwrap().unwrap().body, b"ok");
    });
    let error = send("mine", &mine).unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Aborted, TransportStage::NothingSent)
    );
}

#[test]
fn an_abort_does_not_make_half_a_body_whole() {
    let (tell, arrived) = mpsc::channel();
    let tell = Mutex::new(tell);
    let address = server(move |_, mut stream| {
        read_request(&mut stream);
        // No length: the end of the connection is the end of the body.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").unwrap();
        tell.lock().unwrap().send(()).unwrap();
        hold(stream);
    });
    let (transport, cancel) = (transport(), Cancel::new());
    let url = url(address);
    thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            transport.send(&HttpRequest::new(
                "GET",
                &url,
                Instant::now() + AMPLE,
                &cancel,
            ))
        });
        arrived.recv().unwrap();
        cancel.abort();
        assert_eq!(
            blocked.join().unwrap().unwrap_err().kind,
            TransportErrorKind::Aborted
        );
    });
}

#[test]
fn an_abort_spares_the_idle_connections_it_used() {
    let (tell, seen) = mpsc::channel();
    let address = server(keep_alive(tell));
    let (transport, url) = (transport(), url(address));
    let first = Cancel::new();
    transport
        .send(&HttpRequest::new(
            "GET",
            &url,
            Instant::now() + AMPLE,
            &first,
        ))
        .unwrap();
    first.abort();
    post(&transport, &url, b"{}").unwrap();
    assert_eq!(connections(&seen), 1);
}
