//! What can't be done is refused by whoever can't do it, with its reason, before anything is done.

use mln_e2e::{Answer, Site, until};

use crate::{LIMIT, SINGLE};

/// Builds on oslo what can't be built, and sees that nothing of it is anywhere.
#[track_caller]
fn nothing_is_left_of(site: &mut Site, names: &[&str], text: &str, code: i32) -> Answer {
    let file = site.project("refused", text);
    let before: Vec<_> = names.iter().map(|name| site.host(name).daemon_status()).collect();
    let answer = site.host("oslo").ctl(&["build", "-f", &file]).ended(code);
    for (name, before) in names.iter().zip(before) {
        assert_eq!(site.host(name).traces_of_vms(), [] as [String; 0], "{name}, {answer}");
        assert_eq!(site.host(name).ctl(&["list", "--json"]).json(), serde_json::json!([]), "{name}");
        assert_eq!(site.host(name).daemon_status(), before, "{name}");
    }
    answer
}

#[test]
fn a_build_that_is_refused_leaves_nothing_behind() {
    let names = ["oslo", "bergen"];
    let mut site = Site::mesh_with(&names, "memory_mib = 256\n");

    // One host has room, the other hasn't: neither begins. A file that came along is gone, too.
    site.project("note", "# for the guest\n");
    let large = "global { project large }\n\
                 host small { service_host oslo; memory 64M; files {\n note.mln /etc/note\n} }\n\
                 host big { service_host bergen; memory 300M }\n";
    nothing_is_left_of(&mut site, &names, large, 3).says("bergen").says("memory");

    let typo = "global { project typo }\nhost vm { memroy 64M }\n";
    nothing_is_left_of(&mut site, &names, typo, 1).says("memroy").says("memory");

    let template = "global { project bare }\nhost vm { template nosuch; service_host bergen }\n";
    nothing_is_left_of(&mut site, &names, template, 3).says("bergen").says("nosuch");

    let nowhere = "global { project lost }\nhost vm { service_host atlantis }\n";
    nothing_is_left_of(&mut site, &names, nowhere, 3).says("atlantis");

    // The memory of a VM that is defined is taken, whether it runs or not; when it is removed it is free again.
    let two = "global { project first }\nhost one { memory 128M }\n";
    let again = "global { project second }\nhost two { memory 160M }\n";
    let (first, second) = (site.project("first", two), site.project("second", again));
    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &first]).done();
    oslo.ctl(&["build", "-f", &second]).ended(3).says("oslo");
    oslo.ctl(&["build", "-f", &first]).ended(3).says("first");
    oslo.ctl(&["remove", "-p", "first"]).done();
    oslo.ctl(&["build", "-f", &second]).done();
}

#[test]
fn a_host_that_is_off_is_named_by_the_build_that_needs_it() {
    let names = ["oslo", "bergen"];
    let mut site = Site::mesh(&names);
    site.host("bergen").kill();
    let text =
        "global { project half }\nhost here { service_host oslo }\nhost there { service_host bergen }\n";
    let file = site.project("half", text);
    let answer = site.host("oslo").ctl(&["build", "-f", &file]).says("bergen");
    assert!(matches!(answer.code, Some(3 | 5)), "{answer}");
    assert_eq!(site.host("oslo").traces_of_vms(), [] as [String; 0]);

    // What doesn't need it goes on without it; when it is there again, the build succeeds.
    let single = site.project("single", SINGLE);
    site.host("oslo").ctl(&["build", "-f", &single]).done();
    site.host("bergen").run();
    until("bergen is heard again", LIMIT, || {
        let answer = site.host("oslo").ctl(&["build", "-f", &file]);
        if answer.code == Some(0) { Ok(()) } else { Err(answer.to_string()) }
    });
    site.host("bergen").sees("half", "here", "down");
}
