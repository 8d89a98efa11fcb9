//! On whose grants something was made, as bytes: the same in a revision and in a note about a reservation.

use serde::{Deserialize, Serialize};

use super::DecodeError;
use crate::id::{Digest, PublicKey};
use crate::record::Charge;
use crate::trust::{Amount, CHAIN_LINKS_MAX};

#[derive(Serialize, Deserialize)]
pub(super) struct ChargeWire {
    principal: [u8; 32],
    grants: Vec<[u8; 32]>,
    memory_mib: u64,
    vms: u64,
    disk_bytes: u64,
}

impl From<&Charge> for ChargeWire {
    fn from(charge: &Charge) -> Self {
        Self {
            principal: charge.principal.0,
            grants: charge.grants.iter().map(|grant| grant.0).collect(),
            memory_mib: charge.amount.memory_mib,
            vms: charge.amount.vms,
            disk_bytes: charge.amount.disk_bytes,
        }
    }
}

impl TryFrom<ChargeWire> for Charge {
    type Error = DecodeError;

    fn try_from(wire: ChargeWire) -> Result<Self, DecodeError> {
        if wire.grants.len() > CHAIN_LINKS_MAX {
            return Err(DecodeError::TooLong { bytes: wire.grants.len(), limit: CHAIN_LINKS_MAX });
        }
        let ChargeWire { principal, grants, memory_mib, vms, disk_bytes } = wire;
        Ok(Self {
            principal: PublicKey(principal),
            grants: grants.into_iter().map(Digest).collect(),
            amount: Amount { memory_mib, vms, disk_bytes },
        })
    }
}
