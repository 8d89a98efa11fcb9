//! Guests that mean harm to their host.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use mlnd::platform::{End, ExecCommand, ExecError, ExecOutputEvent, Platform, Stop, Stopped};

use crate::world::{World, plain};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_no_file_of_its_host() {
    let world = World::new();
    let vm = world.run(plain("nosy")).await;
    let folder = world.folder(&vm);
    let mut paths: Vec<String> = [
        "/",
        "",
        ".",
        "..",
        "../..",
        "/../../..",
        "../../../../..",
        "/etc",
        "../../../../../etc",
        "//",
        "/dev",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.push(folder.display().to_string());
    world.ok(&vm, "grep -q hostfs /proc/filesystems && mkdir /m && ln -s / /root/out").await;
    for path in paths {
        let line = format!("mount -t hostfs none /m -o '{path}' && ls -la /m");
        let (out, err, end) = world.shell(&vm, &line).await;
        assert!(out.is_empty() && end != Ok(End::Exited(0)), "{path:?}: {out}{err}{end:?}");
    }
    // Neither with no path at all, nor over a link of the guest, which isn't the host's.
    for line in ["mount -t hostfs none /m", "mount -t hostfs none /m -o /root/out", "mount -t hostfs / /m"] {
        let (out, err, end) = world.shell(&vm, line).await;
        assert_eq!(end, Ok(End::Exited(255)), "{line}: {out}{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_takes_nothing_is_stopped_all_the_same() {
    let world = World::new();
    let vm = world.run(plain("deaf")).await;
    // Its agent can't say that it is stopped: the console does.
    let stop = ExecCommand::of(["sh", "-c", "kill -STOP $PPID; echo it is deaf >/dev/console; sleep 1000"]);
    let _last = world.uml.exec(&vm, stop).await.expect("is asked");
    let deaf = async {
        while !world.uml.console_tail(&vm, 10).iter().any(|line| line.contains("it is deaf")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), deaf).await.expect("the console says it");
    // Together more than the holder keeps for the guest.
    let mut asked = Vec::new();
    for _ in 0..30 {
        let command = ExecCommand::of([b"true".to_vec(), vec![b'x'; 60_000]]);
        asked.push(world.uml.exec(&vm, command).await.expect("is asked"));
    }
    for exec in &mut asked[20..] {
        let event = exec.output.next().await;
        assert!(matches!(event, Some(ExecOutputEvent::Failed(ExecError::NotStarted { .. }))), "{event:?}");
    }
    let stopping = tokio::time::timeout(Duration::from_secs(10), world.uml.stop(&vm, Stop::Now));
    let exit = stopping.await.expect("in time").expect("stops").expect("has run");
    assert_eq!((exit.end, exit.stopped), (End::Signalled(9), Some(Stopped::Now)));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_commands_than_a_guest_runs_are_refused() {
    let world = World::new();
    let vm = world.run(plain("many")).await;
    let mut running = Vec::new();
    for _ in 0..mlnd::line::CHANNELS_MAX {
        let mut exec =
            world.uml.exec(&vm, ExecCommand::of(["sh", "-c", "echo; sleep 1000"])).await.expect("is asked");
        assert_eq!(exec.output.next().await, Some(ExecOutputEvent::Stdout(b"\n".to_vec())));
        running.push(exec);
    }
    let (_, _, end) = world.shell(&vm, "true").await;
    assert_eq!(end, Err(ExecError::TooMany { limit: 32 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vm_has_is_for_its_owner_only() {
    let world = World::new();
    let vm = world.run(plain("private")).await;
    world.ok(&vm, "echo words >/dev/console").await;
    let mut open = vec![world.config.vms.clone()];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let found = std::fs::symlink_metadata(&path).expect("is there");
        let mode = found.permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        if found.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("reads").map(|entry| entry.expect("reads").path()));
        }
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_breaks_out_of_its_kernel_is_confined_to_its_own_files() {
    let world = World::new();
    // In place of the kernel, what somebody would run who has broken out of it.
    let mut config = world.config.clone();
    config.kernel = config.vms.with_file_name("kernel");
    let script = "#!/bin/sh\necho came here >run/log\n\
        for file in /etc/passwd ../../secret console.log vm; do\n\
            if read -r line <$file; then echo read $file >>run/log; fi\n\
            if echo harm >>$file; then echo wrote $file >>run/log; fi\n\
        done\n\
        /bin/ln -s /etc/passwd run/link && echo linked >>run/log\n\
        /bin/mv vm run/vm && echo moved >>run/log\n\
        echo over >>run/log\n";
    std::fs::write(&config.kernel, script).expect("is written");
    std::fs::set_permissions(&config.kernel, std::fs::Permissions::from_mode(0o755)).expect("is set");
    std::fs::write(config.vms.with_file_name("secret"), "secret\n").expect("is written");
    let out = World::with(config, world.images.clone());
    let vm = out.build(plain("out")).await;
    // It may be over before the agent has attached.
    let _ = out.uml.start(&vm).await;
    out.uml.stop(&vm, Stop::Clean { limit: Duration::from_secs(20) }).await.expect("ends");
    let log = std::fs::read_to_string(out.folder(&vm).join("run/log")).expect("is there");
    assert_eq!(log, "came here\nover\n");
}
