//! From single runs to medians, and from medians to Markdown.

use std::fmt::Write as _;
use std::fs;

use crate::contenders::{CONTENDERS, FLOOR};
use crate::rows::Row;
use crate::sitting::{Run, Sitting};

/// What the clients needed for one row.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) row: Row,
    pub(crate) lines: Vec<Line>,
    /// Who is not in it, or in fewer rounds, and why.
    notes: Vec<String>,
}

/// One client's medians.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) client: String,
    pub(crate) wall_s: f64,
    pub(crate) cpu_us: f64,
    pub(crate) peak_mib: f64,
    server_cpu_us: f64,
}

/// The median of each figure on its own; clients in the order in which they ran.
pub(crate) fn tables(rows: &[Row], sitting: &Sitting) -> Vec<Table> {
    rows.iter()
        .map(|&row| {
            let of_row = sitting.runs.iter().filter(|run| run.row == row.name);
            let of_row: Vec<_> = of_row.collect();
            let mut names: Vec<&str> = Vec::new();
            for run in &of_row {
                if !names.contains(&run.client.as_str()) {
                    names.push(&run.client);
                }
            }
            let per_request = 1e6 / row.requests as f64;
            let lines = names.into_iter().map(|client| {
                let median = |figure: fn(&Run) -> f64| {
                    let own = of_row.iter().filter(|run| run.client == client);
                    median(own.map(|run| figure(run)).collect())
                };
                Line {
                    client: client.to_owned(),
                    wall_s: median(|run| run.figures.wall_s),
                    cpu_us: median(|run| run.figures.cpu_s) * per_request,
                    peak_mib: median(|run| run.figures.peak_kib as f64) / 1024.0,
                    server_cpu_us: median(|run| run.server_cpu_s) * per_request,
                }
            });
            let notes = sitting.notes.iter().filter(|note| note.0 == row.name);
            Table {
                row,
                lines: lines.collect(),
                notes: notes.map(|note| note.1.clone()).collect(),
            }
        })
        .collect()
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

pub(crate) fn markdown(tables: &[Table]) -> String {
    let base = CONTENDERS[0].name;
    let mut text = "## Requests\n\nMedians".to_owned();
    if tables
        .iter()
        .any(|table| table.lines.iter().any(|line| line.client == base))
    {
        let _ = write!(
            text,
            "; in brackets how many times as much as `{base}` needs"
        );
    }
    text.push_str(
        ". CPU is the client's own process, user and system, from its first instruction on (Python's \
         start with its imports included); the server's beside it.\n",
    );
    for table in tables {
        let row = table.row;
        let _ = write!(text, "\n### {}\n\n", row.title());
        if !row.ideal().is_zero() {
            let _ = write!(text, "Ideal: {:.3} s.\n\n", row.ideal().as_secs_f64());
        }
        text.push_str(
            "| client | wall, s | requests a second | CPU a request, µs | peak, MiB | server's CPU a request, µs |\n\
             |---|---|---|---|---|---|\n",
        );
        let first = table.lines.iter().find(|line| line.client == base);
        for line in &table.lines {
            let times = |figure: fn(&Line) -> f64| {
                first
                    .filter(|first| first.client != line.client && figure(first) > 0.0)
                    .map(|first| format!(" (× {:.2})", figure(line) / figure(first)))
                    .unwrap_or_default()
            };
            let _ = writeln!(
                text,
                "| {} | {:.3}{} | {:.0} | {:.1}{} | {:.1}{} | {:.1} |",
                line.client,
                line.wall_s,
                times(|line| line.wall_s),
                row.requests as f64 / line.wall_s,
                line.cpu_us,
                times(|line| line.cpu_us),
                line.peak_mib,
                times(|line| line.peak_mib),
                line.server_cpu_us,
            );
        }
        let _ = write!(text, "\n{}\n", is_server_quick_enough(&table.lines));
        for note in &table.notes {
            let _ = write!(text, "\n{note}\n");
        }
    }
    text.push('\n');
    text
}

/// Whether the floor was ahead of everyone, so that the server held nobody up.
fn is_server_quick_enough(lines: &[Line]) -> String {
    let wall = |floor: bool| {
        lines
            .iter()
            .filter(move |line| line.client.starts_with(FLOOR) == floor)
            .map(|line| line.wall_s)
            .min_by(f64::total_cmp)
    };
    match (wall(true), wall(false)) {
        (Some(floor), Some(best)) if floor < best => format!(
            "The server is not the bottleneck: raw sockets needed {floor:.3} s on it, the quickest \
             client {best:.3} s."
        ),
        (Some(floor), Some(best)) => format!(
            "**Raw sockets, {floor:.3} s, were not ahead of the quickest client, {best:.3} s: within \
             noise of each other, or this row measures the server.**"
        ),
        _ => "Raw sockets or everyone else did not run: nothing here shows that the server was \
              quick enough."
            .to_owned(),
    }
}

/// Where, on what and how often it was measured.
pub(crate) fn machine(rounds: usize, smoke: bool) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("CPU of no name", |rest| rest.trim_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let lock = include_str!("../Cargo.lock");
    let versions: Vec<_> = [
        "tollgate",
        "ureq",
        "reqwest",
        "hyper",
        "tokio",
        "async-openai",
        "rustls",
        "governor",
    ]
    .map(|name| format!("{name} {}", version(lock, name).unwrap_or("?")))
    .into();
    let size = if smoke {
        "**A smoke: a tenth of the size, which shows that it works and nothing else.** "
    } else {
        ""
    };
    format!(
        "# tollgate beside its peers\n\n\
         {size}Rounds: {rounds}. {cores} × {model}, Linux {}, load {} before it began (it should be \
         near 0). {}.\n\n",
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default(),
        versions.join(", "),
    )
}

/// Who would have taken part on a machine with their package.
pub(crate) fn absent(names: &[&str]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!(
        "Not in it, for this Python has not their packages (`PEERS_PYTHON` names another): {}.\n\n",
        names.join("; "),
    )
}

fn version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(after.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use peers::figures::Figures;

    use super::{absent, markdown, median, tables, version};
    use crate::rows::ROWS;
    use crate::sitting::{Run, Sitting};

    fn run(client: &str, round: usize, wall_s: f64) -> Run {
        let figures = Figures {
            wall_s,
            cpu_s: 1.6,
            peak_kib: 102_400,
            answers: 16_000,
        };
        Run {
            row: ROWS[0].name,
            client: client.to_owned(),
            round,
            figures,
            server_cpu_s: 0.8,
        }
    }

    #[test]
    fn a_table_has_medians_ratios_the_floor_and_who_is_missing() {
        let (first, other, floor) = (
            "tollgate: chat_all",
            "async-openai",
            "raw sockets on threads",
        );
        let sitting = Sitting {
            runs: vec![
                run(first, 1, 4.0),
                run(first, 2, 9.0),
                run(first, 3, 4.2),
                run(other, 1, 8.4),
                run(floor, 1, 4.1),
            ],
            notes: vec![
                (
                    ROWS[0].name,
                    "**async-openai failed in round 2: why.**".to_owned(),
                ),
                (ROWS[1].name, "of another row".to_owned()),
            ],
            failed: 1,
        };
        let text = markdown(&tables(&ROWS[..1], &sitting));
        for expected in [
            "| tollgate: chat_all | 4.200 | 3810 | 100.0 | 100.0 | 50.0 |",
            "| async-openai | 8.400 (× 2.00) | 1905 | 100.0 (× 1.00) | 100.0 (× 1.00) | 50.0 |",
            "raw sockets needed 4.100 s on it, the quickest client 4.200 s",
            "**async-openai failed in round 2: why.**",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
        }
        assert!(!text.contains("of another row"), "{text}");
    }

    #[test]
    fn who_is_absent_is_named_and_nobody_is_if_nobody_is() {
        assert!(
            absent(&["Python: aiohttp", "Python: openai"])
                .ends_with("aiohttp; Python: openai.\n\n")
        );
        assert_eq!(absent(&[]), "");
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }

    #[test]
    fn a_version_is_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"a-b\"\nversion = \"1\"\n\n[[package]]\nname = \"b\"\nversion = \"2\"\n";
        assert_eq!(version(lock, "b"), Some("2"));
        assert_eq!(version(lock, "c"), None);
    }
}
