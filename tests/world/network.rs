//! Proxies, keys and base URLs, as people set them.

use std::io::{Read, Write};

use crate::support::faultd::Faultd;
use crate::support::listener::Listener;
use crate::support::reply::Reply;
use crate::tool::{Folder, Tool};

/// A good answer, after which the connection ends.
pub(crate) const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 84\r\nconnection: close\r\n\r\n\
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

pub(crate) fn read_head(stream: &mut impl Read) -> String {
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
    for (variable, list, warned) in [
        ("NO_PROXY", "a.test 10.0.0.0/33", Some("10.0.0.0/33")),
        ("NO_PROXY", "a.test:443", Some("a.test:443")),
        ("no_proxy", "a.test,10.0.*", Some("10.0.*")),
        ("NO_PROXY", "a.test b.test", None),
    ] {
        let folder = Folder::new();
        let ended = elsewhere(&folder, "http://api.invalid/v1")
            .env("HTTP_PROXY", &format!("http://{}", proxy.addr()))
            .env(variable, list)
            .run()
            .code(0);
        match warned {
            Some(entry) => ended.says(&["warning: ", variable, entry]),
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
            if !cfg!(feature = "rustls") && base_url.starts_with("https") {
                continue;
            }
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
        "succeeded  2 of 5",
        "3 not done yet",
    ]);
}

#[test]
#[cfg(feature = "rustls")]
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
