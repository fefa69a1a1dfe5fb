//! Planned runs beside hand-computed ones, beside what no run can be faster than, and beside real
//! runs: the real threads of a pool, on a virtual clock.

use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::draws::{Draws, Variant};
use super::engine::run;
use super::*;
use crate::api::{Estimates, Provider};
use crate::binding::Binding;
use crate::clock::{Parker, VirtualClock};
use crate::limit::Cost;
use crate::pool::{Monitor, Pool};
use crate::retry::{Reach, Verdict};
use crate::sync::Mutex;

/// Requests without a prompt, each a second, with answers of a hundred tokens; one at a time.
pub(crate) fn scenario(requests: u64) -> Scenario {
    Scenario {
        requests: Requests {
            count: requests,
            sizes: Sizes::Drawn {
                prompt_tokens: Dist::constant(0.0),
                max_output: Some(100),
            },
        },
        latency: Dist::constant(1.0),
        output_tokens: Dist::constant(100.0),
        failing: 0.0,
        failing_for_good: 0.0,
        request_rate: None,
        burst: None,
        token_rate: None,
        apart: [None; 2],
        concurrency: 1.into(),
        processes: None,
        warmup: 0,
        retry: Retry::new(),
        timeout: Duration::from_secs(600),
        deadline: None,
        counting: Counting::of(Provider::OpenAi, "http://127.0.0.1/v1"),
        price: None,
        seed: 7,
    }
}

fn variant(scenario: &Scenario) -> Variant {
    Variant {
        requests: scenario.requests.count,
        concurrency: scenario.concurrency,
        parts: 1,
        seed: scenario.seed,
    }
}

fn plan(scenario: &Scenario) -> RunResult {
    run(scenario, variant(scenario)).unwrap()
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_concurrency_takes_the_requests_in_turns() {
    let result = plan(&Scenario {
        concurrency: 2.into(),
        ..scenario(10)
    });
    assert_eq!((result.end, result.wire), (ms(5_000), ms(10_000)));
    assert_eq!((result.succeeded, result.attempts), (10, 10));
    assert_eq!(result.completion_tokens, 1_000);
    // The last two have begun by then.
    assert_eq!(result.bound.of(Binding::InFlight), ms(4_000));
    assert_eq!(result.bound.of(Binding::Wire), ms(1_000));
    assert_eq!(
        (result.half_begun, result.all_begun),
        (ms(2_000), ms(4_000))
    );
    assert_eq!(result.in_flight_peak, 2);
}

#[test]
fn a_rate_lets_the_burst_go_and_then_one_at_a_time() {
    let result = plan(&Scenario {
        request_rate: Some(Rate::per_second(2)),
        concurrency: 100.into(),
        ..scenario(10)
    });
    // Two at once, the other eight half a second apart, and a second for the last.
    assert_eq!(result.end, ms(5_000));
    assert_eq!(result.bound.of(Binding::Requests), ms(4_000));
    assert_eq!(result.bound.binding(), Some(Binding::Requests));
    assert_eq!(result.in_flight_peak, 3);
}

#[test]
fn a_token_rate_counts_what_answers_take() {
    let result = plan(&Scenario {
        token_rate: Some(Rate::per_minute(6_000)),
        concurrency: 100.into(),
        ..scenario(10)
    });
    // A hundred tokens a second are one request a second, and a second for the last. One token is
    // the least that a prompt counts.
    let over = result.end.checked_sub(ms(10_000)).unwrap();
    assert!(over <= ms(200), "{over:?}");
    assert_eq!(result.bound.binding(), Some(Binding::Tokens));
    assert_eq!(result.counted_tokens, 1_000);
}

#[test]
fn tokens_of_prompts_and_of_answers_are_limited_apart() {
    let all = Scenario {
        requests: Requests {
            count: 300,
            sizes: Sizes::Drawn {
                prompt_tokens: Dist::constant(400.0),
                max_output: Some(100),
            },
        },
        concurrency: 100.into(),
        ..scenario(300)
    };
    let limit = |tokens: u64| Some(Rate::per_minute(tokens));
    for (apart, each_second, binding) in [
        ([limit(24_000), None], 1.0, Binding::InputTokens),
        ([None, limit(12_000)], 2.0, Binding::OutputTokens),
        ([limit(24_000), limit(12_000)], 1.0, Binding::InputTokens),
        ([limit(240_000), limit(6_000)], 1.0, Binding::OutputTokens),
    ] {
        let plan = predict::predict(
            &Scenario {
                apart,
                ..all.clone()
            },
            &[],
        )
        .unwrap();
        // A share of 0.97 of what is announced is used.
        let expected = 300.0 / each_second / 0.97;
        let took = plan.duration_s.p50;
        assert!(
            (took / expected - 1.0).abs() < 0.03,
            "{apart:?}: {took} s and not {expected}"
        );
        assert_eq!(plan.binding(), Some(binding), "{apart:?}");
        assert!(
            (plan.concurrency_needed.unwrap() - each_second).abs() < 0.01,
            "{apart:?}"
        );
    }
}

#[test]
fn what_is_larger_than_a_period_of_the_providers_own_limit_fails_at_once() {
    for (apart, failed) in [([10, 1_000], 5), ([1_000, 99], 5), ([1_000, 100], 0)] {
        let result = plan(&Scenario {
            requests: Requests {
                count: 5,
                sizes: Sizes::Drawn {
                    prompt_tokens: Dist::constant(11.0),
                    max_output: Some(100),
                },
            },
            apart: apart.map(|tokens| Some(Rate::per_minute(tokens))),
            ..scenario(5)
        });
        assert_eq!((result.failed, result.attempts), (failed, 5), "{apart:?}");
    }
}

#[test]
fn a_run_of_centuries_is_refused() {
    for (request_rate, latency) in [
        (Some(Rate::try_per_second(0.000_001).unwrap()), 1.0),
        (None, 1e9),
    ] {
        let scenario = Scenario {
            request_rate,
            latency: Dist::constant(latency),
            timeout: Duration::MAX,
            ..scenario(30_000)
        };
        let error = predict::predict(&scenario, &[]).unwrap_err();
        assert!(error.to_string().contains("more than 500 years"), "{error}");
    }
}

#[test]
fn what_fails_is_tried_again_as_often_as_the_policy_says() {
    let always = Scenario {
        failing: 1.0,
        retry: Retry::new().max_attempts(3).max_backoff(ms(0)),
        ..scenario(1)
    };
    let result = plan(&always);
    assert_eq!(
        (result.succeeded, result.failed, result.attempts),
        (0, 1, 3)
    );
    let at_once = Scenario {
        failing: 0.0,
        failing_for_good: 1.0,
        ..always
    };
    assert_eq!(plan(&at_once).attempts, 1);
}

#[test]
fn a_timeout_and_a_deadline_end_what_takes_longer() {
    let late = Scenario {
        timeout: ms(400),
        retry: Retry::never(),
        ..scenario(5)
    };
    let late = plan(&late);
    assert_eq!((late.failed, late.end), (5, ms(2_000)));
    let cut = plan(&Scenario {
        deadline: Some(ms(2_500)),
        ..scenario(5)
    });
    assert_eq!((cut.succeeded, cut.end), (2, ms(2_500)));
    assert!(cut.attempts <= 3 && cut.failed <= 3, "{cut:?}");
    // The deadline cuts one off, and none has failed. A timeout is a failure.
    assert_eq!(cut.attempts - cut.succeeded - cut.cut_off, 0, "{cut:?}");
    assert_eq!((cut.cut_off, late.cut_off), (1, 0));
}

#[test]
fn a_warm_up_goes_before_the_others() {
    let result = plan(&Scenario {
        warmup: 2,
        concurrency: 10.into(),
        ..scenario(10)
    });
    assert_eq!((result.end, result.in_flight_peak), (ms(2_000), 8));
    assert_eq!(result.bound.of(Binding::Warmup), ms(1_000));
}

#[test]
fn a_range_of_concurrency_grows_while_it_pays() {
    let result = plan(&Scenario {
        concurrency: (2..=50).into(),
        ..scenario(2_000)
    });
    assert_eq!(result.in_flight_peak, 50);
    assert!(
        result.end > ms(40_000) && result.end < ms(100_000),
        "{result:?}"
    );
}

#[test]
fn a_request_that_never_fits_fails_without_being_sent() {
    let never = plan(&Scenario {
        token_rate: Some(Rate::per_minute(50)),
        ..scenario(3)
    });
    assert_eq!((never.failed, never.attempts), (3, 0));
    assert_eq!(never.never_fit, 3);
    assert!(never.largest > 50, "{never:?}");
}

/// A real run of the scenario on threads of a pool, in virtual time.
fn real(scenario: &Scenario) -> (Duration, crate::Progress) {
    let (time, monitor) = (VirtualClock::new(), Monitor::new());
    let limits = scenario.limits(scenario.concurrency, 1).clock(time.clock());
    let limiter = limits.build().unwrap();
    let draws = Draws {
        scenario,
        variant: variant(scenario),
    };
    let estimates = Mutex::new(Estimates::new(scenario.counting));
    let pool = Pool::from_limiter(limiter.clone()).unwrap();
    let pool = pool
        .with_monitor(&monitor)
        .with_retry(scenario.retry.seed(scenario.seed));
    let clock = time.clock();
    let task = pool
        .task(|index: &u64, attempt| {
            let request = draws.request(*index);
            let (took, end) = draws.attempt(&request, *index, attempt.number);
            let until = clock.now() + Duration::from_nanos(took).min(scenario.timeout);
            while clock.now() < until {
                clock.park(&Parker::new(), Some(until));
            }
            if Duration::from_nanos(took) > scenario.timeout {
                attempt.reach.set(Reach::Unanswered);
                return Err(Verdict::Retry);
            }
            let output = end.inspect_err(|verdict| {
                if *verdict != Verdict::Retry {
                    attempt.settle(0);
                }
            })?;
            let total = request.prompt_tokens + output;
            let used = Cost::tokens(total).with_output(output);
            estimates.lock().answered(&request.size, used);
            attempt.settle(total);
            Ok(())
        })
        .cost(|index| {
            let most = limiter.most_tokens();
            let size = draws.request(*index).size;
            most.map_or(Cost::ONE, |most| estimates.lock().cost(&size, true, most))
        })
        .verdict(|verdict| *verdict);
    let indices: Vec<u64> = (0..scenario.requests.count).collect();
    thread::scope(|scope| {
        let run = scope.spawn(|| task.map(&indices).len());
        while !run.is_finished() {
            let parked = time.parked() as u64;
            let threads = monitor.snapshot().threads;
            if threads > 0 && parked >= threads {
                time.advance_to_next();
            }
            thread::yield_now();
        }
        run.join().unwrap();
    });
    (time.elapsed(), monitor.snapshot())
}

#[test]
fn a_real_run_takes_as_long() {
    let tail = Dist::log_normal(0.5, 2.0);
    let spread = Dist::log_normal(0.5, 0.3);
    let base = Scenario {
        latency: spread,
        concurrency: 20.into(),
        output_tokens: Dist::log_normal(60.0, 0.8),
        ..scenario(600)
    };
    let cases = [
        ("concurrency", base.clone()),
        (
            "requests",
            Scenario {
                request_rate: Some(Rate::per_second(15)),
                ..base.clone()
            },
        ),
        (
            "tokens",
            Scenario {
                token_rate: Some(Rate::per_minute(60_000)),
                requests: Requests {
                    count: 600,
                    sizes: Sizes::Drawn {
                        prompt_tokens: Dist::log_normal(40.0, 1.0),
                        max_output: Some(400),
                    },
                },
                ..base.clone()
            },
        ),
        (
            "failures",
            Scenario {
                failing: 0.2,
                ..base.clone()
            },
        ),
        (
            "tail",
            Scenario {
                latency: tail,
                timeout: ms(8_000),
                ..base.clone()
            },
        ),
    ];
    for (what, scenario) in cases {
        let (took, seen) = real(&scenario);
        let planned = plan(&scenario);
        let told = format!("{what}: {took:?}, {planned:?}, {seen:?}");
        let close = |real: f64, planned: f64| (planned / real - 1.0).abs() < 0.05;
        assert!(
            close(took.as_secs_f64(), planned.end.as_secs_f64()),
            "{told}"
        );
        assert!(
            close(seen.attempts as f64, planned.attempts as f64),
            "{told}"
        );
        assert!(
            close(seen.wire.as_secs_f64(), planned.wire.as_secs_f64()),
            "{told}"
        );
        assert_eq!(seen.bound.binding(), planned.bound.binding(), "{told}");
    }
}

#[test]
fn a_prediction_says_what_binds_and_what_more_at_once_would_bring() {
    let limited = Scenario {
        latency: Dist::log_normal(2.0, 0.5),
        request_rate: Some(Rate::per_second(10)),
        concurrency: 5.into(),
        price: Some("1,2".parse().unwrap()),
        ..scenario(500)
    };
    let predicted = predict(&limited, &[1, 5, 20, 50]).unwrap();
    assert_eq!(predicted.run.bound.binding(), Some(Binding::InFlight));
    // Ten a second for two seconds each.
    let needed = predicted.concurrency_needed.unwrap();
    assert!((needed - 20.0).abs() < 1.0, "{needed}");
    let range = predicted.duration_s;
    assert!(range.p5 < range.p50 && range.p50 < range.p95, "{range:?}");
    assert!((range.p50 - 200.0).abs() < 10.0, "{range:?}");
    let [one, five, twenty, fifty] = predicted.by_concurrency[..] else {
        panic!("{predicted:?}")
    };
    assert!(one.1 > 900.0 && five.1 > 180.0 && twenty.1 < 75.0);
    // (500 - 10) / 10, and an answer.
    assert!((50.0..58.0).contains(&fifty.1), "{fifty:?}");
    // 500 × 100 tokens at $2 a million.
    let cost = predicted.cost_usd.unwrap();
    assert!((cost.p5 - 0.1).abs() < 1e-9 && (cost.p95 - 0.1).abs() < 1e-9);
    assert!((predicted.in_flight_mean - 5.0).abs() < 0.2);
}

#[test]
fn a_scaled_run_is_as_long_as_the_whole() {
    let whole = Scenario {
        latency: Dist::log_normal(2.0, 1.0),
        concurrency: 200.into(),
        failing: 0.05,
        ..scenario(60_000)
    };
    let part = Variant {
        requests: 10_000,
        ..variant(&whole)
    };
    let (all, some) = (plan(&whole), run(&whole, part).unwrap());
    let told = predict::lengthened(&some, 60_000) / all.end.as_secs_f64();
    assert!((told - 1.0).abs() < 0.03, "{told}");
}

/// By Little's law, whatever the distribution: as many processes as the law says keep the rate, and
/// with fewer the concurrency binds.
#[test]
fn as_many_processes_as_are_needed_keep_the_rate() {
    for latency in [
        Dist::constant(2.0),
        Dist::Even(0.5, 3.5),
        Dist::log_normal(2.0, 1.0),
    ] {
        let shared = |count, requests| Scenario {
            latency: latency.clone(),
            request_rate: Some(Rate::per_second(100)),
            concurrency: 20.into(),
            failing: 0.05,
            processes: Some(Processes {
                count,
                round_trip: ms(1),
            }),
            ..scenario(requests)
        };
        let capacity = predict(&shared(1, 1_000), &[]).unwrap().capacity.unwrap();
        // 200 in flight and two standard deviations, in twenties.
        assert_eq!(capacity.needed, Some(12), "{latency:?}");
        assert_eq!(capacity.ceilings[0].name, "in_flight");
        // Eight processes of 20, two seconds each, are 80 a second.
        for (count, binding, expected) in
            [(12, Binding::Requests, 100.0), (8, Binding::InFlight, 80.0)]
        {
            let result = plan(&shared(count, 10_000));
            assert_eq!(result.bound.binding(), Some(binding), "{latency:?}");
            let rate = 10_000.0 * 1.05 / result.all_begun.as_secs_f64();
            assert!((rate / expected - 1.0).abs() < 0.05, "{latency:?}: {rate}");
        }
    }
}

#[test]
fn a_shared_limit_begins_without_a_burst() {
    let own = Scenario {
        request_rate: Some(Rate::per_second(10)),
        concurrency: 100.into(),
        ..scenario(30)
    };
    let shared = Scenario {
        processes: Some(Processes {
            count: 2,
            round_trip: ms(1),
        }),
        ..own.clone()
    };
    // The burst and 20 more, and the last answer; without the burst, ten more.
    assert_eq!(plan(&own).end, ms(3_000));
    let end = plan(&shared).end;
    assert!((ms(4_000)..ms(4_001)).contains(&end), "{end:?}");
    assert_eq!(plan(&shared).in_flight_peak, 10);
}

/// What is beyond [`predict::MOST_IN_MAIN`] or too much at once is a part of the run.
#[test]
fn a_part_of_a_run_tells_the_whole() {
    let all = Scenario {
        latency: Dist::log_normal(2.0, 1.0),
        request_rate: Some(Rate::per_second(90)),
        token_rate: Some(Rate::per_minute(600_000)),
        concurrency: 200.into(),
        failing: 0.05,
        ..scenario(60_000)
    };
    for (parts, requests, rps) in [(4, 15_000, 90), (1, 10_000, 90), (4, 5_000, 200)] {
        let all = Scenario {
            request_rate: Some(Rate::per_second(rps)),
            ..all.clone()
        };
        let part = Variant {
            requests,
            parts,
            ..variant(&all)
        };
        let (real, part) = (
            plan(&all),
            predict::whole(&run(&all, part).unwrap(), part, &all),
        );
        let close = |found: f64, real: f64| {
            assert!(
                (found / real - 1.0).abs() < 0.03,
                "{parts}: {found} and not {real}"
            );
        };
        close(part.end.as_secs_f64(), real.end.as_secs_f64());
        close(part.attempts as f64, real.attempts as f64);
        close(part.counted_tokens as f64, real.counted_tokens as f64);
        close(part.wire.as_secs_f64(), real.wire.as_secs_f64());
        assert_eq!(part.bound.binding(), real.bound.binding());
        close(
            part.bound.total().as_secs_f64(),
            real.bound.total().as_secs_f64(),
        );
        assert_eq!(part.requests, 60_000);
    }
}

#[test]
fn a_deadline_ends_a_run_that_is_told_by_a_part() {
    let all = Scenario {
        deadline: Some(ms(300_000)),
        concurrency: 20.into(),
        ..scenario(10_000)
    };
    let part = Variant {
        requests: 1_000,
        ..variant(&all)
    };
    let part = predict::whole(&run(&all, part).unwrap(), part, &all);
    let real = plan(&all);
    assert_eq!((part.end, real.end), (ms(300_000), ms(300_000)));
    assert_eq!((part.succeeded, real.succeeded), (6_000, 6_000));
}

#[test]
fn concurrencies_are_around_the_planned_one() {
    assert_eq!(concurrencies_around(20), [2, 5, 10, 20, 50, 100, 200]);
    assert_eq!(concurrencies_around(1), [1, 2, 5, 10]);
    assert_eq!(concurrencies_around(30), [5, 10, 20, 30, 50, 100, 200]);
    assert!(concurrencies_around(10_000).ends_with(&[10_000]));
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let dist = prop_oneof![
        (0.0..3.0_f64).prop_map(Dist::constant),
        (0.01..3.0_f64, 0.1..2.0_f64).prop_map(|(mean, spread)| Dist::log_normal(mean, spread)),
    ];
    let rates = (
        proptest::option::of(1..50_u64),
        proptest::option::of(20_000..200_000_u64),
    );
    let rest = (
        1..400_u64,
        1..40_usize,
        0.0..0.5_f64,
        0.0..0.5_f64,
        any::<u64>(),
    );
    (dist, rates, rest).prop_map(|(latency, rates, rest)| {
        let (requests, concurrency, failing, failing_for_good, seed) = rest;
        Scenario {
            latency,
            request_rate: rates.0.map(Rate::per_second),
            token_rate: rates.1.map(Rate::per_minute),
            concurrency: concurrency.into(),
            failing,
            failing_for_good,
            seed,
            ..scenario(requests)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_run_is_faster_than_its_limits(scenario in scenarios()) {
        let result = plan(&scenario);
        prop_assert_eq!(result.succeeded + result.failed, result.requests, "{:?}", result);
        let seconds = result.end.as_secs_f64() + 1e-6;
        if let Some(rate) = scenario.request_rate {
            let most = rate.units_per_second() * (1.0 + seconds);
            prop_assert!(result.attempts as f64 <= most + 1.0, "{:?}", result);
        }
        let at_once = scenario.concurrency.high();
        if let Some(rate) = scenario.token_rate {
            // What is in flight at the end may have taken more than was estimated.
            let most = rate.units_per_second() * (1.0 + seconds) + 100.0 * (at_once as f64 + 1.0);
            prop_assert!(result.counted_tokens as f64 <= most, "{:?}", result);
        }
        prop_assert!(result.in_flight_peak <= at_once);
        prop_assert!(result.wire.as_secs_f64() <= seconds * at_once as f64);
        // What is held back, and the wire, are no more than the run.
        prop_assert!(result.bound.total() <= result.end);
        prop_assert_eq!(result, plan(&scenario), "the same seed");
    }
}

/// `cargo test --release --all-features --lib plan::tests::figures -- --ignored --nocapture`
#[test]
#[ignore = "for figures"]
fn figures() {
    const REQUESTS: u64 = 1_000_000;
    let base = Scenario {
        latency: Dist::log_normal(2.0, 0.5),
        output_tokens: Dist::log_normal(60.0, 0.8),
        concurrency: 200.into(),
        ..scenario(REQUESTS)
    };
    let limited = Scenario {
        request_rate: Some(Rate::per_second(80)),
        ..base.clone()
    };
    let by_tokens = Scenario {
        token_rate: Some(Rate::per_minute(300_000)),
        ..base.clone()
    };
    let failing = Scenario {
        failing: 0.1,
        ..base.clone()
    };
    let many = Scenario {
        concurrency: 5_000.into(),
        ..base.clone()
    };
    for (what, scenario) in [
        ("concurrency", base),
        ("requests", limited),
        ("tokens", by_tokens),
        ("failures", failing),
        ("5,000 at once", many),
    ] {
        let began = std::time::Instant::now();
        let result = plan(&scenario);
        let each = began.elapsed().as_nanos() / u128::from(REQUESTS);
        let line = format!("{what}: {each} ns a request; {:?}\n", result.end);
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    }
}
