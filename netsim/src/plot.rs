//! Charts with lines, as SVG.

use std::fmt::Write;

/// The size of the picture, and of the space around the lines, in pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 120.0;

/// Of lines with more points than these only the line is drawn.
const DOTS_MAX: usize = 50;

/// Told apart by people who see colours differently, too (Okabe, Ito, 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];
const DASHES: [&str; 3] = ["", "6 4", "2 3"];

/// Lines over one pair of axes.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

/// What one direction means.
pub(crate) struct Axis {
    pub(crate) name: String,
    /// What is not above 0 has no place on it.
    pub(crate) is_logarithmic: bool,
}

/// A line and what it stands for.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Which values an axis shows, and where its marks are.
struct Range {
    from: f64,
    until: f64,
    is_logarithmic: bool,
    marks: Vec<f64>,
}

impl Range {
    fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let usable = values.filter(|value| value.is_finite() && (!axis.is_logarithmic || *value > 0.0));
        let (least, most) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        let (least, most) = if least <= most { (least, most) } else { (1.0, 10.0) };
        if axis.is_logarithmic {
            let (from, until) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
            let marks = (from as i32..=until as i32).map(|power| 10f64.powi(power)).collect();
            return Self { from, until, is_logarithmic: true, marks };
        }
        let (from, until) = (least.min(0.0), most.max(least.min(0.0) + 1.0));
        let rough = (until - from) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let until = (until / step).ceil() * step;
        let marks =
            (0..=((until - from) / step).round() as i32).map(|mark| from + f64::from(mark) * step).collect();
        Self { from, until, is_logarithmic: false, marks }
    }

    /// Returns where a value is, between 0 and 1; none where it has no place.
    fn share(&self, value: f64) -> Option<f64> {
        let value = match self.is_logarithmic {
            true if value > 0.0 => value.log10(),
            true => return None,
            false => value,
        };
        Some((value - self.from) / (self.until - self.from))
    }
}

impl Chart {
    /// Draws it; the same values give the same bytes.
    pub(crate) fn to_svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Range::of(&self.x, points().map(|point| point.0));
        let y = Range::of(&self.y, points().map(|point| point.1));
        let across = |share: f64| LEFT + share * (WIDTH - LEFT - RIGHT);
        let down = |share: f64| HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
        let mut svg = String::new();
        let mut put = |line: String| {
            // A string takes whatever is written to it.
            let _ = writeln!(svg, "{line}");
        };
        put(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">"
        ));
        put(format!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"));
        put(text(WIDTH / 2.0, 22.0, "middle", &self.title));
        for (mark, share) in x.marks.iter().filter_map(|mark| Some((*mark, x.share(*mark)?))) {
            put(grid((across(share), down(0.0)), (across(share), down(1.0))));
            put(text(across(share), down(0.0) + 16.0, "middle", &number(mark)));
        }
        for (mark, share) in y.marks.iter().filter_map(|mark| Some((*mark, y.share(*mark)?))) {
            put(grid((across(0.0), down(share)), (across(1.0), down(share))));
            put(text(across(0.0) - 6.0, down(share) + 4.0, "end", &number(mark)));
        }
        put(text(across(0.5), down(0.0) + 34.0, "middle", &self.x.name));
        let middle = down(0.5);
        put(format!(
            "<text x=\"18\" y=\"{middle:.1}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 18 {middle:.1})\">{}</text>",
            escaped(&self.y.name)
        ));
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let dash = DASHES[index % DASHES.len()];
            let place = |point: &(f64, f64)| Some((across(x.share(point.0)?), down(y.share(point.1)?)));
            let places: Vec<(f64, f64)> = series.points.iter().filter_map(place).collect();
            let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let style =
                format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"");
            put(format!("<polyline points=\"{}\" {style}/>", line.join(" ")));
            for (x, y) in places.iter().filter(|_| places.len() <= DOTS_MAX) {
                put(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"));
            }
            let (column, row) = (index % 2, index / 2);
            let (x, y) = (LEFT + column as f64 * 340.0, HEIGHT - 60.0 + row as f64 * 18.0);
            put(format!("<path d=\"M{x:.1} {:.1}h24\" {style}/>", y - 4.0));
            put(text(x + 30.0, y, "start", &series.name));
        }
        put("</svg>".to_owned());
        svg
    }
}

fn grid((x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!("<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#dddddd\"/>")
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Writes a mark with thousands apart, and no more digits than it needs.
fn number(value: f64) -> String {
    if value < 1.0 || value.fract() > 1e-9 {
        return format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let apart: Vec<&str> =
        (0..digits.len()).rev().step_by(3).map(|last| &digits[last.saturating_sub(2)..=last]).collect();
    apart.into_iter().rev().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_where_their_values_are() {
        let axis = |name: &str, is_logarithmic| Axis { name: name.to_owned(), is_logarithmic };
        let chart = Chart {
            title: "a < b".to_owned(),
            x: axis("hosts", true),
            y: axis("share", false),
            series: vec![Series {
                name: "ours".to_owned(),
                points: vec![(10.0, 0.0), (0.0, 5.0), (1000.0, 60.0)],
            }],
        };
        let svg = chart.to_svg();
        // From the lower left corner to the upper right one; what a logarithmic axis can't show is left out.
        assert!(svg.contains("<polyline points=\"80.0,320.0 740.0,40.0\""), "{svg}");
        assert!(svg.contains(">a &lt; b</text>") && svg.contains(">1,000</text>"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn marks_have_the_digits_that_they_need() {
        let marks = [0.0, 0.01, 0.5, 1.0, 250.0, 1000.0, 1_234_567.0];
        assert_eq!(marks.map(number), ["0", "0.01", "0.5", "1", "250", "1,000", "1,234,567"]);
    }
}
