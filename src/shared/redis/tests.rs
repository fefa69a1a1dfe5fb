//! Against servers of Redis and Valkey that the tests start.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::shared::ledger::Ledger;
use crate::shared::{Micros, Want};

#[path = "../../../tests/support/redis_server.rs"]
mod server;

use server::{Server, free_port, programs};

/// 1,000 requests a second, a burst of 1,000.
const LIMIT: Limit = Limit {
    units: 1000,
    period: 1_000_000,
    burst: 1000,
};

/// A holder that asks for `most` requests.
fn ask(holder: u64, most: u64) -> Ask {
    Ask {
        holder,
        configured: [Some(LIMIT), None],
        wants: [Want { least: 1, most }, Want::default()],
        lease: 100_000,
        ..Ask::default()
    }
}

fn open(url: &str) -> Result<RedisStore> {
    Ok(RedisStore::new(&RedisUrl::parse(url)?))
}

fn store(server: &Server) -> RedisStore {
    open(&server.url("limit")).unwrap()
}

/// The error of an exchange with a server, which says all of `words`.
fn refusal(url: &str, kind: ErrorKind, words: &[&str]) {
    let error = open(url).unwrap().exchange(&ask(1, 10)).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_url_says_where() {
    for (url, place, key) in [
        ("redis://host/3?key=one", "host:6379", "one"),
        ("redis://host?key=one", "host:6379", "one"),
        (
            "rediss://u:p%40ss@[::1]:7000/0?key=a%20b",
            "[::1]:7000",
            "a b",
        ),
    ] {
        let store = open(url).unwrap();
        assert_eq!((&*store.url.place, &*store.url.key), (place, key));
    }
    let store = open("redis://user:p%40ss%2Fword@host/3?key=one").unwrap();
    let settings = store.url.client.get_connection_info().redis_settings();
    assert_eq!(settings.password(), Some("p@ss/word"));
    assert_eq!((settings.username(), settings.db()), (Some("user"), 3));
    assert_eq!(store.url.to_string(), "redis://host:6379/3?key=one");
    let shown = format!("{store:?}");
    assert!(!shown.contains("ss") && !shown.contains("user"), "{shown}");
}

#[test]
fn a_url_that_cannot_be_used_is_not_repeated() {
    for (url, expected) in [
        ("redis://:se/cret@host/0?key=x", "cannot be read"),
        ("redis://:12/cret@host/0?key=x", "cannot be read"),
        ("redis://u:12?cret@host/0?key=x", "must name a key"),
        ("redis://u:12#cret@host/0?key=x", "has a # in it"),
        ("redis://secret@host/0?key=x", "a user without a password"),
        (
            "redis://:secret@host/cret?key=x",
            "a database that is no number",
        ),
        ("redis://:secret@host/0", "must name a key"),
        ("redis://:secret@host/0?key=", "must name a key"),
        ("redis://:secret@host/0?key=x&protocol=3", "must name a key"),
        ("redis://:secret@0.0.0.0/0?key=x", "0.0.0.0"),
        ("redis:///0?key=x", "names no host"),
        ("redis:secret?key=x", "names no host"),
        ("http://:secret@host/0?key=x", "cannot be read"),
        ("unix:///secret?key=x", "cannot be read"),
    ] {
        let error = open(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains(expected), "{url}: {text}");
        assert!(!text.contains("cret") && !text.contains("12"), "{text}");
    }
}

#[test]
fn leases_of_eight_threads_never_overlap() {
    for program in programs() {
        let server = Server::start(program, &[]);
        let credit = std::thread::scope(|scope| {
            let holder = |holder| {
                let mut store = store(&server);
                move || {
                    let mut credit = Vec::new();
                    for _ in 0..50 {
                        credit.extend(store.exchange(&ask(holder, 20)).unwrap().credit[0].clone());
                    }
                    credit
                }
            };
            let threads: Vec<_> = (1..=8).map(|id| scope.spawn(holder(id))).collect();
            let joined = threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap());
            joined.collect::<Vec<Span>>()
        });
        assert_disjoint(credit, 400);
    }
}

fn assert_disjoint(mut credit: Vec<Span>, least: usize) {
    assert!(credit.len() >= least);
    credit.sort_by_key(|span| span.from);
    for pair in credit.windows(2) {
        assert!(pair[0].to <= pair[1].from, "{pair:?}");
    }
}

#[test]
fn a_server_that_lost_all_begins_empty() {
    for program in programs() {
        let mut server = Server::start(program, &[]);
        let mut store = store(&server);
        let before = store.exchange(&ask(1, 10)).unwrap();
        server.kill();
        let error = store.exchange(&ask(1, 10)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        let error = store.exchange(&ask(1, 10)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        server.restart();
        let void = Ask {
            incarnation: before.incarnation,
            back: before.credit.clone(),
            ..ask(1, 10)
        };
        let after = store.exchange(&void).unwrap();
        assert_ne!(after.incarnation, before.incarnation);
        // The burst has to be saved up again.
        assert_eq!(after.credit[0][0].from, after.now);
    }
}

#[test]
fn a_server_that_comes_back_with_what_it_once_knew_begins_empty_too() {
    for program in programs() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start(program, &["--dir", folder.path().to_str().unwrap()]);
        let mut store = store(&server);
        let paused = Ask {
            pause: 60_000_000,
            ..ask(1, 10)
        };
        let before = store.exchange(&paused).unwrap();
        assert_eq!(server.say("SAVE"), "+OK\r\n");
        server.restart();
        assert_eq!(server.say("EXISTS limit"), ":1\r\n");
        store.exchange(&ask(1, 10)).unwrap_err();
        let after = store.exchange(&ask(1, 10)).unwrap();
        assert_ne!(after.incarnation, before.incarnation);
        // But it still knows that nobody may send.
        assert_eq!(after.paused_until, before.paused_until);
        assert_eq!(after.holders, 1);
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up_and_found_again() {
    for program in programs() {
        let server = Server::start(program, &[]);
        let mut store = store(&server);
        let before = store.exchange(&ask(1, 10)).unwrap();
        server.freeze();
        // The signal that a child has stopped may interrupt a read.
        let (asked, error) =
            std::iter::repeat_with(|| (Instant::now(), store.exchange(&ask(1, 10))))
                .map(|(asked, reply)| (asked, reply.unwrap_err()))
                .find(|(_, error)| !error.to_string().contains("Interrupted"))
                .unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(asked.elapsed() >= TIME_LIMIT);
        server.thaw();
        // The call that nobody waited for was made all the same, and its lease is nobody's.
        let after = store.exchange(&ask(1, 10)).unwrap();
        assert_eq!(after.incarnation, before.incarnation);
        assert_disjoint(
            [&before, &after].map(|reply| reply.credit[0][0]).to_vec(),
            2,
        );
    }
}

#[test]
fn a_script_that_was_flushed_is_sent_again() {
    for program in programs() {
        let server = Server::start(program, &[]);
        let mut store = store(&server);
        let before = store.exchange(&ask(1, 10)).unwrap();
        assert_eq!(server.say("SCRIPT FLUSH"), "+OK\r\n");
        let after = store.exchange(&ask(1, 10)).unwrap();
        assert_eq!(after.incarnation, before.incarnation);
    }
}

#[test]
fn a_shared_limit_is_one_key_that_expires() {
    for program in programs() {
        let server = Server::start(program, &[]);
        store(&server).exchange(&ask(u64::MAX, 10)).unwrap();
        assert_eq!(server.say("DBSIZE"), ":1\r\n");
        let left: u64 = server.say("TTL limit")[1..].trim().parse().unwrap();
        assert!((80_000..=86_400).contains(&left), "{left}");
        let mut other = open(&server.url("other")).unwrap();
        assert_eq!(other.exchange(&ask(2, 10)).unwrap().holders, 1);
        assert_eq!(store(&server).exchange(&ask(3, 10)).unwrap().holders, 2);
    }
}

#[test]
fn a_user_that_may_not_ask_for_the_server_shares_with_one_that_may() {
    for program in programs() {
        let server = Server::start(program, &[]);
        let bare = "+evalsha +script|load +time +get +set +select +auth";
        assert_eq!(server.say("ACL SETUSER full on >one ~* +@all"), "+OK\r\n");
        let user = format!("ACL SETUSER bare on >two ~* {bare}");
        assert_eq!(server.say(&user), "+OK\r\n");
        for users in [["full:one", "bare:two"], ["bare:two", "full:one"]] {
            server.say("DEL limit");
            let mut stores = users.map(|user| {
                let url = server.url("limit").replace("//", &format!("//{user}@"));
                open(&url).unwrap()
            });
            let mut replies = Vec::new();
            for holder in [0, 1, 0, 1] {
                replies.push(
                    stores[holder]
                        .exchange(&ask(holder as u64 + 1, 10))
                        .unwrap(),
                );
            }
            let is_one = |reply: &Reply| reply.incarnation == replies[0].incarnation;
            assert!(replies.iter().all(is_one), "{replies:?}");
            assert_eq!(replies[3].holders, 2);
        }
    }
}

#[test]
fn a_server_may_want_a_password() {
    for program in programs() {
        let server = Server::start(program, &[]);
        server.say("CONFIG SET requirepass s3cr/t-word");
        let url = |user: &str| server.url("limit").replace("//", &format!("//{user}@"));
        open(&url(":s3cr%2Ft-word"))
            .unwrap()
            .exchange(&ask(1, 10))
            .unwrap();
        open(&url("default:s3cr%2Ft-word"))
            .unwrap()
            .exchange(&ask(1, 10))
            .unwrap();
        refusal(
            &server.url("limit"),
            ErrorKind::Auth,
            &["uthentica", "into the URL"],
        );
        for wrong in [":wr0ng-word", "nobody:s3cr%2Ft-word"] {
            let error = open(&url(wrong))
                .unwrap()
                .exchange(&ask(1, 10))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
            assert!(
                error.to_string().contains("neither this user nor"),
                "{error}"
            );
            assert!(!format!("{error:?}{error}").contains("-word"), "{error:?}");
        }
    }
}

/// The one connection that the server allows, once it has noticed the end of the one before.
fn only_connection(port: u16) -> TcpStream {
    let connect = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        let mut answer = [0; 7];
        let is_let_in = stream.read_exact(&mut answer).is_ok() && answer == *b"+PONG\r\n";
        is_let_in.then_some(stream)
    };
    std::iter::repeat_with(connect)
        .take(20_000)
        .flatten()
        .next()
        .unwrap()
}

#[test]
fn a_refusal_says_what_can_be_done() {
    use ErrorKind::{Config, Permission, Server as Refused, Unreachable};
    for program in programs() {
        let server = Server::start(program, &["--databases", "2"]);
        let url = server.url("limit");
        refusal(
            &url.replace("/0?", "/7?"),
            Config,
            &["DB index", "the number"],
        );

        server.say("SET limit something");
        refusal(&url, Config, &["something else", "key=NAME"]);
        server.say("DEL limit");
        server.say("RPUSH limit something");
        refusal(&url, Config, &["WRONGTYPE", "key=NAME"]);
        server.say("DEL limit");

        let nobody = free_port().to_string();
        server.say(&format!("REPLICAOF 127.0.0.1 {nobody}"));
        refusal(&url, Refused, &["READONLY", "primary"]);
        server.say("REPLICAOF NO ONE");
        server.say("CONFIG SET maxmemory 1");
        refusal(&url, Refused, &["OOM", "maxmemory"]);
        server.say("CONFIG SET maxmemory 0");
        open(&url).unwrap().exchange(&ask(1, 10)).unwrap();

        server.say("ACL SETUSER able on >password ~limit +evalsha +script|load +time +get +set");
        let able = url.replace("//", "//able:password@");
        open(&able).unwrap().exchange(&ask(1, 10)).unwrap();
        server.say("ACL SETUSER weak on >password ~* +get +set");
        let weak = url.replace("//", "//weak:password@");
        refusal(&weak, Permission, &["NOPERM", "EVALSHA"]);
        refusal(
            &format!("redis://127.0.0.1:{nobody}/0?key=x"),
            Unreachable,
            &["refused"],
        );
        // No name server needs to be asked for a name so long.
        let nowhere = "x".repeat(64);
        refusal(
            &format!("redis://{nowhere}/0?key=x"),
            Unreachable,
            &[&nowhere, "cannot be reached"],
        );

        server.say("CONFIG SET maxclients 1");
        let _one = store(&server).exchange(&ask(1, 10));
        let first = only_connection(server.port);
        refusal(&url, Refused, &["max number of clients", "maxclients"]);
        drop(first);
    }
}

#[test]
fn what_is_no_redis_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    let url = format!("redis://127.0.0.1:{port}/0?key=x");
    refusal(
        &url,
        ErrorKind::Protocol,
        &["as Redis does", "host and port"],
    );
    answer.join().unwrap();
}

/// Certificates are trusted that the system trusts, or those in the file that `SSL_CERT_FILE`
/// names. So this test runs itself again, with that variable, as the process that connects.
#[test]
fn a_connection_may_be_encrypted() {
    const URL: &str = "TOLLGATE_TEST_REDISS_URL";
    if let Ok(url) = std::env::var(URL) {
        println!("OUTCOME {:?}", open(&url).unwrap().exchange(&ask(1, 10)));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(file("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let outcome = |url: &str, trusted: &str| {
        let itself = std::env::current_exe().unwrap();
        let name = "shared::redis::tests::a_connection_may_be_encrypted";
        let mut command = std::process::Command::new(itself);
        command.args(["--exact", name, "--nocapture"]).env(URL, url);
        let output = command.env("SSL_CERT_FILE", trusted).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for program in programs() {
        let server = Server::start(program, &[]);
        server.say(&format!("CONFIG SET tls-cert-file {}", file("cert.pem")));
        server.say(&format!("CONFIG SET tls-key-file {}", file("key.pem")));
        server.say("CONFIG SET tls-auth-clients no");
        let port = free_port();
        let answer = server.say(&format!("CONFIG SET tls-port {port}"));
        if answer != "+OK\r\n" {
            eprintln!("skipped: {program} does not speak TLS here: {answer}");
            continue;
        }
        let url = format!("rediss://localhost:{port}/0?key=limit");
        let whole = outcome(&url, &file("cert.pem"));
        assert!(whole.contains("OUTCOME Ok(Reply"), "{whole}");

        let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(file("other.pem"), stranger.cert.pem()).unwrap();
        let refused = outcome(&url, &file("other.pem"));
        assert!(refused.contains("not trusted"), "{refused}");
        let other_name = outcome(&url.replace("localhost", "127.0.0.1"), &file("cert.pem"));
        assert!(other_name.contains("not trusted"), "{other_name}");
        let no_tls = outcome(
            &url.replace(&port.to_string(), &server.port.to_string()),
            &file("cert.pem"),
        );
        assert!(no_tls.contains("redis://"), "{no_tls}");
        refusal(
            &url.replace("rediss", "redis"),
            ErrorKind::Network,
            &["rediss://"],
        );
    }
}

/// One step of a random history. A holder gives back a part of what it was leased last.
#[derive(Clone, Debug)]
struct Step {
    holder: u64,
    /// By how much the clock has moved on.
    passed: i64,
    /// Or to so long after the end of the last lease.
    after_lease: Option<Micros>,
    configured: [Option<Limit>; 2],
    announced: [Option<Limit>; 2],
    wants: [Want; 2],
    /// From which to which hundredth, and whether every second one of them is kept.
    back: (u64, u64, bool),
    owed_tokens: i64,
    pause: Micros,
    lease: Micros,
    slack: Micros,
    leaves: bool,
    returns: bool,
    is_lost: bool,
}

/// Mostly the same few limits, or none.
fn limit() -> impl Strategy<Value = Option<Limit>> {
    let number = || prop_oneof![1..5_u64, 50..2_000_u64, 1..1_u64 << 40];
    let period = prop_oneof![
        Just(1_000_000),
        Just(60_000_000),
        Just(3_600_000_000),
        Just(86_400_000_000_u64),
        1..1_u64 << 40,
    ];
    let any = (number(), period, number()).prop_map(|(units, period, burst)| Limit {
        units,
        period,
        burst,
    });
    prop_oneof![
        1 => Just(None),
        4 => Just(Some(LIMIT)),
        1 => Just(Some(Limit { units: 60_000, period: 60_000_000, burst: 7 })),
        1 => any.prop_map(Some),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop_oneof![Just(0), 1..3_u64, 1..500_u64, 1..1_u64 << 40];
    let want = move || (amount(), amount()).prop_map(|(least, most)| Want { least, most });
    // Mostly round, so that dates come to be the same.
    let round = || (0..40_u64).prop_map(|number| number * 10_000);
    let time = || prop_oneof![3 => Just(0), 5 => round(), 1 => 0..20_000_000_u64];
    let passed = prop_oneof![
        6 => round().prop_map(u64::cast_signed),
        2 => Just(100_000_i64),
        2 => 0..5_000_000_i64,
        1 => -3_000_000..0_i64,
    ];
    let back = prop_oneof![
        2 => Just((0, 0, false)),
        2 => (0..=100_u64, 0..=100_u64, any::<bool>()),
        1 => Just((0, 100, true)),
    ];
    let owed = prop_oneof![3 => Just(0), 2 => -500..500_i64, 1 => -(1_i64 << 40)..1_i64 << 40];
    let rare = || prop::bool::weighted(0.05);
    // Those dates at which a holder is no longer busy, or no longer alive.
    let dates = prop::sample::select(vec![300_000, 300_001, 3_000_000, 3_000_001]);
    let passed = (passed, prop::option::weighted(0.2, dates));
    // With the second, one request of the usual limit may be used for just so long.
    let slack = prop_oneof![time(), Just(999_000_u64)];
    (
        (1..4_u64, passed, [limit(), limit()], [limit(), limit()]),
        (
            [want(), want()],
            back,
            owed,
            prop_oneof![9 => Just(0), 1 => time(), 1 => Just(100_000_u64)],
        ),
        (time(), slack, rare(), rare(), prop::bool::weighted(0.2)),
    )
        .prop_map(|(who, what, how)| Step {
            holder: u64::MAX - who.0,
            passed: who.1.0,
            after_lease: who.1.1,
            configured: who.2,
            announced: who.3,
            wants: what.0,
            back: what.1,
            owed_tokens: what.2,
            pause: what.3,
            lease: how.0,
            slack: how.1,
            leaves: how.2,
            is_lost: how.3,
            returns: how.4,
        })
}

/// A store whose script takes the time from its last argument.
fn store_with_a_clock(server: &Server) -> RedisStore {
    let source = include_str!("../redis.lua");
    let with_clock = source.replace("redis.call('TIME')", "{0, table.remove(ARGV)}");
    assert_ne!(source, with_clock);
    RedisStore {
        script: Script::new(&with_clock),
        ..store(server)
    }
}

#[test]
fn the_script_does_what_the_ledger_does() {
    use std::collections::HashMap;
    for program in programs() {
        let server = Server::start(program, &[]);
        let history = prop::collection::vec(step(), 1..60);
        let config = ProptestConfig {
            cases: 40,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        proptest!(config, |(history in history, start in 0..1_u64 << 52)| {
            let mut store = store_with_a_clock(&server);
            let mut ledger = Ledger::default();
            let mut now = start;
            let mut end = start;
            let mut held: HashMap<u64, Reply> = HashMap::new();
            store.url.key = format!("history {}", fastrand::u64(..));
            for (number, step) in history.into_iter().enumerate() {
                if step.is_lost {
                    store.url.key.push('+');
                    ledger = Ledger::default();
                }
                now = match step.after_lease {
                    Some(after) => now.max(end + after),
                    None => now.saturating_add_signed(step.passed),
                };
                let last = held.remove(&step.holder).unwrap_or_default();
                let (from, to, is_comb) = step.back;
                let parts = |span: &Span| -> Vec<Span> {
                    let at = |hundredth| span.from + (span.to - span.from) * hundredth / 100;
                    let teeth = (from..to).step_by(2).map(|tooth| (tooth, tooth + 1));
                    let teeth = if is_comb { teeth.collect() } else { vec![(from, to)] };
                    let spans = teeth.into_iter().map(|(from, to)| (at(from), at(to)));
                    spans.map(|(from, to)| Span { from, to }).collect()
                };
                let ask = Ask {
                    holder: step.holder,
                    incarnation: last.incarnation,
                    configured: step.configured,
                    announced: step.announced,
                    wants: step.wants,
                    back: last.credit.map(|spans| spans.iter().flat_map(parts).collect()),
                    owed_tokens: step.owed_tokens,
                    pause: step.pause,
                    lease: step.lease,
                    slack: step.slack,
                    leaves: step.leaves,
                    returns: step.returns,
                };
                let fresh = u64::MAX - number as u64;
                let mut arguments = encode(&ask, fresh);
                arguments.push(now.to_string());
                let said = store.call(&arguments).map(|numbers| decode(&numbers).unwrap());
                let reply = ledger.exchange(&ask, now, fresh);
                prop_assert_eq!(said.as_ref(), Ok(&reply));
                let leased = reply.credit.iter().flatten().map(|span| span.to);
                end = leased.fold(now, Micros::max);
                held.insert(step.holder, reply);
            }
        });
    }
}

/// Prints what a call costs the server with so many holders on one key.
#[test]
#[ignore = "measures"]
fn what_a_call_costs() {
    for program in programs() {
        for holders in [8, 64, 512] {
            let server = Server::start(program, &[]);
            let started = Instant::now();
            let calls = std::thread::scope(|scope| {
                let threads = [0, 1, 2, 3].map(|thread| {
                    let mut store = store(&server);
                    scope.spawn(move || {
                        let mine = (1..=holders).filter(|id| id % 4 == thread);
                        let asks: Vec<_> = mine.map(|id| ask(id, 20)).collect();
                        let mut calls = 0;
                        while started.elapsed() < std::time::Duration::from_secs(3) {
                            store.exchange(&asks[calls % asks.len()]).unwrap();
                            calls += 1;
                        }
                        calls
                    })
                });
                threads
                    .map(|thread| thread.join().unwrap())
                    .iter()
                    .sum::<usize>()
            });
            let info = server.say("INFO cpu");
            let cpu = ["used_cpu_sys:", "used_cpu_user:"].map(|name| {
                let line = info.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|seconds| seconds.parse::<f64>().ok())
                    .unwrap()
            });
            println!(
                "{program}, {holders} holders: {} calls a second, {:.0} µs of its CPU a call",
                calls / 3,
                (cpu[0] + cpu[1]) * 1e6 / calls as f64
            );
        }
    }
}
