//! The report as one page: no script, no font, no address of anything else.
//!
//! Curves are inline SVG in the colours of the reader's own light or dark mode.

use std::fmt::Write as _;

use super::Report;
use crate::units::{count, duration, float, grouped};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 80.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 12.0;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #6b7480; --line: #d8dde3; --page: #fff; --curve: #0b69c7; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #98a2ad; --line: #333a42; --page: #15181c; --curve: #6cb2ff; --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.ok { color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
table { border-collapse: collapse; width: 100%; } td { padding: .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; } .facts td:last-child { text-align: left; padding-left: 1rem; }
svg { width: 100%; height: auto; display: block; } text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); } .curve { stroke: var(--curve); fill: none; stroke-width: 2; } .lost { stroke: var(--bad); fill: none; stroke-width: 1.5; }
code { font-size: .85rem; overflow-wrap: anywhere; }
";

pub(crate) fn render(report: &Report) -> String {
    let name = report.scenario;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>loadgen {name}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>loadgen {name}</h1>\n"
    );
    verdict(&mut page, report);
    let figures = report.figures.iter();
    let rows = figures.map(|figure| (figure.label.as_str(), figure.shown.clone()));
    section(&mut page, "Figures", "", rows);
    if report.samples.len() > 1 {
        page.push_str("<h2>Deliveries per second</h2>\n");
        throughput(&mut page, report);
    }
    if report.percentiles.len() > 1 {
        page.push_str("<h2>Latency by percentile</h2>\n");
        percentiles(&mut page, report);
    }
    if let Some(counts) = &report.server_counts {
        let counts = counts.as_object().into_iter().flatten();
        let rows = counts.map(|(name, value)| (name.as_str(), value.to_string()));
        section(&mut page, "What the server counted", "", rows);
    }
    let settings = report.settings.iter();
    let rows = settings.map(|(name, value)| (*name, value.clone()));
    section(&mut page, "Settings", "facts", rows);
    let machine = &report.machine;
    let facts = [
        ("CPU", format!("{} ({} cores)", machine.cpu, machine.cores)),
        ("kernel", machine.kernel.clone()),
        (
            "commit",
            machine.commit.clone().unwrap_or_else(|| "unknown".into()),
        ),
        ("command", report.command_line.clone()),
    ];
    section(&mut page, "Machine", "facts", facts.into_iter());
    page.push_str("</body>\n</html>\n");
    page
}

fn verdict(page: &mut String, report: &Report) {
    if report.is_clean() {
        page.push_str(
            "<p class=\"ok\">Nothing lost unannounced, nothing twice, nothing out of order.</p>\n",
        );
    }
    for breach in &report.breaks {
        push(
            page,
            format_args!("<p class=\"bad\">{}</p>\n", escaped(breach)),
        );
    }
    for note in &report.notes {
        push(page, format_args!("<p>{}</p>\n", escaped(note)));
    }
}

fn section<'a>(
    page: &mut String,
    title: &str,
    class: &str,
    rows: impl Iterator<Item = (&'a str, String)>,
) {
    push(
        page,
        format_args!("<h2>{title}</h2>\n<table class=\"{class}\">\n"),
    );
    for (label, value) in rows {
        push(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td></tr>\n",
                escaped(label),
                escaped(&value)
            ),
        );
    }
    page.push_str("</table>\n");
}

fn throughput(page: &mut String, report: &Report) {
    let samples = &report.samples;
    let end = samples
        .last()
        .map_or(1.0, |sample| sample.at_secs)
        .max(1e-9);
    let top = samples.iter().map(|sample| sample.deliveries_per_sec);
    let top = round_up(top.fold(1.0, f64::max));
    let points = samples
        .iter()
        .map(|sample| (sample.at_secs / end, sample.deliveries_per_sec / top));
    open_chart(page, top, |value| grouped(count(value)));
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        mark_x(page, share, &format!("{:.0} s", end * share));
    }
    draw(page, "curve", points);
    let lost = samples.last().map_or(0, |sample| sample.lost);
    if lost > 0 {
        let points = samples
            .iter()
            .map(|sample| (sample.at_secs / end, float(sample.lost) / float(lost)));
        draw(page, "lost", points);
        push(
            page,
            format_args!(
                "<text x=\"{LEFT}\" y=\"10\">red: lost so far, {} at the end</text>\n",
                grouped(lost)
            ),
        );
    }
    page.push_str("</svg>\n");
}

/// The horizontal axis is the number of nines, so that the tail has the room it deserves.
fn percentiles(page: &mut String, report: &Report) {
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-9).log10();
    let points = &report.percentiles;
    let end = points
        .last()
        .map_or(1.0, |point| nines(point.quantile))
        .max(1.0);
    let top = points
        .iter()
        .map(|point| float(point.nanos))
        .fold(1.0, f64::max);
    let top = round_up(top);
    open_chart(page, top, |value| duration(count(value)));
    for (quantile, label) in [
        (0.0, "0"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
    ] {
        if nines(quantile) <= end + 1e-9 {
            mark_x(page, nines(quantile) / end, label);
        }
    }
    draw(
        page,
        "curve",
        points
            .iter()
            .map(|point| (nines(point.quantile) / end, float(point.nanos) / top)),
    );
    page.push_str("</svg>\n");
}

fn open_chart(page: &mut String, top: f64, shown: impl Fn(f64) -> String) {
    push(
        page,
        format_args!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n"),
    );
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let at = y(share);
        push(
            page,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 8.0,
                at + 4.0,
                shown(top * share)
            ),
        );
    }
}

fn mark_x(page: &mut String, share: f64, label: &str) {
    let anchor = if share > 0.95 { "end" } else { "start" };
    let (at, below) = (x(share), HEIGHT - BOTTOM + 16.0);
    push(
        page,
        format_args!(
            "<text x=\"{at:.1}\" y=\"{below:.1}\" text-anchor=\"{anchor}\">{label}</text>\n"
        ),
    );
}

fn draw(page: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) {
    push(page, format_args!("<polyline class=\"{class}\" points=\""));
    for (across, up) in points {
        push(page, format_args!("{:.1},{:.1} ", x(across), y(up)));
    }
    page.push_str("\"/>\n");
}

fn x(share: f64) -> f64 {
    LEFT + (WIDTH - LEFT - 8.0) * share
}

fn y(share: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share
}

/// The next of 1, 2, 4, 5 or 8 with as many zeros as it takes: all divide by four into short numbers.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    let step = steps.iter().find(|step| **step * power >= value);
    step.unwrap_or(&10.0) * power
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::{render, round_up};
    use crate::report::sample::report;

    #[test]
    fn the_page_needs_nothing_else() {
        let page = render(&report());
        // The url in the settings is text; nothing may refer to one.
        for reference in [
            "src=", "href=", "url(", "@import", "<script", "<link", "http://", "https://",
        ] {
            assert!(!page.contains(reference), "{reference}");
        }
    }

    #[test]
    fn both_curves_and_everything_a_reader_needs_are_there() {
        let page = render(&report());
        assert_eq!(page.matches("<svg").count(), 2);
        for part in [
            "class=\"curve\"",
            "class=\"lost\"",
            "99 %",
            "A &amp; B (2 cores)",
            "abc",
            "loadgen latency --url",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn text_cannot_become_markup() {
        let page = render(&report());
        assert!(page.contains("delivered &lt;twice&gt;"));
        assert!(!page.contains("<twice>") && !page.contains("<host>"));
    }

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
}
