//! Two servers more at once, by the decision of a machine, against two guests that nobody but this program holds, started at
//! once.

use std::thread;
use std::time::{Instant, UNIX_EPOCH};

use mln_e2e::{Host, Site};

use crate::bare::BareDisk;
use crate::figure::{Figure, Goal, Unit};
use crate::statistics::Sample;
use crate::{Scale, seconds_since, start};

/// A machine that may have more servers; each serves as soon as its startup lines have run.
const PROJECT: &str = "global {
    project shop
    autoenum servers { superclass server; numhosts 1; hostprefix web }
}
superclass server {
    memory 64M
    startup { mkdir -p /srv; echo served >/srv/index.html; httpd -p 80 -h /srv }
}
host boss { memory 64M; policy grow { grace 0s; may scale servers 1..3 } }
";

/// Asks a server for its page, within the guest.
const ASK: [&str; 5] = ["wget", "-q", "-O", "-", "http://127.0.0.1/"];

/// The two that are new.
const NEW: [&str; 2] = ["web2", "web3"];

/// What it takes longer that a machine decides it.
pub(crate) fn bench(scale: Scale) -> Vec<Figure> {
    let mut site = Site::mesh_with(&["oslo"], "memory_mib = 1024\n");
    let folder = site.folder().to_owned();
    let file = site.project("shop", PROJECT);
    let host = site.host("oslo");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        host.ctl(&["build", "-f", &file]).done();
        // As new as those that will come: none has run yet.
        let disks =
            NEW.map(|vm| BareDisk::copy(&host.vm_folder("web1"), folder.join(format!("bare-{round}-{vm}"))));
        start(host, "shop");
        ours.push(decided(host));
        let words = NEW.map(|vm| host.kernel(vm).1);
        host.ctl(&["stop", "-p", "shop", "-h", &NEW.join(",")]).done();
        theirs.push(bare(&disks, &words));
        host.ctl(&["remove", "-p", "shop", "--force"]).done();
    }
    let sample = |values: Vec<f64>| Sample::of(values).expect("there is a round");
    let what = "two servers more at once, decision to both answering";
    vec![
        Figure::alone("twice", what, Unit::Seconds, sample(ours), Goal::TimesAtMost(1.15))
            .against("two bare linux.uml at once", sample(theirs)),
    ]
}

/// Lets the machine decide, and returns the seconds from the decision until both servers have answered.
fn decided(host: &Host) -> f64 {
    host.ctl(&["exec", "shop/boss", "--", "mlnctl", "me", "scale", "servers", "3"]).done();
    host.ctl(&["status", "-p", "shop", "--wait", "up", "--timeout", "110"]).done();
    thread::scope(|scope| {
        for vm in NEW {
            scope.spawn(move || {
                let name = format!("shop/{vm}");
                let words: Vec<&str> = ["exec", &name, "--"].into_iter().chain(ASK).collect();
                assert_eq!(host.ctl(&words).done(), "served\n");
            });
        }
    });
    let now_ms = UNIX_EPOCH.elapsed().expect("the clock is set").as_millis() as f64;
    let rows = host.ctl(&["log", "-p", "shop", "--json"]).json();
    let made_ms = rows.as_array().into_iter().flatten().filter_map(|row| row["made_unix_ms"].as_f64());
    let made_ms = made_ms.reduce(f64::max).expect("a revision has its time");
    (now_ms - made_ms) / 1000.0
}

/// Starts two guests at once, and returns the seconds until both have answered.
fn bare(disks: &[BareDisk; 2], words: &[Vec<String>; 2]) -> f64 {
    let began = Instant::now();
    let guests = thread::scope(|scope| {
        let booting = [0, 1].map(|at| {
            scope.spawn(move || {
                let (mut guest, _) = disks[at].boot(&words[at], None);
                guest.wait_for_report();
                assert_eq!(guest.exec(&ASK), "served\n");
                guest
            })
        });
        booting.map(|guest| guest.join().expect("it has answered"))
    });
    let seconds = seconds_since(began);
    for guest in guests {
        guest.stop();
    }
    seconds
}
