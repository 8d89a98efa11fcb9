//! Why keywords of other platforms mean nothing on User-Mode Linux, in a line for people.

/// Returns why a keyword has no effect, whatever its value; none where that depends on the value.
pub fn why_without_effect(word: &str) -> Option<&'static str> {
    Some(match word {
        "color" | "term" => "a guest has no window: `mlnctl console` shows it in yours",
        "cow_filesystem" => "every disk is a layer over its template",
        "extra" | "xen_extra" | "hvm" => "User-Mode Linux has no such settings",
        "filepath" | "lvm" | "lvm_vg" | "lvm_snapshot" | "iscsi" | "iscsi_target" => {
            "the agent of the service host keeps the disks in its own folder"
        }
        "filesystem" => "a disk starts from its template; another one is a line of `mount`",
        "group" | "owner" | "sudo" => "a guest is run by the user of its service host's agent",
        "kernel" | "ramdisk" | "modules_dir" => {
            "the kernel is the service host's: `kernel` in its agent's config.toml"
        }
        "lock_dir" | "lock_timeout" | "locking" => "the agent locks each VM by itself",
        "vncdisplay" | "vnckeymap" | "vncpasswd" => "User-Mode Linux has no screen",
        _ => return None,
    })
}
