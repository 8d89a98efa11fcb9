//! A policy in the shape of `show --json`.

use serde::Serialize;

use crate::model::{Decider, May, Policy};

#[derive(Serialize)]
pub(super) struct PolicyJson<'a> {
    name: &'a str,
    run: Option<&'a [String]>,
    builtin: Option<&'static str>,
    gauge: Option<&'a str>,
    quota: Option<f64>,
    window_ms: Option<u64>,
    every_ms: u64,
    grace_ms: u64,
    may_move: Vec<&'a str>,
    may_scale: Vec<ScaleJson<'a>>,
    may_cloud_hours_per_day: Option<u32>,
    may_volumes: Option<VolumesJson>,
}

#[derive(Serialize)]
struct ScaleJson<'a> {
    class: &'a str,
    least: u32,
    most: u32,
}

#[derive(Serialize)]
struct VolumesJson {
    count: u32,
    bytes: u64,
}

impl<'a> From<&'a Policy> for PolicyJson<'a> {
    fn from(policy: &'a Policy) -> Self {
        let (run, builtin) = match &policy.decider {
            Some(Decider::Run(program)) => (Some(program.as_slice()), None),
            Some(Decider::Builtin(builtin)) => (None, Some(builtin.word())),
            None => (None, None),
        };
        let mut json = Self {
            name: policy.name.as_str(),
            run,
            builtin,
            gauge: policy.tuning.gauge.as_ref().map(|gauge| gauge.as_str()),
            quota: policy.tuning.quota_milli.map(|milli| milli as f64 / 1000.0),
            window_ms: policy.tuning.window_ms,
            every_ms: policy.every_ms,
            grace_ms: policy.grace_ms,
            may_move: Vec::new(),
            may_scale: Vec::new(),
            may_cloud_hours_per_day: None,
            may_volumes: None,
        };
        for may in &policy.may {
            match may {
                May::Move(hosts) => json.may_move.extend(hosts.iter().map(|host| host.0.as_str())),
                May::Scale { class, least, most } => {
                    json.may_scale.push(ScaleJson { class: class.as_str(), least: *least, most: *most });
                }
                May::Cloud { hours_per_day } => json.may_cloud_hours_per_day = Some(*hours_per_day),
                May::Volume { count, size } => {
                    json.may_volumes = Some(VolumesJson { count: *count, bytes: size.0 });
                }
            }
        }
        json
    }
}
