//! Joining is cut off, and done again.

use mln_e2e::Site;

/// What a join writes, in this order: the host's key, before it asks; whom to call and the membership, when it was let in.
const FILES: [&str; 3] = ["host.key", "peers", "membership.toml"];

/// Where it ends at each of them: before the file has its name, and when it has.
const PLACES: [&str; 2] = ["file-written", "file-named"];

#[test]
fn a_join_that_ends_at_any_step_succeeds_when_it_is_done_again() {
    let mut site = Site::mesh_of(&["oslo"], "mlnd-failpoints");
    let mut names = vec!["oslo".to_owned()];
    for (step, file) in FILES.iter().enumerate() {
        for place in PLACES {
            let name = format!("host{}", names.len());
            site.add(&name);
            site.host(&name).abort_at(Some((place, step as u64 + 1)));
            let cut = site.join("oslo", &name);
            assert_eq!(cut.code, None, "it was to end at {place} of {file}: {cut}");
            let host = site.host(&name);
            for (number, other) in FILES.iter().enumerate() {
                let is_there = number < step || (number == step && place == "file-named");
                assert_eq!(host.folder().join(other).exists(), is_there, "{other}, cut at {place} of {file}");
            }
            host.abort_at(None);
            site.join("oslo", &name).done();
            site.join("oslo", &name).ended(0).says("belongs to this mesh already");
            site.host(&name).run();
            names.push(name);
        }
    }
    for name in &names {
        site.host(name).is_connected_to(names.len() - 1);
        site.host(name).has_heard_of(names.len());
    }
}
