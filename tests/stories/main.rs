//! Stories with real agents and real virtual machines: what somebody who uses the mesh would see.

mod aborted;
mod anew;
mod copied;
mod cut_exports;
mod cut_requests;
mod durable;
mod events;
mod exec;
mod exported;
mod full_disk;
mod gossip;
mod grants;
mod images;
mod inside;
mod inside_more;
mod interrupted;
mod itself;
mod joining;
mod kept;
mod links;
mod live;
mod measured;
mod moved;
mod moving;
mod partition;
mod placement;
mod plugin;
mod refused;
mod remote;
mod revisions;
mod ring;
mod rivals;
mod shape;
mod snapshots;
mod stop;
mod strangers;
mod survival;
mod twins;
mod unprivileged;
mod upgrade;
mod wandering;
mod web_scaling;
mod words;
mod world;

use std::time::Duration;

/// How long anything may take that has no time of its own.
const LIMIT: Duration = Duration::from_secs(25);

/// Two VMs on two hosts, on one switch.
const PAIR: &str = "
global { project pair }
superclass end { memory 64M }
switch lan { }
host left {
    superclass end
    service_host oslo
    network eth0 { switch lan; address 10.9.0.1/24 }
}
host right {
    superclass end
    service_host bergen
    network eth0 { switch lan; address 10.9.0.2/24 }
}
";

/// One VM on the host that is asked.
const SINGLE: &str = "
global { project single }
host vm { memory 64M }
";
