//! Building, starting, stopping, losing and finding guests.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mln_protocol::id::VmId;
use mln_protocol::model::{DiskBytes, DiskSize, MemoryMib};
use mlnd::platform::{
    BootProgress, End, ExecCommand, ExecError, ExecOutputEvent, Observed, Platform, Refusal, StepError, Stop,
    Stopped, VmEventKind,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::world::{KillGuests, World, name, plain, processes_in, request};

const CLEAN: Stop = Stop::Clean { limit: Duration::from_secs(60) };

#[tokio::test(flavor = "multi_thread")]
async fn every_step_can_be_done_again() {
    let world = World::new();
    let vm = world.run(plain("again")).await;
    world.build(plain("again")).await;
    world.uml.start(&vm).await.expect("runs already");
    assert_eq!(world.ok(&vm, "touch /root/kept; cat /proc/loadavg | wc -l").await, "1\n");

    let exit = world.uml.stop(&vm, CLEAN).await.expect("stops").expect("has run");
    assert_eq!((exit.end, exit.stopped, exit.panic.clone()), (End::Exited(0), Some(Stopped::Clean), None));
    assert_eq!(world.exited(&vm).await, exit);
    assert_eq!(world.uml.stop(&vm, Stop::Now).await.expect("is down"), Some(exit.clone()));
    wait_until_gone(&world.config.vms).await;
    let observed = world.uml.observe_all().await.expect("observes");
    assert_eq!(observed[0].state, Observed::Down { exit: Some(exit) });
    assert!(matches!(
        world.uml.exec(&vm, ExecCommand::of(["true"])).await,
        Err(ExecError::NotRunning { .. })
    ));

    world.start(&vm).await;
    world.ok(&vm, "test -e /root/kept").await;
    world.uml.remove(&vm).await.expect("is removed");
    world.uml.remove(&vm).await.expect("is gone already");
    assert_eq!(world.uml.stop(&vm, Stop::Now).await.expect("is gone"), None);
    assert_eq!(std::fs::read_dir(&world.config.vms).expect("reads").count(), 0);
    assert!(matches!(world.uml.start(&vm).await, Err(StepError::NoSuchVm { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ignores_shutdown_is_killed_with_all_its_processes() {
    let world = World::new();
    let vm = world.run(plain("deaf")).await;
    // Ctrl-alt-del goes to a process that doesn't care.
    world.ok(&vm, "trap '' INT; sleep 1000 >/dev/null 2>&1 & echo $! >/proc/sys/kernel/cad_pid").await;
    let exit = world
        .uml
        .stop(&vm, Stop::Clean { limit: Duration::from_millis(500) })
        .await
        .expect("stops")
        .expect("has run");
    assert_eq!((exit.end, exit.stopped), (End::Signalled(9), Some(Stopped::LimitPassed)));
    wait_until_gone(&world.config.vms).await;
    // The power was cut; it comes up again.
    world.exited(&vm).await;
    world.start(&vm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_guest_and_the_last_words_of_its_kernel_are_reported() {
    let world = World::new();
    let vm = world.run(plain("ends")).await;
    let _ = world.shell(&vm, "echo 5 >/proc/exitcode; poweroff -f").await;
    let exit = world.exited(&vm).await;
    assert_eq!((exit.end, exit.stopped), (End::Exited(5), None));

    world.start(&vm).await;
    let _ = world.shell(&vm, "echo c >/proc/sysrq-trigger").await;
    let panicked = world
        .take(&vm, "the panic", |kind| match kind {
            VmEventKind::Panicked { text } => Some(text.clone()),
            _ => None,
        })
        .await;
    assert!(panicked.contains("sysrq triggered crash"), "{panicked}");
    let exit = world.exited(&vm).await;
    assert_eq!((exit.end, exit.panic), (End::Signalled(6), Some(panicked)));
    let tail = world.uml.console_tail(&vm, 100).join("\n");
    assert!(tail.contains("Kernel panic"), "{tail}");
}

/// Puts a kernel in place of the real one, whose first `panics` boots end before anything runs.
fn with_bad_kernel(world: &World, panics: u32) -> World {
    let mut config = world.config.clone();
    config.kernel = config.vms.with_file_name("kernel");
    let script = format!(
        "#!/bin/sh\necho boot >>run/boots\n\
         [ $(/usr/bin/wc -l <run/boots) -gt {panics} ] || {{ echo 'Kernel panic - not syncing: a test'; kill -ABRT $$; }}\n\
         exec /usr/bin/linux.uml \"$@\"\n"
    );
    std::fs::write(&config.kernel, script).expect("is written");
    std::fs::set_permissions(&config.kernel, std::fs::Permissions::from_mode(0o755)).expect("is set");
    World::with(config, world.images.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_gives_up_before_anything_runs_is_started_once_more() {
    let world = World::new();
    let bad = with_bad_kernel(&world, 1);
    let vm = bad.run(plain("second")).await;
    assert_eq!(bad.ok(&vm, "hostname").await, "second\n");
    bad.uml.remove(&vm).await.expect("is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_gives_up_again_and_again_is_not_started_for_ever() {
    let world = World::new();
    let bad = with_bad_kernel(&world, 100);
    let vm = bad.build(plain("never")).await;
    // It may be over before the agent has attached.
    let _ = bad.uml.start(&vm).await;
    wait_until_gone(&bad.folder(&vm)).await;
    let observed = bad.uml.observe_all().await.expect("observes");
    let Observed::Down { exit: Some(exit) } = &observed[0].state else { panic!("{observed:?}") };
    assert_eq!((exit.end, exit.panic.as_deref()), (End::Signalled(6), Some("a test")));
    let boots = std::fs::read_to_string(bad.folder(&vm).join("run/boots")).expect("is there");
    assert_eq!(boots, "boot\n".repeat(3));
}

/// Not a test by itself: the agent that the next test kills.
#[tokio::test(flavor = "multi_thread")]
async fn agent_process() {
    let Some(data) = std::env::var_os("MLN_TEST_AGENT_DATA") else { return };
    let world = World::at(Path::new(&data));
    let vm = world.run(plain("survivor")).await;
    let exec = world.uml.exec(&vm, ExecCommand::of(["sleep", "1000"])).await.expect("is asked");
    world.ok(&vm, "touch /run/survives; until ps | grep -q '[s]leep 1000'; do :; done").await;
    std::io::Write::write_all(&mut std::io::stderr(), b"ready\n").expect("the parent reads");
    std::future::pending::<()>().await;
    drop(exec);
}

fn run_and_kill_agent(data: &Path) {
    let mut agent = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "life::agent_process", "--nocapture"])
        .env("MLN_TEST_AGENT_DATA", data)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(agent.stderr.take().expect("is piped")).lines();
    let said: Vec<String> = lines.map_while(Result::ok).take_while(|line| line != "ready").collect();
    // SIGKILL: the agent can do nothing about it.
    agent.kill().expect("is killed");
    let status = agent.wait().expect("ended");
    assert_eq!(status.code(), None, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_outlive_a_killed_agent_and_are_found_again() {
    let data = tempfile::tempdir().expect("a folder");
    let _end = KillGuests(data.path().to_owned());
    run_and_kill_agent(data.path());

    let world = World::at(data.path());
    let observed = world.uml.observe_all().await.expect("observes");
    let vm = observed[0].vm.clone();
    let Observed::Running { boot_unix_ms, progress: BootProgress::Ready } = observed[0].state else {
        panic!("{observed:?}");
    };
    world.ok(&vm, "test -e /run/survives").await;
    // What ran for the agent that was killed is gone.
    world.ok(&vm, "while ps | grep -q '[s]leep 1000'; do :; done").await;

    // A third agent takes over from the second, which is told.
    let third = World::at(data.path());
    let observed = third.uml.observe_all().await.expect("observes");
    assert_eq!(observed[0].state, Observed::Running { boot_unix_ms, progress: BootProgress::Ready });
    third.ok(&vm, "test -e /run/survives").await;
    world.take(&vm, "the loss", |kind| matches!(kind, VmEventKind::Lost).then_some(())).await;

    // The guest ends while no agent is there; the status is found later.
    // When the command that is followed is killed, with its agent gone, one that it left behind ends the guest.
    let last =
        "exec >/dev/null 2>&1; while kill -0 $$; do sleep 0.1; done; echo 7 >/proc/exitcode; poweroff -f";
    let line = format!("setsid sh -c \"echo left behind; {last}\" </dev/null & exec sleep 1000");
    let mut exec = third.uml.exec(&vm, ExecCommand::of(["sh", "-c", &line])).await.expect("is asked");
    assert_eq!(exec.output.next().await, Some(ExecOutputEvent::Stdout(b"left behind\n".to_vec())));
    let folder = third.folder(&vm);
    drop(exec);
    drop(third);
    drop(world);
    let fourth = World::at(data.path());
    wait_until_gone(&folder).await;
    let observed = fourth.uml.observe_all().await.expect("observes");
    let Observed::Down { exit: Some(exit) } = &observed[0].state else { panic!("{observed:?}") };
    assert_eq!((exit.end, exit.boot_unix_ms), (End::Exited(7), boot_unix_ms));
}

/// Waits until no process works in a folder.
async fn wait_until_gone(folder: &Path) {
    let folder = folder.to_owned();
    let waiting = tokio::task::spawn_blocking(move || {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while let Some(pid) = processes_in(&folder).first().copied().and_then(Pid::from_raw) {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            assert!(!left.is_zero(), "{:?} are left", processes_in(&folder));
            // One that can't be opened has just ended.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            let limit = Timespec::try_from(left).expect("a minute at most");
            let mut ends = [PollFd::new(&process, PollFlags::IN)];
            rustix::event::poll(&mut ends, Some(&limit)).expect("a process can be waited for");
        }
    });
    waiting.await.expect("nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_holder_was_killed_is_lost_and_can_be_started_again() {
    let world = World::new();
    let vm = world.run(plain("lost")).await;
    let folder = world.folder(&vm);
    let is_holder = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words.starts_with(env!("CARGO_BIN_EXE_mlnd").as_bytes()))
    };
    let holder = processes_in(&folder).into_iter().find(is_holder).expect("a holder");
    let holder = rustix::process::Pid::from_raw(holder).expect("a number");
    rustix::process::kill_process(holder, rustix::process::Signal::KILL).expect("is killed");
    world.take(&vm, "the loss", |kind| matches!(kind, VmEventKind::Lost).then_some(())).await;
    wait_until_gone(&folder).await;
    let observed = world.uml.observe_all().await.expect("observes");
    assert!(matches!(observed[0].state, Observed::Lost { .. }), "{observed:?}");
    world.start(&vm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_grows_to_its_size_and_past_its_template() {
    let world = World::new();
    for (size, mib_min) in
        [(DiskSize::Free(DiskBytes(1 << 30)), 1000), (DiskSize::Whole(DiskBytes(5 << 30)), 4500)]
    {
        let mut vm = plain("grows");
        vm.disk = size;
        let vm = world.run(vm).await;
        let mib: u32 =
            world.ok(&vm, "df -Pm / | awk 'END { print $2 }'").await.trim().parse().expect("a number");
        assert!(mib >= mib_min, "{size:?}: {mib} MiB");
        world.uml.remove(&vm).await.expect("is removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_is_refused_before_anything_is_written() {
    let world = World::new();
    let mut vm = plain("none");
    vm.memory = MemoryMib(16);
    assert!(matches!(world.uml.check(&vm).await, Err(Refusal::MemoryTooSmall { .. })));
    let mut vm = plain("none");
    vm.disk = DiskSize::Whole(DiskBytes(1 << 20));
    assert!(matches!(world.uml.check(&vm).await, Err(Refusal::DiskSmallerThanTemplate { .. })));
    let mut vm = plain("none");
    vm.template = Some(mln_protocol::model::TemplateRef::Newest(name("maxi")));
    let refusal = world.uml.check(&vm).await.expect_err("there is none");
    assert_eq!(refusal.to_string(), "there is no template \"maxi\"; there is mini");
    let mut config = world.config.clone();
    config.kernel = "/nonexistent/linux.uml".into();
    let without = World::with(config, world.images.clone());
    assert!(matches!(without.uml.check(&plain("none")).await, Err(Refusal::Platform { .. })));
    assert_eq!(std::fs::read_dir(&world.config.vms).expect("reads").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_or_is_cut_off_leaves_nothing() {
    let world = World::new();
    let template = mln_protocol::id::Digest::of(b"a template that is gone");
    let failed = world.uml.build(request(plain("gone"), template, vec![])).await;
    assert!(matches!(failed, Err(StepError::Image(_))), "{failed:?}");
    assert_eq!(std::fs::read_dir(&world.config.vms).expect("reads").count(), 0);

    // What a killed agent left.
    for left in [".00000000-a.building", ".00000000-b.removing"] {
        std::fs::create_dir(world.config.vms.join(left)).expect("is made");
        std::fs::write(world.config.vms.join(left).join("vm"), "half").expect("is written");
    }
    assert_eq!(world.uml.observe_all().await.expect("observes"), []);
    assert_eq!(std::fs::read_dir(&world.config.vms).expect("reads").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_room_for_a_guests_memory_is_an_error_that_says_what_to_do() {
    let world = World::new();
    let probe = world.uml.probe().await;
    assert_eq!(probe.obstacle, None);
    let mut vm = plain("large");
    vm.memory = MemoryMib(probe.guest_memory_available.0 + 1000);
    let vm: VmId = world.build(vm).await;
    let error = world.uml.start(&vm).await.expect_err("does not fit");
    assert!(matches!(error, StepError::MemoryFolderTooSmall { .. }), "{error:?}");
    assert!(error.to_string().contains("memory_folder"), "{error}");
    let observed = world.uml.observe_all().await.expect("observes");
    assert_eq!(observed[0].state, Observed::Down { exit: None });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_vm_with_the_same_digits_is_left_alone() {
    let world = World::new();
    let vm = world.build(plain("twin")).await;
    let checked = world.uml.check(&plain("twin")).await.expect("can be built");
    let mut other = request(plain("twin"), checked.template, vec![]);
    other.id.birth.0[31] ^= 1;
    let other_id = other.id.clone();
    assert!(matches!(world.uml.build(other).await, Err(StepError::FolderTaken { .. })));
    world.uml.remove(&other_id).await.expect("is not there");
    assert!(world.folder(&vm).join("disk.cow").exists());
    world.uml.build(request(plain("twin"), checked.template, vec![])).await.expect("is there already");
    world.uml.remove(&vm).await.expect("is removed");
    assert!(!world.folder(&vm).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_of_which_nothing_can_be_told_keeps_no_other_from_being_found() {
    let world = World::new();
    let good = world.build(plain("good")).await;
    let bad = world.build(plain("bad")).await;
    std::fs::write(world.folder(&bad).join("boot"), "").expect("is written");
    let moved = world.build(plain("moved")).await;
    std::fs::rename(world.folder(&moved), world.config.vms.join("elsewhere")).expect("is moved");
    for name in ["notes", ".notes.building"] {
        std::fs::write(world.config.vms.join(name), "").expect("is written");
    }
    let observed = world.uml.observe_all().await.expect("observes");
    let found: Vec<_> = observed.iter().map(|o| (&o.vm, &o.state)).collect();
    assert_eq!(found, [(&good, &Observed::Down { exit: None })]);
}
