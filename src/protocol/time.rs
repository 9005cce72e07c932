//! Moments as clients see them.

use std::fmt;
use std::time::Duration;

use jiff::tz::Offset;

/// A moment as clients see it: RFC 3339, UTC, milliseconds, `Z`. Its text sorts as time does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp([u8; Timestamp::LEN]);

impl Timestamp {
    /// Bytes of its text.
    pub const LEN: usize = 24;

    /// Makes the timestamp of a moment. Callers keep it for as long as the millisecond lasts. Moments past
    /// the year 9999 are cut to its end.
    pub fn from_unix_ms(unix_ms: u64) -> Self {
        let instant = i64::try_from(unix_ms)
            .ok()
            .and_then(|unix_ms| jiff::Timestamp::from_millisecond(unix_ms).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        let time = Offset::UTC.to_datetime(instant);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put_digits(&mut text[0..4], time.year());
        put_digits(&mut text[5..7], time.month().into());
        put_digits(&mut text[8..10], time.day().into());
        put_digits(&mut text[11..13], time.hour().into());
        put_digits(&mut text[14..16], time.minute().into());
        put_digits(&mut text[17..19], time.second().into());
        put_digits(&mut text[20..23], time.millisecond());
        Self(text)
    }

    /// The moment that has this text; none if it has not the shape of one. Months and hours are not looked at:
    /// what is read was written as [`as_str`](Self::as_str) has it.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes: [u8; Self::LEN] = text.as_bytes().try_into().ok()?;
        let is_alike = |(byte, like): (&u8, &u8)| match like {
            b'0' => byte.is_ascii_digit(),
            like => byte == like,
        };
        let like = b"0000-00-00T00:00:00.000Z";
        bytes.iter().zip(like).all(is_alike).then_some(Self(bytes))
    }

    /// The text's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text.
    #[expect(clippy::missing_panics_doc, reason = "the bytes are always ASCII")]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("digits and punctuation are ASCII")
    }
}

/// A moment on a clock that never jumps, in microseconds. It comes round every 71 minutes, so only
/// what lies closer together can be compared; nothing waits in a ring for so long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(u32);

impl Moment {
    /// The moment that lies `elapsed` behind the start of the clock.
    #[expect(clippy::cast_possible_truncation, reason = "it comes round")]
    pub fn at(elapsed: Duration) -> Self {
        Self(elapsed.as_micros() as u32)
    }

    /// Microseconds from `earlier` to this.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.wrapping_sub(earlier.0).into()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[expect(
    clippy::cast_sign_loss,
    reason = "no field of a moment since 1970 is negative"
)]
fn put_digits(place: &mut [u8], mut number: i16) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_compared_across_the_end_of_the_clock() {
        let before = Duration::from_micros((1 << 32) - 5);
        let after = before + Duration::from_micros(12);
        assert_eq!(Moment::at(after).since(Moment::at(before)), 12);
        assert_eq!(Moment::at(before).since(Moment::at(before)), 0);
    }

    #[test]
    fn timestamps_are_rfc_3339_in_milliseconds() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_756_116_000_000, "2025-08-25T10:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_868_799_007, "2000-02-29T23:59:59.007Z"),
            (u64::MAX, "9999-12-30T22:00:00.999Z"),
        ] {
            let ts = Timestamp::from_unix_ms(unix_ms);
            assert_eq!(ts.as_str(), text);
            assert_eq!(Timestamp::from_text(text), Some(ts));
            assert_eq!(format!("{ts:?}"), text);
        }
        for text in [
            "",
            "1970-01-01T00:00:00.000z",
            "1970-01-01T00:00:00.00Z",
            "1970-01-01T00:00:00.0000Z",
            "1970-01-01 00:00:00.000Z",
            "197O-01-01T00:00:00.000Z",
            "１-01-01T00:00:00.000Z12",
        ] {
            assert_eq!(Timestamp::from_text(text), None, "{text}");
        }
        for unix_ms in (0..4_000_000_000_000).step_by(9_999_999_967) {
            let text = Timestamp::from_unix_ms(unix_ms).as_str().to_owned();
            let back: jiff::Timestamp = text.parse().expect("RFC 3339");
            assert_eq!(u64::try_from(back.as_millisecond()), Ok(unix_ms));
        }
    }
}
