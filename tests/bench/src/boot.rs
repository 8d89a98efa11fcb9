//! From `start` to the first answered `exec`, against a guest that nobody but this program holds.

use std::time::Instant;

use mln_e2e::Site;

use crate::bare::BareDisk;
use crate::figure::{Figure, Goal, Unit};
use crate::statistics::Sample;
use crate::{Scale, seconds_since, start};

/// What the alternative is called.
const BARE: &str = "bare linux.uml";

/// What a start takes more than its kernel and its guest agent do.
pub(crate) fn bench(scale: Scale) -> Vec<Figure> {
    let mut site = Site::mesh_with(&["oslo"], "memory_mib = 1024\n");
    let folder = site.folder().to_owned();
    let file = site.project("one", "global { project one }\nhost vm { memory 64M }\n");
    let host = site.host("oslo");
    host.ctl(&["build", "-f", &file]).done();
    let bare = BareDisk::copy(&host.vm_folder("vm"), folder.join("bare"));

    // The first boot of each is another thing: the guest applies its seed. It also tells the command line.
    start(host, "one");
    let (_, words) = host.kernel("vm");
    host.ctl(&["stop", "-p", "one"]).done();
    let (mut guest, _) = bare.boot(&words, None);
    guest.wait_for_report();
    guest.stop();

    let (mut ours, mut hello, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.boots {
        let began = Instant::now();
        start(host, "one");
        host.ctl(&["exec", "one/vm", "--", "true"]).done();
        ours.push(seconds_since(began));
        host.ctl(&["stop", "-p", "one"]).done();

        let (mut guest, seconds) = bare.boot(&words, None);
        let said = Instant::now();
        guest.exec(&["true"]);
        hello.push(seconds);
        answer.push(seconds + seconds_since(said));
        guest.stop();
    }
    let sample = |values: &[f64]| Sample::of(values.iter().copied()).expect("there is a round");
    let ours = sample(&ours);
    let figure = |what: &str, goal, name: &str, theirs: &[f64]| {
        Figure::alone("boot", what, Unit::Seconds, ours.clone(), goal).against(name, sample(theirs))
    };
    let (to_hello, to_answer) = (format!("{BARE} to hello"), format!("{BARE} to exec"));
    vec![
        figure("start to first exec", Goal::TimesAtMost(1.15), &to_hello, &hello),
        figure("the same, in seconds", Goal::MoreAtMost(0.25), &to_hello, &hello),
        figure("the same, both to exec", Goal::Known, &to_answer, &answer),
    ]
}
