//! `exec`: a command in a guest, as if it ran here.

use mln_e2e::Site;

use crate::PAIR;

#[test]
fn a_command_in_a_guest_is_as_if_it_ran_here_from_any_peer() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "60"]).ended(0);

    for asked in ["oslo", "bergen"] {
        let host = site.host(asked);
        let answer = host.shell("pair/right", "echo out; echo err >&2; exit 7").ended(7);
        assert_eq!((answer.out.as_str(), answer.err.as_str()), ("out\n", "err\n"), "{answer}");
        host.shell("pair/right", "kill -TERM $$").ended(128 + 15);
        host.ctl(&["exec", "pair/right", "--", "no-such-program"]).ended(127).says("No such file");

        // More than fits into any window on the way, with every byte value.
        let input: Vec<u8> = (0..300_000_u32).map(|n| n.wrapping_mul(n) as u8).collect();
        let answer =
            host.ctl_with(&["exec", "pair/right", "--", "sh", "-c", "wc -c; exit 3"], &input).ended(3);
        assert_eq!(answer.out.trim(), "300000", "{answer}");
        let text = "a line\n".repeat(2000);
        assert_eq!(host.ctl_with(&["exec", "pair/right", "--", "cat"], text.as_bytes()).done(), text);
    }
    site.host("oslo").ctl(&["exec", "pair/nobody", "--", "true"]).ended(3);
}
