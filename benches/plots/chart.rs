//! Charts over time as SVG that stands in a page of documentation: no blank line in it, which would end
//! it in Markdown, and the page's own colour of text, be it dark on light or light on dark.

use std::fmt::Write as _;

/// What is drawn beside or below others, to the same scales.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) stroke: Stroke,
    /// In the order of x.
    pub(crate) points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy)]
pub(crate) enum Stroke {
    /// What is given: thin and dashed, in the colour of text.
    Given,
    Green,
    Red,
    Blue,
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 200.0;
/// Left of a panel for its numbers, above for its title, below for its numbers and the axis.
const LEFT: f64 = 44.0;
const ABOVE: f64 = 30.0;
const BELOW: f64 = 36.0;
/// At the top for the title and the legend.
const HEAD: f64 = 46.0;
const COLUMNS: usize = 2;

/// Draws panels, two in a row. `what` says for those who do not see it what there is to see.
pub(crate) fn svg(title: &str, what: &str, axes: (&str, &str), panels: &[Panel]) -> String {
    let points = || {
        let lines = panels.iter().flat_map(|panel| &panel.lines);
        lines.flat_map(|line| line.points.iter().copied())
    };
    let right = points().fold(0.0, |most, (x, _)| f64::max(most, x));
    let top = points().fold(0.0, |most, (_, y)| f64::max(most, y)) * 1.05;
    let rows = panels.len().div_ceil(COLUMNS);
    let width = WIDTH * COLUMNS.min(panels.len()) as f64;
    let height = HEAD + (ABOVE + HEIGHT + BELOW) * rows as f64;
    // The first line ends with its tag: only so it is a block of HTML in Markdown.
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" role=\"img\" font-family=\"sans-serif\" font-size=\"11\" fill=\"currentColor\">\n\
         <title>{what}</title>\n"
    );
    text(
        &mut svg,
        (LEFT, 16.0),
        "font-size=\"13\" font-weight=\"bold\"",
        title,
    );
    let mut x = LEFT;
    for line in panels.first().map_or(&[][..], |panel| &panel.lines) {
        let look = look(line.stroke);
        let _ = writeln!(svg, "<path d=\"M{x} 31h18\" {look}/>");
        text(&mut svg, (x + 22.0, 35.0), "", line.name);
        x += 38.0 + 6.0 * line.name.chars().count() as f64;
    }
    for (index, panel) in panels.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        let left = LEFT + WIDTH * column as f64;
        let up = HEAD + ABOVE + (ABOVE + HEIGHT + BELOW) * row as f64;
        let to = |(x, y): (f64, f64)| {
            (
                left + (WIDTH - LEFT - 10.0) * x / right,
                up + HEIGHT * (1.0 - y / top),
            )
        };
        draw(&mut svg, panel, axes, (right, top), to);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(
    svg: &mut String,
    panel: &Panel,
    (x_axis, y_axis): (&str, &str),
    (right, top): (f64, f64),
    to: impl Fn((f64, f64)) -> (f64, f64),
) {
    let ((left, bottom), (end, up)) = (to((0.0, 0.0)), to((right, top)));
    let axis = "fill=\"none\" stroke=\"currentColor\" stroke-opacity=\"0.6\"";
    let _ = writeln!(
        svg,
        "<path d=\"M{left:.0} {up:.0}V{bottom:.0}H{end:.0}\" {axis}/>"
    );
    text(svg, (left, up - 16.0), "font-weight=\"bold\"", &panel.title);
    text(svg, (left, up - 4.0), "", y_axis);
    text(svg, (end, bottom + 28.0), "text-anchor=\"end\"", x_axis);
    for x in ticks(right) {
        let (x_at, _) = to((x, 0.0));
        text(
            svg,
            (x_at, bottom + 14.0),
            "text-anchor=\"middle\"",
            &x.to_string(),
        );
    }
    for y in ticks(top) {
        let (_, y_at) = to((0.0, y));
        let grid = "stroke=\"currentColor\" stroke-opacity=\"0.15\"";
        let _ = writeln!(svg, "<path d=\"M{left:.0} {y_at:.1}H{end:.0}\" {grid}/>");
        text(
            svg,
            (left - 5.0, y_at + 4.0),
            "text-anchor=\"end\"",
            &y.to_string(),
        );
    }
    for line in panel.lines.iter().filter(|line| !line.points.is_empty()) {
        let mut path = String::new();
        for (x, y) in bends(line.points.iter().map(|point| to(*point))) {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{x} {y}");
        }
        let _ = writeln!(svg, "<path d=\"{path}\" {}/>", look(line.stroke));
    }
}

/// Points in half pixels, without those between two others at the same height.
fn bends(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let half = |number: f64| (2.0 * number).round() / 2.0;
    let mut bends: Vec<(f64, f64)> = Vec::new();
    for (x, y) in points.map(|(x, y)| (half(x), half(y))) {
        let is_same = |other: f64| (other - y).abs() < 0.25;
        if matches!(bends[..], [.., (_, before), (_, last)] if is_same(before) && is_same(last)) {
            bends.pop();
        }
        bends.push((x, y));
    }
    bends
}

/// Round numbers from zero to `end`, some five of them.
fn ticks(end: f64) -> Vec<f64> {
    let magnitude = 10.0_f64.powf(end.max(1e-9).log10().floor());
    let steps = [0.1, 0.2, 0.5, 1.0, 2.0].map(|step| step * magnitude);
    let step = steps.into_iter().find(|step| end / step <= 6.0);
    let step = step.unwrap_or(end);
    let ticks = (0..7).map(|tick| f64::from(tick) * step);
    ticks.take_while(|tick| *tick <= end).collect()
}

fn look(stroke: Stroke) -> &'static str {
    match stroke {
        Stroke::Given => "fill=\"none\" stroke=\"currentColor\" stroke-dasharray=\"5 4\"",
        Stroke::Green => "fill=\"none\" stroke=\"#2a9d6f\" stroke-width=\"1.6\"",
        Stroke::Red => "fill=\"none\" stroke=\"#e0553c\" stroke-width=\"1.6\"",
        Stroke::Blue => "fill=\"none\" stroke=\"#5b8def\" stroke-width=\"1.6\"",
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" {style}>{words}</text>"
    );
}
