//! An agent ends at each step of a hand-over, on either side: the machine runs once, where it is to be, with all that it has
//! written.

use std::time::Duration;

use mln_e2e::{Site, until, until_some};

/// How long a hand-over may take in which an agent ends on the way.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the agent that gives the machine away can end itself.
const OF_THE_OWNER: [&str; 4] = ["sealed", "halted", "released", "shelved"];

/// Where the one that gets it can.
const OF_THE_OTHER: [&str; 7] =
    ["pull-begun", "pull-round", "pull-last", "copy-read", "ready", "claimed", "copy-taken"];

const HOSTS: [&str; 2] = ["oslo", "bergen"];

fn project() -> String {
    "global { project cut }\nhost vm { memory 48M; service_host oslo }\n".to_owned()
}

/// Returns the hosts on which the machine has a kernel.
fn running(site: &mut Site) -> Vec<&'static str> {
    HOSTS.into_iter().filter(|name| site.host(name).guest_processes() > 0).collect()
}

#[test]
fn an_agent_that_ends_at_any_step_of_a_move_loses_nothing_and_has_nothing_run_twice() {
    let mut site = Site::mesh_of(&["oslo", "bergen", "gjovik"], "mlnd-failpoints");
    let file = site.project("cut", &project());
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "cut"]).done();
    site.host("gjovik").sees("cut", "vm", "up");
    let (mut from, mut to) = ("oslo", "bergen");
    let of_owner = OF_THE_OWNER.map(|place| (place, true));
    let of_other = OF_THE_OTHER.map(|place| (place, false));
    for (round, (place, is_owner)) in of_owner.into_iter().chain(of_other).enumerate() {
        let what = format!("{place}, from {from} to {to}");
        let line = format!("echo {round} >>/root/rounds; sync");
        site.host("gjovik").shell("cut/vm", &line).done();
        let met = if is_owner { from } else { to };
        let host = site.host(met);
        host.kill();
        host.abort_at(Some((place, 1)));
        host.run();
        site.host("gjovik").is_connected_to(2);
        let mut moving =
            site.host("gjovik").ctl_begin(&["migrate", "-p", "cut", "-h", "vm", "--to", to, "--yes"]);
        until(&format!("the agent of {met} ends at {what}"), PATIENCE, || {
            if site.host(met).is_running() { Err("it runs".to_owned()) } else { Ok(()) }
        });
        assert!(running(&mut site).len() <= 1, "{what}");
        let host = site.host(met);
        host.reap();
        host.abort_at(None);
        host.run();
        let status = until_some(&format!("the move goes on after {what}"), PATIENCE, || {
            let runs = running(&mut site);
            assert!(runs.len() <= 1, "{what}: it runs on {runs:?}");
            moving.try_wait().map_err(|error| error.to_string())
        });
        assert!(status.success(), "{what}: {status}");
        let row = site.host("gjovik").sees("cut", "vm", "up");
        assert_eq!(row["service_host"], to, "{what}: {row}");
        assert_eq!(running(&mut site), [to], "{what}");
        let expect: String = (0..=round).map(|round| format!("{round}\n")).collect();
        assert_eq!(site.host("gjovik").shell("cut/vm", "cat /root/rounds").done(), expect, "{what}");
        (from, to) = (to, from);
    }
}
