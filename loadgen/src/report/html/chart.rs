//! One chart: two axes that know where a value belongs, shapes between them, and labels beside.
//!
//! The shapes stretch with the page, the labels do not: they are text of the page, as large on a phone as on a desk. An axis
//! marks only values that it can write down exactly, each where it is.

use std::fmt::Write as _;

/// Shapes are drawn in a square of so many units, which the page stretches.
const SIDE: f64 = 1000.0;
const MARKS_MAX: f64 = 6.0;
const MINUTE_SECS: f64 = 60.0;
const HOUR_SECS: f64 = 3600.0;

/// From a value to its place, 0 to 1, and the values that are marked.
#[derive(Debug)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    /// Each tenfold takes the same room.
    is_logarithmic: bool,
    marks: Vec<(f64, String)>,
}

impl Axis {
    /// From nothing to a round number that holds `top`.
    pub(super) fn amount(top: f64, shown: impl Fn(f64) -> String) -> Self {
        let to = round_up(top.max(1.0));
        let marks = (0..=4).map(|quarter| to * f64::from(quarter) / 4.0);
        Self {
            from: 0.0,
            to,
            is_logarithmic: false,
            marks: marks.map(|value| (value, shown(value))).collect(),
        }
    }

    /// Seconds. The ends are those of the data; the marks are round, and where they say.
    pub(super) fn time(from: f64, to: f64) -> Self {
        let to = to.max(from + 1e-3);
        let step = time_step(to - from);
        let mut marks = Vec::new();
        let mut count = (from / step).ceil();
        while count * step <= to {
            marks.push((count * step, time_label(count * step, step)));
            count += 1.0;
        }
        Self {
            from,
            to,
            is_logarithmic: false,
            marks,
        }
    }

    /// Each tenfold takes the same room; both values and everything between them have a place.
    pub(super) fn tenfold(least: f64, most: f64, shown: impl Fn(f64) -> String) -> Self {
        let (from, to) = (least.max(1.0) / 1.3, most.max(1.0) * 1.3);
        let within = |steps: &[f64]| -> Vec<f64> {
            let decades = whole(from.log10().floor())..=whole(to.log10().ceil());
            let all = decades.flat_map(|decade| steps.iter().map(move |s| s * 10_f64.powi(decade)));
            all.filter(|value| (from..=to).contains(value)).collect()
        };
        let fine = within(&[1.0, 2.0, 5.0]);
        let values = if fine.len() > 6 { within(&[1.0]) } else { fine };
        Self {
            from,
            to,
            is_logarithmic: true,
            marks: values.into_iter().map(|v| (v, shown(v))).collect(),
        }
    }

    /// Marks given by the caller, from 0 on.
    pub(super) fn marked(to: f64, marks: Vec<(f64, String)>) -> Self {
        Self {
            from: 0.0,
            to,
            is_logarithmic: false,
            marks,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let scaled = |value: f64| {
            if self.is_logarithmic {
                value.max(1.0).log10()
            } else {
                value
            }
        };
        let (from, to) = (scaled(self.from), scaled(self.to));
        ((scaled(value) - from) / (to - from)).clamp(0.0, 1.0)
    }
}

#[derive(Debug)]
pub(super) struct Chart {
    across: Axis,
    up: Axis,
    shapes: String,
}

impl Chart {
    pub(super) fn new(across: Axis, up: Axis) -> Self {
        let mut chart = Self {
            across,
            up,
            shapes: String::new(),
        };
        for index in 0..chart.up.marks.len() {
            chart.level("grid", chart.up.marks[index].0);
        }
        chart
    }

    /// A line from edge to edge at one value of the upright axis.
    pub(super) fn level(&mut self, class: &str, value: f64) {
        let y = self.y(value);
        self.shape(class, &format!("0,{y:.1} {SIDE},{y:.1}"));
    }

    /// A line from bottom to top at one value of the other axis.
    pub(super) fn moment(&mut self, class: &str, value: f64) {
        let x = self.x(value);
        self.shape(class, &format!("{x:.1},0 {x:.1},{SIDE}"));
    }

    pub(super) fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<String> = points
            .map(|(x, y)| format!("{:.1},{:.1}", self.x(x), self.y(y)))
            .collect();
        self.shape(class, &points.join(" "));
    }

    /// A line without length and with round ends: a dot that stays round when the drawing is stretched.
    pub(super) fn dot(&mut self, class: &str, (x, y): (f64, f64)) {
        let at = format!("{:.1},{:.1}", self.x(x), self.y(y));
        self.shape(class, &format!("{at} {at}"));
    }

    pub(super) fn render(&self, name: &str) -> String {
        let mut text = String::from("<div class=\"chart\"><div class=\"up\">");
        for (value, label) in &self.up.marks {
            let top = 100.0 * (1.0 - self.up.place(*value));
            push(
                &mut text,
                &format!("<span style=\"top:{top:.2}%\">{label}</span>"),
            );
        }
        push(
            &mut text,
            &format!(
                "</div><svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" role=\"img\" \
                 aria-label=\"{name}\">{}</svg><div class=\"across\">",
                self.shapes
            ),
        );
        for (value, label) in &self.across.marks {
            let left = 100.0 * self.across.place(*value);
            // A label at an edge stays inside; any other stands in the middle below its mark.
            let back = match left {
                ..3.0 => 0,
                97.0.. => 100,
                _ => 50,
            };
            push(
                &mut text,
                &format!(
                    "<span style=\"left:{left:.2}%;transform:translateX(-{back}%)\">{label}</span>"
                ),
            );
        }
        text.push_str("</div></div>\n");
        text
    }

    fn shape(&mut self, class: &str, points: &str) {
        push(
            &mut self.shapes,
            &format!("<polyline class=\"{class}\" points=\"{points}\"/>"),
        );
    }

    fn x(&self, value: f64) -> f64 {
        SIDE * self.across.place(value)
    }

    fn y(&self, value: f64) -> f64 {
        SIDE * (1.0 - self.up.place(value))
    }
}

fn push(text: &mut String, more: &str) {
    text.write_str(more)
        .expect("writing to a string cannot fail");
}

/// The next of 1, 2, 4, 5 or 8 with as many zeros as it takes: all divide by four into short numbers.
pub(super) fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    let step = steps.iter().find(|step| **step * power >= value);
    step.unwrap_or(&10.0) * power
}

/// The distance of marks: what people count in, and few enough to stand side by side on a phone.
fn time_step(span_secs: f64) -> f64 {
    let steps = [
        0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0,
        600.0, 900.0, 1800.0, HOUR_SECS,
    ];
    let fits = |step: &&f64| span_secs / **step <= MARKS_MAX - 1.0;
    let hours = (span_secs / HOUR_SECS / (MARKS_MAX - 1.0)).ceil() * HOUR_SECS;
    steps.iter().find(fits).copied().unwrap_or(hours)
}

fn time_label(secs: f64, step: f64) -> String {
    let sign = if secs < -step / 2.0 { "−" } else { "" };
    let secs = secs.abs();
    match step {
        ..0.1 => format!("{sign}{secs:.2} s"),
        0.1..1.0 => format!("{sign}{secs:.1} s"),
        1.0..MINUTE_SECS => format!("{sign}{secs:.0} s"),
        MINUTE_SECS..HOUR_SECS => format!("{sign}{:.0} min", secs / MINUTE_SECS),
        _ => format!("{sign}{:.0} h", secs / HOUR_SECS),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the logarithm of a float is far below 2^31"
)]
fn whole(value: f64) -> i32 {
    value as i32
}

#[cfg(test)]
mod tests {
    use super::{Axis, round_up};

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, end) in [
            (1.0, 1.0),
            (3.0, 4.0),
            (41.0, 50.0),
            (900.0, 1000.0),
            (6100.0, 8000.0),
        ] {
            assert!((round_up(value) - end).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn a_time_stands_where_its_label_says() {
        for (from, to, labels) in [
            (
                -0.3,
                2.04,
                vec!["0.0 s", "0.5 s", "1.0 s", "1.5 s", "2.0 s"],
            ),
            (0.0, 7.9, vec!["0 s", "2 s", "4 s", "6 s"]),
            (
                0.0,
                3600.0,
                vec!["0 min", "15 min", "30 min", "45 min", "60 min"],
            ),
            (-70.0, 130.0, vec!["−1 min", "0 min", "1 min", "2 min"]),
            (0.0, 86_400.0, vec!["0 h", "5 h", "10 h", "15 h", "20 h"]),
        ] {
            let axis = Axis::time(from, to);
            let found: Vec<&str> = axis.marks.iter().map(|(_, l)| l.as_str()).collect();
            assert_eq!(found, labels);
            for (value, _) in &axis.marks {
                let place = (value - from) / (to - from);
                assert!((axis.place(*value) - place).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn tenfold_takes_the_same_room_everywhere() {
        let axis = Axis::tenfold(1000.0, 100_000.0, |value| format!("{value:.0}"));
        let places: Vec<f64> = [1e3, 1e4, 1e5].map(|value| axis.place(value)).to_vec();
        assert!((places[1] - places[0] - (places[2] - places[1])).abs() < 1e-9);
        assert!((2..=6).contains(&axis.marks.len()), "{:?}", axis.marks);
    }
}
