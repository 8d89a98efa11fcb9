//! Fifty guests that each decide for themselves, every five seconds: what that takes of the host's agent, and of the guests
//! beside what the same guests take without an agent, and without policies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use mln_e2e::{Host, Site, until};

use crate::build::VMS;
use crate::figure::{Figure, Goal, Unit};
use crate::process::{lasting_seconds, processor_seconds};
use crate::statistics::Sample;
use crate::{LIMIT, Scale, seconds_since, start, wait};

/// What the agent may use for built-in policies, and what all guests together may use for them, of one processor.
const AGENT: f64 = 0.10;
const GUESTS: f64 = 0.25;

/// A policy that measures and decides, and never finds a reason for more.
const BUILTIN: &str =
    "policy own { builtin scale; gauge cpu; quota 1000; window 60s; every 5s; may scale spares 1..2 }";

/// The same by a program.
const PROGRAM: &str = "policy own { run /usr/local/bin/decide; every 5s; may scale spares 1..2 }";

/// A program that reads what there is, and stays.
const DECIDE: &str = "#!/bin/sh\ntold=$(cat)\necho '{\"decision\": \"stay\", \"reason\": \"all is well\"}'\n";

/// What was used, of one processor.
struct Used {
    agent: f64,
    guests: f64,
}

/// What policies cost.
pub(crate) fn bench(scale: Scale) -> Vec<Figure> {
    let mut site = Site::mesh_with(&["oslo"], "memory_mib = 16384\n");
    let decide = site.folder().join("decide");
    fs::write(&decide, DECIDE).expect("the site's folder is ours");
    fs::set_permissions(&decide, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let [none, builtin, program] = [("none", ""), ("builtin", BUILTIN), ("program", PROGRAM)]
        .map(|(name, policy)| site.project(name, &deciders(policy)));
    let host = site.host("oslo");
    host.ctl(&["build", "-f", &none]).done();
    start(host, "deciders");
    let undecided = measure(host, scale, Agent::Runs);

    // What guests don't decide because nobody listens costs them nothing either.
    host.ctl(&["upgrade", "-f", &builtin, "--yes"]).done();
    host.kill();
    let alone = measure(host, scale, Agent::Away);

    // They look when they are heard again.
    host.run();
    decide_by(host, "cpu ");
    let by_rule = measure(host, scale, Agent::Runs);

    host.ctl(&["upgrade", "-f", &program, "--yes"]).done();
    decide_by(host, "all is well");
    let by_program = measure(host, scale, Agent::Runs);
    // Whoever decides something has others to ask, which is another thing.
    let rows = host.ctl(&["log", "-p", "deciders", "--json"]).json();
    assert_eq!(rows.as_array().map(Vec::len), Some(3), "a guest has decided something: {rows}");

    let core = |what: &str, value: f64, goal| {
        Figure::alone("policies", what, Unit::Core, Sample::single(value), goal)
    };
    let more = |how: &str, used: &Used, than: &str, other: &Used, goal| {
        Figure::alone("policies", &format!("50 guests, {how}"), Unit::Core, Sample::single(used.guests), goal)
            .against(than, Sample::single(other.guests))
    };
    let (rule, program) = ("a built-in policy each, every 5 s", "a program each, every 5 s");
    let (away, without) = ("without an agent", "without policies");
    vec![
        core(&format!("the agent of 50 guests, {without}"), undecided.agent, Goal::Known),
        core(&format!("the agent of 50 guests, {rule}"), by_rule.agent, Goal::AtMost(AGENT)),
        core(&format!("the agent of 50 guests, {program}"), by_program.agent, Goal::Known),
        more(rule, &by_rule, away, &alone, Goal::MoreAtMost(GUESTS)),
        more(rule, &by_rule, without, &undecided, Goal::MoreAtMost(GUESTS)),
        more(program, &by_program, away, &alone, Goal::Known),
        more(program, &by_program, without, &undecided, Goal::Known),
    ]
}

/// Returns a project whose machines each have a policy of their own: those that share one elect who decides.
fn deciders(policy: &str) -> String {
    let mut text = "global { project deciders
        autoenum spares { superclass spare; numhosts 1; hostprefix spare } }
superclass spare { memory 48M }
superclass decider { memory 64M; files { decide /usr/local/bin/decide 755 } }
"
    .to_owned();
    for number in 1..=VMS {
        text += &format!("host node{number:02} {{ superclass decider; {policy} }}\n");
    }
    text
}

/// Waits until the first and the last have decided in a way.
fn decide_by(host: &Host, words: &str) {
    for vm in ["deciders/node01", &format!("deciders/node{VMS}")] {
        until(&format!("{vm} decides so: {words:?}"), LIMIT, || {
            let told = host.shell(vm, "mlnctl me gauge | grep '^policy own'").out;
            if told.contains(words) { Ok(()) } else { Err(told) }
        });
    }
}

/// Whether there is an agent to look at.
#[derive(Clone, Copy)]
enum Agent {
    Runs,
    Away,
}

fn measure(host: &Host, scale: Scale, agent: Agent) -> Used {
    wait(scale.settle);
    let processes = host.vm_processes();
    let used = || {
        let agent = match agent {
            Agent::Runs => processor_seconds(host.agent_process()).expect("the agent runs"),
            Agent::Away => 0.0,
        };
        [agent, processes.iter().map(|pid| lasting_seconds(*pid)).sum::<f64>()]
    };
    let (began, from) = (Instant::now(), used());
    wait(scale.decide);
    let (to, window) = (used(), seconds_since(began));
    Used { agent: (to[0] - from[0]) / window, guests: (to[1] - from[1]) / window }
}
