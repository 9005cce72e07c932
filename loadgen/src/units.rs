//! Numbers as people read them, and the one place where counters become floating point.
//!
//! Everything shown anywhere in a report is formatted here, so that a table and a page never disagree.

/// A counter as a float. Counters stay far below 2^53, where this is exact.
#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// A float as a counter; what is negative or not a number is zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates at both ends, and that is what is wanted"
)]
pub(crate) fn count(value: f64) -> u64 {
    value.round() as u64
}

/// An index or a length as a counter.
pub(crate) fn wide(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits 64 bits")
}

/// `part / whole`, and zero where there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Seconds as nanoseconds.
pub(crate) fn nanos(secs: f64) -> u64 {
    count(secs * 1e9)
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(nanos: u64) -> f64 {
    float(nanos) / 1e9
}

/// `1234567` → `1,234,567`.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration with the unit that suits it.
pub(crate) fn duration(nanos: u64) -> String {
    let ns = float(nanos);
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

/// Kilobytes with the unit that suits them.
pub(crate) fn kilobytes(kb: f64) -> String {
    if kb.abs() < 1024.0 {
        format!("{kb:.1} KB")
    } else {
        format!("{:.1} MB", kb / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{count, duration, grouped, kilobytes};

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(123), "123");
        assert_eq!(grouped(1_234), "1,234");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn units_follow_size() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_500), "1.5 µs");
        assert_eq!(duration(2_500_000), "2.50 ms");
        assert_eq!(duration(3_000_000_000), "3.00 s");
        assert_eq!(kilobytes(2048.0), "2.0 MB");
    }

    #[test]
    fn nonsense_counts_as_zero() {
        assert_eq!(count(f64::NAN), 0);
        assert_eq!(count(-3.0), 0);
    }
}
