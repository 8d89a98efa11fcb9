//! What is found where, and what is believed.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn folder_with(name: &str, text: &str, mode: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, text).expect("our own folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
    folder
}

#[test]
fn names_do_not_lead_out_of_the_folders() {
    let folder = folder_with("x.toml", "version = 1", 0o644);
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).expect("our own folder");
    let shelf = Shelf::new(Path::new("/nowhere/p.mln"), vec![inner]);
    for name in ["../x", "inner/../../x", "..", "", "/x"] {
        assert!(matches!(shelf.manifest(name), Err(ManifestError::NotFound { .. })), "{name}");
    }
}

#[test]
fn what_is_missing_is_looked_for_in_all_folders_and_others_are_proposed() {
    let folder = folder_with("cfengine.toml", "version = 1", 0o644);
    let shelf = Shelf::new(Path::new("/nowhere/p.mln"), vec![folder.path().to_owned()]);
    let Err(ManifestError::NotFound { searched, known, .. }) = shelf.manifest("cfengin") else {
        panic!("found");
    };
    assert_eq!(searched, ["/nowhere/plugins".to_owned(), folder.path().display().to_string()]);
    assert_eq!(known, ["cfengine"]);
}

#[test]
fn a_link_is_believed_if_all_of_its_way_is() {
    let folder = folder_with("x", "", 0o755);
    let link = folder.path().join("link");
    symlink("x", &link).expect("our own folder");
    assert!(believed(&link).is_ok());
    let open = folder.path().join("open");
    fs::create_dir(&open).expect("our own folder");
    symlink("../x", open.join("link")).expect("our own folder");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("our own folder");
    let doubt = believed(&open.join("link"));
    assert!(
        matches!(doubt, Err(DoubtError::Writable { path }) if path == open),
        "others may set another link"
    );
}

#[test]
fn a_folder_that_the_user_names_is_the_users_also_beside_the_project() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).expect("our own folder");
    fs::write(plugins.join("x.toml"), "version = 1").expect("our own folder");
    fs::set_permissions(plugins.join("x.toml"), fs::Permissions::from_mode(0o644)).expect("our own file");
    fs::write(plugins.join("x"), "").expect("our own folder");
    fs::set_permissions(plugins.join("x"), fs::Permissions::from_mode(0o755)).expect("our own file");
    let project = folder.path().join("p.mln");
    for (installed, is_beside_project) in [(Vec::new(), true), (vec![plugins.clone()], false)] {
        let shelf = Shelf::new(&project, installed);
        shelf.manifest("x").expect("a manifest");
        assert_eq!(shelf.program("x").expect("a program").is_beside_project, is_beside_project);
    }
}
