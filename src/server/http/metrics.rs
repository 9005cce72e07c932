//! `GET /metrics`: what is counted, in the text format of Prometheus, or as `OpenMetrics` for those
//! who ask for it.
//!
//! The figures are the counters that are there anyway, read when somebody asks. No label has values
//! that clients can choose: a scrape has the same size whatever they do.

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

mod figures;

use self::figures::Figures;
use super::accept::has_one_of;
use super::answer::{Answer, error};
use crate::core::Core;
use crate::protocol::codes::ErrorCode;

const OPEN_METRICS: &str = "application/openmetrics-text";

/// Everything that is counted.
pub(super) fn metrics(core: &Core, headers: &HeaderMap) -> Answer {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures::read(core)));
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return error(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Internal,
            "the metrics cannot be written",
        );
    }
    let (text, content_type) = if has_one_of(headers, &ACCEPT, &[OPEN_METRICS]) {
        (
            text,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )
    } else {
        (classic(&text), "text/plain; version=0.0.4; charset=utf-8")
    };
    let mut answer = Response::new(text.into_bytes().into());
    let content_type = HeaderValue::from_static(content_type);
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// The older format: a counter is announced under its full name, an info is a gauge, and there is
/// no mark at the end.
fn classic(text: &str) -> String {
    let mut classic = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = about.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|announced| announced.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            let help = help.take().map_or("", |(_, help)| help);
            let announced = format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
            classic.push_str(&announced);
        } else if line != "# EOF" {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    classic
}
