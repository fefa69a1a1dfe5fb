//! Statistics to HTML. The template `page.html` has the layout and escapes every text; this file
//! has the words.
//!
//! What comes from a file is hostile: an answer or an id may hold tags, or marks that turn text
//! around. [`printable`] takes the latter away, and cuts.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::{Value, json};

use super::figures::{Figure, TimeFigures, distribution};
use super::fold::{Reason, SlowRow, Stats};
use super::format::{count, counted, rate, time};
use super::histogram::Histogram;
use super::timeline::Slot;
use super::{Report, RunInfo};
use crate::Binding;
use crate::api::Usd;
use crate::api::times::to_rfc3339;
use crate::error::{Error, ErrorKind, Result};
use crate::escape::printable;

/// How many reasons the page shows.
const SHOWN: usize = 20;
/// The most that it shows of a text, in characters.
const LONGEST_ID: usize = 48;
const LONGEST_MESSAGE: usize = 300;

impl Report {
    /// The page.
    ///
    /// # Errors
    /// If the template cannot be rendered.
    pub(crate) fn page(&self, info: &RunInfo) -> Result<String> {
        let stats = &self.stats;
        let limits = info.limits.unwrap_or_default();
        let timeline = stats.timeline.clone().coarsened();
        let over_time = TimeFigures::new(&timeline, &limits);
        let mut figures = Vec::new();
        if let Some(over_time) = &over_time {
            figures = over_time.figures(stats, &limits)?;
        }
        if stats.answers.count() > 0 {
            figures.push(distribution(&stats.answers)?);
        }
        let files = self.files.iter().map(|file| {
            json!([
                printable(&file.name.to_string_lossy(), 200),
                count(file.records),
                count(file.others)
            ])
        });
        let context = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "made": minute(SystemTime::now()),
            "title": printable(&info.title, LONGEST_ID),
            "simulated": simulated(stats),
            "lede": lede(stats),
            "sent": over_time.as_ref().map(|over_time| sent(stats, over_time)),
            "stopped": info.stopped.as_ref().map(|why| printable(why, LONGEST_MESSAGE)),
            "advice": info.advice.as_ref().map(|what| printable(what, LONGEST_MESSAGE)),
            "tiles": tiles(stats, over_time.as_ref()),
            "notes": self.notes(info, over_time.as_ref()),
            "figures": figures.iter().map(Figure::to_json).collect::<Vec<_>>(),
            "bins": over_time.as_ref().map(bins),
            "where": times(stats),
            "percentiles": percentiles(stats),
            "failures": reasons(&stats.failures, stats.failed()),
            "retries": reasons(&stats.retries, stats.retries.iter().map(|one| one.count).sum()),
            "cost": cost(stats),
            "slowest": stats.slowest.iter().map(slow).collect::<Vec<_>>(),
            "files": files.collect::<Vec<_>>(),
        });
        render(&context).map_err(|error| {
            Error::new(ErrorKind::Io, "the page cannot be made").with_source(error)
        })
    }

    /// What the page cannot show, and why.
    fn notes(&self, info: &RunInfo, over_time: Option<&TimeFigures<'_>>) -> Vec<String> {
        let stats = &self.stats;
        let all = stats.records();
        let mut notes = Vec::new();
        let share = |part: u64| match part {
            part if part == all => "The records do not say".to_owned(),
            part => format!("{} of {} records do not say", count(part), count(all)),
        };
        let why = "They are by another tool or an older tollgate, or were written with --strict.";
        if stats.undated > 0 {
            let missing = "when requests were sent: these are not in the plots over time.";
            notes.push(format!("{} {missing} {why}", share(stats.undated)));
        }
        if stats.untimed > 0 {
            let missing = "where their time went: these are not in the times.";
            notes.push(format!("{} {missing}", share(stats.untimed)));
        }
        let others: u64 = self.files.iter().map(|file| file.others).sum();
        if others > 0 {
            let lines = counted(others, "line is no record", "lines are no records");
            notes.push(format!("{lines}, and not counted."));
        }
        if let Some(over_time) = over_time {
            for (_, gap) in over_time.breaks() {
                let gap = time(Duration::from_millis(*gap));
                notes.push(format!(
                    "A dotted line in the plots stands for {gap} in which nothing was under way."
                ));
            }
            if info.limits.is_none() {
                let note =
                    "The limits of a run are not in its records: tollgate run --report draws them.";
                notes.push(note.to_owned());
            }
        }
        notes
    }
}

fn render(context: &Value) -> Result<String, minijinja::Error> {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_trim_blocks(true);
    templates.set_lstrip_blocks(true);
    templates.render_str(include_str!("page.html"), context)
}

/// What was done, in sentences.
fn lede(stats: &Stats) -> Vec<String> {
    let all = stats.records();
    if all == 0 {
        return vec!["There are no rows.".to_owned()];
    }
    let rows = counted(all, "row", "rows");
    let answered = count(stats.answered);
    let (failed, permanent) = (count(stats.failed()), count(stats.permanent));
    let mut lede = vec![match stats.failed() {
        0 if all == 1 => "1 row, and it was answered.".to_owned(),
        0 => format!("{rows}, all of them answered."),
        all if all == stats.permanent => {
            format!("{rows}: {answered} answered and {failed} failed for good.")
        }
        _ if stats.permanent == 0 => format!("{rows}: {answered} answered and {failed} failed."),
        _ => format!(
            "{rows}: {answered} answered and {failed} failed, {permanent} of them for good."
        ),
    }];
    if stats.answers.count() > 0 {
        let [half, most] = [0.5, 0.95].map(|share| time(stats.answers.quantile(share)));
        lede.push(format!(
            "Half of the answers came within {half} (p50) and 95 % within {most} (p95)."
        ));
    }
    lede
}

/// Nobody is to take a simulated answer for a paid one.
fn simulated(stats: &Stats) -> Option<String> {
    match stats.simulated {
        0 => None,
        all if all == stats.records() => Some("Simulated: no provider has answered".to_owned()),
        some => Some(format!("{} simulated", counted(some, "row is", "rows are"))),
    }
}

/// How many requests were sent, and when.
fn sent(stats: &Stats, over_time: &TimeFigures<'_>) -> Value {
    let (from, to) = stats.timeline.range.unwrap_or_default();
    let [from, to] = [from, to].map(|ms| second(UNIX_EPOCH + Duration::from_millis(ms)));
    // A day is said once.
    let to = to.strip_prefix(&from[..11]).unwrap_or(&to);
    json!({
        "requests": counted(stats.attempts, "request was", "requests were"),
        "took": time(Duration::from_millis(over_time.active_ms())),
        "from": from,
        "to": to,
    })
}

/// The key figures: a label, a number and a word below it.
fn tiles(stats: &Stats, over_time: Option<&TimeFigures<'_>>) -> Vec<[String; 3]> {
    let all = stats.records();
    let mut tiles = Vec::new();
    if all > 0 {
        let answered = format!("{} answered", percent(stats.answered, all));
        tiles.push(("Rows", count(all), answered));
    }
    if stats.answers.count() > 0 {
        let [half, most] = [0.5, 0.95].map(|share| time(stats.answers.quantile(share)));
        tiles.push(("Median answer time", half, "p50".to_owned()));
        tiles.push(("95 % answered within", most, "p95".to_owned()));
    }
    if let Some(over_time) = over_time {
        let seconds = (over_time.active_ms() as f64 / 1e3).max(1e-3);
        let sent = rate(stats.attempts as f64 / seconds);
        let retried = match stats.retried {
            0 => "one request for each row".to_owned(),
            rows => format!("{} needed more than one", counted(rows, "row", "rows")),
        };
        tiles.push(("Requests a second", sent, retried));
    }
    let tokens = stats.prompt_tokens.saturating_add(stats.completion_tokens);
    if tokens > 0 {
        let written = format!("{} in answers", count(stats.completion_tokens));
        tiles.push(("Model tokens", count(tokens), written));
    }
    if let Some(cost) = stats.cost {
        let all = stats.priced == stats.answered;
        let some = || counted(stats.priced, "answer", "answers");
        let word = if all {
            "US dollars".to_owned()
        } else {
            format!("of {}", some())
        };
        tiles.push(("Cost", cost.rounded(), word));
    }
    tiles
        .into_iter()
        .map(|(label, number, word)| [label.to_owned(), number, word])
        .collect()
}

/// The plots over time as a table.
fn bins(over_time: &TimeFigures<'_>) -> Value {
    let row = |slot: &Slot<'_>| {
        let bin = slot.bin;
        let answer = |share| match bin.answers.count() {
            0 => String::new(),
            _ => time(bin.answers.quantile(share)),
        };
        json!([
            second(UNIX_EPOCH + Duration::from_millis(slot.start_ms)),
            count(bin.sent),
            count(bin.tokens),
            rate(over_time.in_flight(bin)),
            count(bin.failed),
            answer(0.5),
            answer(0.95),
        ])
    };
    json!({
        "width": over_time.width(),
        "rows": over_time.slots().iter().map(row).collect::<Vec<_>>(),
    })
}

/// Where the time of all rows went: a name, the sum, what it is of a row, and its share.
fn times(stats: &Stats) -> Vec<Value> {
    let total = stats.times.total();
    let rows = u32::try_from(stats.records() - stats.untimed)
        .unwrap_or(u32::MAX)
        .max(1);
    let mut parts: Vec<_> = stats.times.iter().collect();
    parts.sort_by_key(|(_, time)| Reverse(*time));
    let part = |(binding, took): (Binding, Duration)| {
        let share = 100.0 * took.as_secs_f64() / total.as_secs_f64();
        json!({
            "name": words(binding),
            "is_wire": binding == Binding::Wire,
            "sum": time(took),
            "row": time(took / rows),
            "share": format!("{share:.1}"),
        })
    };
    parts.into_iter().map(part).collect()
}

fn words(binding: Binding) -> &'static str {
    match binding {
        Binding::Requests => "limit on requests",
        Binding::Tokens => "limit on model tokens",
        Binding::InFlight => "limit in flight",
        Binding::SharedLimit => "shared limit",
        Binding::Queue => "other runs",
        Binding::Pause => "pauses of the server",
        Binding::Backoff => "backoff",
        Binding::Outage => "server down",
        Binding::Input => "input",
        Binding::Wire => "on the wire",
    }
}

/// For each share: the time of an answer, and of a row in all.
fn percentiles(stats: &Stats) -> Vec<[String; 3]> {
    let of = |histogram: &Histogram, told: fn(&Histogram) -> Duration| match histogram.count() {
        0 => "–".to_owned(),
        _ => time(told(histogram)),
    };
    if stats.answers.count() + stats.rows.count() == 0 {
        return Vec::new();
    }
    let row = |name: &str, told| {
        [
            name.to_owned(),
            of(&stats.answers, told),
            of(&stats.rows, told),
        ]
    };
    vec![
        row("p50", |all| all.quantile(0.5)),
        row("p90", |all| all.quantile(0.9)),
        row("p95", |all| all.quantile(0.95)),
        row("p99", |all| all.quantile(0.99)),
        row("longest", Histogram::longest),
        row("mean", Histogram::mean),
    ]
}

/// The most frequent reasons, and how many are not shown.
fn reasons(all: &[Reason], total: u64) -> Value {
    let mut sorted: Vec<&Reason> = all.iter().collect();
    sorted.sort_by_key(|reason| Reverse(reason.count));
    let shown = &sorted[..sorted.len().min(SHOWN)];
    let told = |reason: &&Reason| {
        json!({
            "kind": printable(&reason.kind, LONGEST_ID),
            "count": count(reason.count),
            "share": format!("{:.1}", 100.0 * reason.count as f64 / total.max(1) as f64),
            "message": printable(&reason.message, LONGEST_MESSAGE),
            "row": row(reason.line, &reason.id),
        })
    };
    let rest: u64 = sorted[shown.len()..]
        .iter()
        .map(|reason| reason.count)
        .sum();
    json!({
        "total": count(total),
        "shown": shown.iter().map(told).collect::<Vec<_>>(),
        "rest": (rest > 0).then(|| count(rest)),
    })
}

/// How a row is named: by its line and its id.
fn row(line: Option<u64>, id: &str) -> String {
    let id = printable(id, LONGEST_ID);
    match line {
        Some(line) if id == format!("line-{line}") || id.is_empty() => format!("line {line}"),
        Some(line) => format!("line {line}, {id}"),
        None => id,
    }
}

fn slow(slow: &SlowRow) -> Value {
    json!({
        "row": row(slow.line, &slow.id),
        "took": time(slow.took),
        "wire": time(slow.times.of(Binding::Wire)),
        "waited": time(slow.times.waited()),
        "attempts": count(slow.attempts),
        "outcome": if slow.answered { "answered" } else { "failed" },
    })
}

/// Tokens and what they cost: a label and a number.
fn cost(stats: &Stats) -> Vec<[String; 2]> {
    let mut facts = Vec::new();
    if stats.prompt_tokens + stats.completion_tokens > 0 {
        facts.push(("Model tokens in prompts", count(stats.prompt_tokens)));
        facts.push(("Model tokens in answers", count(stats.completion_tokens)));
    }
    if stats.uncounted > 0 {
        facts.push((
            "Answers that do not say what they used",
            count(stats.uncounted),
        ));
    }
    if let Some(cost) = stats.cost {
        facts.push(("Answers with a cost", count(stats.priced)));
        facts.push(("Their cost", cost.rounded()));
        let thousand = cost.as_f64() * 1e3 / stats.priced.max(1) as f64;
        if let Ok(thousand) = Usd::try_from(thousand) {
            facts.push(("Cost of 1,000 of them", thousand.rounded()));
        }
    }
    facts
        .into_iter()
        .map(|(label, fact)| [label.to_owned(), fact])
        .collect()
}

/// `2026-11-27 19:04:05`, in UTC.
fn second(at: SystemTime) -> String {
    let text = to_rfc3339(at);
    format!("{} {}", &text[..10], &text[11..19])
}

/// `2026-11-27 19:04`, in UTC.
fn minute(at: SystemTime) -> String {
    second(at)[..16].to_owned()
}

fn percent(part: u64, of: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / of.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fold::tests::{answered, failed, of};
    use super::super::{FileRead, Limits};
    use super::*;
    use crate::jsonl::facts::Facts;
    use crate::limit::Rate;

    fn report(all: impl IntoIterator<Item = Facts>) -> Report {
        let mut report = Report::default();
        for facts in all {
            report.stats.add(&facts, None);
        }
        let records = report.stats.records();
        let name = "p.results.jsonl".into();
        report.files.push(FileRead {
            name,
            records,
            others: 0,
        });
        report
    }

    fn page(all: impl IntoIterator<Item = Facts>) -> String {
        report(all).page(&RunInfo::default()).unwrap()
    }

    /// A page leads nowhere, runs nothing and has no tag of somebody else's.
    #[track_caller]
    fn assert_closed(page: &str) {
        for word in [
            "http://", "https://", "src=\"", "href=", "url(", "@import", "<script", "<img",
            "<link", "<a ",
        ] {
            assert!(!page.contains(word), "{word}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(
            page.starts_with("<!doctype html>") && page.ends_with("</html>"),
            "{page}"
        );
    }

    #[test]
    fn the_page_says_in_words_what_was_done() {
        let rows = (0..99).map(|n| answered("a", n * 100, n * 100 + 400));
        let page = page(rows.chain([failed("b", 400, "no such model")]));
        for words in [
            "100 rows: 99 answered and 1 failed for good.",
            "Half of the answers came within 0.40 s (p50) and 95 % within 0.40 s (p95).",
            "100 requests were sent in 10.2 s,",
            "from <time>2025-11-27 19:00:00</time> to <time>19:00:10</time> UTC.",
            "no such model",
            "1 of 100 records do not say when requests were sent",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert_closed(&page);
    }

    #[test]
    fn nothing_and_one_row_have_a_page() {
        let nothing = page([]);
        assert!(nothing.contains("There are no rows.") && !nothing.contains("<svg"));
        assert_closed(&nothing);
        for rows in [vec![answered("a", 0, 0)], vec![failed("a", 500, "")]] {
            let page = page(rows);
            assert!(page.contains("1 row"), "{page}");
            assert_closed(&page);
        }
    }

    #[test]
    fn what_is_hostile_is_text() {
        let hostile =
            "</svg></table><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}txt";
        let mut all = vec![failed(hostile, 400, hostile), answered(hostile, 0, 9)];
        all.push(of(&json!({
            "custom_id": hostile, "response": null,
            "error": {"code": hostile, "message": "a".repeat(100_000)},
        })));
        let mut report = report(all);
        report.files[0].name = hostile.into();
        let info = RunInfo {
            title: hostile.to_owned(),
            stopped: Some(hostile.to_owned()),
            advice: Some(hostile.to_owned()),
            limits: None,
        };
        let page = report.page(&info).unwrap();
        assert_closed(&page);
        assert!(
            !page.contains('\u{202e}') && page.contains("&lt;script&gt;"),
            "{page}"
        );
    }

    #[test]
    fn records_without_times_give_a_page_that_says_so() {
        let page = page([of(&json!({
            "custom_id": "a", "response": {"status_code": 200, "body": {"choices": [{}]}}, "error": null,
        }))]);
        for words in [
            "The records do not say when requests were sent",
            "where their time went",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }

    #[test]
    fn limits_are_drawn_where_they_are_not_out_of_sight() {
        let report = report((0..1_000).map(|n| answered("a", n * 10, n * 10 + 400)));
        let drawn = |requests| {
            let limits = Limits {
                requests: Some(requests),
                ..Limits::default()
            };
            let info = RunInfo {
                limits: Some(limits),
                ..RunInfo::default()
            };
            report.page(&info).unwrap()
        };
        let page = drawn(Rate::per_second(100));
        assert!(
            page.contains("limit 100/s") && !page.contains("--report"),
            "{page}"
        );
        let page = drawn(Rate::per_second(100_000));
        assert!(
            page.contains("The limit of 100,000&#x2f;s is above the plot."),
            "{page}"
        );
    }

    #[test]
    fn the_page_is_small_however_many_rows_and_reasons_there_are() {
        let long = "w".repeat(2_000);
        let rows = (0..1_000_u64).map(|n| {
            let id = format!("{long}{n}");
            match n % 2 {
                0 => answered(&id, n * n, n * n + n % 7_777),
                _ => failed(&id, 400 + (n % 100) as u16, &long[(n % 1_000) as usize..]),
            }
        });
        let page = page(rows);
        assert!(page.len() < 400_000, "{}", page.len());
        assert_closed(&page);
    }
}
