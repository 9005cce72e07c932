//! The report for a terminal of 80 columns.

use super::Report;

const LABEL_WIDTH: usize = 34;
const WIDTH: usize = 80;

pub(crate) fn render(report: &Report) -> String {
    let mut lines = vec![format!("loadgen {}", report.scenario), "─".repeat(WIDTH)];
    let settings = report
        .settings
        .iter()
        .map(|(name, value)| format!("{name} {value}"));
    lines.extend(wrap("settings  ", settings, " · "));
    lines.push(String::new());
    for figure in &report.figures {
        lines.push(format!(
            "{:<LABEL_WIDTH$}{:>24}",
            figure.label, figure.shown
        ));
    }
    if let Some(counts) = &report.server_counts {
        lines.push(String::new());
        let counts = counts.as_object().into_iter().flatten();
        let counts = counts.map(|(name, value)| format!("{name} {value}"));
        lines.extend(wrap("the server counted  ", counts, " · "));
    }
    lines.push(String::new());
    for note in &report.notes {
        lines.extend(wrap("note: ", note.split(' ').map(str::to_owned), " "));
    }
    for breach in &report.breaks {
        lines.extend(wrap("BROKEN: ", breach.split(' ').map(str::to_owned), " "));
    }
    if report.is_clean() {
        lines.push("OK: nothing lost unannounced, nothing twice, nothing out of order".into());
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Fills lines with words; the second and all further lines are indented like the first.
fn wrap(head: &str, words: impl Iterator<Item = String>, separator: &str) -> Vec<String> {
    let indent = head.chars().count();
    let mut lines = vec![head.to_owned()];
    let mut used = indent;
    for word in words {
        let width = word.chars().count() + separator.chars().count();
        if used > indent && used + width > WIDTH {
            lines.push(" ".repeat(indent));
            used = indent;
        }
        if let Some(line) = lines.last_mut() {
            if used > indent {
                line.push_str(separator);
            }
            line.push_str(&word);
        }
        used += width;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{render, wrap};
    use crate::report::sample::report;

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let text = render(&report());
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(text.contains("BROKEN: subscribers: 1 messages"));
        assert!(!text.contains("OK:"));
    }

    #[test]
    fn long_lists_are_wrapped() {
        let words = (0..60).map(|number| format!("word{number}"));
        let lines = wrap("head  ", words, " · ");
        assert!(lines.len() > 3);
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
    }
}
