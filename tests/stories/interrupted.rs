//! An agent is killed in the middle of a build: when it is back, all of it is there, or nothing.

use mln_e2e::{Site, until};

use crate::LIMIT;

/// When an agent is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// As soon as the build was asked for.
    Asked,
    /// When the first trace of it is on the killed host's disk.
    FirstTrace,
    /// When a VM's folder is finished there.
    FirstVm,
}

#[test]
fn a_build_during_which_an_agent_is_killed_is_finished_or_undone() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let mut number = 0;
    // The one that was asked, and one that takes part.
    for victim in ["oslo", "bergen"] {
        for moment in [Moment::Asked, Moment::FirstTrace, Moment::FirstVm] {
            number += 1;
            let name = format!("cut{number}");
            let text = format!(
                "global {{ project {name} }}\n\
                 host a {{ service_host oslo }}\nhost b {{ service_host oslo }}\n\
                 host c {{ service_host bergen }}\nhost d {{ service_host bergen }}\n"
            );
            let file = site.project(&name, &text);
            let mut build = site.host("oslo").ctl_begin(&["build", "-f", &file]);
            wait_for(&mut site, &mut build, victim, moment);
            site.host(victim).kill();
            build.wait().expect("it is ours");
            site.host(victim).run();
            let what = format!("after {victim} was killed at {moment:?}");
            let ended = is_whole_or_gone(&mut site, &name, &what);
            if ended == Ended::Whole {
                site.host("bergen").ctl(&["remove", "-p", &name]).done();
            }
            nothing_is_left(&mut site, &what);
        }
    }
}

/// Waits for the moment; a build may be over before it was seen.
fn wait_for(site: &mut Site, build: &mut std::process::Child, victim: &str, moment: Moment) {
    until(&format!("{moment:?}"), LIMIT, || {
        let traces = site.host(victim).traces_of_vms();
        let is_now = match moment {
            Moment::Asked => true,
            Moment::FirstTrace => !traces.is_empty(),
            Moment::FirstVm => {
                traces.iter().any(|path| path.contains("/vms/") && !path.ends_with(".building"))
            }
        };
        let is_over = matches!(build.try_wait(), Ok(Some(_)));
        if is_now || is_over { Ok(()) } else { Err(format!("{traces:?}")) }
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Whole,
    Gone,
}

/// Waits until both hosts say the same: all four VMs are there, or the project is not.
fn is_whole_or_gone(site: &mut Site, project: &str, what: &str) -> Ended {
    let mut ended = Ended::Gone;
    until(&format!("{project} is whole or gone {what}"), LIMIT, || {
        let rows = ["oslo", "bergen"].map(|name| {
            let rows = site.host(name).ctl(&["status", "--json"]).json();
            let of_project = rows.as_array().into_iter().flatten().filter(|row| row["project"] == project);
            of_project.map(|row| row["state"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        });
        let is = |states: &[&str]| rows.iter().all(|seen| seen == states);
        ended = if is(&["down"; 4]) { Ended::Whole } else { Ended::Gone };
        if ended == Ended::Whole || is(&[]) { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    ended
}

fn nothing_is_left(site: &mut Site, what: &str) {
    for name in ["oslo", "bergen"] {
        until(&format!("nothing is left on {name} {what}"), LIMIT, || {
            let (left, used) = (site.host(name).traces_of_vms(), site.host(name).daemon_status());
            if left.is_empty() && used["total"]["memory_used_mib"] == 0 {
                Ok(())
            } else {
                Err(format!("{left:?} {used}"))
            }
        });
    }
}
