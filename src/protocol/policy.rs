//! Which live events of a topic a subscription wants.

use std::num::NonZeroU16;

/// Events a second that can be asked for at most. Above it a rate is no bound that a person would see.
pub const RATE_MAX: u16 = 1000;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Every one, as far as its ring has room.
    #[default]
    All,
    /// Of those that wait only the newest.
    Latest {
        /// And at most so many a second, 1 to [`RATE_MAX`].
        max_rate: Option<NonZeroU16>,
    },
}

impl Policy {
    /// What is asked for by `policy`, a word, and `max_rate`, the digits of a number. Neither: all.
    ///
    /// # Errors
    ///
    /// What is wrong, and what is allowed.
    pub fn parse(policy: Option<&str>, max_rate: Option<&str>) -> Result<Self, &'static str> {
        if policy.is_some_and(|policy| policy != "latest") {
            return Err(r#"policy must be "latest", or absent for all events"#);
        }
        let Some(max_rate) = max_rate else {
            return Ok(match policy {
                None => Self::All,
                Some(_) => Self::Latest { max_rate: None },
            });
        };
        let is_number = max_rate.bytes().all(|byte| byte.is_ascii_digit());
        let number = max_rate.parse::<NonZeroU16>();
        match number
            .ok()
            .filter(|rate| is_number && rate.get() <= RATE_MAX)
        {
            None => {
                Err("max_rate must be an integer from 1 to 1000: events a second of each topic")
            }
            max_rate => Ok(Self::Latest { max_rate }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_implies_the_newest_and_nothing_else_is_allowed() {
        let latest = |rate| {
            Ok(Policy::Latest {
                max_rate: NonZeroU16::new(rate),
            })
        };
        assert_eq!(Policy::parse(None, None), Ok(Policy::All));
        assert_eq!(Policy::parse(Some("latest"), None), latest(0));
        assert_eq!(Policy::parse(Some("latest"), Some("1")), latest(1));
        assert_eq!(Policy::parse(None, Some("1000")), latest(1000));
        for policy in ["", "all", "Latest", "newest"] {
            let refused = Policy::parse(Some(policy), Some("1")).expect_err(policy);
            assert!(refused.contains("latest"), "{refused}");
        }
        for rate in [
            "", "0", "-1", "+1", "1.5", "1e2", "1001", "70000", r#""10""#,
        ] {
            let refused = Policy::parse(None, Some(rate)).expect_err(rate);
            assert!(refused.contains("1 to 1000"), "{refused}");
        }
    }
}
