//! One chart: lines over two axes, as a self-contained SVG text with a light background.
//!
//! The only file that knows the plotting crate. Logarithmic axes are drawn as linear ones of the logarithm, so that
//! there is one kind of axis, and ticks are chosen here, so that labels are round numbers. Pure.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;

/// What to draw.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

/// An axis: its name with its unit, and where its numbers are.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) scale: Scale,
    /// Factor from the points' unit to the label's.
    pub(super) per_unit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0.
    Linear,
    /// Of positive values.
    Log,
    /// Quantiles below 1, the nines spread out.
    Nines,
}

/// A named line.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: u32 = 900;
const HEIGHT: u32 = 440;
/// Okabe and Ito's colours, which colour-blind people can tell apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x55, 0x55, 0x55),
];
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const FONT: &str = "sans-serif";

impl Chart {
    /// The SVG text.
    pub(super) fn draw(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw_into(&mut svg).map_err(|error| anyhow!("{error}"))?;
        Ok(svg)
    }

    fn draw_into(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let (x_range, x_ticks) = self.x.range(all().map(|point| point.0));
        let (y_range, y_ticks) = self.y.range(all().map(|point| point.1));
        let area = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, (FONT, 18).into_font().color(&INK))
            .margin(14)
            .margin_right(30)
            .x_label_area_size(48)
            .y_label_area_size(76)
            .build_cartesian_2d(Drawn { range: x_range, ticks: x_ticks }, Drawn { range: y_range, ticks: y_ticks })?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style((FONT, 13).into_font().color(&INK))
            .axis_desc_style((FONT, 14).into_font().color(&INK))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|value| self.x.write(*value))
            .y_label_formatter(&|value| self.y.write(*value))
            .draw()?;
        for (series, colour) in self.series.iter().zip(COLOURS.into_iter().cycle()) {
            let points = series.points.iter().map(|(x, y)| (self.x.place(*x), self.y.place(*y)));
            let line = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points, line))?
                .label(&series.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], line));
        }
        if self.series.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .margin(12)
                .label_font((FONT, 13).into_font().color(&INK))
                .background_style(WHITE.mix(0.85))
                .border_style(GRID)
                .draw()?;
        }
        area.present()?;
        Ok(())
    }
}

impl Axis {
    pub(super) fn new(label: &str, scale: Scale, per_unit: f64) -> Self {
        Self { label: label.to_owned(), scale, per_unit }
    }

    /// Where a value lies on the drawn axis.
    fn place(&self, value: f64) -> f64 {
        let value = value * self.per_unit;
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Nines => -(1.0 - value).max(1e-9).log10(),
        }
    }

    /// The drawn range around the values and the places of its ticks.
    fn range(&self, values: impl Iterator<Item = f64>) -> (Range<f64>, Vec<f64>) {
        let places: Vec<f64> = values.map(|value| self.place(value)).filter(|place| place.is_finite()).collect();
        let low = places.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let high = places.iter().copied().reduce(f64::max).unwrap_or(1.0);
        match self.scale {
            Scale::Linear => {
                let high = if high > 0.0 { high * 1.05 } else { 1.0 };
                let step = round_step(high / 8.0);
                (0.0..high, (0..=(high / step) as u32).map(|n| f64::from(n) * step).collect())
            }
            Scale::Log => {
                // At least one decade, or a flat line would look like noise.
                let middle = f64::midpoint(low, high);
                let (low, high) = (low.min(middle - 0.5) - 0.05, high.max(middle + 0.5) + 0.05);
                let digits: &[f64] = if high - low > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let decades = (low.floor() as i32)..=(high.ceil() as i32);
                let ticks =
                    decades.flat_map(|decade| digits.iter().map(move |digit| digit.log10() + f64::from(decade)));
                (low..high, ticks.filter(|tick| (low..=high).contains(tick)).collect())
            }
            Scale::Nines => {
                let ticks = [0.0, 0.5, 0.9, 0.99, 0.999, 0.999_9, 0.999_99, 0.999_999, 0.999_999_9];
                let ticks = ticks.map(|quantile| -(1.0_f64 - quantile).log10());
                (0.0..high.max(1.0), ticks.into_iter().filter(|tick| *tick <= high.max(1.0)).collect())
            }
        }
    }

    /// The label of a place.
    fn write(&self, place: f64) -> String {
        match self.scale {
            Scale::Linear => plain(place),
            Scale::Log => plain(10_f64.powf(place)),
            Scale::Nines => {
                let percent = 100.0 * (1.0 - 10_f64.powf(-place));
                format!("{} %", crate::units::trimmed(percent, (place - 1.5).max(0.0).round() as usize))
            }
        }
    }
}

/// A range with given ticks, as the plotting crate wants it.
struct Drawn {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Drawn {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        start + (share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// 1, 2 or 5 times a power of ten, at least as large as given.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= least * 0.999).unwrap_or(least)
}

/// A number of an axis: three digits that matter, groups of thousands as `k` and `m`.
fn plain(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}m", crate::units::trimmed(value / 1e6, 2)),
        size if size >= 1e4 => format!("{}k", crate::units::trimmed(value / 1e3, 1)),
        size if size >= 1e3 => crate::units::grouped(value.round() as u64),
        size if size >= 1.0 => crate::units::trimmed(value, 2),
        _ => crate::units::trimmed(value, 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crooked numbers at an axis make a chart unreadable.
    #[test]
    fn ticks_are_round() {
        let axis = Axis::new("", Scale::Linear, 1.0);
        let (range, ticks) = axis.range([0.0, 5_230.0].into_iter());
        assert_eq!((range.start, ticks[1], ticks.len()), (0.0, 1_000.0, 6));
        let axis = Axis::new("", Scale::Log, 1e-3);
        let (range, ticks) = axis.range([120.0, 9_000.0].into_iter());
        let labels: Vec<String> = ticks.iter().map(|tick| axis.write(*tick)).collect();
        assert_eq!(labels, ["0.2", "0.5", "1", "2", "5", "10"]);
        assert!(range.start < 0.12_f64.log10() && range.end > 9_f64.log10());
        let axis = Axis::new("", Scale::Nines, 1.0);
        let labels: Vec<String> = axis.range([0.9999].into_iter()).1.iter().map(|tick| axis.write(*tick)).collect();
        assert_eq!(labels, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    /// A record without a single sample must not end the report.
    #[test]
    fn empty_series_are_drawn() {
        let axis = |scale| Axis::new("label", scale, 1.0);
        let series = vec![Series { name: "a".to_owned(), points: Vec::new() }];
        let chart = Chart { title: "title".to_owned(), x: axis(Scale::Linear), y: axis(Scale::Log), series };
        let svg = chart.draw().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("title") && svg.contains("label"));
    }
}
