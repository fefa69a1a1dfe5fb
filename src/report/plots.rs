//! Plots as SVG, for a page that colours them.
//!
//! `plotters` draws: it is the crate for plots that most programs use and that is still kept, its
//! SVG is plain text and needs neither a font nor a system library, and it finds the numbers on the
//! axes. `charming` and `plotly` bring JavaScript, and `poloto` leaves the layout to the browser.
//!
//! plotters writes a colour as an attribute. The page's style sheet has rules for exactly those
//! attributes and wins over them, so the same plot has other colours in the dark: an [`Ink`] is a
//! name, not a colour.

use std::io;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, ErrorKind, Result};

/// Ten units are a pixel of the page: plotters draws at whole numbers only.
const SIZE: (u32, u32) = (4_200, 1_900);
const FONT: u32 = 142;
const LINE: u32 = 16;
const HAIRLINE: u32 = 9;

/// What a line, an area or a text is drawn with. The style sheet knows each by its colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ink {
    First = 1,
    Second,
    Limit,
    Text,
    Rule,
}

impl Ink {
    fn color(self) -> RGBColor {
        RGBColor(self as u8, self as u8, self as u8)
    }
}

/// Something in a plot, in the units of its axes.
#[derive(Clone, Debug)]
pub(super) enum Mark {
    /// An area above the axis.
    Area(Ink, Vec<(f64, f64)>),
    /// Left, right and height.
    Bars(Vec<(f64, f64, f64)>),
    /// A line across, with a word above it.
    Limit(f64, String),
    /// A line from the axis up, with a word beside its end.
    Up(Ink, f64, &'static str, Side),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Left,
    Right,
}

#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) marks: Vec<Mark>,
    /// Where the axes end, and what they count.
    pub(super) x: (f64, &'static str),
    pub(super) y: (f64, &'static str),
}

type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;
type Chart<'s> = ChartContext<'s, SVGBackend<'s>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Plot {
    /// The content of an `svg` element that is [`SIZE`] large.
    ///
    /// # Errors
    /// If `plotters` cannot draw it.
    pub(super) fn svg(mut self) -> Result<String> {
        for end in [&mut self.x.0, &mut self.y.0] {
            *end = if *end > 0.0 { *end } else { 1.0 };
        }
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        self.draw(&root).map_err(|error| {
            let message = format!("a plot cannot be drawn: {error}");
            Error::new(ErrorKind::Io, message)
        })?;
        drop(root);
        // The page has an opening tag of its own, with words for those who do not see it.
        let (_, content) = svg.split_once('>').unwrap_or_default();
        Ok(content.trim().trim_end_matches("</svg>").to_owned())
    }

    fn draw(&self, root: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
        let mut chart = ChartBuilder::on(root)
            .margin_top(220)
            .margin_right(60)
            .x_label_area_size(350)
            .y_label_area_size(480)
            .build_cartesian_2d(0.0..self.x.0, 0.0..self.y.0)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(0)
            .bold_line_style(Ink::Rule.color().stroke_width(HAIRLINE))
            .axis_style(Ink::Rule.color().stroke_width(HAIRLINE))
            .set_all_tick_mark_size(36)
            .label_style(text(Ink::Text, HPos::Left, VPos::Center))
            .x_labels(7)
            .y_labels(5)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .x_desc(self.x.1)
            .draw()?;
        root.draw(&Text::new(
            self.y.1,
            (40, 20),
            text(Ink::Text, HPos::Left, VPos::Top),
        ))?;
        for mark in &self.marks {
            self.draw_mark(mark, &mut chart)?;
        }
        root.present()
    }

    fn draw_mark(&self, mark: &Mark, chart: &mut Chart<'_>) -> Drawn {
        // plotters counts beyond its numbers where something is far outside of the plot.
        let (right, top) = (self.x.0, self.y.0);
        let inside = |x: f64, y: f64| (x.clamp(0.0, right), y.clamp(0.0, top));
        let line = |points: &[(f64, f64)], ink: Ink| {
            let points = points.iter().map(|(x, y)| inside(*x, *y));
            PathElement::new(points.collect::<Vec<_>>(), ink.color().stroke_width(LINE))
        };
        match mark {
            Mark::Area(ink, points) => {
                let inside = points.iter().map(|(x, y)| inside(*x, *y));
                chart.draw_series(AreaSeries::new(inside, 0.0, ink.color().mix(0.16)))?;
                chart.draw_series([line(points, *ink)])?;
            }
            Mark::Bars(bars) => {
                let style = Ink::First.color().mix(0.75).filled();
                let bar = |(left, right, height): &(f64, f64, f64)| {
                    Rectangle::new([inside(*left, 0.0), inside(*right, *height)], style)
                };
                chart.draw_series(bars.iter().map(bar))?;
            }
            Mark::Limit(at, word) => {
                chart.draw_series([line(&[(0.0, *at), (right, *at)], Ink::Limit)])?;
                let style = text(Ink::Limit, HPos::Right, VPos::Bottom);
                chart.draw_series([Text::new(word.clone(), inside(right, *at), style)])?;
            }
            Mark::Up(ink, at, word, side) => {
                chart.draw_series([line(&[(*at, 0.0), (*at, top)], *ink)])?;
                let across = match side {
                    Side::Left => HPos::Right,
                    Side::Right => HPos::Left,
                };
                let style = text(*ink, across, VPos::Bottom);
                chart.draw_series([Text::new(*word, inside(*at, top), style)])?;
            }
        }
        Ok(())
    }
}

fn text(ink: Ink, across: HPos, down: VPos) -> TextStyle<'static> {
    let style = ("sans-serif", FONT).into_font().color(&ink.color());
    style.pos(Pos::new(across, down))
}

/// A number on an axis: `0.25`, `40`, `1,200`, `15k`, `2.5M`.
fn short(number: f64) -> String {
    let rounded = |number: f64| {
        let text = format!("{number:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match number {
        number if number >= 1e9 => rounded(number / 1e9) + "G",
        number if number >= 1e6 => rounded(number / 1e6) + "M",
        number if number >= 1e4 => rounded(number / 1e3) + "k",
        number => rounded(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_an_axis_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (0.1 + 0.2, "0.3"),
            (40.0, "40"),
            (1_500.0, "1500"),
            (15_000.0, "15k"),
            (2_500_000.0, "2.5M"),
            (3e9, "3G"),
        ] {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn a_plot_of_anything_is_drawn() {
        let marks = vec![
            Mark::Area(Ink::First, vec![(0.0, 1.0), (1.0, 1.0)]),
            Mark::Bars(vec![(0.0, 0.5, 2.0)]),
            Mark::Limit(1.5, "limit <1>".to_owned()),
            Mark::Up(Ink::Second, 0.5, "p50", Side::Left),
            Mark::Up(Ink::Text, 0.2, "", Side::Right),
        ];
        for end in [0.0, 1e-9, 1.0, 1e18] {
            let plot = Plot {
                marks: marks.clone(),
                x: (end, "s"),
                y: (end, "a second"),
            };
            let svg = plot.svg().unwrap();
            assert!(
                svg.contains("#010101") && svg.contains("&lt;1&gt;"),
                "{svg}"
            );
            assert!(!svg.contains("<svg") && !svg.contains("</svg"), "{svg}");
        }
    }
}
