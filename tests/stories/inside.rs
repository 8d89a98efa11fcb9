//! Into a guest, asked from a peer that doesn't own it: its console and terminals, its log, copies, ssh.

use std::fs;
use std::time::Instant;

use mln_e2e::{Site, Typist, until};

use crate::{LIMIT, PAIR};

/// The guest of bergen, asked for at oslo.
const VM: &str = "pair/right";

fn pair_is_up() -> Site {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "pair", "-h", "right"]).done();
    site.host("oslo")
        .ctl(&["status", "-p", "pair", "-h", "right", "--wait", "up", "--timeout", "60"])
        .ended(0);
    site
}

#[test]
fn a_console_is_a_real_terminal_that_outlives_who_looks_at_it() {
    let mut site = pair_is_up();
    let oslo = site.host("oslo");
    oslo.ctl(&["console", VM]).ended(64).says("mlnctl exec");

    let mut typist = Typist::new(oslo, &["console", VM], 30, 100);
    typist.sees("Ctrl-] leaves");
    typist.sees("right:~# ");
    typist.types("stty size; tty\r");
    typist.sees("30 100");
    typist.sees("/dev/pts/");
    typist.resizes(40, 120);
    until("the new size has arrived", LIMIT, || {
        typist.types("stty size\r");
        typist.sees("stty size\r\n");
        let seen = typist.sees("right:~# ");
        if seen.contains("40 120") { Ok(()) } else { Err(seen) }
    });

    typist.types("vi /root/poem\r");
    // The line at the bottom of the editor: before it is there, keys would go to the shell's terminal.
    typist.sees("- /root/poem");
    typist.types("iroses are red");
    typist.sees("roses are red");
    // What follows an escape at once would be taken for a key of its own.
    typist.types("\x1b");
    typist.sees("- /root/poem");
    typist.types(":wq\r");
    typist.sees("right:~# ");
    assert_eq!(oslo.shell(VM, "cat /root/poem").done(), "roses are red\n");

    // A program that paints the screen again and again, left alone and found again.
    typist.types("top -d 1\r");
    typist.sees("Load average");
    typist.sees("Load average");
    typist.types("\x1d");
    typist.sees("left the console");
    typist.ended(0);
    typist.is_sane();

    let mut typist = Typist::new(oslo, &["console", VM, "--lines", "50"], 30, 100);
    typist.sees("Load average");
    typist.types("q");
    typist.sees("right:~# ");
    typist.types("echo mar''ker\r");
    typist.sees("marker\r\n");
    typist.types("\x1d");
    typist.ended(0);
    let mut typist = Typist::new(oslo, &["console", VM], 30, 100);
    typist.sees("marker\r\n");
    // Killed in the middle: the terminal is as it was.
    typist.terminates();
    typist.ended(128 + 15);
    typist.is_sane();

    let mut typist =
        Typist::new(oslo, &["exec", "-t", VM, "--", "sh", "-c", "stty size; tty -s; exit 3"], 25, 90);
    typist.sees("25 90");
    typist.ended(3);
    typist.is_sane();
}

#[test]
fn keys_that_interrupt_reach_the_program_in_front_and_no_other() {
    let mut site = pair_is_up();
    let mut typist = Typist::new(site.host("oslo"), &["console", VM], 30, 100);
    typist.sees("right:~# ");
    // Keys that come before the shell has given its terminal back would be the shell's.
    typist.types("echo be''gins; cat\r");
    typist.sees("begins\r\n");
    // A line comes back twice, from the terminal and from `cat`: so `cat` reads.
    typist.types("back\r");
    typist.sees("back\r\nback\r\n");
    typist.types("\x03");
    typist.sees("^C");
    typist.sees("right:~# ");
    typist.types("echo sti''ll here\r");
    typist.sees("still here\r\n");
    typist.types("\x1d");
    typist.ended(0);
    typist.is_sane();
}

#[test]
fn logs_tell_what_a_guest_says_now_and_said_before_it_went_down() {
    let mut site = pair_is_up();
    let oslo = site.host("oslo");
    oslo.shell(VM, "echo 'said before' >/dev/console").done();
    until("the log has it", LIMIT, || {
        let log = oslo.ctl(&["logs", VM, "-n", "3"]);
        if log.out.contains("said before\n") { Ok(()) } else { Err(log.to_string()) }
    });
    let mut typist = Typist::new(oslo, &["logs", VM, "-n", "1", "--follow"], 24, 80);
    typist.sees("said before");
    oslo.shell(VM, "printf 'said \\033[31mlater\\n' >/dev/console").done();
    typist.sees("said \\u{1b}[31mlater");
    typist.interrupts();
    typist.ended(0);
    oslo.ctl(&["stop", "-p", "pair", "-h", "right", "-w", "20"]).done();
    assert!(oslo.ctl(&["logs", VM]).done().contains("said before"));
    oslo.ctl(&["exec", VM, "--", "true"]).ended(1);
}

#[test]
fn copies_arrive_whole_or_not_at_all() {
    let mut site = pair_is_up();
    let oslo = site.host("oslo");
    let here = oslo.folder().join("copies");
    fs::create_dir_all(here.join("tree/sub")).expect("the folder is ours");
    let path = |name: &str| here.join(name).to_str().expect("ASCII").to_owned();
    let content: Vec<u8> =
        (0..5_000_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    fs::write(path("big"), &content).expect("writes");
    fs::write(path("tree/sub/note"), "a note\n").expect("writes");
    std::os::unix::fs::symlink("sub/note", path("tree/link")).expect("links");

    let began = Instant::now();
    let answer = oslo.ctl(&["cp", &path("big"), &format!("{VM}:/root/"), "--json"]).ended(0);
    let into = began.elapsed();
    assert_eq!(answer.json()["event"], "copied", "{answer}");
    let began = Instant::now();
    oslo.ctl(&["cp", &format!("{VM}:/root/big"), &path("back")]).done();
    tell_times(into, began.elapsed());
    assert!(fs::read(path("back")).expect("is there") == content, "it came back as something else");
    let sum = oslo.shell(VM, "sha256sum </root/big").done();
    let ours = std::process::Command::new("sha256sum").arg(path("big")).output().expect("runs");
    assert_eq!(sum.split(' ').next(), String::from_utf8_lossy(&ours.stdout).split(' ').next());

    oslo.ctl(&["cp", "-r", &path("tree"), &format!("{VM}:/no/such/place")])
        .ended(1)
        .says("there is no folder");
    oslo.ctl(&["cp", "-r", &path("tree"), &format!("{VM}:/root")]).done();
    assert_eq!(oslo.shell(VM, "cat /root/tree/link").done(), "a note\n");
    oslo.ctl(&["cp", "-r", &format!("{VM}:/root/tree"), &path("again")]).done();
    assert_eq!(fs::read_to_string(path("again/link")).expect("is there"), "a note\n");
    oslo.ctl(&["cp", &path("tree"), &format!("{VM}:/root")]).ended(1).says("-r");
    oslo.ctl(&["cp", &format!("{VM}:/root/nothing"), &path("x")]).ended(1).says("No such file");

    oslo.ctl_with(&["cp", "-", &format!("{VM}:/root/typed")], b"typed").done();
    assert_eq!(oslo.ctl(&["cp", &format!("{VM}:/root/typed"), "-"]).done(), "typed");

    // The guest's disk is full: it says so, and nothing is left.
    oslo.shell(VM, "mkdir /tmp/small; mount -t tmpfs -o size=1m tmpfs /tmp/small").done();
    oslo.ctl(&["cp", &path("big"), &format!("{VM}:/tmp/small/")]).ended(1).says("No space left");
    assert_eq!(oslo.shell(VM, "ls -A /tmp/small").done(), "");
}

/// How long it took is of interest; a test's output is shown where somebody asks for it.
fn tell_times(into: std::time::Duration, out: std::time::Duration) {
    use std::io::Write;
    // Where the test's output can't be written, nobody misses this.
    let _ = writeln!(std::io::stderr(), "20 MB in {into:?}, out in {out:?}");
}

#[test]
fn ssh_needs_no_network_and_knows_its_host() {
    let mut site = pair_is_up();
    let oslo = site.host("oslo");
    let answer = oslo.ctl(&["ssh", VM, "--", "echo out; echo err >&2; exit 7"]).ended(7);
    assert_eq!((answer.out.as_str(), answer.err.as_str()), ("out\n", "err\n"), "{answer}");
    // A terminal, and the same host key.
    let mut typist = Typist::new(oslo, &["ssh", VM], 24, 80);
    typist.sees("right:~# ");
    typist.types("tty; exit 5\r");
    typist.sees("/dev/pts/");
    typist.ended(5);
    until("nobody is let in any more", LIMIT, || {
        let keys = oslo.shell(VM, "cat /root/.ssh/authorized_keys 2>/dev/null; true").done();
        if keys.is_empty() { Ok(()) } else { Err(keys) }
    });
    oslo.ctl(&["ssh", &format!("nobody-here@{VM}"), "--", "true"]).ended(255).says("no user");

    // Plain scp, by what mlnctl says of its configuration.
    let configuration = oslo.ctl(&["ssh", "--config"]).done();
    assert!(configuration.contains("Host *.mln"), "{configuration}");
    let config = oslo.folder().join("ssh_config");
    fs::write(&config, configuration).expect("writes");
    let mut scp = std::process::Command::new("scp");
    scp.arg("-O").arg("-F").arg(&config).arg(&config).arg("right.pair.mln:/root/copied");
    scp.env("MLN_PEER", oslo.folder().join("mlnd.sock")).env("HOME", oslo.folder());
    let done = scp.output().expect("scp is there");
    if done.status.success() {
        let copied = oslo.shell(VM, "cat /root/copied").done();
        assert_eq!(copied, fs::read_to_string(&config).expect("is there"));
    } else {
        // Its other end is the template's, and may not be there; ssh itself has got as far as to say so.
        let words = String::from_utf8_lossy(&done.stderr);
        assert!(words.contains("scp: not found"), "{words}");
    }
}
