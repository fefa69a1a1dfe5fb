//! The tables as bars: a row of the plot for each table, and a panel for each of wall time, CPU and
//! memory. Plain SVG, so that it needs nothing but a browser.

use std::fmt::Write as _;

use crate::report::{Line, Table};

const LABELS: f64 = 250.0;
const PANEL: f64 = 230.0;
const GAP: f64 = 24.0;
/// For the figure at the end of a bar.
const FIGURE: f64 = 62.0;
const BAR: f64 = 18.0;
const HEAD: f64 = 58.0;
const MARGIN: f64 = 20.0;

struct Panel {
    title: &'static str,
    figure: fn(&Line) -> f64,
    decimals: usize,
}

const PANELS: [Panel; 3] = [
    Panel {
        title: "wall, s",
        figure: |line| line.wall_s,
        decimals: 2,
    },
    Panel {
        title: "CPU a request, µs",
        figure: |line| line.cpu_us,
        decimals: 0,
    },
    Panel {
        title: "peak memory, MiB",
        figure: |line| line.peak_mib,
        decimals: 0,
    },
];

pub(crate) fn svg(tables: &[Table]) -> String {
    let width = 2.0 * MARGIN + LABELS + PANELS.len() as f64 * (PANEL + GAP);
    let height = 2.0 * MARGIN + tables.iter().map(height_of).sum::<f64>();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut top = MARGIN;
    for table in tables {
        draw(&mut svg, table, top);
        top += height_of(table);
    }
    svg.push_str("</svg>\n");
    svg
}

fn height_of(table: &Table) -> f64 {
    HEAD + BAR * table.lines.len() as f64 + GAP
}

fn draw(svg: &mut String, table: &Table, top: f64) {
    let title = table.row.title();
    text(
        svg,
        MARGIN,
        top + 16.0,
        "font-size=\"15\" font-weight=\"bold\"",
        &title,
    );
    for (index, panel) in PANELS.iter().enumerate() {
        let left = MARGIN + LABELS + index as f64 * (PANEL + GAP);
        text(svg, left, top + 44.0, "fill=\"#555555\"", panel.title);
        let most = scale_end(table.lines.iter().map(panel.figure));
        for (place, line) in table.lines.iter().enumerate() {
            let y = top + HEAD + BAR * place as f64;
            let value = (panel.figure)(line);
            if index == 0 {
                text(svg, MARGIN, y + 12.0, "fill=\"#222222\"", &line.client);
            }
            let share = if most > 0.0 {
                (value / most).min(1.0)
            } else {
                0.0
            };
            let length = (PANEL - FIGURE) * share;
            let _ = writeln!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                BAR - 5.0,
                colour(&line.client),
            );
            // A bar that is cut says so.
            let cut = if value > most { "≫ " } else { "" };
            let figure = format!("{cut}{value:.*}", panel.decimals);
            text(
                svg,
                left + length + 4.0,
                y + 11.0,
                "fill=\"#222222\"",
                &figure,
            );
        }
    }
}

/// The end of a panel's scale: the most, unless it would dwarf the first, who is compared with all.
fn scale_end(mut values: impl Iterator<Item = f64>) -> f64 {
    let first = values.next().unwrap_or(0.0);
    values.fold(first, f64::max).min(4.0 * first)
}

fn colour(client: &str) -> &'static str {
    match client {
        name if name.starts_with("tollgate") => "#1b7f5c",
        name if name.starts_with("raw") => "#9aa0a6",
        name if name.starts_with("ureq") => "#c77d2b",
        name if name.starts_with("Python") => "#4b78b8",
        _ => "#8a5a9e",
    }
}

fn text(svg: &mut String, x: f64, y: f64, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::scale_end;

    #[test]
    fn a_giant_does_not_dwarf_the_first() {
        let ends = |values: &[f64]| format!("{:.1}", scale_end(values.iter().copied()));
        assert_eq!(ends(&[2.0, 3.0]), "3.0");
        assert_eq!(ends(&[2.0, 900.0]), "8.0");
        assert_eq!(ends(&[]), "0.0");
    }
}
