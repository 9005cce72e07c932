//! The report as one page: no script, no font, no address of anything else.
//!
//! Curves are inline SVG in the colours of the reader's own light or dark mode; a [`chart`] says what is drawn, [`curves`]
//! which ones a report has.

mod chart;
mod curves;

use std::fmt::Write as _;

use super::Report;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #6b7480; --line: #d8dde3; --page: #fff; --curve: #0b69c7; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #98a2ad; --line: #333a42; --page: #15181c; --curve: #6cb2ff; --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.ok { color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
table { border-collapse: collapse; width: 100%; } td { padding: .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; } .facts td:last-child { text-align: left; padding-left: 1rem; }
.chart { display: grid; grid-template-columns: max-content minmax(0, 1fr); column-gap: 8px; margin: .75rem 0 1.75rem; color: var(--soft); font-size: 12px; line-height: 16px; }
.up, .across { display: grid; font-variant-numeric: tabular-nums; white-space: nowrap; } .up { height: 220px; text-align: right; } .across { grid-column: 2; height: 20px; overflow: visible; }
.up span, .across span { grid-area: 1 / 1; position: relative; } .up span { transform: translateY(-8px); height: 16px; } .across span { top: 6px; justify-self: start; }
svg { width: 100%; height: 220px; display: block; overflow: visible; } svg * { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
.grid { stroke: var(--line); } .mark { stroke: var(--soft); stroke-dasharray: 4 4; } .curve { stroke: var(--curve); stroke-width: 2px; } .lost { stroke: var(--bad); stroke-width: 1.5px; }
.held { stroke: var(--curve); stroke-width: 9px; } .broke { stroke: var(--bad); stroke-width: 9px; } h2 + p { color: var(--soft); font-size: .85rem; margin: 0; }
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
    curves::draw(&mut page, report);
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
    use super::render;
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
    fn every_curve_and_everything_a_reader_needs_are_there() {
        let page = render(&report());
        assert_eq!(page.matches("<svg").count(), 4);
        for part in [
            "class=\"curve\"",
            "class=\"lost\"",
            "class=\"broke\"",
            "of 10.00 ms",
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
}
