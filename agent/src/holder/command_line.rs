//! The command line of User-Mode Linux.

use std::ffi::OsString;

use mln_protocol::wire::holder::{DrivesWire, InterfaceWire, LaunchWire, PlugWire};

use super::files::{DISK, NOTIFY_SOCKET, SEED, UML_FOLDER, UML_ID, port_socket};

/// The letters of the drives behind the three that every guest has; User-Mode Linux knows no more.
pub(crate) const DRIVE_LETTERS: [char; 5] = ['d', 'e', 'f', 'g', 'h'];

/// Returns the arguments for a guest whose working folder is the VM's folder, whose standard input is the line
/// and whose standard output is the console.
///
/// Paths in the VM's folder are relative: those of sockets may not be longer than 107 bytes.
pub(super) fn arguments(launch: &LaunchWire, plugs: &[PlugWire], drives: &DrivesWire) -> Vec<OsString> {
    let mut words = vec![
        format!("umid={UML_ID}"),
        format!("uml_dir={UML_FOLDER}"),
        format!("mconsole=notify:{NOTIFY_SOCKET}"),
        format!("mem={}M", launch.memory_mib),
        format!("ubda={DISK},{}", launch.backing),
        // r: read-only; c: shared with other guests, so not locked; d: no layer is looked for in it.
        format!("ubdbrd={SEED}"),
        format!("ubdcrcd={}", launch.agent_drive),
        "root=/dev/ubda".to_owned(),
        "rw".to_owned(),
        // All but what we use goes nowhere: the default would open terminal emulators.
        "con=null".to_owned(),
        "con0=null,fd:1".to_owned(),
        "ssl=null".to_owned(),
        "ssl0=fd:0".to_owned(),
        // Without it a guest that restarts would do so in a process that nobody waits for.
        "noreboot".to_owned(),
        hostfs_root(drives).to_owned(),
        "quiet".to_owned(),
        "MLN_LINE=/dev/ttyS0".to_owned(),
        "MLN_SEED=/dev/ubdb".to_owned(),
        "MLN_AGENT=/dev/ubdc".to_owned(),
    ];
    for (letter, drive) in DRIVE_LETTERS.into_iter().zip(&drives.drives) {
        let read_only = if drive.read_only { "r" } else { "" };
        // d: else a guest could write the header of a layer to its drive, and so name a file of the host.
        words.push(format!("ubd{letter}{read_only}d={}", drive.path));
    }
    for (index, (interface, plug)) in launch.interfaces.iter().zip(plugs).enumerate() {
        words.push(vector(index, interface, plug));
    }
    words.into_iter().map(OsString::from).collect()
}

/// Returns what User-Mode Linux is told of an interface.
pub(super) fn vector(index: usize, interface: &InterfaceWire, plug: &PlugWire) -> String {
    let mac = interface.mac.map(|byte| format!("{byte:02x}")).join(":");
    let other_end = match plug {
        PlugWire::Socket | PlugWire::Nat(_) | PlugWire::ImpairedNat { .. } => {
            format!("transport=bess,dst={}", port_socket(index))
        }
        PlugWire::Tap { tap, .. } | PlugWire::AddressedTap { tap, .. } => {
            format!("transport=tap,ifname={tap}")
        }
    };
    format!("vec{index}:{other_end},mac={mac},depth=128,gro=1")
}

/// Returns where what a guest mounts as hostfs begins.
///
/// A file, below which no path leads anywhere, `..` included. Where folders are shared it is the root: it would be no
/// obstacle anyway, and Landlock is what keeps the guest in those folders.
fn hostfs_root(drives: &DrivesWire) -> &'static str {
    if drives.folders.is_empty() { "hostfs=/dev/null" } else { "hostfs=/" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::wire::holder::{DriveWire, FolderWire, HOLDER_VERSION};

    #[test]
    fn every_interface_has_its_own_port() {
        let interface = |name: &str, last| InterfaceWire { name: name.into(), mac: [2, 0, 0, 0, 0, last] };
        let launch = LaunchWire {
            version: HOLDER_VERSION,
            kernel: "/usr/bin/linux.uml".into(),
            memory_mib: 64,
            backing: "/data/images/t.img".into(),
            agent_drive: "/data/images/a.img".into(),
            memory_folder: "/dev/shm".into(),
            interfaces: vec![interface("eth0", 1), interface("lan", 0xfe), interface("wan", 2)],
        };
        let tap = PlugWire::Tap { tap: "mln0123456789ab".into(), bridge: Some("br0".into()) };
        let none = DrivesWire {
            version: HOLDER_VERSION,
            drives: Vec::new(),
            folders: Vec::new(),
            nice: None,
            cpus: Vec::new(),
        };
        let words = arguments(&launch, &[PlugWire::Socket, PlugWire::Socket, tap], &none);
        let vectors: Vec<_> =
            words.iter().filter_map(|w| w.to_str()).filter(|w| w.starts_with("vec")).collect();
        assert_eq!(
            vectors,
            [
                "vec0:transport=bess,dst=port-0.sock,mac=02:00:00:00:00:01,depth=128,gro=1",
                "vec1:transport=bess,dst=port-1.sock,mac=02:00:00:00:00:fe,depth=128,gro=1",
                "vec2:transport=tap,ifname=mln0123456789ab,mac=02:00:00:00:00:02,depth=128,gro=1",
            ]
        );
        assert!(words.contains(&OsString::from("ubda=disk.cow,/data/images/t.img")));
        assert!(words.contains(&OsString::from("hostfs=/dev/null")));

        let drive = |path: &str, read_only| DriveWire { path: path.into(), read_only };
        let drives = vec![drive("disk-d.img", false), drive("/srv/a.img", true)];
        let folders = vec![FolderWire { path: "/srv/shared".into(), read_only: false }];
        let words = arguments(&launch, &[], &DrivesWire { drives, folders, ..none });
        for word in ["ubddd=disk-d.img", "ubderd=/srv/a.img", "hostfs=/"] {
            assert!(words.contains(&OsString::from(word)), "{word}");
        }
    }
}
