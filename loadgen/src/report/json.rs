//! The report as one JSON object.

use serde_json::{Map, Value, json};

use super::Report;

pub(crate) fn render(report: &Report) -> Value {
    let settings = report.settings.iter();
    let settings: Map<String, Value> = settings
        .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())))
        .collect();
    let figures: Map<String, Value> = report
        .figures
        .iter()
        .map(|figure| (figure.key.clone(), figure.value.clone()))
        .collect();
    json!({
        "scenario": report.scenario,
        "ok": report.is_clean(),
        "settings": settings,
        "command_line": report.command_line,
        "machine": {
            "cpu": report.machine.cpu,
            "cores": report.machine.cores,
            "kernel": report.machine.kernel,
            "commit": report.machine.commit,
        },
        "figures": figures,
        "server_counts": report.server_counts,
        "breaks": report.breaks,
        "notes": report.notes,
        "samples": report.samples.iter().map(|sample| json!({
            "at_secs": sample.at_secs,
            "deliveries_per_sec": sample.deliveries_per_sec,
            "lost": sample.lost,
            "resident_kb": sample.resident_kb,
        })).collect::<Vec<_>>(),
        "percentiles": report.percentiles.iter().map(|point| json!({
            "quantile": point.quantile,
            "ns": point.nanos,
        })).collect::<Vec<_>>(),
        "steps": report.steps.iter().map(|step| json!({
            "rate": step.rate,
            "p99_ns": step.p99_ns,
            "held": step.held,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::report::sample::report;

    #[test]
    fn every_part_is_there() {
        let json = render(&report());
        assert_eq!(json["ok"], false);
        assert_eq!(json["figures"]["deliveries"], 5);
        assert_eq!(json["samples"].as_array().map(Vec::len), Some(20));
        assert_eq!(json["settings"]["topics"], "10");
        assert_eq!(json["steps"][1]["held"], false);
        assert_eq!(json["server_counts"]["dropped"], 3);
    }
}
