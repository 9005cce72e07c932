//! The highest rate that keeps an objective: doubled until it breaks twice in a row, then halved in between.
//!
//! [`Search`] is pure: it proposes a rate and hears whether it held. Each step is a whole run of its own, with new
//! connections and new topics, so that the backlog of a broken step does not spoil the next.

use super::{Session, figures};
use crate::Failure;
use crate::conductor::Measured;
use crate::pace::Pace;
use crate::report::Step;
use crate::units::{count, duration, float, grouped, nanos};

/// The knee is named as soon as it is known this well.
const PRECISION: f64 = 0.05;
const STEPS_MAX: u32 = 32;
/// A step must also deliver what it was asked to, or it measured something else.
const DELIVERED_SHARE_MIN: f64 = 0.99;

/// What must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Objective {
    pub(crate) p99_ms: f64,
    pub(crate) loss_max: u64,
}

pub(crate) fn play(session: &mut Session, start: f64, objective: Objective) -> Result<(), Failure> {
    session.report.objective_ns = Some(nanos(objective.p99_ms / 1e3));
    let mut search = Search::new(start);
    let mut why_broken = String::new();
    let mut best = None;
    while let Some(rate) = search.next_rate() {
        if session.stopped() {
            session.note("stopped by hand: the knee is not known better than this");
            break;
        }
        let mut plan = session.plan(Pace::Rate(rate));
        plan.record_latency = true;
        let measured = session.conduct(&plan, session.span())?;
        let breaks_before = session.report.breaks.len();
        figures::verdict_on_rest(session, &plan, &measured);
        if measured.interrupted || session.report.breaks.len() > breaks_before {
            best = best.or(Some(measured));
            break;
        }
        let broken = breach(&measured, rate, objective);
        let p99_ns = measured.result.latency.value_at_quantile(0.99);
        let (p99, held) = (duration(p99_ns), broken.is_none());
        session.report.steps.push(Step { rate, p99_ns, held });
        let outcome = broken.as_deref().unwrap_or("holds");
        session.progress.keep(&format!(
            "{:>12} /s · p99 {p99} · {outcome}",
            grouped(count(rate))
        ));
        search.record(held);
        match broken {
            Some(why) => why_broken = why,
            None => best = Some(measured),
        }
    }
    let report = &mut session.report;
    let (holds, breaks) = (search.holds, search.breaks);
    report.figure(
        "knee_rate",
        "highest rate that holds",
        holds,
        format!("{} /s", grouped(count(holds))),
    );
    if let Some(breaks) = breaks {
        report.figure(
            "broken_rate",
            "lowest rate that breaks",
            breaks,
            format!("{} /s", grouped(count(breaks))),
        );
        session.note(format!("beyond the knee: {why_broken}"));
    }
    if holds == 0.0 {
        session.note("no rate held the objective");
    }
    if let Some(measured) = best {
        figures::latency(session, &measured);
        figures::throughput(session, &measured);
        figures::cost(session, &measured);
        figures::counts(session, &measured);
    }
    Ok(())
}

fn breach(measured: &Measured, rate: f64, objective: Objective) -> Option<String> {
    let result = &measured.result;
    let p99 = result.latency.value_at_quantile(0.99);
    let lost = result.healthy.announced;
    let published = float(measured.to.published - measured.from.published);
    if p99 > nanos(objective.p99_ms / 1e3) {
        return Some(format!(
            "p99 {} at {} /s",
            duration(p99),
            grouped(count(rate))
        ));
    }
    if lost > objective.loss_max {
        return Some(format!(
            "{lost} events lost (announced) at {} /s",
            grouped(count(rate))
        ));
    }
    let slow = figures::disconnected(measured);
    if slow > 0 {
        return Some(format!(
            "{slow} subscribers disconnected as slow (1013) at {} /s",
            grouped(count(rate))
        ));
    }
    if published < rate * measured.secs() * DELIVERED_SHARE_MIN {
        return Some(format!(
            "only {published:.0} messages could be sent at {} /s",
            grouped(count(rate))
        ));
    }
    None
}

/// Doubling, then bisection.
#[derive(Debug)]
struct Search {
    next: f64,
    holds: f64,
    breaks: Option<f64>,
    steps: u32,
    /// Broke once; only a second time counts, because a neighbour's noise is not the server's limit.
    doubted: bool,
}

impl Search {
    fn new(start: f64) -> Self {
        Self {
            next: start,
            holds: 0.0,
            breaks: None,
            steps: 0,
            doubted: false,
        }
    }

    /// `None` once the knee is known well enough.
    fn next_rate(&self) -> Option<f64> {
        let known = self
            .breaks
            .is_some_and(|breaks| breaks - self.holds <= breaks * PRECISION || breaks < 1.0);
        (!known && self.steps < STEPS_MAX).then_some(self.next)
    }

    fn record(&mut self, held: bool) {
        self.steps += 1;
        if !held && !self.doubted {
            self.doubted = true;
            return;
        }
        self.doubted = false;
        if held {
            self.holds = self.next;
        } else {
            self.breaks = Some(self.next);
        }
        self.next = match self.breaks {
            None => self.holds * 2.0,
            Some(breaks) => f64::midpoint(self.holds, breaks),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{STEPS_MAX, Search};

    fn search(start: f64, knee: f64) -> (Search, Vec<f64>) {
        let mut search = Search::new(start);
        let mut rates = Vec::new();
        while let Some(rate) = search.next_rate() {
            rates.push(rate);
            search.record(rate <= knee);
        }
        (search, rates)
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for start in [10.0, 1_000.0, 1_000_000.0] {
            let (found, rates) = search(start, 37_123.0);
            assert!(found.holds <= 37_123.0 && found.holds >= 37_123.0 * 0.94);
            assert!(found.breaks.is_some_and(|rate| rate > 37_123.0));
            assert!(rates.len() <= STEPS_MAX as usize, "{} steps", rates.len());
        }
    }

    #[test]
    fn the_rate_doubles_until_it_breaks() {
        let (_, rates) = search(100.0, 450.0);
        assert_eq!(rates[..6], [100.0, 200.0, 400.0, 800.0, 800.0, 600.0]);
    }

    #[test]
    fn one_bad_step_is_not_the_knee() {
        let mut search = Search::new(100.0);
        search.record(false);
        assert_eq!(search.next_rate(), Some(100.0));
        search.record(true);
        assert_eq!(search.next_rate(), Some(200.0));
    }

    #[test]
    fn a_search_ends_even_if_nothing_breaks_or_nothing_holds() {
        let (endless, rates) = search(1.0, f64::MAX);
        assert_eq!(rates.len(), STEPS_MAX as usize);
        assert_eq!(endless.breaks, None);
        let (hopeless, rates) = search(1_000.0, 0.0);
        assert!(hopeless.holds.abs() < f64::EPSILON && rates.len() <= STEPS_MAX as usize);
    }
}
