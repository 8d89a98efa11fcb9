//! Two projects of one name, built while neither host knew of the other's.

use mln_e2e::{Site, until_some};

use crate::LIMIT;

fn project(site: &Site, host: &str, memory: &str) -> String {
    let text =
        format!("global {{ project twin }}\nhost of-{host} {{ memory {memory}; service_host {host} }}\n");
    site.project(host, &text)
}

#[test]
fn two_projects_of_one_name_are_named_by_digest_and_a_file_changes_neither() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let (near, far) = (project(&site, "oslo", "64M"), project(&site, "bergen", "64M"));
    site.host("bergen").stop();
    site.host("oslo").ctl(&["build", "-f", &near]).done();
    site.host("oslo").stop();
    site.host("bergen").run();
    site.host("bergen").ctl(&["build", "-f", &far]).done();
    site.host("oslo").run();
    let oslo = site.host("oslo");
    let ids = until_some("both are known", LIMIT, || {
        let rows = oslo.ctl(&["list", "--json"]).json();
        let ids = rows.as_array().into_iter().flatten().filter_map(|row| row["id"].as_str());
        let ids: Vec<String> = ids.map(str::to_owned).collect();
        if ids.len() == 2 { Ok(Some(ids)) } else { Err(rows.to_string()) }
    });
    let refused = oslo.ctl(&["start", "-p", "twin"]).ended(3);
    assert!(ids.iter().all(|id| refused.err.contains(&id[..8])), "{refused}");
    let larger = project(&site, "oslo", "80M");
    let oslo = site.host("oslo");
    oslo.ctl(&["upgrade", "-f", &larger, "--yes"]).ended(3).says("by its digest");

    // The one of bergen goes, and the file means the other again.
    let of_bergen =
        ids.iter().find(|id| oslo.ctl(&["status", "-p", &id[..8], "--json"]).out.contains("of-bergen"));
    let of_bergen = of_bergen.expect("one of them has bergen's VM");
    oslo.ctl(&["remove", "-p", &of_bergen[..8]]).done();
    oslo.ctl(&["upgrade", "-f", &larger, "--yes"]).done();
    let rows = oslo.ctl(&["status", "-p", "twin", "--json"]).json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    assert_eq!(rows[0]["name"], "of-oslo", "{rows}");
}
