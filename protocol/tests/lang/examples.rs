//! The examples that are shown to people.

use mln_protocol::model::AddressPlan;

use crate::{Folder, crate_folder, options, understand};

#[test]
fn every_example_is_without_fault_and_has_a_readme() {
    let folder = crate_folder().join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the examples are part of the repository") {
        let example = entry.expect("a readable folder").path();
        if !example.is_dir() {
            continue;
        }
        assert!(example.join("README.md").exists(), "{} has no README.md", example.display());
        for entry in std::fs::read_dir(&example).expect("a readable folder") {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_none_or(|extension| extension != "mln") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("examples are text");
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let loader = Folder(example.clone());
            let (_, resolved, diagnostics) = understand(&name, &text, &loader, &options(&[]));
            assert!(diagnostics.is_empty(), "{}: {diagnostics:#?}", path.display());
            assert!(!resolved.project.vms.is_empty(), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 2, "only {seen} examples were found");
}

#[test]
fn the_ring_is_a_ring_over_three_hosts() {
    let folder = crate_folder().join("../examples/ring");
    let text = std::fs::read_to_string(folder.join("ring.mln")).expect("the example is there");
    let (_, resolved, _) = understand("ring.mln", &text, &Folder(folder), &options(&[]));
    let project = resolved.project;
    let hosts: Vec<_> =
        project.vms.iter().map(|vm| vm.service_host.as_ref().map(|host| host.0.as_str())).collect();
    assert_eq!(hosts, [Some("oslo"), Some("bergen"), Some("gjovik")]);
    for switch in &project.switches {
        assert_eq!(switch.members.len(), 2, "{}", switch.name);
        let networks: Vec<_> = switch
            .members
            .iter()
            .filter_map(|member| {
                let vm = project.vms.iter().find(|vm| vm.name == member.vm)?;
                let network = vm.networks.iter().find(|network| network.name == member.interface)?;
                match network.address {
                    AddressPlan::Static(plan) => Some(plan.to_string().rsplit_once('.')?.0.to_owned()),
                    AddressPlan::Dhcp | AddressPlan::LinkLocal => None,
                }
            })
            .collect();
        assert_eq!(networks.len(), 2, "{}", switch.name);
        assert_eq!(networks[0], networks[1], "{}", switch.name);
    }
}
