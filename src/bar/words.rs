//! What a bar says: how far the run is, how long it takes, and what holds it back.

use std::error::Error as StdError;
use std::iter;
use std::time::Duration;

use super::eta::Speed;
use super::format::{self, coarse_time, count, counted, rate};
use crate::escape::printable;
use crate::{Binding, Concurrency, Error, FileProgress, Hold, SharedStatus, Usd};

/// The longest reason for an outage that is shown, in characters.
const LONGEST_REASON: usize = 200;

/// What helps against the hold, if anything is known to. The tool has flags that do.
pub(crate) type Remedy = fn(&FileProgress) -> Option<String>;

/// How far, how fast, how long: in full, and shorter and shorter.
pub(crate) fn heads(progress: &FileProgress, speed: &Speed) -> Vec<String> {
    let done = count(progress.done());
    let rows = rate(speed.rows());
    let Some(total) = progress.total else {
        return vec![format!("{done} done  {rows}/s"), format!("{done} done")];
    };
    let eta = speed.eta(progress);
    let eta = eta.map_or_else(|| "unknown".to_owned(), coarse_time);
    let end = if progress.is_stopping {
        "stopping".to_owned()
    } else {
        format!("ETA {eta}")
    };
    let (of, percent) = (count(total), 100 * progress.done() / total.max(1));
    vec![
        format!("{done}/{of}  {rows}/s  {end}"),
        format!("{done}/{of}  {end}"),
        format!("{percent}%  {end}"),
        end.clone(),
        format!("{percent}%"),
    ]
}

/// What explains it. What holds the run back comes first: it explains the rest, and a narrow bar
/// shows the beginning only.
pub(crate) fn details(progress: &FileProgress, speed: &Speed, remedy: Remedy) -> Vec<String> {
    let engine = &progress.engine;
    let limit = match (&progress.hold, engine.binding) {
        (Some(hold), _) => Some(held(hold, remedy(progress))),
        (None, binding) => binding.map(|it| format!("limit: {}", name(it))),
    };
    let shared = progress.shared.as_ref();
    let range = progress.concurrency.filter(Concurrency::is_range);
    let range = range.map(|range| {
        let found = count(engine.concurrency as u64);
        format!(" of {found} (found in {range})")
    });
    let in_flight = count(engine.in_flight);
    let range = range.unwrap_or_default();
    let are_counted = progress.prompt_tokens + progress.completion_tokens > 0;
    let tokens = are_counted.then(|| format!("{} tokens/s", rate(speed.tokens())));
    let counts = [
        (engine.backing_off, "backing off", "backing off"),
        (engine.retries, "retry", "retries"),
        (engine.hedges, "hedging copy", "hedging copies"),
        (progress.failed, "failed", "failed"),
        (progress.skipped, "done before", "done before"),
    ];
    let counts = counts.into_iter().filter(|(number, ..)| *number > 0);
    shared
        .and_then(gone)
        .into_iter()
        .chain(limit)
        .chain(iter::once(format!("{in_flight} in flight{range}")))
        .chain(shared.and_then(|shared| format::sharers(shared.processes)))
        .chain(format::learned(&progress.learned))
        .chain(tokens)
        .chain(counts.map(|(number, one, many)| counted(number, one, many)))
        .chain(progress.cost.map(Usd::rounded))
        .collect()
}

/// What binds, as a person says it.
fn name(binding: Binding) -> &'static str {
    match binding {
        Binding::InputTokens => "input tokens",
        Binding::OutputTokens => "output tokens",
        Binding::InFlight => "concurrency",
        Binding::SharedLimit => "shared limit",
        Binding::Queue => "another run",
        Binding::Warmup => "warm-up",
        Binding::Wire => "server",
        other => other.as_str(),
    }
}

/// For how long the store of the shared limit is gone, and what the run does meanwhile.
fn gone(shared: &SharedStatus) -> Option<String> {
    let (store, time) = (&shared.store, coarse_time(shared.gone?));
    let store = printable(store, LONGEST_REASON);
    Some(if shared.falls_back {
        format!("at a share: the store of the shared limit, {store}, is gone for {time}")
    } else {
        format!("waiting for the store of the shared limit, {store}, gone for {time}")
    })
}

/// What is behind a message, the nearest cause first.
pub(crate) fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    iter::successors(error.source(), |&cause| cause.source())
}

/// The message and what caused it. A cause that the message repeats is left out.
pub(crate) fn with_causes(error: &Error) -> String {
    causes(error).fold(error.message().to_owned(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

/// What a run that sends nothing waits for. The end and the remedy come first: a bar may be narrow.
fn held(hold: &Hold, remedy: Option<String>) -> String {
    let when = match hold.next_try {
        None => ", no time is left for another try".to_owned(),
        Some(left) if hold.is_pause => format!(" for {}", coarse_time(left)),
        Some(Duration::ZERO) => ", trying now".to_owned(),
        Some(left) => format!(", next try in {}", coarse_time(left)),
    };
    let remedy = remedy.map(|remedy| format!(": {remedy}"));
    let reason = hold.error.as_ref().map(with_causes);
    let reason = reason.map(|reason| format!(" ({})", printable(&reason, LONGEST_REASON)));
    let told = [remedy, reason].into_iter().flatten();
    iter::once(format!("on hold{when}")).chain(told).collect()
}
