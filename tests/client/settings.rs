//! What a client's settings come to, and which of them do not go together.

use std::sync::{Arc, Mutex};

use tollgate::{
    Client, ClientBuilder, Clock, ErrorKind, HttpResponse, Limiter, LimiterBuilder,
    MemoryTransport, Provider, ProxyPolicy, Rate, Request, Retry,
};

/// The headers of one POST by a client with these settings.
fn headers(settings: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Vec<(String, String)> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let transport = {
        let sent = Arc::clone(&sent);
        MemoryTransport::new(move |call| {
            let own =
                |(name, value): &(&str, &str)| (name.to_ascii_lowercase(), (*value).to_owned());
            *sent.lock().unwrap() = call.headers.iter().map(own).collect();
            Ok(HttpResponse {
                body: b"{}".to_vec(),
                ..HttpResponse::default()
            })
        })
    };
    let builder = Client::builder().base_url("http://127.0.0.1/v1");
    let client = settings(builder)
        .transport(transport)
        .retry(Retry::never())
        .build()
        .unwrap();
    client.send(Request::post("/v1/x", "{}")).unwrap();
    let mut sent = std::mem::take(&mut *sent.lock().unwrap());
    sent.sort();
    sent
}

fn own(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    headers.iter().map(pair).collect()
}

#[test]
fn a_providers_header_is_sent_once_however_often_it_is_named() {
    let sent = headers(|builder| {
        builder
            .provider(Provider::Anthropic)
            .from_env(Provider::Anthropic)
            .api_key("a-key")
    });
    let expected = own(&[
        ("accept", "application/json"),
        ("anthropic-version", "2023-06-01"),
        ("content-type", "application/json"),
        ("x-api-key", "a-key"),
    ]);
    assert_eq!(sent, expected);
}

#[test]
fn a_header_that_is_set_replaces_the_one_of_that_name() {
    let sent = headers(|builder| {
        builder
            .header("Content-Type", "application/x-ndjson")
            .header("ACCEPT", "text/plain")
            .header("x-team", "one")
            .header("X-Team", "two")
            .header("anthropic-version", "2099-01-01")
            .provider(Provider::Anthropic)
            .no_auth()
    });
    let expected = own(&[
        ("accept", "text/plain"),
        ("anthropic-version", "2099-01-01"),
        ("content-type", "application/x-ndjson"),
        ("x-team", "two"),
    ]);
    assert_eq!(sent, expected);
}

#[test]
fn settings_that_cancel_each_other_are_refused_by_name() {
    let limiter = || Limiter::builder().concurrency(2).build().unwrap();
    let memory = || MemoryTransport::new(|_| Ok(HttpResponse::default()));
    let plain = || Client::builder().base_url("http://127.0.0.1");
    let open = || plain().no_auth();
    let cases: [(ClientBuilder, [&str; 2]); 16] = [
        (
            open().limiter(limiter()).concurrency(2),
            ["limiter", "concurrency"],
        ),
        (
            open().concurrency(2).limiter(limiter()),
            ["limiter", "concurrency"],
        ),
        (
            open().limiter(limiter()).requests_per_second(2),
            ["limiter", "requests_per_second"],
        ),
        (
            open().limiter(limiter()).requests_per_minute(2),
            ["limiter", "requests_per_minute"],
        ),
        (
            open().limiter(limiter()).request_rate(Rate::per_day(9)),
            ["limiter", "request_rate"],
        ),
        (
            open().limiter(limiter()).tokens_per_minute(2),
            ["limiter", "tokens_per_minute"],
        ),
        (open().limiter(limiter()).burst(2), ["limiter", "burst"]),
        (
            open().limiter(limiter()).clock(Clock::system()),
            ["limiter", "clock"],
        ),
        (
            open().transport(memory()).ca_file("ca.pem"),
            ["transport", "ca_file"],
        ),
        (
            open().transport(memory()).client_cert("cert.pem"),
            ["transport", "client_cert"],
        ),
        (
            open().transport(memory()).client_key("key.pem"),
            ["transport", "client_key"],
        ),
        (
            open().transport(memory()).proxy(ProxyPolicy::None),
            ["transport", "proxy"],
        ),
        (
            open()
                .transport(memory())
                .connect_timeout(std::time::Duration::from_secs(1)),
            ["transport", "connect_timeout"],
        ),
        (open().api_key("a-key"), ["api_key", "no_auth"]),
        (
            plain().api_key("a-key").header("Authorization", "x"),
            ["api_key", "Authorization"],
        ),
        (
            open().requests_per_second(2).requests_per_minute(9),
            ["requests_per_second", "requests_per_minute"],
        ),
    ];
    for (builder, names) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{names:?}");
        for name in names {
            assert!(error.to_string().contains(name), "{names:?}: {error}");
        }
    }
}

#[test]
fn a_setting_that_cannot_be_used_is_named() {
    let open = || Client::builder().base_url("http://127.0.0.1").no_auth();
    let base_url = |url: &str| Client::builder().no_auth().base_url(url);
    let proxy = ProxyPolicy::Url("ftp://h".to_owned());
    let unlimited = Limiter::builder().build().unwrap();
    let cases: [(ClientBuilder, &[&str]); 19] = [
        (base_url("no-scheme"), &["base_url"]),
        (base_url("https://user@h"), &["base_url"]),
        (base_url("http://h"), &["allow_insecure_http"]),
        (Client::builder().provider(Provider::Azure), &["base_url"]),
        (Client::builder(), &["api_key", "no_auth"]),
        (Client::builder().api_key(" "), &["api_key"]),
        (open().header("a b", "c"), &["header"]),
        (open().concurrency(0), &["concurrency"]),
        (open().concurrency(20_000), &["concurrency"]),
        (open().limiter(unlimited), &["concurrency"]),
        (open().requests_per_second(0), &["requests_per_second"]),
        (open().requests_per_minute(0), &["requests_per_minute"]),
        (open().request_rate(Rate::per_day(0)), &["request_rate"]),
        (open().burst(3), &["request_rate", "burst"]),
        (open().requests_per_second(9).burst(0), &["burst"]),
        (open().tokens_per_minute(0), &["tokens_per_minute"]),
        (
            open().retry(Retry::new().max_attempts(0)),
            &["max_attempts"],
        ),
        (
            open().retry(Retry::new().stop_alike(Some(0))),
            &["stop_alike"],
        ),
        (
            base_url("http://h").allow_insecure_http().proxy(proxy),
            &["proxy"],
        ),
    ];
    for (builder, names) in cases {
        let error = builder.build().unwrap_err();
        let said = (error.kind(), error.settings());
        assert_eq!(said, (ErrorKind::Config, names), "{error}");
    }

    let limiter = Limiter::builder;
    let rate = Rate::per_second(9);
    let cases: [(LimiterBuilder, &[&str]); 6] = [
        (limiter().requests(Rate::per_day(0)), &["requests"]),
        (limiter().burst(3), &["requests", "burst"]),
        (limiter().requests(rate).burst(0), &["burst"]),
        (limiter().tokens(Rate::per_day(0)), &["tokens"]),
        (limiter().token_burst(3), &["tokens", "token_burst"]),
        (limiter().tokens(rate).token_burst(0), &["token_burst"]),
    ];
    for (builder, names) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!(error.settings(), names, "{error}");
    }
}

#[test]
#[cfg(feature = "rustls")]
fn a_file_that_cannot_be_used_is_named_with_its_setting() {
    let open = || Client::builder().no_auth();
    let (none, text) = ("/no/such/file", "Cargo.toml");
    for (builder, name) in [
        (open().ca_file(none), "ca_file"),
        (open().ca_file(text), "ca_file"),
        (open().client_cert(none), "client_cert"),
        (open().client_cert(text), "client_cert"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.settings(), [name], "{error}");
    }
}

#[test]
#[cfg(feature = "rustls")]
fn a_client_key_needs_its_certificate() {
    let builder = Client::builder().no_auth().client_key("key.pem");
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.settings(), ["client_cert"]);
}

#[test]
fn a_header_may_carry_what_no_key_does() {
    let sent = headers(|builder| builder.no_auth().header("Authorization", "Basic x"));
    assert!(sent.contains(&("authorization".to_owned(), "Basic x".to_owned())));
}
