//! What becomes of each keyword is what its table says, tried with each of them.

use std::collections::BTreeSet;

use mln_protocol::lang::grammar::{self, Body, Context, Keyword, Naming, State};
use mln_protocol::lang::{Code, NoIncludes, Severity};

use crate::{options, understand};

/// Values of keywords for which a plain word is none.
const VALUES: [(&str, &str); 22] = [
    ("memory", "128M"),
    ("memory_max", "256M"),
    ("size", "2G"),
    ("free_space", "1G"),
    ("swap", "64M"),
    ("boot_order", "5"),
    ("vcpus", "2"),
    ("cpus", "0-1"),
    ("nameserver", "10.0.0.1"),
    ("address", "10.0.0.1/24"),
    ("addresses", "enum"),
    ("network", "10.0.0.0/24"),
    ("netmask", "255.255.255.0"),
    ("gateway", "10.0.0.254"),
    ("broadcast", "10.0.0.255"),
    ("mac", "02:00:00:00:00:01"),
    ("delay", "50ms"),
    ("loss", "1%"),
    ("rate", "10Mbit"),
    ("forward", "8080:80"),
    ("addresses_begin", "7"),
    ("numhosts", "2"),
];

fn value(context: Context, keyword: &Keyword) -> &'static str {
    match (context, keyword.canonical) {
        (Context::Host | Context::Autoenum, "superclass") => "class",
        (Context::Autoenum, "addresses") => "enum",
        (Context::Host, "nice" | "lock_timeout" | "vncdisplay") | (Context::Switch, "vlan") => "5",
        (Context::Host, "term") => "xterm",
        (Context::Switch, "type") => "hub",
        (Context::Network, "switch") => "lan",
        (Context::Global, "plugins") => "made",
        (Context::Network, "tun_address") => "10.0.0.7",
        (Context::Policy, "builtin") => "scale",
        (Context::Policy, "run") => "/bin/true",
        (Context::Policy, "every" | "grace" | "window") => "5s",
        (Context::Policy, "quota") => "25",
        (Context::Policy, "may") => "move oslo",
        (_, canonical) => {
            VALUES.iter().find(|(word, _)| *word == canonical).map_or("other", |(_, value)| value)
        }
    }
}

/// Returns each way in which a keyword may be written.
fn statements(context: Context, keyword: &Keyword) -> Vec<String> {
    let mut written = Vec::new();
    if keyword.flag {
        written.push(keyword.word.to_owned());
    }
    if keyword.value {
        written.push(format!("{} {}", keyword.word, value(context, keyword)));
    }
    if let Some(form) = keyword.block {
        let name = if form.naming == Naming::Required { " made" } else { "" };
        let inside = match (keyword.word, form.body) {
            ("amend", _) => "memory 80M",
            ("plugin", _) => "any x",
            ("autoenum", _) => "numhosts 1; superclass class",
            ("users", _) => "alice x",
            ("files", _) => "from /to",
            ("mount", _) => "/dev/x /mnt ext4",
            ("service_hosts", _) => "oslo",
            (_, Body::Lists) => "staff { alice }",
            (_, Body::Raw) => "true",
            (_, Body::Lines) => "one",
            (_, Body::Keywords(_) | Body::Claimed(_) | Body::Free) => "",
        };
        written.push(format!("{}{name} {{ {inside} }}", keyword.word));
    }
    written
}

/// Returns a project with one statement in a block of that kind, and as little as possible else.
fn project(context: Context, keyword: &Keyword, statement: &str) -> String {
    let address =
        if matches!(keyword.word, "netmask" | "gateway" | "broadcast") { "; address 10.0.0.1" } else { "" };
    let address = if keyword.word == "tun_address" { "; tun_iface tap0" } else { address };
    // What is about the way out of a switch.
    let uplink = match (context, keyword.canonical) {
        (Context::Switch, "vlan" | "service_host") => "; bridge br0",
        _ => "",
    };
    let fill = |other: &str, text: &str| if keyword.canonical == other { "" } else { text }.to_owned();
    let inside = match context {
        // It is another host's, and that must be there.
        Context::Top if keyword.word == "amend" => format!("{statement}\nhost made {{ }}"),
        Context::Top if keyword.word == "global" => "global { project p }".to_owned(),
        Context::Top => statement.to_owned(),
        Context::Global if keyword.word == "project" => "global { project p }".to_owned(),
        Context::Global => format!("global {{ {statement} }}"),
        Context::Autoenum => {
            let needed = [
                fill("numhosts", "; numhosts 2"),
                fill("superclass", "; superclass class"),
                fill("network", "; network 10.0.0.0"),
            ];
            format!("global {{ autoenum {{ {statement}{} }} }}", needed.concat())
        }
        Context::Host => format!("host a {{ {statement} }}"),
        Context::Network => format!("host a {{ network eth0 {{ {statement}{address} }} }}"),
        Context::Ec2 => format!("host a {{ ec2 {{ {statement} }} }}"),
        Context::Policy => format!("host a {{ policy p {{ {statement} }} }}"),
        Context::Switch => format!("switch made {{ {statement}{uplink} }}"),
    };
    let plugins = if keyword.word == "plugin" { "; plugins made" } else { "" };
    let named = if inside.contains("project p") { "" } else { &format!("global {{ project p{plugins} }}") };
    // All that is defined is used, so that nothing else is warned about.
    let attached = if inside.contains("switch made") { "network eth7 { switch made }" } else { "" };
    format!(
        "{named}\n{inside}\nsuperclass class {{ memory 64M }}\nswitch lan {{ }}\n\
         host user {{ superclass class; network eth8 {{ switch lan }}; {attached} }}"
    )
}

#[test]
fn every_keyword_is_carried_out_refused_or_warned_about_by_name_as_its_table_says() {
    let mut astray = Vec::new();
    let mut seen = BTreeSet::new();
    for context in Context::ALL {
        for keyword in grammar::keywords(context) {
            for statement in statements(context, keyword) {
                let text = project(context, keyword, &statement);
                let (_, _, diagnostics) = understand("p.mln", &text, &NoIncludes, &options(&[]));
                let (code, named) = match keyword.state {
                    State::CarriedOut => (None, keyword.word),
                    State::NotYet => (Some(Code::NotYet), keyword.word),
                    State::NoEffect => (Some(Code::NoEffect), keyword.word),
                    State::Refused => (Some(Code::PlatformNotYet), keyword.word),
                    State::Replaced(_) => (Some(Code::Replaced), keyword.word),
                    State::WithBlock => (Some(Code::NotYet), "ec2"),
                };
                let found: Vec<Code> = diagnostics.iter().map(|one| one.code).collect();
                let names_it = diagnostics.iter().all(|one| one.message.contains(named));
                if found != code.into_iter().collect::<Vec<_>>() || !names_it {
                    let told: Vec<_> =
                        diagnostics.iter().map(|one| format!("{} {}", one.code, one.message)).collect();
                    astray.push(format!(
                        "{}: `{statement}` {}: {told:?}",
                        keyword.state.words(),
                        context.place()
                    ));
                }
                let refused = diagnostics.iter().any(|one| one.severity() == Severity::Error);
                assert_eq!(refused, keyword.state == State::Refused, "{text}\n{diagnostics:#?}");
                seen.insert(keyword.state.words());
            }
        }
    }
    assert!(astray.is_empty(), "{}", astray.join("\n"));
    assert!(seen.len() >= 5, "{seen:?}");
}
