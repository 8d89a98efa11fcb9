//! A resolved project for people: hosts with their interfaces, then switches.

use std::fmt::Write;

use mln_protocol::model::{
    AddressPlan, Attachment, DiskSize, Impairment, Project, SwitchKind, SwitchSettings, Uplink, Vm,
};

/// Returns the project as a short text.
pub fn describe(project: &Project) -> String {
    let mut text = format!("project {}\n", project.name);
    for vm in &project.vms {
        text.push_str(&describe_vm(vm));
    }
    for switch in &project.switches {
        let members: Vec<String> =
            switch.members.iter().map(|member| format!("{}:{}", member.vm, member.interface)).collect();
        let facts = switch_facts(&switch.settings);
        line(&mut text, format_args!("switch {}  {}{facts}", switch.name, members.join(" ")));
    }
    text
}

fn describe_vm(vm: &Vm) -> String {
    let mut facts = vec![vm.platform.keyword().to_owned(), vm.memory.to_string()];
    facts.push(if vm.vcpus == 1 { "1 processor".to_owned() } else { format!("{} processors", vm.vcpus) });
    match vm.disk {
        DiskSize::Template => {}
        DiskSize::Whole(bytes) => facts.push(format!("disk {bytes}")),
        DiskSize::Free(bytes) => facts.push(format!("{bytes} of free disk")),
    }
    if let Some(template) = &vm.template {
        facts.push(format!("template {}", template.name()));
    }
    let place = vm.service_host.as_ref().map_or(String::new(), |host| format!(" on {host}"));
    let mut text = String::new();
    line(&mut text, format_args!("host {}{place}  {}", vm.name, facts.join(", ")));
    for network in &vm.networks {
        let address = match network.address {
            AddressPlan::LinkLocal => "no address".to_owned(),
            AddressPlan::Dhcp => "dhcp".to_owned(),
            AddressPlan::Static(address) => address.to_string(),
        };
        let end = match &network.attachment {
            Attachment::UserNat => "nat".to_owned(),
            Attachment::Switch(name) => format!("switch {name}"),
            Attachment::Tap(tap) => format!("tap {tap}"),
            Attachment::Bridge(name) => format!("bridge {name}"),
        };
        let ports: String = network.forwards.iter().map(|forward| format!("  forward {forward}")).collect();
        let impairment = impairment(network.impairment);
        let host = network.tap_address.map_or(String::new(), |host| format!("  tun_address {host}"));
        line(&mut text, format_args!("    {}  {address}  {end}{host}{ports}{impairment}", network.name));
    }
    text
}

fn impairment(Impairment { delay, loss, rate }: Impairment) -> String {
    let mut text = String::new();
    text.extend(delay.map(|delay| format!("  delay {delay}")));
    text.extend(loss.map(|loss| format!("  loss {loss}")));
    text.extend(rate.map(|rate| format!("  rate {rate}")));
    text
}

fn switch_facts(settings: &SwitchSettings) -> String {
    let SwitchSettings { kind, uplink, vlan, service_host } = settings;
    let mut text = String::new();
    if *kind == SwitchKind::Hub {
        text.push_str("  hub");
    }
    if let Some(Uplink { tap, bridge }) = uplink {
        text.extend(bridge.as_ref().map(|bridge| format!("  bridge {bridge}")));
        match tap {
            Some(tap) => text.push_str(&format!("  tap {tap}")),
            None if bridge.is_none() => text.push_str("  tap"),
            None => {}
        }
    }
    text.extend(vlan.map(|vlan| format!("  vlan {vlan}")));
    text.extend(service_host.as_ref().map(|host| format!("  service_host {host}")));
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a String takes all text");
}
