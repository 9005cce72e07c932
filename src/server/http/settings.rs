//! `GET /settings`: what holds, and who has said so. Of secrets only whether they are set.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, json};
use crate::config::rule::reader::Origin;
use crate::config::{Config, InForce};

/// The settings in force.
#[derive(Serialize, ToSchema)]
pub(super) struct Settings {
    settings: Vec<Setting>,
}

#[derive(Serialize, ToSchema)]
struct Setting {
    name: &'static str,
    /// Of a secret only whether it is set.
    value: String,
    default: &'static str,
    /// `flag`, `environment` or `default`.
    from: &'static str,
    group: &'static str,
    about: String,
}

impl From<InForce> for Setting {
    fn from(setting: InForce) -> Self {
        Self {
            name: setting.name,
            value: setting.value,
            default: setting.default,
            from: match setting.origin {
                Origin::Flag => "flag",
                Origin::Environment => "environment",
                Origin::Default => "default",
            },
            group: setting.group,
            about: setting.about,
        }
    }
}

pub(super) fn show(config: &Config) -> Answer {
    let settings = config.in_force().map(Setting::from).collect();
    json(StatusCode::OK, &Settings { settings })
}
