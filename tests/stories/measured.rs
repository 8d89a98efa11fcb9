//! What machines measure is seen from outside, and by the policies of the others; and what would come of what one might ask for.

use mln_e2e::{Answer, Host, Site, until};
use serde_json::Value;

use crate::LIMIT;

const SHOP: &str = "
global {
    project shop
    autoenum servers { superclass web; numhosts 1; hostprefix web }
}
superclass web { memory 48M; service_host bergen }
host front {
    memory 64M
    service_host oslo
    policy watch { run /root/decide; every 1s; grace 0s; may scale servers 1..2; may move oslo }
}
";

fn inside(host: &Host, vm: &str, words: &[&str]) -> Answer {
    let vm = format!("shop/{vm}");
    let all: Vec<&str> = ["exec", vm.as_str(), "--", "mlnctl"].iter().chain(words).copied().collect();
    host.ctl(&all)
}

/// Returns the newest value of a gauge, as a host tells it.
fn newest(host: &Host, vm: &str, gauge: &str) -> Option<f64> {
    let rows = host.ctl(&["status", "-p", "shop", "--json"]).json();
    let row = rows.as_array()?.iter().find(|row| row["name"] == vm)?.clone();
    row["gauges"][gauge].as_array()?.last()?["value"].as_f64()
}

#[test]
fn what_machines_measure_is_known_outside_and_to_the_policies_of_others() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("shop", SHOP);
    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &file]).done();
    oslo.ctl(&["start", "-p", "shop"]).done();
    oslo.sees("shop", "web1", "up");
    inside(site.host("bergen"), "web1", &["me", "gauge", "load", "41.5"]).ended(0);
    // It has no policy and no network: what it measures is told all the same, to a host where it isn't.
    let oslo = site.host("oslo");
    until("oslo knows what web1 measures", LIMIT * 2, || {
        let found =
            ["load", "memory_mib", "cpu", "received", "sent"].map(|gauge| newest(oslo, "web1", gauge));
        let is_so = found[0] == Some(41.5) && found.iter().all(Option::is_some);
        if is_so { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let memory = newest(oslo, "web1", "memory_mib").expect("it was there");
    assert!(memory > 1.0 && memory < 48.0, "{memory}");
    oslo.ctl(&["status", "-p", "shop", "--gauges"]).ended(0).says("web1").says("load").says("41.5");
    let usual = oslo.ctl(&["status", "-p", "shop"]).done();
    assert_eq!(usual.lines().count(), 2, "{usual}");

    // The policy of another machine sees it, and decides by it.
    let decide = r#"#!/bin/sh
tr , '\n' >/root/seen
grep -q '"machines":{"web1":{"gauges":{' /root/seen || exit 0
grep -q '"value":41.5' /root/seen && grep -q '"servers":1' /root/seen || exit 0
echo '{"decision":"scale","class":"servers","to":2,"reason":"web1 is busy"}'
"#;
    let write =
        format!("cat >/root/next <<'END'\n{decide}END\nchmod +x /root/next; mv /root/next /root/decide");
    oslo.shell("shop/front", &write).done();
    until("the policy has asked for another one", LIMIT * 2, || {
        let log = oslo.ctl(&["log", "-p", "shop"]).done();
        let said = inside(oslo, "front", &["me", "gauge"]).to_string();
        if log.contains("web1 is busy") { Ok(()) } else { Err(format!("{log}{said}")) }
    });
    site.host("bergen").sees("shop", "web2", "up");

    // What it might ask for, without asking; who would refuse it says by which rule, and who can widen that.
    let oslo = site.host("oslo");
    oslo.shell("shop/front", "echo '#!/bin/sh' >/root/decide").done();
    let planned = inside(oslo, "front", &["plan", "scale", "servers", "1", "--json"]).ended(2).json();
    let is_removed = |row: &Value| row["sign"] == "-" && row["name"] == "web2";
    assert!(planned.as_array().is_some_and(|rows| rows.iter().any(is_removed)), "{planned}");
    inside(oslo, "front", &["plan", "scale", "servers", "1"]).ended(2).says("- host web2");
    inside(oslo, "front", &["plan", "scale", "servers", "9"]).ended(3).says("rule envelope").says("owner");
    inside(oslo, "front", &["plan", "move", "--to", "bergen"])
        .ended(3)
        .says("rule envelope")
        .says("may move");
    inside(oslo, "front", &["plan", "move", "--to", "oslo"]).ended(0).says("no changes");
    let rows = oslo.ctl(&["log", "-p", "shop", "--json"]).json();
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "nothing of it was done: {rows}");
    // What stops measures nothing any more.
    oslo.ctl(&["stop", "-p", "shop", "-h", "web1"]).done();
    assert_eq!(newest(oslo, "web1", "load"), None);
}
