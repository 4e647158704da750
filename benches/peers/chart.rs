//! Draws the chart: a row for each workload, with the rates of the main servers relative to one of them.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::failure::{Failure, Result};
use crate::results::Results;

/// The servers in the chart, and their marks. Each has a shape and a colour of its own, from the palette of
/// Okabe and Ito for colour-blind readers. More marks would be hard to tell apart. The first server is drawn
/// on top, with its rate at the right.
const MARKS: [Mark; 5] = [
    Mark("echod", Shape::Disc, RGBColor(213, 94, 0)),
    Mark("go", Shape::Triangle, RGBColor(0, 158, 115)),
    Mark("socketserver", Shape::Square, RGBColor(204, 121, 167)),
    Mark("monoio", Shape::Cross, RGBColor(90, 90, 90)),
    Mark("tokio", Shape::Bar, RGBColor(0, 114, 178)),
];

/// The server whose rate is 1. If it was not measured, the first server's rate is 1.
const REFERENCE: &str = "tokio";

/// The rates with a vertical line, if the chart reaches that far.
const TICKS: [f64; 10] = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0];

const GUIDE: RGBColor = RGBColor(225, 225, 225);
const TEXT: RGBColor = RGBColor(40, 40, 40);

// In pixels.
const WIDTH: i32 = 860;
const LEFT: i32 = 150;
const RIGHT: i32 = 790;
const ABOVE: i32 = 100;
const BELOW: i32 = 50;
const ROW: i32 = 21;

#[derive(Clone, Copy)]
struct Mark(&'static str, Shape, RGBColor);

#[derive(Clone, Copy)]
enum Shape {
    Disc,
    Bar,
    Triangle,
    Square,
    Cross,
}

/// Draws the results into a file, with a title and the description of the machine.
pub(crate) fn draw(results: &Results, machine: &str, path: &Path) -> Result {
    let reference = results
        .contenders
        .iter()
        .position(|contender| contender == REFERENCE);
    let rows = rows(results, reference.unwrap_or(0));
    let title = format!(
        "Rate relative to {}, on a log scale: further right is faster",
        results.contenders[reference.unwrap_or(0)]
    );
    let height = ABOVE + BELOW + ROW * i32::try_from(rows.len()).unwrap_or(0);
    let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
    let canvas = Canvas {
        root: SVGBackend::new(path, size).into_drawing_area(),
        bottom: height - BELOW,
        scale: Scale::over(
            rows.iter()
                .flat_map(|row| &row.rates)
                .map(|(_, rate)| *rate),
        ),
    };
    canvas
        .paint(&rows, &title, machine)
        .map_err(|error| Failure::new(format!("cannot draw {}: {error}", path.display())))
}

struct Row {
    workload: String,
    rates: Vec<(Mark, f64)>,
}

fn rows(results: &Results, reference: usize) -> Vec<Row> {
    let rows = results.workloads.iter().map(|measured| {
        let rates = MARKS.into_iter().filter_map(|mark| {
            let contender = results
                .contenders
                .iter()
                .position(|contender| contender == mark.0)?;
            Some((mark, measured.ratio(contender, reference)?.median))
        });
        Row {
            workload: measured.workload.to_string(),
            rates: rates.collect(),
        }
    });
    rows.collect()
}

/// A logarithmic scale of rates.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn over(rates: impl Iterator<Item = f64>) -> Self {
        let (least, most) = rates.fold((0.5, 2.0), |(least, most): (f64, f64), rate| {
            (least.min(rate), most.max(rate))
        });
        Self {
            least: least / 1.15,
            most: most * 1.15,
        }
    }

    fn x(&self, rate: f64) -> i32 {
        let part = (rate / self.least).ln() / (self.most / self.least).ln();
        #[allow(clippy::cast_possible_truncation, reason = "a pixel of the chart")]
        let offset = (part * f64::from(RIGHT - LEFT)).round() as i32;
        LEFT + offset
    }
}

struct Canvas<'a> {
    root: DrawingArea<SVGBackend<'a>, Shift>,
    bottom: i32,
    scale: Scale,
}

type Painted<'a> =
    std::result::Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

impl<'a> Canvas<'a> {
    fn paint(&self, rows: &[Row], title: &str, machine: &str) -> Painted<'a> {
        // Without a background, a dark page would show through.
        self.root.fill(&WHITE)?;
        self.text(title, (16, 24), 17, HPos::Left, TEXT)?;
        self.text(machine, (16, 46), 12, HPos::Left, TEXT)?;
        self.legend(rows)?;
        for tick in TICKS {
            if (self.scale.least..self.scale.most).contains(&tick) {
                let x = self.scale.x(tick);
                self.line([(x, ABOVE), (x, self.bottom)], GUIDE)?;
                self.text(
                    &tick.to_string(),
                    (x, self.bottom + 16),
                    12,
                    HPos::Center,
                    TEXT,
                )?;
            }
        }
        let mut y = ABOVE + ROW / 2;
        for row in rows {
            self.text(&row.workload, (LEFT - 12, y), 12, HPos::Right, TEXT)?;
            self.line([(LEFT, y), (RIGHT, y)], GUIDE)?;
            for (Mark(_, shape, colour), rate) in row.rates.iter().rev() {
                self.mark((self.scale.x(*rate), y), *shape, *colour)?;
            }
            if let Some((Mark(_, _, colour), rate)) = row.rates.first() {
                let rate = format!("{rate:.2}");
                self.text(&rate, (WIDTH - 16, y), 12, HPos::Right, *colour)?;
            }
            y += ROW;
        }
        self.root.present()
    }

    fn legend(&self, rows: &[Row]) -> Painted<'a> {
        let mut x = LEFT;
        for Mark(name, shape, colour) in MARKS {
            let drawn = |row: &Row| row.rates.iter().any(|(mark, _)| mark.0 == name);
            if rows.iter().any(drawn) {
                self.mark((x, 74), shape, colour)?;
                self.text(name, (x + 14, 74), 13, HPos::Left, TEXT)?;
                if x == LEFT {
                    self.text(name, (WIDTH - 16, 74), 13, HPos::Right, colour)?;
                }
                x += 52 + 8 * i32::try_from(name.len()).unwrap_or(0);
            }
        }
        Ok(())
    }

    fn mark(&self, (x, y): (i32, i32), shape: Shape, colour: RGBColor) -> Painted<'a> {
        match shape {
            Shape::Disc => self.root.draw(&Circle::new((x, y), 6, colour.filled())),
            Shape::Bar => {
                let corners = [(x - 2, y - 9), (x + 2, y + 9)];
                self.root.draw(&Rectangle::new(corners, colour.filled()))
            }
            Shape::Triangle => {
                let mark = TriangleMarker::new((x, y), 6, colour.filled());
                self.root.draw(&mark)
            }
            Shape::Square => {
                let corners = [(x - 4, y - 4), (x + 4, y + 4)];
                self.root.draw(&Rectangle::new(corners, colour.filled()))
            }
            Shape::Cross => {
                let mark = Cross::new((x, y), 5, colour.stroke_width(2));
                self.root.draw(&mark)
            }
        }
    }

    fn line(&self, ends: [(i32, i32); 2], colour: RGBColor) -> Painted<'a> {
        self.root.draw(&PathElement::new(ends, colour))
    }

    fn text(
        &self,
        text: &str,
        at: (i32, i32),
        size: i32,
        align: HPos,
        colour: RGBColor,
    ) -> Painted<'a> {
        let style = ("sans-serif", size).into_font().color(&colour);
        let style = style.pos(Pos::new(align, VPos::Center));
        self.root.draw(&Text::new(text.to_owned(), at, style))
    }
}
