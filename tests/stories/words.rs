//! What a newcomer meets: words that are near, hosts that are off, and plans that say what really comes of them.

use mln_e2e::{Site, until};

use crate::{LIMIT, PAIR};

#[test]
fn a_newcomer_is_told_what_is_so_and_what_helps() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let users = "    size 600M\n    users {\n        anna *\n    }\n";
    let pair = PAIR.replacen("    service_host oslo\n", &format!("    service_host oslo\n{users}"), 1);
    let file = site.project("pair", &pair);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["build", "-f", &file]).ended(3).says("`mlnctl upgrade -f FILE`");

    // Names that are near.
    site.host("oslo").ctl(&["exec", "pair/lefft", "--", "true"]).ended(3).says("did you mean left?");
    site.host("oslo").ctl(&["status", "-p", "pare"]).ended(3).says("did you mean pair?");
    let migrate = site.host("oslo").ctl(&["migrate", "-p", "pair", "-h", "rigth", "--to", "oslo", "--yes"]);
    migrate.ended(3).says("did you mean right?").says("left, right");
    site.host("oslo").ctl(&["scale", "-p", "pair", "x", "3", "--yes"]).ended(1).says("there is none");

    // A plan says what stays as it is, and what can't be.
    let smaller = site.project("smaller", &pair.replace("600M", "500M"));
    let refused = site.host("bergen").ctl(&["plan", "-f", &smaller]).ended(3);
    refused.says("left: a disk only grows: it has 600").says("rule disk").says("mlnctl cp");
    site.host("bergen").ctl(&["upgrade", "-f", &smaller, "--yes"]).ended(3).says("rule disk");
    let without = site.project("without", &pair.replace("        anna *\n", "        bob *\n"));
    let plan = site.host("oslo").ctl(&["plan", "-f", &without]).ended(2);
    plan.says("- host left  user anna").says("kept").says("the account stays in the guest").says("passwd -l");

    // What comes back isn't shown as removed.
    let cut = pair.find("host right").expect("it has two machines");
    let one = site.project("one", &pair[..cut]);
    let told = site.host("oslo").ctl(&["upgrade", "-f", &one, "--yes", "--keep-removed", "1w"]).ended(0);
    told.says("- host right").says("its disk is kept");
    let told = site.host("oslo").ctl(&["upgrade", "-f", &one, "--yes", "--keep-removed", "1d"]).ended(0);
    told.says("no changes").says("keeps the time that it was given");
    until("its disk is kept", LIMIT, || {
        let status = site.host("oslo").ctl(&["status", "-p", "pair"]).to_string();
        if status.contains("right is left out") { Ok(()) } else { Err(status) }
    });
    let told = site.host("oslo").ctl(&["rollback", "-p", "pair", "--yes"]).ended(0).says("1 returned");
    assert!(!told.to_string().contains("removed"), "{told}");

    // A snapshot says that it is there, and is not given to a machine that has other drives by now.
    let taken = site.host("oslo").ctl(&["snapshot", "take", "-p", "pair", "before"]).ended(0);
    taken.says("snapshot before is taken");
    let mounted =
        pair.replacen("    size 600M\n", "    size 600M\n    mount {\n        24M /data ext4\n    }\n", 1);
    let more =
        site.project("more", &mounted.replace("service_host bergen", "service_host bergen\n    memory 65M"));
    let mounted = site.project("mounted", &mounted);
    site.host("oslo").ctl(&["upgrade", "-f", &mounted, "--yes"]).ended(0);
    // A further disk is made when the machine starts.
    site.host("oslo").ctl(&["start", "-p", "pair", "-h", "left"]).done();
    site.host("oslo").sees("pair", "left", "up");
    site.host("oslo").ctl(&["stop", "-p", "pair", "-w", "20"]).done();
    let refused = site.host("bergen").ctl(&["snapshot", "restore", "-p", "pair", "before"]).ended(3);
    refused.says("left has other drives").says("mlnctl rollback").says("mlnctl snapshot list -p");

    // A host that is off is called that, by all who would need it.
    site.host("bergen").stop();
    until("oslo has noticed", LIMIT, || {
        let plan = site.host("oslo").ctl(&["plan", "-f", &more]);
        if plan.to_string().contains("is off") { Ok(()) } else { Err(plan.to_string()) }
    });
    let listed = site.host("oslo").ctl(&["snapshot", "list", "-p", "pair"]).ended(5);
    listed.says("before").says("not whole: bergen").says("no answer from bergen");
    let refused = site.host("oslo").ctl(&["evacuate", "bergen", "--yes"]).ended(3);
    refused.says("bergen is off (last heard of").says("/right").says("mlnctl takeover");
    let refused = site.host("oslo").ctl(&["migrate", "-p", "pair", "-h", "right", "--to", "oslo", "--yes"]);
    let refused =
        refused.ended(3).says("bergen is off (last heard of").says("mlnctl takeover").says("asked: oslo");
    assert!(!refused.to_string().contains("asked: bergen"), "{refused}");
    let refused = site.host("oslo").ctl(&["takeover", "pair/right"]).ended(3);
    assert!(!refused.to_string().contains("taking over"), "{refused}");
}
