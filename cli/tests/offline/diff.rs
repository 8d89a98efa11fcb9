//! `mlnctl diff`: lines, counts, JSON and exit codes.

use serde_json::Value;

use crate::{check, folder_with, mlnctl};

const A: &str = "global { project shop }
switch lan { }
host web { template mini; memory 64M; size 2G; network eth0 { switch lan; gateway 10.0.0.9 } }
host db { service_host oslo; users { anna secret } }
host old { }
";
const B: &str = "global { project shop }
switch lan { }
switch dmz { }
host web { template other; memory 96M; size 1G; network eth0 { switch dmz } }
host db { service_host bergen; users { anna other } }
host new { network eth0 { switch lan } }
";

#[test]
fn changes_are_told_in_their_order_with_counts_last() {
    let folder = folder_with(&[("a.mln", A), ("b.mln", B)]);
    let told = "\
+ switch dmz                                         live
- host old                                           remove
> host db     service_host: oslo → bergen            move
      its disk goes along to the other service host
~ host web    template: mini → other                 rebuild
      another template means a new disk: what the host has written is lost
      refused unless asked for: --rebuild web
~ host web    memory: 64 MiB → 96 MiB                reboot
      User-Mode Linux has at most the memory that it was started with
~ host web    disk: 2 GiB → 1 GiB                    kept
      a disk only grows: it stays as large as it is
- host web    network eth0 gateway: 10.0.0.9         live
~ host web    network eth0: switch lan → switch dmz  live
~ host db     user anna                              live
+ host new                                           build
2 added, 1 removed, 1 changed, 1 moved, 1 of these refused
";
    check(folder.path(), &["diff", "a.mln", "b.mln"], 2, told);
    let asked = told
        .replace("      refused unless asked for: --rebuild web\n", "")
        .replace(", 1 of these refused", "");
    check(folder.path(), &["diff", "a.mln", "b.mln", "--rebuild", "web"], 2, &asked);
    check(folder.path(), &["diff", "a.mln", "a.mln"], 0, "no changes\n");
}

#[test]
fn scripts_get_changes_with_signs_and_counts() {
    let folder = folder_with(&[("a.mln", A), ("b.mln", B)]);
    let output = mlnctl(folder.path(), &["diff", "a.mln", "b.mln", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    assert_eq!(
        shown["changes"][3],
        serde_json::json!({
            "sign": "~", "kind": "host", "name": "web", "key": "template", "from": "mini", "to": "other", "act": "rebuild",
            "why": "another template means a new disk: what the host has written is lost", "refused": true,
        })
    );
    let counts = serde_json::json!({"added": 2, "removed": 1, "changed": 1, "moved": 1, "refused": 1});
    assert_eq!(shown["counts"], counts);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("secret"), "passwords are nobody's business");
    let output = mlnctl(folder.path(), &["diff", "a.mln", "a.mln", "--json"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_wrong_project_is_not_compared() {
    let folder = folder_with(&[("a.mln", A), ("b.mln", "global { project p }\nhost a { memroy 1G }\n")]);
    let stderr = check(folder.path(), &["diff", "a.mln", "b.mln"], 1, "");
    assert!(stderr.contains("error[E0201]"), "{stderr}");
    check(folder.path(), &["diff", "a.mln", "c.mln"], 1, "");
    check(folder.path(), &["diff", "a.mln"], 64, "");
}

#[test]
fn of_a_changed_policy_each_keyword_is_a_line() {
    let text = |inside: &str| {
        format!("global {{ project p }}\nhost a {{ policy near {{ run /near\n{inside} }} }}\n")
    };
    let (a, b) = (text("every 30s; may move oslo bergen"), text("every 60s; may move oslo voss"));
    let folder = folder_with(&[("a.mln", &a), ("b.mln", &b)]);
    let told = "\
~ host a  policy near every: 30s → 60s                   live
~ host a  policy near may move: oslo bergen → oslo voss  live
1 changed
";
    check(folder.path(), &["diff", "a.mln", "b.mln"], 2, told);
}

#[test]
fn what_is_not_carried_out_yet_is_told_and_nothing_is_done_about_it() {
    let a = "global { project p }\nhost a { ec2 { ami one } }\nhost gone { }\n";
    let b = "global { project p }\nhost a { ec2 { ami two } }\nhost new { }\n";
    let folder = folder_with(&[("a.mln", a), ("b.mln", b)]);
    let told = "\
- host gone                          remove
+ host new                           build
~ host a     ec2: ami one → ami two  kept
      this version does not carry it out, so nothing is done about it
1 added, 1 removed, 1 changed
";
    check(folder.path(), &["diff", "a.mln", "b.mln"], 2, told);
    check(folder.path(), &["diff", "b.mln", "b.mln"], 0, "no changes\n");
}
