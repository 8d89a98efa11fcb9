//! The console session, with shells of this machine.

use rustix::event::{PollFd, PollFlags};

use super::*;

const SIZE: SizeWire = SizeWire { rows: 24, columns: 80 };

fn session(script: &str) -> Session {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Session::of(command, SIZE).expect("starts")
}

fn wanted(lines: u32) -> ConsoleWire {
    ConsoleWire { term: "vt100".into(), size: SIZE, lines }
}

/// What the one or the other was sent.
#[derive(Default)]
struct Seen {
    text: BTreeMap<u32, String>,
    ended: BTreeMap<u32, EndWire>,
    is_over: bool,
}

impl Seen {
    fn of(&self, channel: u32) -> &str {
        self.text.get(&channel).map_or("", String::as_str)
    }

    /// Pumps and waits until something is so; windows are opened as their bytes are taken.
    #[track_caller]
    fn until(&mut self, session: &mut Session, so: impl Fn(&Self) -> bool) {
        loop {
            let mut taken = Vec::new();
            self.is_over = !session.pump(|channel, output| match output {
                Output::Data(_, bytes) => {
                    *self.text.entry(channel).or_default() += &String::from_utf8_lossy(&bytes);
                    taken.push((channel, bytes.len() as u32));
                }
                Output::Ended(end) => drop(self.ended.insert(channel, end)),
            });
            taken.iter().for_each(|(channel, bytes)| session.widen(*channel, *bytes));
            if so(self) {
                return;
            }
            assert!(!self.is_over, "it ended: {:?}", self.text);
            if !taken.is_empty() {
                // What waits for a window that is open now can go out; nothing else may happen to wake us.
                continue;
            }
            let mut fds: Vec<_> = session
                .interests()
                .map(|(fd, write)| {
                    PollFd::from_borrowed_fd(fd, if write { PollFlags::OUT } else { PollFlags::IN })
                })
                .collect();
            rustix::event::poll(&mut fds, None).expect("poll");
        }
    }
}

#[test]
fn what_was_shown_is_shown_again_to_whoever_comes_later() {
    let mut session = session("stty -echo; echo ready; while read line; do echo \"got $line\"; done");
    let mut seen = Seen::default();
    session.attach(1, &wanted(10));
    seen.until(&mut session, |seen| seen.of(1).contains("ready"));
    assert!(session.feed(1, b"first\n"));
    seen.until(&mut session, |seen| seen.of(1).contains("got first\r\n"));
    session.detach(1);
    assert!(!session.is_seen_over(1));

    session.attach(2, &wanted(2));
    session.attach(3, &wanted(0));
    seen.until(&mut session, |seen| seen.of(2) == "got first\r\n" && seen.text.contains_key(&3));
    assert!(session.feed(3, b"second\n"));
    seen.until(&mut session, |seen| seen.of(2).ends_with("got second\r\n"));
    seen.until(&mut session, |seen| seen.of(3) == "got second\r\n");
    assert_eq!(session.taken().map(|(_, bytes)| bytes).sum::<u32>(), 7);
}

#[test]
fn the_end_of_the_shell_is_told_to_all_after_its_last_words() {
    let mut session = session("read line; echo bye; exit 3");
    let mut seen = Seen::default();
    session.attach(1, &wanted(0));
    session.attach(2, &wanted(0));
    assert!(session.feed(2, b"\n"));
    seen.until(&mut session, |seen| seen.is_over);
    for channel in [1, 2] {
        assert!(seen.of(channel).ends_with("bye\r\n"), "{:?}", seen.of(channel));
        assert_eq!(seen.ended.get(&channel), Some(&EndWire::Exited(3)));
    }
    assert!(session.has_ended());
}

#[test]
fn it_goes_on_while_nobody_looks() {
    let mut session = session("stty -echo; seq 1 30000; echo done; read line");
    let mut seen = Seen::default();
    // Nobody takes it: the terminal is read all the same.
    while !session.scrollback.tail(2).starts_with(b"done") {
        seen.until(&mut session, |_| true);
    }
    session.attach(1, &wanted(2));
    seen.until(&mut session, |seen| seen.of(1) == "done\r\n");
}

#[test]
fn whoever_looks_alone_and_is_slow_loses_nothing() {
    let mut session = session("seq 1 100000; read line");
    session.attach(1, &wanted(0));
    let mut first = String::new();
    // Its window is never opened, so no more than that comes.
    for _ in 0..1000 {
        session.pump(|_, output| {
            if let Output::Data(_, bytes) = output {
                first += &String::from_utf8_lossy(&bytes);
            }
        });
        if first.len() >= OUTPUT_WINDOW_BYTES as usize && !session.has_room() {
            break;
        }
        std::thread::yield_now();
    }
    assert!(first.len() <= OUTPUT_WINDOW_BYTES as usize);
    session.widen(1, first.len() as u32);
    let mut seen = Seen { text: [(1, first)].into(), ..Seen::default() };
    seen.until(&mut session, |seen| seen.of(1).ends_with("100000\r\n"));
    let want: String = (1..=100_000).map(|number| format!("{number}\r\n")).collect();
    assert!(seen.of(1) == want, "something is missing");
}

#[test]
fn a_new_size_reaches_what_runs() {
    let mut session = session("stty -echo; stty size; while read line; do stty size; done");
    let mut seen = Seen::default();
    session.attach(1, &wanted(0));
    seen.until(&mut session, |seen| seen.of(1).contains("24 80"));
    session.resize(SizeWire { rows: 50, columns: 132 });
    assert!(session.feed(1, b"\n"));
    seen.until(&mut session, |seen| seen.of(1).contains("50 132"));
}

#[test]
fn the_shell_is_roots() {
    let account = |home: &str, shell: &str| Account { home: home.into(), shell: shell.into() };
    assert_eq!(root_of("daemon:x:1:1::/:/x\nroot:x:0:0:root:/r:/bin/ash\n"), account("/r", "/bin/ash"));
    assert_eq!(root_of("root:x:0:0:root::\n"), account("/root", "/bin/sh"));
    assert_eq!(root_of(""), account("/root", "/bin/sh"));
}
