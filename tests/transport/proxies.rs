//! Through whom a request goes, and what can be known of that beforehand.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tollgate::{
    Cancel, HttpConfig, HttpRequest, HttpTransport, ProxyPolicy, Transport, TransportErrorKind,
    TransportStage,
};

use crate::server::*;

#[test]
fn a_proxy_is_asked_to_connect_and_its_refusal_is_told() {
    let (tell, seen) = mpsc::channel();
    let tell = Mutex::new(tell);
    let proxy = server(move |number, mut stream| {
        let (head, _) = read_request(&mut stream).unwrap();
        tell.lock().unwrap().send(head).unwrap();
        if number == 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (head, _) = read_request(&mut stream).unwrap();
            tell.lock().unwrap().send(head).unwrap();
            stream.write_all(OK).unwrap();
        } else {
            let _ = stream.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let policy = ProxyPolicy::Url(format!("http://user:word@{proxy}"));
    let new = || HttpTransport::new(HttpConfig::new().proxy(policy.clone())).unwrap();
    let target = "http://api.invalid:8080/v1";

    assert_eq!(post(&new(), target, b"{}").unwrap().body, b"ok");
    let connect = seen.recv().unwrap();
    assert!(
        connect.starts_with("CONNECT api.invalid:8080 HTTP/1.1\r\n"),
        "{connect}"
    );
    assert!(
        connect.contains("Proxy-Authorization: Basic dXNlcjp3b3Jk\r\n"),
        "{connect}"
    );
    let request = seen.recv().unwrap();
    assert!(
        request.starts_with("POST /v1 HTTP/1.1\r\n") && !request.contains("roxy"),
        "{request}"
    );

    let error = post(&new(), target, b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (
            TransportErrorKind::ProxyRefused(407),
            TransportStage::NothingSent
        ),
        "{error:?}"
    );
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("word") && !shown.contains("/v1"), "{shown}");
    let way = format!("api.invalid:8080 through the proxy http://{proxy} of the proxy setting");
    assert!(shown.contains(&way), "{shown}");
}

/// ureq tells the status in a text: this is what notices when it changes.
#[test]
fn the_status_of_a_proxys_refusal_is_known() {
    for (answer, kind) in [
        (
            "HTTP/1.1 401 No\r\n\r\n",
            TransportErrorKind::ProxyRefused(401),
        ),
        (
            "HTTP/1.0 403\r\n\r\n",
            TransportErrorKind::ProxyRefused(403),
        ),
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n<p>",
            TransportErrorKind::ProxyRefused(407),
        ),
        (
            "HTTP/1.1 502 x\r\n\r\n",
            TransportErrorKind::ProxyRefused(502),
        ),
        (
            "HTTP/1.1 302 x\r\n\r\n",
            TransportErrorKind::ProxyRefused(302),
        ),
        ("", TransportErrorKind::Proxy),
        ("HTTP/1.1 4", TransportErrorKind::Proxy),
    ] {
        let proxy = answering(answer);
        let policy = ProxyPolicy::Url(format!("http://{proxy}"));
        let transport = HttpTransport::new(HttpConfig::new().proxy(policy)).unwrap();
        let error = post(&transport, "http://api.invalid/", b"{}").unwrap_err();
        let stage = TransportStage::NothingSent;
        assert_eq!(
            (error.kind, error.stage),
            (kind, stage),
            "{answer:?}: {error:?}"
        );
    }
}

/// It would pass for the server's answer to a request that the server has not seen.
#[test]
fn what_comes_through_a_tunnel_unasked_is_never_an_answer() {
    let (tell, seen) = mpsc::channel();
    let tell = Mutex::new(tell);
    let proxy = server(move |_, mut stream| {
        read_request(&mut stream).unwrap();
        // In one piece, so that all of it is there when the tunnel is.
        let forged = [b"HTTP/1.1 200 OK\r\n\r\n", OK].concat();
        stream.write_all(&forged).unwrap();
        let request = read_request(&mut stream);
        tell.lock().unwrap().send(request.is_some()).unwrap();
    });
    let policy = ProxyPolicy::Url(format!("http://{proxy}"));
    let transport = HttpTransport::new(HttpConfig::new().proxy(policy)).unwrap();
    let error = post(&transport, "http://api.invalid/", b"{}").unwrap_err();
    let expected = (TransportErrorKind::Proxy, TransportStage::NothingSent);
    assert_eq!((error.kind, error.stage), expected, "{error:?}");
    let words = "sent more than its answer to CONNECT";
    assert!(error.to_string().contains(words), "{error}");
    assert!(!seen.recv().unwrap(), "a request was sent");
}

#[test]
fn a_password_is_tried_once_by_many_at_once() {
    const THREADS: usize = 20;
    let (tell, seen) = mpsc::channel();
    let tell = Mutex::new(tell);
    let is_right = Arc::new(AtomicBool::new(false));
    let accepts = Arc::clone(&is_right);
    let proxy = server(move |_, mut stream| {
        read_request(&mut stream);
        tell.lock().unwrap().send(()).unwrap();
        let is_right = accepts.load(Ordering::Relaxed);
        let status = if is_right { "200 OK" } else { "407 No" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\n\r\n");
        while read_request(&mut stream).is_some() {
            let _ = stream.write_all(OK);
        }
    });
    let policy = ProxyPolicy::Url(format!("http://user:word@{proxy}"));
    let transport = HttpTransport::new(HttpConfig::new().proxy(policy)).unwrap();
    let together = Barrier::new(THREADS);
    let all = || {
        thread::scope(|scope| {
            let ask = || {
                together.wait();
                post(&transport, "http://api.invalid/", b"{}")
            };
            let asked: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
            let kinds = asked.into_iter().map(|asked| asked.join().unwrap());
            kinds
                .map(|asked| asked.map_err(|error| error.kind))
                .collect::<Vec<_>>()
        })
    };
    for asked in all() {
        assert_eq!(asked.unwrap_err(), TransportErrorKind::ProxyRefused(407));
    }
    assert_eq!(seen.try_iter().count(), 1);
    // A client that lives on finds out when the password counts again.
    is_right.store(true, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(1100));
    for asked in all() {
        assert!(asked.is_ok(), "{asked:?}");
    }
    assert!(seen.try_iter().count() > 1);
}

#[test]
fn an_abort_ends_a_wait_for_the_login_of_another() {
    let (tell, seen) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let (tell, held) = (Mutex::new(tell), Mutex::new(held));
    let proxy = server(move |_, mut stream| {
        read_request(&mut stream);
        tell.lock().unwrap().send(()).unwrap();
        // Ends when the test drops its side.
        let _ = held.lock().unwrap().recv();
    });
    let policy = ProxyPolicy::Url(format!("http://user:word@{proxy}"));
    let config = HttpConfig::new().proxy(policy).connect_timeout(AMPLE);
    let transport = HttpTransport::new(config).unwrap();
    let cancel = Cancel::new();
    thread::scope(|scope| {
        let first = scope.spawn(|| post(&transport, "http://api.invalid/", b"{}"));
        seen.recv().unwrap();
        let second = scope.spawn(|| {
            let (url, by) = ("http://api.invalid/", Instant::now() + AMPLE);
            transport.send(&HttpRequest::new("GET", url, by, &cancel))
        });
        thread::sleep(Duration::from_millis(50));
        let started = Instant::now();
        cancel.abort();
        let error = second.join().unwrap().unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::Aborted);
        assert!(started.elapsed() < AMPLE / 2);
        assert!(!first.is_finished(), "its login is its own");
        drop(release);
        assert_eq!(
            first.join().unwrap().unwrap_err().kind,
            TransportErrorKind::Proxy
        );
    });
    assert_eq!(seen.try_iter().count(), 0, "one login");
}

#[test]
fn a_proxy_that_is_not_there_or_speaks_no_tls_is_blamed_itself() {
    let plain = server(|_, mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        hold(stream);
    });
    let through = |proxy: String| {
        let policy = ProxyPolicy::Url(proxy);
        let transport = HttpTransport::new(HttpConfig::new().proxy(policy)).unwrap();
        post(&transport, "http://api.invalid/", b"{}").unwrap_err()
    };
    let error = through("http://user:word@127.0.0.1:1".to_owned());
    assert_eq!(error.kind, TransportErrorKind::Proxy, "{error:?}");
    assert!(error.message.contains("http://127.0.0.1:1 of"), "{error}");
    // No name is that long, so nobody is asked for its address.
    let nowhere = "x".repeat(64);
    let error = through(format!("http://user:word@{nowhere}"));
    assert_eq!(error.kind, TransportErrorKind::Proxy, "{error:?}");
    assert!(
        error.message.contains(&format!("http://{nowhere} of")),
        "{error}"
    );
    if cfg!(feature = "rustls") {
        let error = through(format!("https://user:word@{plain}"));
        assert_eq!(error.kind, TransportErrorKind::ProxyTls, "{error:?}");
        assert!(error.message.contains("(api.invalid:80 through"), "{error}");
        assert!(
            error.message.contains(&format!("https://{plain} of")),
            "{error}"
        );
    }
}

#[test]
fn what_a_proxy_says_behind_its_answer_is_not_the_servers() {
    let through = |answer: String| {
        let proxy = server(move |_, mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
            while read_request(&mut stream).is_some() {
                let _ = stream.write_all(OK);
            }
        });
        let policy = ProxyPolicy::Url(format!("http://{proxy}"));
        let transport = HttpTransport::new(HttpConfig::new().proxy(policy)).unwrap();
        post(&transport, "http://api.invalid/", b"{}")
    };
    let stolen = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nSTOLEN";
    for (answer, why) in [
        (
            format!("HTTP/1.1 200 OK\r\n\r\n{stolen}"),
            "more than its answer",
        ),
        (stolen.to_owned(), "more than its answer"),
        ("SSH-2.0-x\r\n\r\n".to_owned(), "not HTTP/1.1"),
        ("HTTP/1.1 099 X\r\n\r\n".to_owned(), "not HTTP/1.1"),
    ] {
        let error = through(answer).unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Proxy, TransportStage::NothingSent)
        );
        assert!(error.message.contains(why), "{error}");
    }
}

#[test]
fn an_unusable_proxy_is_found_by_check_url_where_it_would_be_used() {
    for bad in ["socks5://127.0.0.1:1", "nonsense://p", "http://"] {
        let config = HttpConfig::new().proxy(ProxyPolicy::Url(bad.into()));
        let transport = HttpTransport::new(config).unwrap();
        assert!(transport.check_url("http://example.com/").is_err(), "{bad}");
        assert!(transport.check_url("http://127.0.0.1/").is_ok());
        let error = post(&transport, "http://example.com/", b"").unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Proxy, TransportStage::NothingSent)
        );
    }
}

#[test]
fn urls_are_checked_before_anything_is_sent() {
    let transport = transport();
    for good in ["http://h", "http://h:1/v1", "http://[::1]:8080/v1"] {
        assert!(transport.check_url(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "h",
        "/v1",
        "h/v1",
        "file:///etc",
        "http://",
        "http://h:99999/",
        "http://a b/",
    ] {
        assert!(transport.check_url(bad).is_err(), "{bad}");
    }
    assert_eq!(
        transport.check_url("https://h").is_ok(),
        cfg!(feature = "rustls")
    );
}
