//! The examples that are shown to people.

use std::path::{Path, PathBuf};

use mln_protocol::convert;
use mln_protocol::model::{AddressPlan, Project, Vm};

use crate::{Folder, crate_folder, options, understand};

/// A project file of an example, and its folder.
struct Example {
    folder: PathBuf,
    file: String,
    text: String,
}

fn examples() -> Vec<Example> {
    let files = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("the examples are part of the repository");
        entries.map(|entry| entry.expect("a readable folder").path()).collect()
    };
    let folders = files(&crate_folder().join("../examples"));
    let mut examples = Vec::new();
    for folder in folders.into_iter().filter(|path| path.is_dir()) {
        for path in files(&folder) {
            if path.extension().is_some_and(|extension| extension == "mln") {
                let text = std::fs::read_to_string(&path).expect("examples are text");
                let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
                examples.push(Example { folder: folder.clone(), file: file.unwrap_or_default(), text });
            }
        }
    }
    examples.sort_by(|a, b| (&a.folder, &a.file).cmp(&(&b.folder, &b.file)));
    assert!(examples.len() >= 5, "only {} examples were found", examples.len());
    examples
}

impl Example {
    fn named(folder: &str, file: &str) -> Self {
        let folder = crate_folder().join("../examples").join(folder);
        let text = std::fs::read_to_string(folder.join(file)).expect("the example is there");
        Self { folder, file: file.to_owned(), text }
    }

    fn project(&self) -> Project {
        self.project_of(&self.text)
    }

    /// Returns what its folder makes of another text.
    fn project_of(&self, text: &str) -> Project {
        let (_, resolved, diagnostics) =
            understand(&self.file, text, &Folder(self.folder.clone()), &options(&[]));
        assert!(diagnostics.is_empty(), "{}: {diagnostics:#?}", self.file);
        resolved.project
    }
}

#[test]
fn every_example_is_without_fault_and_has_a_readme_and_its_files() {
    for example in examples() {
        let Example { folder, file, .. } = &example;
        assert!(folder.join("README.md").exists(), "{} has no README.md", folder.display());
        let project = example.project();
        assert!(!project.vms.is_empty(), "{file}");
        for from in project.vms.iter().flat_map(|vm| &vm.files).map(|file| &file.from) {
            assert!(folder.join(from).is_file(), "{file}: {from} is not in {}", folder.display());
        }
    }
}

/// `show --json` and `validate` of each example. What is asked of hosts has no place in here.
#[test]
fn every_example_is_understood_as_its_golden_file_says() {
    let golden = crate_folder().join("tests/lang/examples");
    let mut wrong = Vec::new();
    for Example { folder, file, text } in examples() {
        let loader = Folder(folder.clone());
        let (tree, resolved, diagnostics) = understand(&file, &text, &loader, &options(&[]));
        let found = convert::project_json(&resolved.project, None, &diagnostics, tree.sources()) + "\n";
        let of = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = golden.join(format!("{of}-{}", file.replace(".mln", ".json")));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &found).expect("the repository can be written");
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != found {
            wrong.push(path);
        }
    }
    assert!(
        wrong.is_empty(),
        "`UPDATE_GOLDEN=1 cargo test` writes anew, and git shows the difference: {wrong:?}"
    );
}

/// Returns each VM with its service host and its memory in MiB.
fn places(project: &Project) -> Vec<(&str, &str, u32)> {
    fn row(vm: &Vm) -> (&str, &str, u32) {
        let host = vm.service_host.as_ref().map_or("asked", |host| host.0.as_str());
        (vm.name.as_str(), host, vm.memory.0)
    }
    project.vms.iter().map(row).collect()
}

#[test]
fn customers_of_the_hosting_differ_in_their_network_and_their_web_servers_alone() {
    let (acme, blue) =
        (Example::named("hosting", "acme.mln").project(), Example::named("hosting", "blue.mln").project());
    assert_eq!(
        places(&acme),
        [("gateway", "gateway1", 256), ("web1", "backend1", 128), ("web2", "backend3", 128)]
    );
    assert_eq!(
        places(&blue),
        [
            ("gateway", "gateway1", 256),
            ("web1", "backend2", 128),
            ("web2", "backend3", 128),
            ("web3", "backend4", 128)
        ]
    );
    for (project, gateway) in [(&acme, "10.21.1.1"), (&blue, "10.21.2.1")] {
        for vm in &project.vms {
            let network =
                vm.networks.iter().find(|network| network.name.as_str() == "eth0").expect("it has one");
            let router = network.gateway.map(|address| address.to_string());
            let is_gateway = vm.name.as_str() == "gateway";
            assert_eq!(router, (!is_gateway).then(|| gateway.to_owned()), "{}", vm.name);
        }
    }
}

#[test]
fn the_farm_has_51_machines_in_45_lines_and_254_nodes_by_another_number() {
    let farm = Example::named("farm", "farm.mln");
    assert!(farm.text.lines().count() <= 45, "{} lines", farm.text.lines().count());
    let project = farm.project();
    assert_eq!(project.vms.len(), 51);
    for host in ["oslo", "bergen"] {
        assert_eq!(places(&project).iter().filter(|(_, on, _)| *on == host).count(), 25, "{host}");
    }
    let larger = farm.text.replace("numhosts 50", "numhosts 254");
    assert_eq!(larger.lines().zip(farm.text.lines()).filter(|(a, b)| a != b).count(), 1);
    let larger = farm.project_of(&larger);
    assert_eq!(larger.vms.len(), 255);
    let last = larger.vms.iter().find(|vm| vm.name.as_str() == "node254").expect("it is there");
    assert!(
        matches!(last.networks[0].address, AddressPlan::Static(plan) if plan.to_string() == "10.40.1.7/16")
    );
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
