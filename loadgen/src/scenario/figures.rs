//! From what was measured to what is reported: the rows that several scenarios share, and the verdict of all.

use hdrhistogram::Histogram;

use super::Session;
use crate::conductor::Measured;
use crate::engine::shared::Plan;
use crate::procfs::cores;
use crate::report::Percentile;
use crate::units::{count, duration, float, grouped, kilobytes, ratio, seconds, wide};

/// A thread of the generator that is busier than this was probably the limit itself.
const BUSY_SHARE: f64 = 0.9;
/// With both sides on one machine, this much of all cores leaves no room.
const FULL_SHARE: f64 = 0.95;

/// More than this, used by others, shows in the figures.
const OTHERS_CORES: f64 = 0.25;

pub(crate) fn throughput(session: &mut Session, measured: &Measured) {
    let (from, to, secs) = (&measured.from, &measured.to, measured.secs());
    let report = &mut session.report;
    report.samples.clone_from(&measured.samples);
    report.figure("measured_secs", "measured", secs, format!("{secs:.2} s"));
    for (key, label, amount) in [
        (
            "deliveries_per_sec",
            "deliveries per second",
            to.deliveries - from.deliveries,
        ),
        (
            "publishes_per_sec",
            "publishes per second",
            to.published - from.published,
        ),
    ] {
        let rate = ratio(float(amount), secs);
        report.figure(key, label, rate, grouped(count(rate)));
    }
    let mb = ratio(float(to.bytes_in - from.bytes_in), secs) / 1e6;
    report.figure(
        "received_mb_per_sec",
        "received",
        mb,
        format!("{mb:.1} MB/s"),
    );
}

/// CPU of the server for one delivery, and of both sides in cores.
pub(crate) fn cost(session: &mut Session, measured: &Measured) {
    let deliveries = float(measured.to.deliveries - measured.from.deliveries);
    let secs = measured.secs();
    let lanes: Vec<f64> = measured
        .lane_cpu_secs()
        .map(|cpu| ratio(cpu, secs))
        .collect();
    let generator: f64 = lanes.iter().sum();
    let busiest = lanes.iter().copied().fold(0.0, f64::max);
    if let Some(cpu) = measured.server_cpu() {
        let (user, system) = (cpu.user_secs * 1e6, cpu.system_secs * 1e6);
        let report = &mut session.report;
        for (key, label, micros) in [
            (
                "server_us_per_delivery",
                "server CPU per delivery",
                user + system,
            ),
            ("server_user_us_per_delivery", "  user", user),
            ("server_sys_us_per_delivery", "  system", system),
        ] {
            let each = ratio(micros, deliveries);
            report.figure(key, label, each, format!("{each:.3} µs"));
        }
        let server = ratio(cpu.total_secs(), secs);
        report.figure(
            "server_cores",
            "server CPU",
            server,
            format!("{server:.2} cores"),
        );
        if busiest < BUSY_SHARE && server + generator > FULL_SHARE * float(wide(cores())) {
            session.note("server and generator filled the machine together: compare the CPU per delivery, not the throughput");
        }
    } else {
        session.note("the server's process was not found here, so its CPU and memory are not shown (--server-pid)");
    }
    let report = &mut session.report;
    let each = ratio(generator * secs * 1e6, deliveries);
    report.figure(
        "generator_us_per_delivery",
        "generator CPU per delivery",
        each,
        format!("{each:.3} µs"),
    );
    report.figure(
        "generator_cores",
        "generator CPU",
        generator,
        format!("{generator:.2} cores"),
    );
    let others = measured.other_cpu_secs().map(|cpu| ratio(cpu, secs));
    if let Some(others) = others.filter(|cores| *cores > OTHERS_CORES) {
        session.note(format!(
            "other processes used {others:.2} cores meanwhile: throughput and latency would be better without them"
        ));
    }
    if busiest > BUSY_SHARE {
        session.note(format!(
            "WARNING: a generator thread was busy for {:.0} % of the time: the generator, not the server, may have been the limit (--threads)",
            busiest * 100.0
        ));
    }
}

/// What was sent, what came, what was lost, over the whole run.
pub(crate) fn counts(session: &mut Session, measured: &Measured) {
    let (all, result) = (&measured.last, &measured.result);
    let healthy = &result.healthy;
    let rows = [
        ("published", "published in all", all.published),
        ("acked", "  acked", all.acked),
        ("refused", "  refused", all.refused),
        ("delivered", "delivered in all", all.deliveries),
        ("lost_announced", "lost, announced", healthy.announced),
        (
            "lost_unannounced",
            "lost, unannounced",
            healthy.unannounced + healthy.missing,
        ),
        ("repeated", "repeated", healthy.repeated),
        ("disordered", "out of order", healthy.disordered),
        ("notices", "SLOW_CONSUMER notices", healthy.notices),
    ];
    for (key, label, value) in rows {
        let needed = !matches!(key, "refused" | "notices");
        if needed || value > 0 {
            session.report.figure(key, label, value, grouped(value));
        }
    }
    let report = &mut session.report;
    let (connect, drain) = (measured.connect_secs, measured.drain_secs);
    report.figure(
        "connect_secs",
        "connecting took",
        connect,
        format!("{connect:.2} s"),
    );
    report.figure(
        "drain_secs",
        "draining took",
        drain,
        format!("{drain:.2} s"),
    );
}

/// The percentiles that people ask for, and a curve of many.
pub(crate) fn latency(session: &mut Session, measured: &Measured) {
    let histogram = &measured.result.latency;
    for (key, label, quantile) in [
        ("p50_ns", "latency p50", 0.5),
        ("p90_ns", "        p90", 0.9),
        ("p99_ns", "        p99", 0.99),
        ("p999_ns", "        p99.9", 0.999),
    ] {
        let nanos = histogram.value_at_quantile(quantile);
        session.report.figure(key, label, nanos, duration(nanos));
    }
    session.report.figure(
        "max_ns",
        "        max",
        histogram.max(),
        duration(histogram.max()),
    );
    let late = measured.result.lateness.value_at_quantile(0.99);
    session.report.figure(
        "lateness_p99_ns",
        "generator late, p99",
        late,
        duration(late),
    );
    session.report.percentiles = curve(histogram);
    if measured.result.unsent > 0 {
        session.note(format!(
            "{} messages were due and never left: the server or the generator does not keep up with this rate",
            measured.result.unsent
        ));
    }
    let p99 = histogram.value_at_quantile(0.99);
    if late * 2 > p99 && late > 200_000 {
        session.note("WARNING: most of the 99th percentile is the generator's own lateness");
    }
}

/// Ever closer to one: 0, 0.1 … 0.9, 0.91 … 0.99, 0.991 … as far as there are values.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<Percentile> {
    let mut points = Vec::new();
    let mut rest = 1.0;
    while !histogram.is_empty() && rest * float(histogram.len()) >= 1.0 {
        for tenth in 0..9 {
            let quantile = 1.0 - rest + rest * f64::from(tenth) / 10.0;
            let nanos = histogram.value_at_quantile(quantile);
            points.push(Percentile { quantile, nanos });
        }
        rest /= 10.0;
    }
    points
}

pub(crate) fn memory(session: &mut Session, measured: &Measured) {
    if let (Some(before), Some(after)) = (measured.from.resident_kb, measured.last.resident_kb) {
        let grown = float(after) - float(before);
        session.report.figure(
            "server_resident_kb",
            "server memory at the end",
            after,
            kilobytes(float(after)),
        );
        session.report.figure(
            "server_grown_kb",
            "  grown while measured",
            grown,
            kilobytes(grown),
        );
    }
}

/// Everything that breaks the contract, and everything that makes the figures doubtful.
pub(crate) fn verdict(session: &mut Session, plan: &Plan, measured: &Measured) {
    verdict_on_rest(session, plan, measured);
    let slow = disconnected(measured);
    if slow > 0 {
        session.report.breaks.push(format!(
            "{slow} subscribers were disconnected as slow (1013)"
        ));
    }
}

/// Whether the server ended a connection because it did not read fast enough.
fn is_slow(ending: &str) -> bool {
    ending.contains("with 1013")
}

/// Subscribers that the server disconnected for being slow, those that were told to stall left out.
pub(crate) fn disconnected(measured: &Measured) -> usize {
    measured
        .result
        .endings
        .iter()
        .filter(|ending| is_slow(ending))
        .count()
}

/// The verdict but for slow subscribers, which a search looks for.
pub(crate) fn verdict_on_rest(session: &mut Session, plan: &Plan, measured: &Measured) {
    let result = &measured.result;
    let mut healthy = result.healthy.clone();
    let refused = measured.last.refused;
    // What was refused, or not acked when the run was over, is missing at each subscriber of its topic, and nobody promised
    // otherwise. A server that never acks promises nothing at all, so that its losses are not excused.
    let unaccepted = match measured.last.acked {
        0 => refused,
        acked => measured.last.published.saturating_sub(acked),
    };
    let excused = unaccepted * wide(plan.subscribers_per_topic_max());
    healthy.missing = healthy.missing.saturating_sub(excused);
    let mut breaks = healthy.breaks("subscribers");
    if let Some(first) = result.failures.first() {
        breaks.push(format!(
            "{} connections failed, the first: {first}",
            result.failures.len()
        ));
    }
    if let Some(first) = result.endings.iter().find(|ending| !is_slow(ending)) {
        let others = result.endings.len() - disconnected(measured);
        breaks.push(format!(
            "{others} connections ended early, the first: {first}"
        ));
    }
    if let Some(first) = &result.strangest {
        breaks.push(format!(
            "{} messages that the contract does not know, the first: {first}",
            result.strange
        ));
    }
    session.report.breaks.extend(breaks);
    if refused > 0 {
        let first = result.refusal.as_deref().unwrap_or_default();
        session.note(format!(
            "{refused} publishes were refused, the first: {first}"
        ));
    }
    if measured.interrupted {
        session.note(format!(
            "stopped by hand after {:.1} s",
            seconds(measured.to.at_ns.saturating_sub(measured.from.at_ns))
        ));
    } else if !measured.drained {
        session.note("not everything had arrived or was acked when the time for draining was over (--drain-secs)");
    }
    if session.report.server_counts.is_none() {
        session.note("the server has no GET /stats: its own counts are not shown");
    }
}
