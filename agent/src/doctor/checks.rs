//! What is thought of what was seen: a function per line, each a verdict, a finding, and one command to type.

use mln_link::message::{DoctorRow, Verdict};

use super::facts::{Exec, Facts, Landlock, MeshStanding, Run};

/// What one guest's memory may be at least.
const MEMORY_MIB_MIN: u64 = 64;
/// Where the memory of a few guests has room.
const MEMORY_MIB_USUAL: u64 = 512;
/// Less than this, and nothing can be built.
const DISK_MIB_MIN: u64 = 64;
/// Less than this, and a template can hardly be made.
const DISK_MIB_USUAL: u64 = 1024;
/// How far a clock may be ahead: a token's expiry allows two minutes, times in `status` look wrong before that.
const CLOCK_AHEAD_MS_MAX: u64 = 5_000;
/// How old what a connected peer says of itself may be: it says it every half minute, in large meshes less often.
const CLOCK_BEHIND_MS_MAX: u64 = 600_000;

/// Judges everything, in the order in which it is put right best.
pub(super) fn all(facts: &Facts) -> Vec<DoctorRow> {
    vec![
        configuration(facts),
        kernel(facts),
        ptrace(facts),
        memory_folder(facts),
        memory_exec(facts),
        landlock(facts),
        guest_agent(facts),
        tools(facts),
        templates(facts),
        disk(facts),
        state(facts),
        key(facts),
        ports(facts),
        peers(facts),
        clock(facts),
        passt(facts),
        default_route(facts),
        control_group(facts),
        lingering(facts),
    ]
}

/// Returns the one line there is where this program doesn't know its own path.
pub(super) fn unknown_program(why: &str) -> DoctorRow {
    fail("configuration", why, "mlnd run")
}

fn row(name: &str, verdict: Verdict, finding: impl Into<String>, fix: Option<String>) -> DoctorRow {
    DoctorRow { name: name.to_owned(), verdict, finding: finding.into(), fix }
}

fn ok(name: &str, finding: impl Into<String>) -> DoctorRow {
    row(name, Verdict::Ok, finding, None)
}

fn warn(name: &str, finding: impl Into<String>, fix: impl Into<String>) -> DoctorRow {
    row(name, Verdict::Warn, finding, Some(fix.into()))
}

fn fail(name: &str, finding: impl Into<String>, fix: impl Into<String>) -> DoctorRow {
    row(name, Verdict::Fail, finding, Some(fix.into()))
}

fn configuration(facts: &Facts) -> DoctorRow {
    match &facts.config_error {
        None => ok("configuration", format!("data folder {}", facts.data.display())),
        Some(error) => {
            fail("configuration", error.clone(), format!("vi {}/config.toml", facts.data.display()))
        }
    }
}

fn kernel(facts: &Facts) -> DoctorRow {
    let path = facts.kernel.display();
    match &facts.kernel_run {
        Run::Version(version) => ok("kernel", format!("{path} {version}")),
        Run::Missing => fail("kernel", format!("{path} is not there"), "apt-get install user-mode-linux"),
        Run::Broken(why) => {
            fail("kernel", format!("{path}: {why}"), "apt-get install --reinstall user-mode-linux")
        }
    }
}

fn ptrace(facts: &Facts) -> DoctorRow {
    match &facts.ptrace {
        Ok(()) => ok("ptrace", "a process may trace its own children"),
        // What forbids it is a container's filter, or Yama.
        Err(why) => fail(
            "ptrace",
            format!("no process may trace its own children ({why}): no guest can run"),
            "sysctl kernel.yama.ptrace_scope=1",
        ),
    }
}

fn memory_folder(facts: &Facts) -> DoctorRow {
    let folder = facts.memory_folder.display();
    let fix = format!("mount -o remount,size=2G {folder}");
    match &facts.memory {
        Err(why) => {
            fail("memory-folder", format!("{folder}: {why}"), format!("mount -t tmpfs tmpfs {folder}"))
        }
        Ok(space) if space.free_mib < MEMORY_MIB_MIN => {
            let finding =
                format!("{folder} has {} MiB free of {}: no guest fits", space.free_mib, space.total_mib);
            fail("memory-folder", finding, fix)
        }
        Ok(space) if space.free_mib < MEMORY_MIB_USUAL => {
            let finding =
                format!("{folder} has {} MiB free of {}: few guests fit", space.free_mib, space.total_mib);
            warn("memory-folder", finding, fix)
        }
        Ok(space) => ok("memory-folder", format!("{folder} has {} MiB free", space.free_mib)),
    }
}

fn memory_exec(facts: &Facts) -> DoctorRow {
    let folder = facts.memory_folder.display();
    match &facts.memory {
        Ok(space) if space.exec == Exec::Forbidden => fail(
            "memory-exec",
            format!("{folder} is mounted noexec: guests run code in their memory"),
            format!("mount -o remount,exec {folder}"),
        ),
        Ok(_) => ok("memory-exec", format!("{folder} may hold code")),
        Err(why) => fail("memory-exec", format!("{folder}: {why}"), format!("mount -t tmpfs tmpfs {folder}")),
    }
}

fn landlock(facts: &Facts) -> DoctorRow {
    match facts.landlock {
        Landlock::There => ok("landlock", "guests' processes are kept from the host's files"),
        Landlock::Missing => warn(
            "landlock",
            "the kernel doesn't have it: who breaks out of a guest has the rights of the agent's user",
            "grep -o 'lsm=[^ ]*' /proc/cmdline   # put landlock in front of the list, for the next boot",
        ),
    }
}

fn guest_agent(facts: &Facts) -> DoctorRow {
    let path = facts.guest_agent.display();
    if facts.guest_agent_there {
        ok("guest-agent", path.to_string())
    } else {
        fail("guest-agent", format!("{path} is not there"), "apt-get install --reinstall mln")
    }
}

fn tools(facts: &Facts) -> DoctorRow {
    let names: Vec<&str> = facts.missing_tools.iter().map(|(tool, _)| *tool).collect();
    let packages: Vec<&str> = facts.missing_tools.iter().map(|(_, package)| *package).collect();
    let fix = format!("apt-get install {}", packages.join(" "));
    if names.is_empty() {
        ok("tools", "all that templates are made with")
    } else if names.contains(&"mke2fs") {
        fail("tools", format!("not installed: {}; without mke2fs no guest starts", names.join(", ")), fix)
    } else {
        warn("tools", format!("not installed: {}; `template build` needs it", names.join(", ")), fix)
    }
}

fn templates(facts: &Facts) -> DoctorRow {
    if facts.templates.is_empty() {
        warn("templates", "this host has none yet", "mlnctl template build mini")
    } else {
        ok("templates", facts.templates.join(", "))
    }
}

fn disk(facts: &Facts) -> DoctorRow {
    let folder = facts.data.display();
    let fix = format!("du -sh {folder}/*");
    match &facts.disk {
        Err(why) => fail("disk", format!("{folder}: {why}"), format!("mkdir -p {folder}")),
        Ok(space) if space.free_mib < DISK_MIB_MIN => {
            fail("disk", format!("{folder} has {} MiB free: nothing can be built", space.free_mib), fix)
        }
        Ok(space) if space.free_mib < DISK_MIB_USUAL => {
            warn("disk", format!("{folder} has {} MiB free", space.free_mib), fix)
        }
        Ok(space) => ok("disk", format!("{folder} has {} MiB free", space.free_mib)),
    }
}

fn state(facts: &Facts) -> DoctorRow {
    let store = &facts.store;
    let folder = facts.data.display();
    if let Some(why) = &store.failing {
        let finding = format!("nothing can be made durable ({why}): what is asked of this host waits");
        return fail("state", finding, format!("df {folder}; dmesg | tail"));
    }
    if !store.stopped.is_empty() {
        let finding = format!("projects that this host may not touch: {}", store.stopped.join("; "));
        return fail("state", finding, format!("cp -a BACKUP/projects/DIGEST {folder}/projects/"));
    }
    if !store.set_aside.is_empty() {
        let finding = format!(
            "an index was broken and was made anew; nothing is lost. Is the disk well? kept: {}",
            store.set_aside.join(", ")
        );
        return warn("state", finding, format!("rm -r {folder}/state.broken-*"));
    }
    ok("state", "journals and index are sound")
}

fn key(facts: &Facts) -> DoctorRow {
    match &facts.standing {
        None => ok("key", "no agent runs that could ask the others"),
        Some(MeshStanding { doubled: None, .. }) => ok("key", "nobody else has spoken under this host's key"),
        Some(MeshStanding { doubled: Some(why), .. }) => fail(
            "key",
            format!("this host signs and starts nothing: {why}"),
            "mlnctl key confirm   # once the other one is off for good",
        ),
    }
}

fn peers(facts: &Facts) -> DoctorRow {
    match &facts.standing {
        None => ok("peers", "no agent runs that could reach them"),
        Some(MeshStanding { members: 0, .. }) => ok("peers", "this host is the only member that it knows"),
        Some(MeshStanding { members, reached: 0, .. }) => fail(
            "peers",
            format!("reaches 0 of {members} members: they are off, or have other addresses by now"),
            "mlnctl token new   # at one that runs; here: stop the agent, mlnd join TOKEN --name HOST, start it",
        ),
        Some(MeshStanding { members, reached, .. }) => {
            ok("peers", format!("reaches {reached} of {members} members"))
        }
    }
}

fn ports(facts: &Facts) -> DoctorRow {
    let taken: Vec<String> =
        facts.taken_ports.iter().map(|(address, why)| format!("{address} ({why})")).collect();
    if !taken.is_empty() {
        let finding = format!("can't be listened on: {}", taken.join(", "));
        fail("ports", finding, "ss -ltnp   # who has it? or set `listen` in config.toml")
    } else if facts.open_ports.is_empty() && facts.agent_runs {
        warn(
            "ports",
            "the agent listens nowhere: it can call others, and nobody can call it",
            "mlnd run --help",
        )
    } else if facts.agent_runs {
        ok("ports", format!("the agent listens on {}", facts.open_ports.join(", ")))
    } else {
        ok("ports", format!("free: {}", facts.open_ports.join(", ")))
    }
}

fn clock(facts: &Facts) -> DoctorRow {
    let now = facts.now_unix_ms;
    let ahead = |measured: u64| measured.saturating_sub(now);
    let behind = |measured: u64| now.saturating_sub(measured);
    let wrong: Vec<String> = facts
        .peers
        .iter()
        .filter_map(|peer| {
            let measured = peer.measured_unix_ms;
            if ahead(measured) > CLOCK_AHEAD_MS_MAX {
                Some(format!("{} is {} s ahead of this host", peer.name, ahead(measured) / 1000))
            } else if behind(measured) > CLOCK_BEHIND_MS_MAX {
                Some(format!("{} is up to {} s behind this host", peer.name, behind(measured) / 1000))
            } else {
                None
            }
        })
        .collect();
    match (facts.peers.len(), wrong.is_empty()) {
        (0, _) => ok("clock", "no peer is connected to compare with"),
        (count, true) => ok("clock", format!("agrees with {count} peers")),
        (_, false) => warn("clock", wrong.join("; "), "timedatectl set-ntp true"),
    }
}

fn passt(facts: &Facts) -> DoctorRow {
    if facts.passt_there {
        ok("passt", "guests may reach the outside")
    } else {
        warn("passt", "not installed: guests can't reach the outside by NAT", "apt-get install passt")
    }
}

fn default_route(facts: &Facts) -> DoctorRow {
    match &facts.default_route {
        Ok(()) => ok("default-route", "this host reaches the outside"),
        Err(why) => warn(
            "default-route",
            format!("{why}: guests can't reach the outside either"),
            "ip route add default via GATEWAY",
        ),
    }
}

fn control_group(facts: &Facts) -> DoctorRow {
    match &facts.control_group {
        None => ok("control-group", "none: root and the agent's own user may use its socket"),
        Some(group) => match &group.gid {
            Ok(_) => ok("control-group", format!("members of {} may use the agent's socket", group.name)),
            Err(why) => fail("control-group", why.clone(), format!("groupadd --system {}", group.name)),
        },
    }
}

fn lingering(facts: &Facts) -> DoctorRow {
    let user = &facts.user;
    match (user.uid, &user.login, user.lingers) {
        (0, _, _) => ok("lingering", "not needed: the agent is root's"),
        (1..=999, _, _) => ok("lingering", "not needed: the agent is the machine's"),
        (_, _, None) => ok("lingering", "not needed: no systemd ends what users have started"),
        (_, _, Some(true)) => ok("lingering", "services of this user run without a session"),
        (_, login, Some(false)) => warn(
            "lingering",
            "services of this user, the agent and its guests among them, end with the last session",
            format!("loginctl enable-linger {}", login.as_deref().unwrap_or_default()),
        ),
    }
}

#[cfg(test)]
#[path = "checks_test.rs"]
mod tests;
