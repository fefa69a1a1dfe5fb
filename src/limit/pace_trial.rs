//! What is learned of a rate from refusals alone, judged in [`super::trial`].

#![cfg(test)]

use super::state::LimiterState;
use super::trial::{Allows, Came, Hint, Provider, SECOND, run};

/// Two minutes after the start, or after the first minute of a window.
fn kept(rate: f64, allows: &Allows, hint: Hint, counts_refused: bool) -> (f64, f64, u32) {
    let from = match allows {
        Allows::Bucket { .. } => 10,
        _ => 60,
    } * SECOND;
    let to = from + 120 * SECOND;
    let mut provider = Provider::new(allows.clone(), hint);
    provider.counts_refused = counts_refused;
    let came = trial(&mut provider, to);
    let admitted = came.admitted.iter();
    let admitted = admitted.filter(|at| (from..to).contains(*at)).count() as f64;
    let share = came.refused_share(from, to);
    (share, admitted / 120.0 / rate, came.attempts)
}

fn trial(provider: &mut Provider, to: u64) -> Came {
    run(&mut LimiterState::new(64), provider, usize::MAX, to, 1)
}

fn kinds(rate: f64, minute: u64) -> [Allows; 5] {
    let bucket = |burst| Allows::Bucket { rate, burst };
    [
        Allows::FixedMinute(minute),
        Allows::SlidingMinute(minute),
        bucket(1.0),
        bucket((rate / 5.0).max(1.0)),
        bucket(rate),
    ]
}

#[test]
fn a_limit_that_only_refusals_tell_is_kept() {
    for (rate, minute) in [(2.0, 120), (50.0, 3_000)] {
        for allows in kinds(rate, minute) {
            for hint in [Hint::Exact, Hint::Seconds, Hint::None] {
                let (refused, admitted, attempts) = kept(rate, &allows, hint, false);
                let what = format!("{allows:?}, {hint:?}: {refused}, {admitted}, {attempts}");
                // Two minutes at two a second are few requests: the start weighs more than later.
                assert!(refused < 0.06, "{what}");
                assert!(admitted >= 0.88, "{what}");
                assert!(attempts <= 5, "{what}");
            }
        }
    }
}

#[test]
fn a_limit_that_counts_what_it_refuses_starves_nobody() {
    for allows in kinds(50.0, 3_000) {
        for hint in [Hint::Exact, Hint::Seconds, Hint::None] {
            let (_, admitted, _) = kept(50.0, &allows, hint, true);
            assert!(admitted >= 0.85, "{allows:?}, {hint:?}: {admitted}");
        }
    }
}

#[test]
fn a_limit_that_falls_and_comes_back_is_followed() {
    for allows in kinds(50.0, 3_000).into_iter().skip(2) {
        let mut provider = Provider::new(allows.clone(), Hint::Exact);
        provider.cut = Some((30 * SECOND, 60 * SECOND, 0.33));
        let came = trial(&mut provider, 110 * SECOND);
        let rate = |from, to| came.admitted_rate(from * SECOND, to * SECOND) / 50.0;
        let refused = came.refused_share(40 * SECOND, 60 * SECOND);
        assert!(
            refused < 0.1 && rate(40, 60) > 0.25,
            "{allows:?}: {refused}"
        );
        assert!(rate(95, 110) > 0.75, "{allows:?}: {}", rate(95, 110));
    }
}

#[test]
fn a_rate_that_is_far_too_low_is_soon_left_behind() {
    let bucket = Allows::Bucket {
        rate: 50.0,
        burst: 10.0,
    };
    let mut provider = Provider::new(bucket, Hint::Exact);
    provider.cut = Some((30 * SECOND, 60 * SECOND, 0.05));
    // At a low rate tries are seldom: the first is at 75 s.
    let came = trial(&mut provider, 120 * SECOND);
    let rate = came.admitted_rate(100 * SECOND, 120 * SECOND) / 50.0;
    assert!(rate > 0.9, "{rate}");
}

#[test]
fn a_rate_that_was_cut_to_a_fiftieth_comes_back_in_less_time_than_the_cut_took() {
    let bucket = Allows::Bucket {
        rate: 50.0,
        burst: 10.0,
    };
    for hint in [Hint::Exact, Hint::Seconds, Hint::None] {
        let mut provider = Provider::new(bucket.clone(), hint);
        provider.cut = Some((30 * SECOND, 60 * SECOND, 0.02));
        let came = trial(&mut provider, 100 * SECOND);
        let rate = came.admitted_rate(90 * SECOND, 100 * SECOND) / 50.0;
        assert!(rate > 0.9, "{hint:?}: {rate}");
        // A few of the fifteen that the cut lets in meanwhile.
        let refused = came.refused_share(45 * SECOND, 60 * SECOND);
        assert!(refused < 0.4, "{hint:?}: {refused}");
    }
}

#[test]
fn refusals_by_chance_are_no_rate() {
    for strays in [0.02, 0.05] {
        for hint in [Hint::Seconds, Hint::None] {
            // The last few were slow for minutes once.
            for seed in (0..4).chain([34, 50, 91, 133]) {
                let mut provider = Provider::new(Allows::All, hint);
                provider.strays = strays;
                let mut limits = LimiterState::new(64);
                let came = run(&mut limits, &mut provider, usize::MAX, 25 * SECOND, seed);
                let admitted = came.admitted_rate(20 * SECOND, 25 * SECOND);
                // 64 at once, each for a little more than a tenth of a second.
                let told = format!("{strays} {hint:?} {seed}: {admitted}");
                assert!(admitted >= 0.9 * 609.0, "{told}");
            }
        }
    }
}
