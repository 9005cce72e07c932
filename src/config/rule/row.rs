//! What the help and the command line have of a setting.

use clap::Arg;
use clap::builder::OsStringValueParser;

use super::{Rule, SWITCH_UNIT};

/// What the help says about a setting.
#[derive(Debug)]
pub(in crate::config) struct Row {
    pub(in crate::config) env: &'static str,
    unit: &'static str,
    pub(in crate::config) group: &'static str,
    pub(in crate::config) about: String,
    pub(in crate::config) default: &'static str,
    allowed: String,
}

impl Row {
    /// The row of a rule and, where it has one, the row of its fallback.
    pub(in crate::config) fn with_fallback<T: Clone>(
        rule: &Rule<T>,
        group: &'static str,
        reason: &'static str,
    ) -> Vec<Self> {
        let fallback = rule
            .fallback
            .map(|(fallback, reason)| Self::new(fallback, group, reason));
        [Self::new(rule, group, reason)]
            .into_iter()
            .chain(fallback)
            .collect()
    }

    fn new<T: Clone>(rule: &Rule<T>, group: &'static str, reason: &str) -> Self {
        Self {
            env: rule.env,
            unit: rule.unit,
            group,
            about: reason.trim().replace('`', ""),
            default: rule.default,
            allowed: rule.range(),
        }
    }

    /// Its second line, behind what the setting is about.
    pub(in crate::config) fn allowed(&self) -> String {
        format!("{}={}: {}", self.env, self.default, self.allowed)
    }

    /// The clap argument of this row, named after the variable so that both are found under one name.
    pub(in crate::config) fn flag(self) -> Arg {
        let help = format!("{}\n{}", self.about, self.allowed());
        // clap wants static names, and there is one small string for each setting.
        let long: &'static str = self.env.to_ascii_lowercase().replace('_', "-").leak();
        let is_switch = self.unit == SWITCH_UNIT;
        let arg = Arg::new(self.env)
            .long(long)
            .value_name(self.unit)
            .value_parser(OsStringValueParser::new())
            // A switch may stand alone: what begins with a hyphen behind it is the next flag.
            .allow_hyphen_values(!is_switch)
            .help_heading(self.group)
            .help(help);
        if is_switch {
            arg.num_args(0..=1).default_missing_value("true")
        } else {
            arg
        }
    }
}
