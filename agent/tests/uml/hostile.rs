//! Guests that mean harm to their host.

use crate::world::{World, plain};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_no_file_of_its_host() {
    let world = World::new();
    let vm = world.run(plain("nosy")).await;
    let folder = world.folder(&vm);
    let mut paths: Vec<String> = [
        "/",
        "",
        ".",
        "..",
        "../..",
        "/../../..",
        "../../../../..",
        "/etc",
        "../../../../../etc",
        "//",
        "/dev",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.push(folder.display().to_string());
    world.ok(&vm, "grep -q hostfs /proc/filesystems && mkdir /m && ln -s / /root/out").await;
    for path in paths {
        let line = format!("mount -t hostfs none /m -o '{path}' && ls -la /m");
        let (out, err, end) = world.shell(&vm, &line).await;
        assert!(out.is_empty() && end != Ok(mlnd::platform::End::Exited(0)), "{path:?}: {out}{err}{end:?}");
    }
    // Neither with no path at all, nor over a link of the guest, which isn't the host's.
    for line in ["mount -t hostfs none /m", "mount -t hostfs none /m -o /root/out", "mount -t hostfs / /m"] {
        let (out, err, end) = world.shell(&vm, line).await;
        assert_eq!(end, Ok(mlnd::platform::End::Exited(255)), "{line}: {out}{err}");
    }
}
