//! What version 6 of a host's part of a project knows besides: what its guests may decide.

use serde::{Deserialize, Serialize};

use super::fragment::LINE_BYTES_MAX;
use super::{DecodeError, name, text};
use crate::id::Name;
use crate::model::{BuiltinName, Decider, DiskBytes, HostAddress, May, Policy, Tuning, Vm};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PolicyWire {
    name: String,
    origin: String,
    decider: Option<DeciderWire>,
    gauge: Option<String>,
    quota_milli: Option<u64>,
    window_ms: Option<u64>,
    every_ms: u64,
    grace_ms: u64,
    may: Vec<MayWire>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum DeciderWire {
    Run(Vec<String>),
    /// By its place in [`BuiltinName::ALL`].
    Builtin(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum MayWire {
    Move(Vec<String>),
    Scale { class: String, least: u32, most: u32 },
    Cloud { hours_per_day: u32 },
    Volume { count: u32, size_bytes: u64 },
}

/// Returns what each VM may decide, by its place; nothing at all where none may decide anything.
pub(super) fn encode_policies(vms: &[Vm]) -> Vec<Vec<PolicyWire>> {
    if vms.iter().all(|vm| vm.setup.policies.is_empty()) {
        return Vec::new();
    }
    vms.iter().map(|vm| vm.setup.policies.iter().map(PolicyWire::from).collect()).collect()
}

/// Puts it into the VMs that it is of.
pub(super) fn decode_policies(wire: Vec<Vec<PolicyWire>>, vms: &mut [Vm]) -> Result<(), DecodeError> {
    if !wire.is_empty() && wire.len() != vms.len() {
        return Err(DecodeError::Invalid { what: "list of what guests may decide" });
    }
    for (vm, policies) in vms.iter_mut().zip(wire) {
        let policies = policies.into_iter().map(Policy::try_from);
        vm.setup.policies = policies.collect::<Result<_, DecodeError>>()?;
    }
    Ok(())
}

impl From<&Policy> for PolicyWire {
    fn from(policy: &Policy) -> Self {
        let may = |may: &May| match may {
            May::Move(hosts) => MayWire::Move(hosts.iter().map(|host| host.0.clone()).collect()),
            May::Scale { class, least, most } => {
                MayWire::Scale { class: class.to_string(), least: *least, most: *most }
            }
            May::Cloud { hours_per_day } => MayWire::Cloud { hours_per_day: *hours_per_day },
            May::Volume { count, size } => MayWire::Volume { count: *count, size_bytes: size.0 },
        };
        Self {
            name: policy.name.to_string(),
            origin: policy.origin.to_string(),
            decider: policy.decider.as_ref().map(|decider| match decider {
                Decider::Run(words) => DeciderWire::Run(words.clone()),
                Decider::Builtin(builtin) => DeciderWire::Builtin(place(*builtin)),
            }),
            gauge: policy.tuning.gauge.as_ref().map(Name::to_string),
            quota_milli: policy.tuning.quota_milli,
            window_ms: policy.tuning.window_ms,
            every_ms: policy.every_ms,
            grace_ms: policy.grace_ms,
            may: policy.may.iter().map(may).collect(),
        }
    }
}

fn place(builtin: BuiltinName) -> u8 {
    match builtin {
        BuiltinName::Scale => 0,
        BuiltinName::Proximity => 1,
        BuiltinName::Queue => 2,
    }
}

impl TryFrom<PolicyWire> for Policy {
    type Error = DecodeError;

    fn try_from(wire: PolicyWire) -> Result<Self, DecodeError> {
        let line = |found| text(found, LINE_BYTES_MAX);
        let may = |may| {
            Ok(match may {
                MayWire::Move(hosts) => {
                    let hosts = hosts.into_iter().map(|host| Ok(HostAddress(line(host)?)));
                    May::Move(hosts.collect::<Result<_, DecodeError>>()?)
                }
                MayWire::Scale { class, least, most } => May::Scale { class: name(&class)?, least, most },
                MayWire::Cloud { hours_per_day } => May::Cloud { hours_per_day },
                MayWire::Volume { count, size_bytes } => May::Volume { count, size: DiskBytes(size_bytes) },
            })
        };
        Ok(Self {
            name: name(&wire.name)?,
            origin: name(&wire.origin)?,
            decider: match wire.decider {
                None => None,
                Some(DeciderWire::Run(words)) => {
                    Some(Decider::Run(words.into_iter().map(line).collect::<Result<_, DecodeError>>()?))
                }
                Some(DeciderWire::Builtin(found)) => {
                    let builtin = BuiltinName::ALL.into_iter().find(|builtin| place(*builtin) == found);
                    let unknown = DecodeError::Unknown { what: "built-in policy", found: found.into() };
                    Some(Decider::Builtin(builtin.ok_or(unknown)?))
                }
            },
            tuning: Tuning {
                gauge: wire.gauge.map(|gauge| name(&gauge)).transpose()?,
                quota_milli: wire.quota_milli,
                window_ms: wire.window_ms,
            },
            every_ms: wire.every_ms,
            grace_ms: wire.grace_ms,
            may: wire.may.into_iter().map(may).collect::<Result<_, DecodeError>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::lang::{NoIncludes, parse};
    use crate::model::Fragment;
    use crate::resolve::{self, Options};
    use crate::wire::{decode_fragment, encode_fragment};

    const TEXT: &str = "global { project p; autoenum c { numhosts 1; superclass web } }
superclass web { memory 64M }
host a { memory 64M
    policy grow { builtin scale; gauge connections; quota 12.5; window 30s; grace 15s; may scale c 1..4; may move b @us }
    policy other { run /bin/decide -x; every 5s; may cloud 2h/day; may volume 1 1G }
}";

    #[test]
    fn what_guests_may_decide_comes_back_as_it_was_and_is_version_6() {
        let (tree, _) = parse("p.mln", TEXT.to_owned(), &NoIncludes);
        let resolved = resolve::resolve(&tree, &Options::default());
        let mut fragment = Fragment { vms: resolved.project.vms, ..Fragment::default() };
        let bytes = encode_fragment(&fragment);
        assert_eq!(bytes[..2], [6, 0]);
        assert_eq!(decode_fragment(&bytes).as_ref(), Ok(&fragment));
        let of_a = fragment.vms.iter().find(|vm| vm.name.as_str() == "a").expect("it is there");
        assert_eq!(of_a.setup.policies.len(), 2);
        for vm in &mut fragment.vms {
            vm.setup.policies.clear();
        }
        assert_eq!(encode_fragment(&fragment)[..2], [1, 0], "a part without any is as it always was");
    }
}
