//! Large projects: what grows with the number of hosts, and what is refused.

use std::fmt::Write;

use mln_protocol::lang::{self, NoIncludes};
use mln_protocol::model::AddressPlan;
use mln_protocol::plan;

use crate::{options, understand};

#[test]
fn ten_thousand_hosts_are_written_out_and_resolved() {
    let mut text = "global { project large; $domain = example }\nswitch lan { }\n\
                    superclass node { memory 96M; template mini; users { root x } }\n"
        .to_owned();
    for n in 0..10_000 {
        let (third, fourth) = (n / 250, n % 250 + 1);
        write!(
            text,
            "host n{n} {{\n    superclass node\n    network eth0 {{\n        switch lan\n        \
             address 10.1.{third}.{fourth}/16\n    }}\n    startup {{ echo $hostname.$[domain] }}\n}}\n"
        )
        .expect("a String takes all text");
    }
    let (_, resolved, diagnostics) = understand("large.mln", &text, &NoIncludes, &options(&[]));
    assert_eq!(diagnostics, []);
    assert_eq!(resolved.project.vms.len(), 10_000);
    assert_eq!(resolved.project.switches[0].members.len(), 10_000);
    assert_eq!(resolved.project.vms[9_999].startup, ["echo n9999.example"]);
}

#[test]
fn ten_thousand_hosts_are_compared_and_laid_out() {
    let text = |memory: u32| {
        let hosts: String =
            (0..10_000).map(|n| format!("host n{n} {{ memory {memory}M; size 1G }}\n")).collect();
        format!("global {{ project large }}\n{hosts}")
    };
    let (before, after) = (text(64), text(96));
    let project = |text: &str| understand("large.mln", text, &NoIncludes, &options(&[])).1.project;
    let (before, after) = (project(&before), project(&after));
    let changes = plan::difference(&before, &after);
    assert_eq!(changes.len(), 10_000);
    assert_eq!(plan::apply(&before, &changes), after);
    let (tree, _, diagnostics) = understand("large.mln", &text(64), &NoIncludes, &options(&[]));
    assert_eq!(lang::format(&tree, &diagnostics).as_deref(), Ok(&*text(64)));
}

#[test]
fn enumerations_differ_in_one_number_and_carry_over_octets() {
    let farm = "global { project farm\n autoenum { numhosts $n; superclass c; network 10.0.0.0/16 } }\n\
                superclass c { }";
    for (count, last, address) in [("5", "node5", "10.0.0.5/16"), ("300", "node300", "10.0.1.44/16")] {
        let (_, resolved, diagnostics) = understand("farm.mln", farm, &NoIncludes, &options(&[("n", count)]));
        assert_eq!(diagnostics, []);
        let vm = resolved.project.vms.last().expect("there are hosts");
        assert_eq!(vm.name.as_str(), last);
        let AddressPlan::Static(found) = vm.networks[0].address else { panic!("{last} has no address") };
        assert_eq!(found.to_string(), address);
    }
    let (_, resolved, diagnostics) = understand("farm.mln", farm, &NoIncludes, &options(&[("n", "100001")]));
    assert_eq!(resolved.project.vms.len(), 0);
    assert_eq!(diagnostics[0].code.as_str(), "E0703");
}
