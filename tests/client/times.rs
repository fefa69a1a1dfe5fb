//! Where the time of a request and of a run goes, and what binds.

use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tollgate::{Binding, ErrorKind, Event, Rate, VirtualClock};

use crate::bench::*;

/// A provider that takes 300 ms for each answer. One request at a time may be sent to it.
fn slow() -> Bench {
    let time = Arc::new(OnceLock::<VirtualClock>::new());
    let clock = Arc::clone(&time);
    let bench = bench_with(
        |builder| builder.concurrency(1),
        move |_| {
            clock.get().unwrap().advance(ms(300));
            says("ok")
        },
    );
    time.set(bench.time.clone()).unwrap();
    bench
}

/// What is accounted for of the run: each part and its milliseconds.
fn bound(bench: &Bench) -> Vec<(Binding, u128)> {
    let bound = bench.progress().bound;
    bound.iter().map(|it| (it.0, it.1.as_millis())).collect()
}

#[test]
fn the_time_of_a_request_is_split_by_what_it_waited_for() {
    let bench = bench(|ask| match ask.index {
        0 => with(error(429, "slow", "slow"), &[("retry-after", "2")]),
        1 => error(500, "server_error", "oops"),
        _ => says("ok"),
    });
    let reply = bench.run(|client| client.chat("m", "hi").send()).unwrap();
    let (times, at) = (reply.times(), bench.times());
    assert!(times.of(Binding::Pause) >= secs(2), "{times:?}");
    assert_eq!(times.of(Binding::Pause), at[1].saturating_sub(at[0]));
    assert_eq!(times.of(Binding::Backoff), at[2].saturating_sub(at[1]));
    assert_eq!(times.waited(), times.total(), "answers take no time here");
    assert_eq!(times.binding(), Some(Binding::Pause));
    let progress = bench.progress();
    assert_eq!(progress.backoff, times.of(Binding::Backoff));
    // The run had nothing else to do.
    assert_eq!(bench.progress().bound, times);
    assert_eq!(bench.progress().binding, Some(Binding::Pause));
}

/// A provider that refuses half of the 20 requests that come first, all at once, with these headers.
fn crowded(headers: &'static [(&'static str, &'static str)]) -> Bench {
    let all_there = Barrier::new(20);
    bench(move |ask| {
        if ask.index < 20 {
            all_there.wait();
        }
        match ask.index {
            10..20 => with(error(429, "slow", "slow"), headers),
            _ => says("ok"),
        }
    })
}

#[test]
fn all_of_what_a_refused_request_waits_is_told() {
    for headers in [&[][..], &[("retry-after", "2")]] {
        let bench = crowded(headers);
        let prompts = prompts(60);
        let replies = bench.run(|client| client.chat_all("m", &prompts));
        let mut sent = HashMap::<String, Vec<Duration>>::new();
        for seen in bench.seen() {
            let body: Value = serde_json::from_slice(&seen.body).unwrap();
            let prompt = body["messages"][0]["content"].as_str().unwrap();
            sent.entry(prompt.to_owned()).or_default().push(seen.at);
        }
        for (prompt, reply) in prompts.iter().zip(replies) {
            let (times, sent) = (reply.unwrap().times(), &sent[prompt]);
            if let [first, .., last] = sent[..] {
                let waited = last.saturating_sub(first);
                assert!(times.waited() >= waited, "{times:?} {sent:?}");
                // One of them may count as stray, depending on which is heard first.
                let asked = times.of(Binding::Pause) + times.of(Binding::Backoff);
                assert!(asked >= waited.min(ms(250)), "{times:?} {sent:?}");
            }
        }
    }
}

#[test]
fn no_request_is_sent_sooner_than_an_observer_was_told() {
    for headers in [&[][..], &[("retry-after", "2")]] {
        let bench = crowded(headers);
        let clock = bench.time.clock();
        let until = Mutex::new(HashMap::new());
        let early = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&early);
        let client = bench.client.clone().with_observer(move |event: &Event| {
            let (now, mut until) = (clock.now(), until.lock().unwrap());
            match *event {
                Event::Retry { index, wait, .. } => {
                    until.insert(index, now + wait);
                }
                Event::AttemptStarted { index, .. } => {
                    let told = until.get(&index).filter(|told| now < **told);
                    log.lock().unwrap().extend(told.map(|told| *told - now));
                }
                _ => {}
            }
        });
        bench.run_on(&client, |client| client.chat_all("m", &prompts(60)));
        assert_eq!(*early.lock().unwrap(), [], "{headers:?}");
    }
}

#[test]
fn a_refusal_that_holds_its_own_item_alone_is_no_pause() {
    let bench = bench(|ask| match ask.index {
        50 => with(error(429, "slow", "slow"), &[("retry-after", "2")]),
        _ => says("ok"),
    });
    let replies = bench.run(|client| client.chat_all("m", &prompts(80)));
    let times = replies.into_iter().map(|reply| reply.unwrap().times());
    let waited: Vec<_> = times
        .filter(|it| it.of(Binding::Backoff) >= secs(2))
        .collect();
    assert_eq!(waited.len(), 1, "{waited:?}");
    assert_eq!(waited[0].of(Binding::Pause), Duration::ZERO);
    assert_eq!(bench.progress().backoff, waited[0].of(Binding::Backoff));
}

#[test]
fn the_limit_that_binds_has_the_time_of_the_run() {
    for (binding, rates) in [
        (Binding::Requests, (Some(1), None)),
        (Binding::Tokens, (None, Some(60 * 100))),
    ] {
        let bench = bench_with(
            |builder| match rates {
                (Some(rate), _) => builder.requests_per_second(rate).burst(1),
                (_, Some(rate)) => builder.tokens_per_minute(rate),
                _ => unreachable!(),
            },
            |_| Ok(answer(200, &chat("ok", 100))),
        );
        let asks = (0..4).map(|n| tollgate::Request::chat("m", n.to_string()).max_tokens(95));
        let replies = bench.run(|client| client.send_all(asks));
        let waits: Duration = replies
            .iter()
            .map(|reply| reply.as_ref().unwrap().times().of(binding))
            .sum();
        assert!(waits >= ms(2_500), "{replies:?}");
        let progress = bench.progress();
        assert_eq!(progress.bound.of(binding), waits);
        assert_eq!(progress.bound.total(), waits, "{:?}", progress.bound);
        assert_eq!(progress.binding, Some(binding));
    }
}

#[test]
fn while_the_places_are_taken_they_bind_and_at_the_end_the_server() {
    let bench = slow();
    let replies = bench.run(|client| client.chat_all("m", &prompts(3)));
    let wire = |reply: &tollgate::Result<tollgate::Reply>| reply.as_ref().unwrap().times();
    assert!(
        replies
            .iter()
            .all(|it| wire(it).of(Binding::Wire) == ms(300))
    );
    let expected = [(Binding::InFlight, 600), (Binding::Wire, 300)];
    assert_eq!(bound(&bench), expected);
}

#[test]
fn a_server_that_is_down_binds() {
    let bench = bench(|ask| match ask.index {
        0..3 => refused(),
        _ => says("ok"),
    });
    let reply = bench.run(|client| client.chat("m", "hi").send()).unwrap();
    assert_eq!(reply.times().binding(), Some(Binding::Backoff));
    assert_eq!(bench.progress().binding, Some(Binding::Outage));
}

#[test]
fn a_wait_that_came_to_nothing_is_in_the_account() {
    let bench = bench_with(
        |builder| builder.requests_per_minute(60).burst(1),
        |_| says("ok"),
    );
    let client = bench.client.clone().with_deadline(ms(1_500));
    let replies = bench.run_on(&client, |client| client.chat_all("m", &prompts(3)));
    // Which of them it is depends on which thread comes first.
    let error = replies.iter().find_map(|reply| reply.as_ref().err());
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!(error.times().of(Binding::Requests), ms(500));
    assert_eq!(bound(&bench), [(Binding::Requests, 1_500)]);
}

#[test]
fn an_observer_is_told_what_was_learned_and_what_binds() {
    let bench = bench(|ask| {
        let limit = if ask.index < 3 { "60" } else { "120" };
        with(says("ok"), &[("x-ratelimit-limit-requests", limit)])
    });
    let (told, limiter) = (
        Arc::new(Mutex::new(Vec::new())),
        bench.client.limiter().clone(),
    );
    let log = Arc::clone(&told);
    let client = bench.client.clone().with_observer(move |event: &Event| {
        // No lock is held.
        let _may_ask = limiter.learned();
        log.lock().unwrap().push(*event);
    });
    let prompts = prompts(6);
    bench.run_on(&client, |client| {
        assert!(client.chat("m", "first").send().is_ok());
        client.chat_all("m", &prompts)
    });
    let told = told.lock().unwrap();
    let place = |what: &dyn Fn(&Event) -> bool| told.iter().position(what).unwrap();
    let rates = told.iter().filter_map(|event| match event {
        Event::Learned { learned } => learned.requests,
        _ => None,
    });
    let rates: Vec<Rate> = rates.collect();
    assert_eq!(
        rates,
        [Rate::per_minute(60), Rate::per_minute(120)],
        "{told:?}"
    );
    let is_done = |event: &Event| matches!(event, Event::Done { .. });
    let is_learned = |event: &Event| matches!(event, Event::Learned { .. });
    assert_eq!(place(&is_learned) + 1, place(&is_done), "{told:?}");
    let binds = Event::Binding {
        binding: Binding::Requests,
    };
    assert!(told.contains(&binds), "{told:?}");
}

#[test]
fn an_observer_is_told_why_an_attempt_failed() {
    let bench = bench(|ask| {
        if ask.index == 0 {
            error(500, "internal", "oops")
        } else {
            says("ok")
        }
    });
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let client = bench.client.clone().with_observer(move |event: &Event| {
        log.lock().unwrap().push(*event);
    });
    bench.run_on(&client, |client| {
        assert!(client.chat("m", "first").send().is_ok());
    });
    let told = told.lock().unwrap();
    let kinds = told.iter().filter_map(|event| match event {
        Event::Retry { kind, .. } => Some(*kind),
        _ => None,
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [Some(ErrorKind::Server)]);
}
