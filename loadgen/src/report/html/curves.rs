//! Which curves a report has: throughput, memory, percentiles, and what a search tried.

use super::chart::{Axis, Chart};
use super::{Report, push};
use crate::conductor::Sample;
use crate::units::{count, duration, float, grouped, kilobytes};

const KB_PER_MB: f64 = 1024.0;

pub(super) fn draw(page: &mut String, report: &Report) {
    let has_rates = report.samples.iter().any(|s| s.deliveries_per_sec > 0.0);
    // Of a search the steps are what matters; the curves of one of them would say nothing of the others.
    if !report.steps.is_empty() {
        steps(page, report);
    }
    if has_rates {
        throughput(page, report);
    }
    if report.samples.iter().filter_map(|s| s.resident_kb).count() > 1 {
        memory(page, report, has_rates);
    }
    if report.percentiles.len() > 1 {
        percentiles(page, report);
    }
}

fn show(page: &mut String, title: &str, caption: &str, chart: &Chart) {
    push(page, format_args!("<h2>{title}</h2>\n<p>{caption}</p>\n"));
    page.push_str(&chart.render(title));
}

fn throughput(page: &mut String, report: &Report) {
    let samples: Vec<&Sample> = report.samples.iter().filter(|s| s.at_secs >= 0.0).collect();
    let Some(last) = samples.last() else {
        return;
    };
    let top = samples.iter().map(|sample| sample.deliveries_per_sec);
    let mut chart = Chart::new(
        Axis::time(0.0, last.at_secs),
        Axis::amount(top.fold(1.0, f64::max), |value| grouped(count(value))),
    );
    let mut caption = since("publishing began", report);
    if report.warmup_secs > 0.0 {
        chart.moment("mark", report.warmup_secs);
    }
    // The first ends where publishing began, and tells of the time before.
    let rates = samples.iter().skip(1);
    chart.line("curve", rates.map(|s| (s.at_secs, s.deliveries_per_sec)));
    if last.lost > 0 {
        let share = chart_share(last.lost, &samples);
        let points = samples.iter().map(|s| (s.at_secs, float(s.lost) * share));
        chart.line("lost", points);
        let total = grouped(last.lost);
        caption += " Red: events lost so far, on a scale of its own, ";
        caption += &total;
        caption += " at the end.";
    }
    show(page, "Deliveries per second", &caption, &chart);
}

/// Draws the last count of losses as high as the highest rate.
fn chart_share(lost: u64, samples: &[&Sample]) -> f64 {
    let top = samples.iter().map(|s| s.deliveries_per_sec);
    top.fold(1.0, f64::max) / float(lost)
}

fn memory(page: &mut String, report: &Report, published: bool) {
    let points: Vec<(f64, f64)> = report
        .samples
        .iter()
        .filter_map(|s| Some((s.at_secs, float(s.resident_kb?))))
        .collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return;
    };
    let top = points.iter().map(|point| point.1).fold(1.0, f64::max);
    // Round in the unit that is shown.
    let unit = if top < KB_PER_MB { 1.0 } else { KB_PER_MB };
    let mut chart = Chart::new(
        Axis::time(first.0.min(0.0), last.0),
        Axis::amount(top / unit, |amount| kilobytes(amount * unit)),
    );
    chart.line("curve", points.iter().map(|(at, kb)| (*at, kb / unit)));
    let mut caption = since(
        if published {
            "publishing began"
        } else {
            "all were connected"
        },
        report,
    );
    if first.0 < 0.0 {
        caption += " Connections were opened before 0.";
        chart.moment("grid", 0.0);
    }
    if report.warmup_secs > 0.0 {
        chart.moment("mark", report.warmup_secs);
    }
    show(page, "Memory of the server", &caption, &chart);
}

fn since(what: &str, report: &Report) -> String {
    let mut caption = format!("Seconds since {what}.");
    if report.warmup_secs > 0.0 {
        caption += " Measured from the dashed line on.";
    }
    caption
}

/// The horizontal axis is the number of nines, so that the tail has the room it deserves.
fn percentiles(page: &mut String, report: &Report) {
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-9).log10();
    let points = &report.percentiles;
    let end = points.last().map_or(1.0, |point| nines(point.quantile));
    let end = end.max(1.0);
    let marks = [
        (0.0, "0"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
    ];
    let marks = marks.map(|(quantile, label)| (nines(quantile), label.to_owned()));
    let marks = marks.into_iter().filter(|(nines, _)| *nines <= end + 1e-9);
    let top = points.iter().map(|point| float(point.nanos));
    let mut chart = Chart::new(
        Axis::marked(end, marks.collect()),
        Axis::amount(top.fold(1.0, f64::max), |value| duration(count(value))),
    );
    let line = points.iter().map(|p| (nines(p.quantile), float(p.nanos)));
    chart.line("curve", line);
    let caption = "So many of all took no longer.";
    show(page, "Latency by percentile", caption, &chart);
}

/// One dot for each step; both axes by tenfolds, for a search doubles and a percentile past the knee explodes.
fn steps(page: &mut String, report: &Report) {
    let steps = &report.steps;
    let objective = report.objective_ns.map_or(1.0, float);
    let rates = steps.iter().map(|step| step.rate);
    let p99s = steps.iter().map(|step| float(step.p99_ns));
    let mut chart = Chart::new(
        Axis::tenfold(
            rates.clone().fold(f64::INFINITY, f64::min),
            rates.fold(1.0, f64::max),
            |value| format!("{}/s", grouped(count(value))),
        ),
        Axis::tenfold(
            p99s.clone().fold(objective, f64::min),
            p99s.fold(objective, f64::max),
            |value| duration(count(value)),
        ),
    );
    chart.level("mark", objective);
    for step in steps {
        let class = if step.held { "held" } else { "broke" };
        chart.dot(class, (step.rate, float(step.p99_ns)));
    }
    let caption = format!(
        "Messages per second, and the latency that 99 % of their deliveries kept. Dashed: the objective of {}. Red: a step \
         that broke it, or lost more than it may.",
        duration(report.objective_ns.unwrap_or(0))
    );
    show(page, "99th percentile by rate", &caption, &chart);
}
