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

const RIGHT_EDGE: f64 = WIDTH - RIGHT;
const BOTTOM_EDGE: f64 = HEIGHT - BOTTOM;

/// An axis: decades, and the places on the picture of the first and the last.
struct Axis {
    decades: (i32, i32),
    from: f64,
    to: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let (low, high) = self.decades;
        let part = (value.log10() - f64::from(low)) / f64::from(high - low);
        self.from + part * (self.to - self.from)
    }

    /// Exponents, and where they are.
    fn marks(&self) -> impl Iterator<Item = (i32, f64)> {
        (self.decades.0..=self.decades.1).map(|e| (e, self.at(10f64.powi(e))))
    }
}

impl Plot {
    pub(crate) fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis {
            decades: decades(all().map(|p| p.0)),
            from: LEFT,
            to: RIGHT_EDGE,
        };
        let y = Axis {
            decades: decades(all().map(|p| p.1)),
            from: BOTTOM_EDGE,
            to: TOP,
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            self.title
        );
        self.axes(&mut svg, &x, &y);
        for (i, series) in self.series.iter().enumerate() {
            let points = series.points.iter().filter(|p| p.1 > 0.0);
            let points: Vec<(f64, f64)> = points.map(|p| (x.at(p.0), y.at(p.1))).collect();
            line(&mut svg, i, &series.name, &points);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        for (e, at) in x.marks() {
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {TOP}V{BOTTOM_EDGE}\" stroke=\"#ddd\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                BOTTOM_EDGE + 16.0,
                label(e)
            );
        }
        for (e, at) in y.marks() {
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{RIGHT_EDGE}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                label(e)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, RIGHT_EDGE),
            HEIGHT - 10.0,
            self.x,
            f64::midpoint(TOP, BOTTOM_EDGE),
            self.y
        );
    }
}

/// Points, what joins them, and the name beside the picture.
fn line(svg: &mut String, number: usize, name: &str, points: &[(f64, f64)]) {
    let colour = COLOURS[number % COLOURS.len()];
    let mut path = String::new();
    for (x, y) in points {
        let _ = write!(
            path,
            "{}{x:.1} {y:.1}",
            if path.is_empty() { "M" } else { "L" }
        );
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
        );
    }
    let at = TOP + 14.0 + 18.0 * number as f64;
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>\n\
         <path d=\"M{} {}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>\
         <text x=\"{}\" y=\"{at}\">{name}</text>",
        RIGHT_EDGE + 12.0,
        at - 4.0,
        RIGHT_EDGE + 36.0,
    );
}
