//! A moderate rate for long: one line a minute, and a straight line through the server's memory.

use super::{Session, figures};
use crate::Failure;
use crate::conductor::Sample;
use crate::engine::shared::Phase;
use crate::pace::Pace;
use crate::units::{count, float, grouped, kilobytes, ratio, seconds};

/// A shorter run says too little about a slope to fail for it, and a quarter of it too little to name one.
const JUDGED_MINUTES: f64 = 5.0;
const MINUTE_SECS: f64 = 60.0;

pub(crate) fn play(session: &mut Session, rate: f64, slope_kb_max: f64) -> Result<(), Failure> {
    let mut plan = session.plan(Pace::Rate(rate));
    plan.record_latency = true;
    let mut next = MINUTE_SECS;
    let mut last = (0_u64, 0_u64);
    let measured = session.conduct_watched(&plan, session.span(), &mut |tick, progress| {
        if tick.phase != Phase::Running || tick.at_secs < next {
            return;
        }
        let (now, secs) = (tick.now, seconds(tick.now.at_ns - last.0));
        let per_sec = ratio(float(now.deliveries - last.1), secs.min(tick.at_secs));
        let memory = now
            .resident_kb
            .map_or_else(|| "?".into(), |kb| kilobytes(float(kb)));
        progress.keep(&format!(
            "{:5.0} min · {} deliveries/s · {} lost · {} ended · server {memory}",
            tick.at_secs / MINUTE_SECS,
            grouped(count(per_sec)),
            now.announced + now.broken,
            now.ended,
        ));
        last = (now.at_ns, now.deliveries);
        next += MINUTE_SECS;
    })?;
    figures::latency(session, &measured);
    figures::throughput(session, &measured);
    figures::cost(session, &measured);
    figures::memory(session, &measured);
    if let Some(slope) = slope_kb_per_min(&measured.samples) {
        let shown = format!("{}/min", kilobytes(slope));
        session.report.figure(
            "memory_slope_kb_per_min",
            "  slope, second half",
            slope,
            shown,
        );
        if slope > slope_kb_max && measured.secs() >= JUDGED_MINUTES * MINUTE_SECS {
            session.report.breaks.push(format!(
                "the server grows by {slope:.0} KB a minute, more than --slope-kb-max {slope_kb_max}"
            ));
        }
    }
    figures::counts(session, &measured);
    figures::verdict(session, &plan, &measured);
    Ok(())
}

/// Least squares over the second half, when caches and histories are full.
fn slope_kb_per_min(samples: &[Sample]) -> Option<f64> {
    let half = &samples[samples.len() / 2..];
    let points: Vec<(f64, f64)> = half
        .iter()
        .filter_map(|sample| Some((sample.at_secs / MINUTE_SECS, float(sample.resident_kb?))))
        .collect();
    let (first, last) = (points.first()?, points.last()?);
    if last.0 - first.0 < JUDGED_MINUTES / 4.0 {
        return None;
    }
    let mean = |pick: fn(&(f64, f64)) -> f64| {
        let sum: f64 = points.iter().map(pick).sum();
        sum / float(crate::units::wide(points.len()))
    };
    let (middle, level) = (mean(|point| point.0), mean(|point| point.1));
    let rise: f64 = points.iter().map(|(x, y)| (x - middle) * (y - level)).sum();
    let run: f64 = points.iter().map(|(x, _)| (x - middle).powi(2)).sum();
    Some(ratio(rise, run))
}

#[cfg(test)]
mod tests {
    use super::slope_kb_per_min;
    use crate::conductor::Sample;

    fn samples(memory: impl Fn(u32) -> u64) -> Vec<Sample> {
        let sample = |second| Sample {
            at_secs: f64::from(second),
            deliveries_per_sec: 0.0,
            lost: 0,
            resident_kb: Some(memory(second)),
        };
        (0..600).map(sample).collect()
    }

    #[test]
    fn a_steady_leak_has_its_slope() {
        let slope = slope_kb_per_min(&samples(|second| 10_000 + u64::from(second)));
        assert!((slope.expect("enough samples") - 60.0).abs() < 1e-6);
    }

    #[test]
    fn growth_at_the_start_is_not_a_leak() {
        let slope = slope_kb_per_min(&samples(|second| 10_000 + u64::from(second.min(200)) * 50));
        assert!(slope.expect("enough samples").abs() < 1e-6);
        assert_eq!(slope_kb_per_min(&[]), None);
    }
}
