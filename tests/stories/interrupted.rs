//! An agent is killed in the middle of a build: when it is back, all of it is there, or nothing.

use std::process::Child;

use mln_e2e::{Site, until};

use crate::LIMIT;

/// How many VMs each host is to build: enough to take a while.
const VMS_PER_HOST: usize = 60;

/// When an agent is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// As soon as the build was asked for.
    Asked,
    /// When the first trace of it is on the killed host's disk.
    FirstTrace,
    /// When a third of the VMs are finished there.
    Third,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Whole,
    Gone,
}

#[test]
fn a_build_during_which_an_agent_is_killed_is_finished_or_undone() {
    let mut site = Site::mesh_with(&["oslo", "bergen"], "memory_mib = 8192\n");
    let mut number = 0;
    let mut in_the_middle = 0;
    // The one that was asked, and one that takes part.
    for victim in ["oslo", "bergen"] {
        for moment in [Moment::Asked, Moment::FirstTrace, Moment::Third] {
            for name in ["oslo", "bergen"] {
                site.host(name).is_connected_to(1);
            }
            number += 1;
            let name = format!("cut{number}");
            let file = site.project(&name, &project(&name));
            let mut build = site.host("oslo").ctl_begin(&["build", "-f", &file]);
            wait_for(&mut site, &mut build, victim, moment);
            site.host(victim).kill();
            let finished = finished_vms(&mut site, victim);
            in_the_middle += usize::from(finished > 0 && finished < VMS_PER_HOST);
            site.host(victim).run();
            // One that takes part is waited for, unless it was off when it was asked; one that coordinates takes
            // the answer with it.
            let done = build.wait().expect("it is ours").success();
            match (victim, moment) {
                ("bergen", Moment::Asked) => {}
                _ => assert_eq!(done, victim == "bergen", "{victim} was killed at {moment:?}"),
            }
            let what = format!("after {victim} was killed at {moment:?}");
            if is_whole_or_gone(&mut site, &name, &what) == Ended::Whole {
                site.host("bergen").ctl(&["remove", "-p", &name]).done();
            }
            nothing_is_left(&mut site, &what);
        }
    }
    assert!(in_the_middle > 0, "no agent was killed in the middle: the story tells nothing");
}

fn project(name: &str) -> String {
    let all = VMS_PER_HOST * 2;
    format!(
        "global {{\n\
             project {name}\n\
             autoenum {{\n\
                 numhosts {all}; superclass node\n\
                 service_hosts {{ oslo {VMS_PER_HOST}; bergen {VMS_PER_HOST} }}\n\
             }}\n\
         }}\n\
         superclass node {{ memory 40M }}\n"
    )
}

fn finished_vms(site: &mut Site, host: &str) -> usize {
    site.host(host).traces_of_vms().iter().filter(|path| !path.ends_with(".building")).count()
}

/// Waits for the moment; a build may be over before it was seen.
fn wait_for(site: &mut Site, build: &mut Child, victim: &str, moment: Moment) {
    until(&format!("{moment:?}"), LIMIT, || {
        let traces = site.host(victim).traces_of_vms().len();
        let is_now = match moment {
            Moment::Asked => true,
            Moment::FirstTrace => traces > 0,
            Moment::Third => finished_vms(site, victim) >= VMS_PER_HOST / 3,
        };
        let is_over = matches!(build.try_wait(), Ok(Some(_)));
        if is_now || is_over { Ok(()) } else { Err(format!("{traces} folders")) }
    });
}

/// Waits until both hosts say the same: all VMs are there, or the project is not.
fn is_whole_or_gone(site: &mut Site, project: &str, what: &str) -> Ended {
    let mut ended = Ended::Gone;
    until(&format!("{project} is whole or gone {what}"), LIMIT, || {
        let states = ["oslo", "bergen"].map(|name| {
            let rows = site.host(name).ctl(&["status", "--json"]).json();
            let of_project = rows.as_array().into_iter().flatten().filter(|row| row["project"] == project);
            of_project.map(|row| row["state"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        });
        let is_whole =
            |seen: &Vec<String>| seen.len() == VMS_PER_HOST * 2 && seen.iter().all(|state| state == "down");
        ended = if states.iter().all(is_whole) { Ended::Whole } else { Ended::Gone };
        if ended == Ended::Whole || states.iter().all(Vec::is_empty) {
            Ok(())
        } else {
            Err(format!("{states:?}"))
        }
    });
    ended
}

fn nothing_is_left(site: &mut Site, what: &str) {
    for name in ["oslo", "bergen"] {
        until(&format!("nothing is left on {name} {what}"), LIMIT, || {
            let (mut left, used) = (site.host(name).traces_of_vms(), site.host(name).daemon_status());
            // What the project was submitted as is kept as long as its room: for all that is known here, whoever asked
            // may only be slow.
            left.retain(|path| !path.contains("/blobs/"));
            if left.is_empty() && used["total"]["memory_used_mib"] == 0 {
                Ok(())
            } else {
                Err(format!("{left:?} {used}"))
            }
        });
    }
}
