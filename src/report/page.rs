//! Statistics to HTML. The template `page.html` has the words and escapes every text; this file
//! has the figures.
//!
//! What comes from a file is hostile: an answer or an id may hold tags, or marks that turn text
//! around. [`printable`] takes the latter away, and cuts.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::{Value, json};

use super::figures::{TimeAxis, distribution};
use super::fold::{Reason, Reasons, SlowRow, Stats};
use super::format::{count, counted, rate, time};
use super::histogram::Histogram;
use super::{Report, RunInfo};
use crate::Binding;
use crate::api::Usd;
use crate::api::times::to_rfc3339;
use crate::error::{Error, ErrorKind, Result};
use crate::escape::printable;

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
        let over_time = TimeAxis::of(&stats.timeline);
        let mut figures = match &over_time {
            Some(over_time) => over_time.figures(stats, &limits)?,
            None => Vec::new(),
        };
        if stats.answers.count > 0 {
            figures.push(distribution(&stats.answers)?);
        }
        let tokens = stats.prompt_tokens.saturating_add(stats.completion_tokens);
        let facts = info.facts.iter();
        let facts = facts.map(|(label, fact)| (label, printable(fact, LONGEST_MESSAGE)));
        let files = (self.files.iter()).map(|file| {
            json!([
                printable(&file.name.to_string_lossy(), 200),
                file.records,
                file.others
            ])
        });
        let context = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "made": to_rfc3339(SystemTime::now())[..16].replace('T', " "),
            "title": printable(&info.title, LONGEST_ID),
            "stopped": info.stopped.as_ref().map(|why| printable(why, LONGEST_MESSAGE)),
            "advice": info.advice.as_ref().map(|what| printable(what, LONGEST_MESSAGE)),
            "has_limits": info.limits.is_some(),
            "rows": stats.records(),
            "answered": stats.answered,
            "failed": stats.failed(),
            "permanent": stats.permanent,
            "simulated": stats.simulated,
            "by_copy": stats.by_copy,
            "attempts": stats.attempts,
            "retried": stats.retried,
            "undated": stats.undated,
            "untimed": stats.untimed,
            "tokens": tokens,
            "prompt_tokens": stats.prompt_tokens,
            "completion_tokens": stats.completion_tokens,
            "uncounted": stats.uncounted,
            "priced": stats.priced,
            "cost": stats.cost.map(Usd::rounded),
            "answers": percentiles(&stats.answers),
            "whole_rows": percentiles(&stats.rows),
            "over_time": over_time.as_ref().map(|it| told(stats, it)),
            "figures": figures.iter().map(|it| [it.title, &it.caption, &it.svg]).collect::<Vec<_>>(),
            "facts": facts.collect::<Vec<_>>(),
            "where": times(stats),
            "failures": reasons(&stats.failures),
            "retries": reasons(&stats.retries),
            "slowest": stats.slowest.iter().map(slow).collect::<Vec<_>>(),
            "others": self.files.iter().map(|file| file.others).sum::<u64>(),
            "files": files.collect::<Vec<_>>(),
        });
        render(&context).map_err(|error| {
            Error::new(ErrorKind::Io, "the page cannot be made").with_source(error)
        })
    }
}

fn render(context: &Value) -> Result<String, minijinja::Error> {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_trim_blocks(true);
    templates.set_lstrip_blocks(true);
    templates.add_filter("count", count);
    templates.add_filter("counted", |number: u64, one: &str, many: &str| {
        counted(number, one, many)
    });
    templates.add_filter("percent", |part: u64, of: u64| {
        format!("{:.1}", 100.0 * part as f64 / of.max(1) as f64)
    });
    templates.render_str(include_str!("page.html"), context)
}

/// When requests were sent.
fn told(stats: &Stats, over_time: &TimeAxis<'_>) -> Value {
    let (from, to) = stats.timeline.range.unwrap_or_default();
    let [from, to] = [from, to].map(second);
    let took = over_time.active();
    let gap = |(_, gap): &(u64, u64)| time(Duration::from_millis(*gap));
    json!({
        // A day is said once.
        "to": to.strip_prefix(&from[..11]).unwrap_or(&to),
        "from": from,
        "took": time(took),
        "rate": rate(stats.attempts as f64 / took.as_secs_f64().max(1e-3)),
        "gaps": over_time.breaks.iter().map(gap).collect::<Vec<_>>(),
    })
}

/// Where the time of all rows went: for what, the sum, what it is of a row, and its share.
fn times(stats: &Stats) -> Vec<Value> {
    let total = stats.times.total();
    let rows = u32::try_from(stats.records() - stats.untimed)
        .unwrap_or(u32::MAX)
        .max(1);
    let mut parts: Vec<_> = stats.times.iter().collect();
    parts.sort_by_key(|(_, time)| Reverse(*time));
    let part = |(binding, took): (Binding, Duration)| {
        let share = 100.0 * took.as_secs_f64() / total.as_secs_f64();
        let share = format!("{share:.1}");
        json!([binding.as_str(), share, time(took), time(took / rows)])
    };
    parts.into_iter().map(part).collect()
}

/// The p50, p90, p95 and p99, the longest and the mean.
fn percentiles(all: &Histogram) -> Option<Vec<String>> {
    let quantiles = [0.5, 0.9, 0.95, 0.99].map(|share| all.quantile(share));
    let all = (all.count > 0).then(|| [all.longest, all.mean()])?;
    Some(quantiles.into_iter().chain(all).map(time).collect())
}

/// The reasons, the most frequent first.
fn reasons(all: &Reasons) -> Value {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by_key(|(_, reason)| Reverse(reason.count));
    let told = |((kind, _), reason): (&(String, String), &Reason)| {
        json!({
            "kind": printable(kind, LONGEST_ID),
            "count": reason.count,
            "message": printable(&reason.message, LONGEST_MESSAGE),
            "row": row(reason.line, &reason.id),
        })
    };
    json!({
        "total": all.values().map(|reason| reason.count).sum::<u64>(),
        "shown": sorted.into_iter().map(told).collect::<Vec<_>>(),
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
        "attempts": slow.attempts,
        "answered": slow.answered,
    })
}

/// `2026-11-27 19:04:05`, in UTC.
fn second(ms_since_1970: u64) -> String {
    let text = to_rfc3339(UNIX_EPOCH + Duration::from_millis(ms_since_1970));
    format!("{} {}", &text[..10], &text[11..19])
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
            report.stats.add(&facts);
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
    fn whatever_took_time_has_a_name() {
        let mut bound = report([answered("a", 0, 9)]);
        for binding in Binding::all() {
            bound.stats.times.add(binding, Duration::from_secs(1));
        }
        let page = bound.page(&RunInfo::default()).unwrap();
        for word in [
            "limit in flight",
            "server down",
            "shared limit",
            "other runs",
        ] {
            assert!(page.contains(word), "{word}: {page}");
        }
        let raw = Binding::all().map(|binding| format!("row\">{binding}</th>"));
        // The input is called so.
        let raw = raw.filter(|raw| page.contains(raw.as_str()));
        assert_eq!(
            raw.collect::<Vec<_>>(),
            ["row\">backoff</th>", "row\">input</th>"]
        );
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
            facts: vec![("limits", hostile.to_owned())],
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
