// SPDX-License-Identifier: MIT OR Apache-2.0
//! Growth as a picture: both axes logarithmic, a line for each candidate. Plain SVG.

use std::fmt::Write;

pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

pub(crate) struct Plot {
    /// The file's name, without `.svg`.
    pub(crate) file: &'static str,
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) series: Vec<Series>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
const COLOURS: [&str; 10] = [
    "#1b6ca8", "#d1495b", "#2e8b57", "#edae49", "#7b5ea7", "#00798c", "#8d5524", "#777777",
    "#c71585", "#556b2f",
];

/// Decades that hold all values.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let logs: Vec<f64> = values.filter(|&v| v > 0.0).map(f64::log10).collect();
    let low = logs.iter().copied().fold(f64::INFINITY, f64::min).floor() as i32;
    let high = logs
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max)
        .ceil() as i32;
    (low, high.max(low + 1))
}

fn label(exponent: i32) -> String {
    match exponent {
        -9..0 => format!("{:.*}", -exponent as usize, 10f64.powi(exponent)),
        0..4 => format!("{}", 10i64.pow(exponent as u32)),
        _ => format!("1e{exponent}"),
    }
}

impl Plot {
    pub(crate) fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let (x0, x1) = decades(all().map(|p| p.0));
        let (y0, y1) = decades(all().map(|p| p.1));
        let x = |v: f64| {
            LEFT + (v.log10() - f64::from(x0)) / f64::from(x1 - x0) * (WIDTH - LEFT - RIGHT)
        };
        let y = |v: f64| {
            HEIGHT
                - BOTTOM
                - (v.log10() - f64::from(y0)) / f64::from(y1 - y0) * (HEIGHT - TOP - BOTTOM)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            self.title
        );
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for e in x0..=x1 {
            let at = x(10f64.powi(e));
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                label(e)
            );
        }
        for e in y0..=y1 {
            let at = y(10f64.powi(e));
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                label(e)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n<text transform=\"translate(16 {:.1}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 10.0,
            self.x,
            f64::midpoint(TOP, bottom),
            self.y
        );
        for (i, series) in self.series.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let mut points = series
                .points
                .iter()
                .filter(|p| p.1 > 0.0)
                .map(|p| (x(p.0), y(p.1)))
                .peekable();
            let mut path = String::new();
            for (px, py) in points.by_ref() {
                let _ = write!(
                    path,
                    "{}{px:.1} {py:.1}",
                    if path.is_empty() { "M" } else { "L" }
                );
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
                );
            }
            let at = TOP + 14.0 + 18.0 * i as f64;
            let _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>\n<path d=\"M{:.1} {:.1}h18\" \
                 stroke=\"{colour}\" stroke-width=\"3\"/><text x=\"{:.1}\" y=\"{at:.1}\">{}</text>",
                right + 12.0,
                at - 4.0,
                right + 36.0,
                series.name
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}
