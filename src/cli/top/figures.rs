//! Figures in few columns, for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// The number of things, as far as it is read.
#[expect(clippy::cast_precision_loss, reason = "only to be read by a person")]
pub(super) fn as_float(count: u64) -> f64 {
    count as f64
}

/// Three digits and a letter.
pub(super) fn short(number: f64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "G", "T", "P", "E"])
}

/// The same for bytes.
pub(super) fn short_bytes(number: f64) -> String {
    scaled(number, 1024.0, &["B", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let (mut number, mut unit) = (number, 0);
    // What would be rounded up to four digits has the next letter.
    while number >= 999.5 && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    let digits = match number {
        _ if number.fract() == 0.0 && unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{}", units[unit])
}

/// How long ago `started` is, in seconds since 1970.
pub(super) fn up(started: f64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0.0, |now| (now.as_secs_f64() - started).max(0.0));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and cut to whole minutes anyway"
    )]
    let minutes = (seconds / 60.0) as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        1..60 => format!("{minutes} min"),
        60..1440 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", minutes / 1440, minutes / 60 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (0.25, "0.25"),
            (12.34, "12.3"),
            (999.0, "999"),
            (999.7, "1.00k"),
            (12_345.0, "12.3k"),
            (1_500_000.0, "1.50M"),
            (f64::from(u32::MAX), "4.29G"),
        ] {
            assert_eq!(short(number), text);
        }
        assert_eq!(short_bytes(1536.0), "1.50Ki");
    }

    #[test]
    fn a_long_time_has_two_units() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("now");
        let ago = |seconds: f64| up(now.as_secs_f64() - seconds);
        assert_eq!(ago(90.0), "1 min");
        assert_eq!(ago(3_700.0), "1 h 1 min");
        assert_eq!(ago(2.5 * 86_400.0), "2 d 12 h");
    }
}
