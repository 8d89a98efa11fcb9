//! Large projects: what grows with the number of hosts, and what is refused.

use std::fmt::Write;

use mln_protocol::lang::NoIncludes;
use mln_protocol::model::AddressPlan;

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
