//! What a guest has beside its disk: groups, swap, mounts, lines for its shutdown; and how its process runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mln_e2e::{Host, Site, until};

use crate::LIMIT;

const RICH: &str = "
global { project rich }
host vm {
    memory 64M
    users { alice x; bob x }
    groups { crew { alice bob } }
    swap 32M
    nice 7
    cpus 0
    mount { 1G /data ext4 noatime }
    shutdown {
        echo \"$(hostname) goes\" >>/data/last
        echo \"said at shutdown\"
    }
}
";

#[track_caller]
fn is_up(host: &Host, project: &str) {
    host.ctl(&["start", "-p", project]).done();
    host.ctl(&["status", "-p", project, "--wait", "up", "--timeout", "60"]).ended(0);
}

#[test]
fn a_guest_has_groups_swap_and_a_disk_that_its_last_lines_write_to() {
    let mut site = Site::mesh(&["oslo"]);
    let file = site.project("rich", RICH);
    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &file]).done();
    is_up(oslo, "rich");

    let words = |line: &str| oslo.shell("rich/vm", line).done();
    assert_eq!(words("id -Gn bob"), "bob crew\n");
    assert!(words("cat /proc/swaps").contains("/dev/ubde"), "{}", words("cat /proc/swaps"));
    let kib: u64 = words("df -k /data | awk 'NR == 2 { print $2 }'").trim().parse().expect("a number");
    assert!((900_000..1_048_576).contains(&kib), "{kib}");
    assert!(words("grep /data /proc/mounts").contains("noatime"));

    let (kernel, _) = oslo.kernel("vm");
    let stat = fs::read_to_string(format!("/proc/{kernel}/stat")).expect("it runs");
    let niceness = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(16));
    assert_eq!(niceness, Some("7"), "{stat}");
    let status = fs::read_to_string(format!("/proc/{kernel}/status")).expect("it runs");
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");

    oslo.ctl(&["stop", "-p", "rich"]).done();
    oslo.ctl(&["logs", "rich/vm"]).ended(0).says("said at shutdown");
    is_up(oslo, "rich");
    assert_eq!(words("cat /data/last"), "vm goes\n");

    // The guest shuts down by itself, and may be gone before it has said how that command ended.
    oslo.shell("rich/vm", "poweroff");
    oslo.sees("rich", "vm", "down");
    is_up(oslo, "rich");
    assert_eq!(words("cat /data/last"), "vm goes\nvm goes\n");
}

#[test]
fn paths_of_a_host_are_mounted_where_its_configuration_shares_them_and_no_others() {
    let mut site = Site::mesh(&["oslo"]);
    let place = site.folder().to_owned();
    let (shared, secret) = (place.join("shared"), place.join("secret"));
    fs::write(&secret, "").expect("the folder is ours");
    let (image, folder) = (shared.join("a.img"), shared.join("folder"));
    fs::create_dir_all(&folder).expect("the folder is ours");
    fs::write(folder.join("note"), "of the host\n").expect("the folder is ours");
    std::os::unix::fs::symlink("/etc", shared.join("elsewhere")).expect("the folder is ours");
    let made = Command::new("/usr/sbin/mke2fs").args(["-q", "-t", "ext4"]).arg(&image).arg("8M").status();
    assert!(made.expect("it is installed").success());
    let (image, folder) = (image.display(), folder.display());
    let lines = format!("{image} /image ext4\n        {folder} /shared hostfs");
    let text =
        format!("global {{ project sharing }}\nhost vm {{\n    mount {{\n        {lines}\n    }}\n}}\n");
    let file = site.project("sharing", &text);
    let link = text.replace(&image.to_string(), &format!("{}/elsewhere/passwd", shared.display()));
    let linked = site.project("linked", &link.replace("sharing", "linked"));

    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &file]).ended(3).says("share").says("[share] folders = [");
    oslo.stop();
    let configured = fs::read_to_string(oslo.folder().join("config.toml")).unwrap_or_default();
    oslo.configure(&format!("{configured}\n[share]\nfolders = [{:?}]\n", shared.display().to_string()));
    oslo.run();
    oslo.ctl(&["build", "-f", &linked]).ended(3).says("share");
    oslo.ctl(&["build", "-f", &file]).done();
    is_up(oslo, "sharing");
    let words = |line: &str| oslo.shell("sharing/vm", line).done();
    assert_eq!(
        words("cat /shared/note; echo of the guest >/shared/answer; echo kept >/image/file"),
        "of the host\n"
    );
    assert_eq!(fs::read_to_string(shared.join("folder/answer")).expect("is there"), "of the guest\n");
    // Whatever is mounted beside it, and however: the rest of the host is out of reach.
    let listed = format!("mount -t hostfs none /mnt -o {folder} && ls /mnt/ | wc -l; umount /mnt");
    assert_eq!(words(&listed), "2\n", "what is shared can be mounted again");
    for path in ["/etc", "/dev/shm", &format!("{folder}/../../.."), &shared.display().to_string()] {
        let line = format!(
            "mkdir -p /mnt/x; mount -t hostfs none /mnt/x -o {path} && ls /mnt/x/ | wc -l; umount /mnt/x"
        );
        let found = oslo.shell("sharing/vm", &line);
        assert!(found.out.is_empty() || found.out == "0\n", "{path}: {found}");
    }

    // Nor are modes and owners changed, there or anywhere: a guest is root.
    let line = format!(
        "mkdir -p /mnt/x; mount -t hostfs none /mnt/x -o {} && chmod 4777 /mnt/x/secret /shared/note",
        place.display()
    );
    let mode = |path: &std::path::Path| fs::metadata(path).expect("is there").permissions().mode() & 0o7777;
    let before = (mode(&secret), mode(&shared.join("folder/note")));
    oslo.shell("sharing/vm", &line).ended(1);
    assert_eq!((mode(&secret), mode(&shared.join("folder/note"))), before);

    // What is no longer shared is not mounted at the next start either.
    oslo.ctl(&["stop", "-p", "sharing"]).done();
    oslo.stop();
    oslo.configure(&configured);
    oslo.run();
    oslo.ctl(&["start", "-p", "sharing"]).ended(1).says("[share] folders");
}

const HOOKED: &str = "
global {
    project hooked
    beforeProjectStart { echo $MLN_HOOK >>order }
    beforeHostsStart { echo $MLN_HOOK >>order }
    afterHostsStart { echo $MLN_HOOK >>order }
    afterProjectStart { echo $MLN_HOOK >>order }
    beforeProjectStop { echo $MLN_HOOK >>order }
    beforeHostsStop { echo $MLN_HOOK >>order }
    afterHostsStop { echo $MLN_HOOK >>order }
    afterProjectStop { echo $MLN_HOOK >>order }
}
host first { boot_order 1 }
host second { boot_order 2 }
";

#[test]
fn a_host_runs_hooks_for_owners_whom_its_configuration_names() {
    let mut site = Site::mesh(&["oslo"]);
    let file = site.project("hooked", HOOKED);
    let failing =
        "global { project failing; beforeHostsStart { echo no such bridge; exit 3 } }\nhost vm { }\n";
    let failing = site.project("failing", failing);
    let stuck = "global { project stuck; beforeHostsStop { [ -e may-stop ] } }\nhost vm { }\n";
    let stuck = site.project("stuck", stuck);
    let owner = Command::new("id").arg("-un").output().expect("it is installed").stdout;
    let owner = String::from_utf8_lossy(&owner).trim().to_owned();

    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &file]).ended(3).says("hooks").says("[hooks] owners = [");
    assert_eq!(oslo.ctl(&["list", "--json"]).json(), serde_json::json!([]));
    oslo.stop();
    let before = fs::read_to_string(oslo.folder().join("config.toml")).unwrap_or_default();
    oslo.configure(&format!("{before}\n[hooks]\nowners = [{owner:?}]\n"));
    oslo.run();
    oslo.ctl(&["build", "-f", &file]).done();

    let folder = |project: &str| oslo.folder().join(format!("hooks/{owner}/{project}"));
    let order = folder("hooked").join("order");
    let has_run = |expected: &[&str]| {
        until("the hooks have been run", LIMIT, || {
            let found = fs::read_to_string(&order).unwrap_or_default();
            if found.lines().eq(expected.iter().copied()) { Ok(()) } else { Err(found) }
        });
    };
    is_up(oslo, "hooked");
    let mut expected = vec!["beforeProjectStart", "beforeHostsStart", "afterHostsStart", "afterProjectStart"];
    has_run(&expected);
    // One VM alone is not the project.
    oslo.ctl(&["stop", "-p", "hooked", "-h", "second"]).done();
    expected.extend(["beforeHostsStop", "afterHostsStop"]);
    has_run(&expected);
    oslo.ctl(&["stop", "-p", "hooked"]).done();
    expected.extend(["beforeProjectStop", "beforeHostsStop", "afterHostsStop", "afterProjectStop"]);
    has_run(&expected);
    oslo.ctl(&["remove", "-p", "hooked"]).done();

    oslo.ctl(&["build", "-f", &failing]).done();
    oslo.ctl(&["start", "-p", "failing"]).ended(1).says("beforeHostsStart failed").says("no such bridge");
    oslo.ctl(&["status", "-p", "failing", "-u"]).ended(1);
    let log = fs::read_to_string(folder("failing").join("beforeHostsStart.log")).expect("is kept");
    assert_eq!(log, "no such bridge\n");

    oslo.ctl(&["build", "-f", &stuck]).done();
    is_up(oslo, "stuck");
    oslo.ctl(&["stop", "-p", "stuck"]).ended(1).says("beforeHostsStop failed");
    oslo.sees("stuck", "vm", "up");
    fs::write(folder("stuck").join("may-stop"), "").expect("the folder is ours");
    oslo.ctl(&["stop", "-p", "stuck"]).done();
}
