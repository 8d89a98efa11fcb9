//! What is wrong with this machine, and what to type about it.
//!
//! [`facts`] looks and tries; [`checks`] judges what was seen, one small function per line, so that each way in
//! which a machine can be wrong is tested without such a machine. `mlnd doctor` does both by itself; an agent that
//! runs is asked, since it may be another user with other rights.

mod checks;
mod facts;

use std::path::Path;

use mln_link::message::DoctorRow;

use crate::config::{CONFIG_FILE, Config};
use crate::host::uml_config;
use crate::store_health::StoreFacts;
pub(crate) use facts::{MeshFacts, MeshStanding, PeerClock, Place, Ports};

/// Looks at this machine and judges all of it; takes some tenths of a second, and blocks.
pub(crate) fn examine(place: &Place, mesh: &MeshFacts) -> Vec<DoctorRow> {
    checks::all(&facts::gather(place, mesh))
}

/// Does the same where no agent runs, for the folder that one would have.
pub(crate) fn examine_alone(data: &Path) -> Vec<DoctorRow> {
    let (config, broken) = match Config::read(&data.join(CONFIG_FILE)) {
        Ok(config) => (config, None),
        Err(error) => (Config::usual(), Some(crate::causes::chain(&error))),
    };
    let listen = config.listen.iter().map(ToString::to_string).collect();
    let uml = match uml_config(data, &config) {
        Ok(uml) => uml,
        Err(error) => return vec![checks::unknown_program(&format!("{error:#}"))],
    };
    let place =
        Place { data: data.to_owned(), uml, control_group: config.control_group, config_error: broken };
    let store = StoreFacts::of_folder(data);
    examine(&place, &MeshFacts { ports: Ports::Wanted(listen), peers: Vec::new(), store, standing: None })
}
