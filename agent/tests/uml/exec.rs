//! Commands in guests.

use mln_protocol::model::User;
use mlnd::platform::{
    BootProgress, End, ExecCommand, ExecError, ExecOutputEvent, FileContent, Platform, VmEventKind,
};

use crate::world::{World, name, plain};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_what_its_seed_says() {
    let world = World::new();
    let mut vm = plain("r1");
    let user = |login: &str, password: Option<&str>| User {
        name: name(login),
        password: password.map(str::to_owned),
        home: None,
        uid: None,
    };
    vm.users = vec![user("root", Some("$6$salt$hash")), user("anna", None)];
    vm.startup = vec!["here=there".into(), "echo $here >>/root/boots".into()];
    let file =
        FileContent { path: "/opt/tool/run".into(), mode: 0o750, bytes: b"#!/bin/sh\necho ran\n".to_vec() };
    let vm = world.build_with(vm, vec![file]).await;
    world.start(&vm).await;

    assert_eq!(world.ok(&vm, "hostname").await, "r1\n");
    assert_eq!(world.ok(&vm, "cat /root/boots").await, "there\n");
    assert_eq!(world.ok(&vm, "/opt/tool/run; stat -c %a /opt/tool/run").await, "ran\n750\n");
    assert!(world.ok(&vm, "cat /etc/hosts").await.contains("10.0.0.2 peer\n"));
    assert_eq!(world.ok(&vm, "id -u anna; stat -c %U ~anna").await, "1000\nanna\n");
    assert!(world.ok(&vm, "grep ^root: /etc/shadow").await.starts_with("root:$6$salt$hash:"));

    // What is changed in the guest stays over a boot; startup lines run at each.
    world.ok(&vm, "echo changed >/opt/tool/run; passwd -l root").await;
    world
        .uml
        .stop(&vm, mlnd::platform::Stop::Clean { limit: std::time::Duration::from_secs(60) })
        .await
        .expect("stops");
    world.exited(&vm).await;
    world.start(&vm).await;
    assert_eq!(world.ok(&vm, "cat /root/boots /opt/tool/run").await, "there\nthere\nchanged\n");
    assert!(world.ok(&vm, "grep ^root: /etc/shadow").await.starts_with("root:!$6$salt$hash:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_have_streams_a_status_and_backpressure() {
    let world = World::new();
    let vm = world.run(plain("exec")).await;

    let (out, err, end) = world.shell_with(&vm, "cat; echo oops >&2; exit 3", b"hello").await;
    assert_eq!((out.as_str(), err.as_str(), end), ("hello", "oops\n", Ok(End::Exited(3))));
    assert_eq!(world.shell(&vm, "kill -9 $$").await.2, Ok(End::Signalled(9)));
    let mut missing = world.uml.exec(&vm, ExecCommand::of(["no-such-program"])).await.expect("is asked");
    let failed = missing.output.next().await;
    assert!(
        matches!(&failed, Some(ExecOutputEvent::Failed(ExecError::NotStarted { errno: 2, .. }))),
        "{failed:?}"
    );
    assert_eq!(missing.output.next().await, None);

    // 5 MB out, whole.
    let (out, _, end) = world.shell(&vm, "seq 1 800000 | head -c 5000000").await;
    assert_eq!((out.len(), end), (5_000_000, Ok(End::Exited(0))));
    let expected: String = (1..800_000).map(|n| format!("{n}\n")).collect();
    assert!(expected.starts_with(&out));

    // 300 kB in and out, many windows' worth.
    let input: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    let (out, _, end) = world.shell_with(&vm, "cat", input.as_bytes()).await;
    assert_eq!(end, Ok(End::Exited(0)));
    assert!(out == input, "{} of {} bytes", out.len(), input.len());

    // One that nobody reads holds up no other; dropped, it is gone.
    let noisy = world.uml.exec(&vm, ExecCommand::of(["sh", "-c", "exec yes noisy"])).await.expect("is asked");
    assert_eq!(world.ok(&vm, "echo still here").await, "still here\n");
    assert_eq!(world.ok(&vm, "ps | grep -c '[y]es noisy'").await, "1\n");
    noisy.control.signal(15).await.expect("is sent");
    drop(noisy);
    world.ok(&vm, "while ps | grep -q '[y]es noisy'; do :; done").await;

    // A command longer than a frame, and one longer than the line carries.
    let word = "x".repeat(20_000);
    assert_eq!(world.ok(&vm, &format!("echo {word} | wc -c")).await, "20001\n");
    let endless = ExecCommand::of([vec![b'x'; 100_000]]);
    assert!(matches!(world.uml.exec(&vm, endless).await, Err(ExecError::TooLong { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_line_and_a_killed_guest_agent_do_no_lasting_harm() {
    let world = World::new();
    let vm = world.run(plain("harm")).await;
    let restarted = |kind: &VmEventKind| matches!(kind, VmEventKind::GuestAgent { .. }).then_some(());
    world.ok(&vm, "head -c 20000 /dev/urandom >/dev/ttyS0; echo login: >/dev/ttyS0").await;
    // It may have cut a frame in two: then a new session follows, else the old one goes on.
    if world.shell(&vm, "echo fine").await.0 != "fine\n" {
        world.take(&vm, "a new session", restarted).await;
    }
    assert_eq!(world.ok(&vm, "echo fine").await, "fine\n");

    let (_, _, end) = world.shell(&vm, "kill -9 $(pidof mlnd); sleep 100").await;
    assert_eq!(end, Err(ExecError::LineLost));
    world.take(&vm, "a new guest agent", restarted).await;
    // It says again how far the boot has come, and does nothing twice; the VM never ceases to be ready.
    let progress = world
        .take(&vm, "how far it is", |kind| match kind {
            VmEventKind::Progress(progress) => Some(progress.clone()),
            _ => None,
        })
        .await;
    assert_eq!(progress, BootProgress::Ready);
    assert_eq!(world.ok(&vm, "echo fine").await, "fine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn startup_lines_that_fail_are_reported_and_the_guest_is_usable() {
    let world = World::new();
    let mut vm = plain("fails");
    vm.startup = vec!["echo first".into(), "echo last words; exit 4".into()];
    let vm = world.build(vm).await;
    world.uml.start(&vm).await.expect("starts");
    let (end, log_tail) = world
        .take(&vm, "the failure", |kind| match kind {
            VmEventKind::Progress(BootProgress::StartupFailed { end, log_tail }) => {
                Some((*end, log_tail.clone()))
            }
            _ => None,
        })
        .await;
    assert_eq!((end, log_tail.as_str()), (End::Exited(4), "first\nlast words\n"));
    assert_eq!(world.ok(&vm, "cat /var/log/mln/startup.log").await, "first\nlast words\n");
}
