//! What the guests of a host measure, as bytes of a record: see [`super::record`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DecodeError, LATER_BYTES_MAX, name};
use crate::id::{Digest, VmId};
use crate::record::{HostGauges, Measured, Reading, TOLD_GAUGES_MAX, TOLD_VALUES_MAX};

/// Under what a host has its one record of this kind.
pub const GAUGES_SLOT: [u8; 32] = [0; 32];

/// The VMs of one host.
pub(super) type VmsWire = Vec<VmGaugesWire>;

#[derive(Serialize, Deserialize)]
pub(super) struct VmGaugesWire {
    birth: [u8; 32],
    name: String,
    gauges: Vec<(String, Vec<(u16, u32)>)>,
}

pub(super) fn vms_wire(gauges: &HostGauges) -> VmsWire {
    let values = |readings: &Vec<Reading>| {
        readings.iter().map(|reading| (reading.age_s, reading.value.to_bits())).collect()
    };
    let vm = |(vm, gauges): (&VmId, &BTreeMap<_, Vec<Reading>>)| VmGaugesWire {
        birth: vm.birth.0,
        name: vm.name.to_string(),
        gauges: gauges
            .iter()
            .map(|(gauge, readings): (&crate::id::Name, _)| (gauge.to_string(), values(readings)))
            .collect(),
    };
    gauges.vms.iter().map(vm).collect()
}

/// Reads them. `bytes` is how long the whole record is: one that is longer than what agents keep that don't know it would
/// part them from those that do.
pub(super) fn gauges_of(
    slot: [u8; 32],
    counter: u64,
    told_unix_ms: u64,
    vms: VmsWire,
    bytes: usize,
) -> Result<HostGauges, DecodeError> {
    if slot != GAUGES_SLOT {
        return Err(DecodeError::Invalid { what: "slot of what guests measure" });
    }
    if bytes > LATER_BYTES_MAX {
        return Err(DecodeError::TooLong { bytes, limit: LATER_BYTES_MAX });
    }
    let reading = |(age_s, bits): (u16, u32)| {
        let value = Measured::from_bits(bits).ok_or(DecodeError::Invalid { what: "value of a gauge" })?;
        Ok(Reading { age_s, value })
    };
    let gauge = |(gauge, readings): (String, Vec<(u16, u32)>)| {
        at_most(readings.len(), TOLD_VALUES_MAX)?;
        Ok((name(&gauge)?, readings.into_iter().map(reading).collect::<Result<Vec<_>, DecodeError>>()?))
    };
    let vm = |wire: VmGaugesWire| {
        at_most(wire.gauges.len(), TOLD_GAUGES_MAX)?;
        let vm = VmId { birth: Digest(wire.birth), name: name(&wire.name)? };
        Ok((vm, in_order(wire.gauges.into_iter().map(gauge))?))
    };
    let vms = in_order(vms.into_iter().map(vm))?;
    Ok(HostGauges { counter, told_unix_ms, vms })
}

/// Collects what has to be in order and without a second one of a key: one value has one encoding.
fn in_order<K: Ord, V>(
    pairs: impl Iterator<Item = Result<(K, V), DecodeError>>,
) -> Result<BTreeMap<K, V>, DecodeError> {
    let mut found = BTreeMap::new();
    for pair in pairs {
        let (key, value) = pair?;
        if found.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(DecodeError::Invalid { what: "order of what guests measure" });
        }
        found.insert(key, value);
    }
    Ok(found)
}

/// Returns how many bytes a record has that says this.
pub fn gauges_bytes(gauges: &HostGauges) -> usize {
    super::record::record_bytes(gauges)
}

fn at_most(found: usize, limit: usize) -> Result<(), DecodeError> {
    if found > limit {
        return Err(DecodeError::TooLong { bytes: found, limit });
    }
    Ok(())
}
