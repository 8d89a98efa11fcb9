//! `mlnctl explain`, and that its examples about files on disk are what they say.

use std::collections::{BTreeMap, BTreeSet};

use mln_cli::project_file::{GuestFiles, load_with};
use mln_protocol::lang::Code;

use crate::{check, folder_with, mlnctl};

#[test]
fn a_code_is_explained_in_capital_and_in_small_letters() {
    let folder = folder_with(&[]);
    let output = mlnctl(folder.path(), &["explain", "E0201"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["error[E0201]: an unknown keyword\n", "\nWrong:\n", "memroy 96M", "\nRight:\n", "memory 96M"]
    {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    check(folder.path(), &["explain", "e0201"], 0, &text);
}

#[test]
fn all_codes_are_listed_and_unknown_ones_are_not_silent() {
    let folder = folder_with(&[]);
    let output = mlnctl(folder.path(), &["explain"]);
    let listed = String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!((listed, output.status.code()), (Code::ALL.len(), Some(0)));
    let stderr = check(folder.path(), &["explain", "E0221"], 1, "");
    assert_eq!(stderr, "error: there is no code E0221\nhint: did you mean E0201?\n");
    let output = mlnctl(folder.path(), &["explain", "W0306", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    assert_eq!(shown["variables"], serde_json::json!(["size=2"]));
    assert_eq!(shown["severity"], "warning");
}

#[test]
fn examples_about_files_on_disk_have_their_code_and_no_other() {
    for (code, guest_files) in [(Code::FileUnread, GuestFiles::Read), (Code::FileAbsent, GuestFiles::Look)] {
        let explanation = code.explanation();
        let folder = folder_with(&[("wrong.mln", explanation.wrong), ("right.mln", explanation.right)]);
        for (name, text) in &explanation.beside {
            std::fs::write(folder.path().join(name), text).expect("the folder can be written");
        }
        let codes = |name: &str| -> BTreeSet<Code> {
            let loaded =
                load_with(&folder.path().join(name), BTreeMap::new(), guest_files).expect("readable");
            loaded.diagnostics.iter().map(|one| one.code).collect()
        };
        assert_eq!(codes("wrong.mln"), BTreeSet::from([code]));
        assert_eq!(codes("right.mln"), BTreeSet::new());
    }
}
