//! Giving a VM that runs what its definition says by now, as it runs.
//!
//! What the guest has is what the files of the VM's folder say, and for its memory and interfaces what its holder says.
//! They are compared with what the definition would have in these files; the difference is carried out, and the files are
//! replaced last. So a definition that was carried out in part is carried out again, which changes nothing twice.
//!
//! ```text
//!   more memory ─► new interfaces ─► seed to the agent in the guest ─► interfaces that go ─► less memory ─► files
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mln_protocol::id::{Digest, Name, VmId};
use mln_protocol::model::{DiskBytes, MemoryMib};
use mln_protocol::plan::Obstacle;
use mln_protocol::wire::holder::{
    DrivesWire, HolderCommandWire, HolderLiveWire, InterfaceWire, MemoryFileWire, OutsideWire, PlugWire,
    SlotWire, VmFileWire,
};
use tracing::info;

use super::attach::{Attachment, LiveError};
use super::folder::VmFile;
use super::{Shared, blocking, build, configure, drives, outside};
use crate::guest::verb::{APPLY, OLDER};
use crate::holder::files;
use crate::image::{ImageStore, seed};
use crate::platform::{
    Applied, BuildRequest, Configuration, End, ExecCommand, ExecError, ExecOutputEvent, Leeway,
    MemoryQuestion, StepError,
};

/// How long the agent in a guest may take for all that its seed says, beside the time for sending it.
const GUEST_LIMIT: Duration = Duration::from_secs(120);
/// The largest seed that is sent to a guest that runs, in bytes: the line takes about a second for each MB.
const SEED_BYTES_MAX: u64 = 64 << 20;
/// What of its memory a guest keeps when it is to have less, in KiB: it would kill its own programs.
const MEMORY_KEPT_KIB: u64 = 6 << 10;
/// What the agent in a guest may answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// The name of the seed that a guest is about to have.
const SEED_NEXT: &str = "seed.live";

/// How long the agent in a guest may take to say whether it can be asked for more.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// A seed that a guest is to have.
struct NextSeed {
    bytes: Vec<u8>,
    /// Whether more is another than names of other guests and what counts from the next boot on. Nothing is started once
    /// more for those.
    is_urgent: bool,
}

/// What a VM is to have, beside what it has.
struct Prepared {
    folder: PathBuf,
    /// The seed, where it is another one.
    seed: Option<NextSeed>,
    interfaces: Vec<InterfaceWire>,
    outside: OutsideWire,
    extra: Option<DrivesWire>,
    memory: MemoryFileWire,
    file: VmFileWire,
    /// What takes a start, as far as the files tell.
    takes_a_start: Option<&'static str>,
    /// Whether its interfaces, or where they lead, are others.
    replugs: bool,
}

/// Carries out a definition on a VM that runs.
pub(super) async fn apply(
    shared: &Shared,
    attachment: &Attachment,
    configuration: Configuration,
    replugged: Vec<Name>,
) -> Result<Applied, StepError> {
    let id = configuration.id.clone();
    let known = shared.vm_file(&id)?;
    let (images, folder) = (shared.images.clone(), shared.folders.path(&id));
    let prepared = blocking(move || prepare(&images, &folder, known, configuration)).await?;
    match carry_out(attachment, &id, &prepared, &replugged).await {
        Ok(()) => {
            blocking(move || keep(&prepared)).await?;
            Ok(Applied::Done)
        }
        Err(Stopped::TakesAStart(why)) => Ok(Applied::TakesAStart { why }),
        Err(Stopped::Failed(text)) => Err(StepError::Apply { text }),
    }
}

/// Why a definition was not carried out.
enum Stopped {
    /// It takes a start.
    TakesAStart(String),
    /// It can be tried again.
    Failed(String),
}

impl From<LiveError> for Stopped {
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::HolderOlder => Self::TakesAStart(
                "it was started by an older mlnd, which changes nothing as it runs".to_owned(),
            ),
            LiveError::Refused(text) => Self::TakesAStart(format!("its kernel refuses: {text}")),
            LiveError::Silent => Self::Failed("its holder does not answer".to_owned()),
        }
    }
}

fn prepare(
    images: &ImageStore,
    folder: &Path,
    known: VmFile,
    configuration: Configuration,
) -> Result<Prepared, StepError> {
    let Configuration { id, vm, label, guest_names, files: contents } = configuration;
    let template = Digest(known.wire.template);
    let request = BuildRequest { id, vm, label, template, guest_names, files: contents, first: None };
    let disk_bytes = configure::disk_bytes(images, &known.wire, request.vm.disk)?;
    let length = configure::disk_length(folder)?;
    let is_too_large = disk_bytes.is_some_and(|wanted| wanted > length);
    let next = folder.join(SEED_NEXT);
    let writing = |source| StepError::io("writing", &next, source);
    configure::remove_file(&next).map_err(writing)?;
    build::write_seed(&next, &request, disk_bytes)?;
    let (fresh, there) = (fs::read(&next), fs::read(folder.join(files::SEED)));
    configure::remove_file(&next).map_err(writing)?;
    let fresh = fresh.map_err(writing)?;
    let there = there.unwrap_or_default();
    let seed = (there != fresh)
        .then(|| NextSeed { is_urgent: !seed::differ_in_words_alone(&there, &fresh), bytes: fresh });

    let outside = outside::outside(&request);
    let interfaces: Vec<InterfaceWire> = build::interfaces(&request).collect();
    let extra = drives::extra(&request.vm);
    let replugs = interfaces != known.wire.interfaces || plugs(folder, &known.wire) != outside.interfaces;
    let is_other = what_it_mounts(read_extra(folder).as_ref()) != what_it_mounts(extra.as_ref());
    let takes_a_start = match (is_too_large, is_other) {
        (true, _) => Some("a longer file can be put under its disk only when it does not run"),
        (false, true) => Some("User-Mode Linux has the disks that it was started with"),
        (false, false) => None,
    };
    let memory = configure::memory_of(&request.vm);
    let file = VmFileWire { memory_mib: request.vm.memory.0, interfaces: interfaces.clone(), ..known.wire };
    let folder = folder.to_owned();
    Ok(Prepared { folder, seed, interfaces, outside, extra, memory, file, takes_a_start, replugs })
}

/// Returns where the interfaces lead that the VM was started with.
fn plugs(folder: &Path, file: &VmFileWire) -> Vec<PlugWire> {
    let mut plugs =
        files::read::<OutsideWire>(folder, files::OUTSIDE).map_or(Vec::new(), |wire| wire.interfaces);
    plugs.resize(file.interfaces.len(), PlugWire::Socket);
    plugs
}

fn read_extra(folder: &Path) -> Option<DrivesWire> {
    files::read(folder, files::EXTRA).ok()
}

/// Returns what a guest has of the host besides, but for how its process runs there: that counts from its next start on.
fn what_it_mounts(extra: Option<&DrivesWire>) -> Option<DrivesWire> {
    let found = extra?;
    let is_nothing = found.drives.is_empty() && found.folders.is_empty();
    (!is_nothing).then(|| DrivesWire { nice: None, cpus: Vec::new(), ..found.clone() })
}

/// Replaces the files of the VM's folder: from now on the guest has what they say.
fn keep(prepared: &Prepared) -> Result<(), StepError> {
    let folder = &prepared.folder;
    if let Some(seed) = &prepared.seed {
        let path = folder.join(files::SEED);
        let fresh = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = files::create(&fresh)?;
            std::io::Write::write_all(&mut file, &seed.bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(|source| StepError::io("writing", &path, source))?;
    }
    configure::put(folder, files::OUTSIDE, &prepared.outside)?;
    match &prepared.extra {
        Some(extra) => configure::put(folder, files::EXTRA, extra)?,
        None => configure::remove(folder, files::EXTRA)?,
    }
    configure::put(folder, files::MEMORY, &prepared.memory)?;
    // Last: whoever reads it finds what belongs to it.
    configure::put(folder, files::VM, &prepared.file)
}

async fn carry_out(
    attachment: &Attachment,
    id: &VmId,
    prepared: &Prepared,
    replugged: &[Name],
) -> Result<(), Stopped> {
    if let Some(why) = prepared.takes_a_start {
        return Err(Stopped::TakesAStart(why.to_owned()));
    }
    let live = match attachment.live().await {
        Ok(live) => Some(live),
        // Without it there is all that is the agent's in the guest.
        Err(LiveError::HolderOlder) => None,
        Err(error) => return Err(error.into()),
    };
    let memory_mib = prepared.memory.memory_mib;
    let replugs = prepared.replugs || !replugged.is_empty();
    let Some(live) = live else {
        if replugs || prepared.file.memory_mib != had_memory(prepared) {
            return Err(LiveError::HolderOlder.into());
        }
        return match &prepared.seed {
            Some(seed) => give_seed(attachment, id, seed).await,
            None => Ok(()),
        };
    };
    if memory_mib > live.memory_max_mib {
        let why = format!(
            "it was started with {} MiB of memory at most; `memory_max` in its definition gives it more to grow into",
            live.memory_max_mib
        );
        return Err(Stopped::TakesAStart(why));
    }
    let Replug { added, gone } = replug(&live, &prepared.interfaces, &prepared.outside.interfaces)?;
    if memory_mib > live.memory_mib {
        set_memory(attachment, memory_mib).await?;
    }
    for (index, slot) in added {
        let wanted = slot.clone();
        let is_done =
            move |live: &HolderLiveWire| live.slots.get(index as usize) == Some(&Some(wanted.clone()));
        attachment.change(HolderCommandWire::Plug { index, slot }, is_done).await?;
    }
    if let Some(seed) = &prepared.seed {
        give_seed(attachment, id, seed).await?;
    }
    for index in gone {
        let is_done = |live: &HolderLiveWire| matches!(live.slots.get(index as usize), Some(None) | None);
        attachment.change(HolderCommandWire::Unplug { index }, is_done).await?;
    }
    for (index, slot) in (0..).zip(&live.slots) {
        if let Some(slot) = slot
            && replugged.iter().any(|name| name.as_str() == slot.interface.name)
        {
            attachment.tell_interface(index).await;
        }
    }
    if memory_mib < live.memory_mib {
        shrink(attachment, id, &live, memory_mib).await?;
    }
    Ok(())
}

/// Returns the memory that the VM was started with, as its folder says.
fn had_memory(prepared: &Prepared) -> u32 {
    VmFile::read(&prepared.folder).map_or(prepared.file.memory_mib, |file| file.wire.memory_mib)
}

async fn set_memory(attachment: &Attachment, mib: u32) -> Result<(), Stopped> {
    let is_done = move |live: &HolderLiveWire| live.memory_mib == mib;
    attachment.change(HolderCommandWire::Memory { mib }, is_done).await?;
    Ok(())
}

/// Takes memory from a guest. Its kernel gives what is free and says nothing of what it doesn't give, so what is free is
/// asked for before and after.
async fn shrink(attachment: &Attachment, id: &VmId, live: &HolderLiveWire, mib: u32) -> Result<(), Stopped> {
    let taken_kib = u64::from(live.memory_mib - mib) << 10;
    let before_kib = free_memory(attachment, id).await?;
    if before_kib < taken_kib + MEMORY_KEPT_KIB {
        let why =
            format!("it has {before_kib} KiB of memory free, and {taken_kib} KiB are to be taken from it");
        return Err(Stopped::TakesAStart(why));
    }
    set_memory(attachment, mib).await?;
    let after_kib = free_memory(attachment, id).await?;
    let missing_kib = taken_kib.saturating_sub(before_kib.saturating_sub(after_kib));
    // Programs come and go meanwhile.
    if missing_kib > taken_kib / 4 {
        set_memory(attachment, live.memory_mib).await?;
        return Err(Stopped::TakesAStart(
            "its kernel did not give back the memory that it has free".to_owned(),
        ));
    }
    Ok(())
}

/// Interfaces that come and go.
struct Replug {
    added: Vec<(u32, SlotWire)>,
    gone: Vec<u32>,
}

/// Returns which interfaces come and go; whatever takes a start is the error.
fn replug(
    live: &HolderLiveWire,
    interfaces: &[InterfaceWire],
    plugs: &[PlugWire],
) -> Result<Replug, Stopped> {
    let takes_a_start = |why: &str| Err(Stopped::TakesAStart(why.to_owned()));
    let is_tap = |plug: &PlugWire| matches!(plug, PlugWire::Tap { .. } | PlugWire::AddressedTap { .. });
    let there: Vec<(u32, &SlotWire)> =
        (0..).zip(&live.slots).filter_map(|(index, slot)| Some((index, slot.as_ref()?))).collect();
    let mut gone = Vec::new();
    for (index, slot) in &there {
        let wanted = interfaces.iter().zip(plugs).find(|(wanted, _)| wanted.name == slot.interface.name);
        match wanted {
            None if is_tap(&slot.plug) => {
                return takes_a_start("a tap is the guest's from its start to its end");
            }
            None => gone.push(*index),
            Some((interface, _)) if interface.mac != slot.interface.mac => {
                return takes_a_start("an interface has the hardware address that it was started with");
            }
            Some((_, plug)) if *plug != slot.plug => {
                return takes_a_start("where an interface leads to is settled when it is plugged in");
            }
            Some(_) => {}
        }
    }
    let mut free = (0u32..).filter(|index| !there.iter().any(|(taken, _)| taken == index));
    let mut added = Vec::new();
    for (interface, plug) in interfaces.iter().zip(plugs) {
        if there.iter().any(|(_, slot)| slot.interface.name == interface.name) {
            continue;
        }
        if is_tap(plug) {
            return takes_a_start("a tap is the guest's from its start to its end");
        }
        if let Some(index) = free.next() {
            added.push((index, SlotWire { interface: interface.clone(), plug: plug.clone() }));
        }
    }
    Ok(Replug { added, gone })
}

/// Sends its seed to the agent in a guest, which does what it does at each boot.
async fn give_seed(attachment: &Attachment, id: &VmId, seed: &NextSeed) -> Result<(), Stopped> {
    let given = if seed.bytes.len() as u64 > SEED_BYTES_MAX {
        let most = DiskBytes(SEED_BYTES_MAX);
        Err(Stopped::TakesAStart(format!("its files have more than {most}, which a start is faster for")))
    } else {
        run(attachment, id, "seed", &seed.bytes).await.map(drop)
    };
    match given {
        Err(Stopped::TakesAStart(why)) if !seed.is_urgent => {
            info!(vm = %id, why, "it has the new names of other guests from its next start on");
            Ok(())
        }
        given => given,
    }
}

/// Returns what a VM can be given as it runs.
pub(super) async fn leeway(shared: &Shared, id: &VmId, memory: MemoryQuestion) -> Leeway {
    let folder = shared.folders.path(id);
    // Where it can't be read, the step says why.
    let disk_max = blocking(move || configure::disk_length(&folder)).await.ok().map(DiskBytes);
    let Some(attachment) = shared.attached(id) else {
        return Leeway { disk_max, ..Leeway::default() };
    };
    let live = attachment.live().await;
    let asked = leeway_asked(live, memory, |verb| run(&attachment, id, verb, &[])).await;
    Leeway { disk_max, ..asked }
}

/// Returns what the holder says that a VM can be given, and what the agent in the guest answers. Whoever asks only looks: no
/// verb that is asked here changes anything in the guest.
async fn leeway_asked<A: Future<Output = Result<String, Stopped>>>(
    live: Result<HolderLiveWire, LiveError>,
    memory: MemoryQuestion,
    mut ask: impl FnMut(&'static str) -> A,
) -> Leeway {
    let (obstacle, memory_max) = match &live {
        Ok(live) => (None, Some(MemoryMib(live.memory_max_mib))),
        Err(LiveError::HolderOlder) => (Some(Obstacle::Holder), None),
        Err(LiveError::Refused(_) | LiveError::Silent) => (None, None),
    };
    let probe = tokio::time::timeout(PROBE_LIMIT, ask("probe")).await;
    let is_older = matches!(probe, Ok(Err(Stopped::TakesAStart(_))));
    let obstacle = match (is_older, obstacle) {
        (true, Some(Obstacle::Holder)) => Some(Obstacle::Both),
        (true, _) => Some(Obstacle::Agent),
        (false, obstacle) => obstacle,
    };
    // Where it doesn't say, nobody knows: the plan promises nothing then.
    let memory_min = match (memory, &live, &probe) {
        (MemoryQuestion::MostAndLeast, Ok(live), Ok(Ok(_))) => {
            let answer = tokio::time::timeout(PROBE_LIMIT, ask("available")).await;
            let free = answer.ok().and_then(Result::ok).and_then(|answer| answer.trim().parse().ok());
            free.map(|free_kib| memory_min(live.memory_mib, free_kib))
        }
        _ => None,
    };
    Leeway { obstacle, disk_max: None, memory_max, memory_min }
}

/// Returns with how much memory a guest would do that has so much, and so much of it free.
fn memory_min(memory_mib: u32, free_kib: u64) -> MemoryMib {
    let can_go_mib = free_kib.saturating_sub(MEMORY_KEPT_KIB) >> 10;
    MemoryMib(memory_mib.saturating_sub(u32::try_from(can_go_mib).unwrap_or(u32::MAX)))
}

/// Returns how much memory a guest has free, in KiB, once it has let go of what it can read again.
async fn free_memory(attachment: &Attachment, id: &VmId) -> Result<u64, Stopped> {
    let answer = run(attachment, id, "memory", &[]).await?;
    let kib = answer.trim().parse();
    kib.map_err(|_| Stopped::Failed("the agent in the guest does not say how much memory is free".to_owned()))
}

/// Runs a verb of the agent in a guest; returns what it says.
async fn run(attachment: &Attachment, id: &VmId, verb: &str, input: &[u8]) -> Result<String, Stopped> {
    let argv = ["/proc/self/exe", APPLY, verb].map(|word| word.as_bytes().to_vec()).to_vec();
    let command = ExecCommand { argv, environment: Vec::new(), folder: None };
    let talk = async {
        let mut exec = attachment.exec(id, command).await?;
        let (mut said, mut complaints) = (Vec::new(), Vec::new());
        let mut source = exec.input;
        let send = async {
            // One that ends early says why, which is heard below.
            let _ = source.write(input).await;
            let _ = source.close().await;
        };
        let hear = async {
            loop {
                match exec.output.next().await {
                    Some(ExecOutputEvent::Stdout(bytes)) => said.extend(bytes),
                    Some(ExecOutputEvent::Stderr(bytes)) => complaints.extend(bytes),
                    Some(ExecOutputEvent::Ended(end)) => return Ok(end),
                    Some(ExecOutputEvent::Failed(error)) => return Err(error),
                    None => return Err(ExecError::GuestEnded),
                }
                said.truncate(ANSWER_BYTES_MAX);
                complaints.truncate(ANSWER_BYTES_MAX);
            }
        };
        let (end, ()) = tokio::join!(hear, send);
        Ok::<_, ExecError>((end?, said, complaints))
    };
    let seconds = input.len() as u64 / (256 << 10);
    match tokio::time::timeout(GUEST_LIMIT + Duration::from_secs(seconds), talk).await {
        Ok(Ok((End::Exited(0), said, _))) => Ok(String::from_utf8_lossy(&said).into_owned()),
        Ok(Ok((End::Exited(OLDER), ..))) => Err(Stopped::TakesAStart(
            "the agent in the guest is an older one, and changes nothing as it runs".to_owned(),
        )),
        Ok(Ok((_, _, complaints))) => {
            Err(Stopped::Failed(String::from_utf8_lossy(&complaints).trim().to_owned()))
        }
        Ok(Err(error)) => Err(Stopped::Failed(error.to_string())),
        Err(_) => Err(Stopped::Failed("the agent in the guest did not end in time".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn interface(name: &str, last: u8) -> InterfaceWire {
        InterfaceWire { name: name.to_owned(), mac: [2, 0, 0, 0, 0, last] }
    }

    fn live(slots: &[Option<(&str, u8)>]) -> HolderLiveWire {
        let slot = |(name, last)| SlotWire { interface: interface(name, last), plug: PlugWire::Socket };
        HolderLiveWire {
            memory_mib: 64,
            memory_max_mib: 64,
            slots: slots.iter().map(|found| found.map(slot)).collect(),
        }
    }

    #[track_caller]
    fn check(there: &[Option<(&str, u8)>], wanted: &[(&str, u8)], added: &[(u32, &str)], gone: &[u32]) {
        let interfaces: Vec<InterfaceWire> =
            wanted.iter().map(|(name, last)| interface(name, *last)).collect();
        let plugs = vec![PlugWire::Socket; interfaces.len()];
        let found = replug(&live(there), &interfaces, &plugs).ok().expect("no start is needed");
        let names: Vec<(u32, &str)> =
            found.added.iter().map(|(index, slot)| (*index, slot.interface.name.as_str())).collect();
        assert_eq!((&names[..], &found.gone[..]), (added, gone));
    }

    #[test]
    fn a_guest_would_do_without_what_it_has_free_but_for_a_little() {
        assert_eq!(memory_min(64, 22 << 10), MemoryMib(48), "as much as may be taken from it");
        assert_eq!(memory_min(64, (22 << 10) - 1), MemoryMib(49));
        assert_eq!(memory_min(64, 0), MemoryMib(64));
        assert_eq!(memory_min(64, u64::MAX), MemoryMib(0));
    }

    /// A plan had the guest write its disks and drop its caches.
    #[tokio::test]
    async fn who_only_looks_changes_nothing_in_the_guest() {
        let mut asked = Vec::new();
        let answer = |verb| {
            asked.push(verb);
            ready(Ok(if verb == "available" { format!("{}\n", 22 << 10) } else { String::new() }))
        };
        let leeway = leeway_asked(Ok(live(&[])), MemoryQuestion::MostAndLeast, answer).await;
        assert_eq!(leeway.memory_min, Some(MemoryMib(48)));
        assert_eq!(asked, ["probe", "available"]);
    }

    /// Its agent doesn't know the word, and must not be asked with the one that changes something.
    #[tokio::test]
    async fn an_older_guest_says_nothing_of_its_memory() {
        let answer = |verb| {
            ready(match verb {
                "probe" => Ok(String::new()),
                other => Err(Stopped::Failed(format!("{other} is not known"))),
            })
        };
        let leeway = leeway_asked(Ok(live(&[])), MemoryQuestion::MostAndLeast, answer).await;
        assert_eq!((leeway.memory_min, leeway.obstacle), (None, None));
    }

    #[test]
    fn interfaces_come_to_free_places_and_go_from_theirs() {
        check(&[Some(("eth0", 1))], &[("eth0", 1)], &[], &[]);
        check(&[Some(("eth0", 1))], &[("eth0", 1), ("lan", 2)], &[(1, "lan")], &[]);
        check(&[None, Some(("eth1", 1))], &[("eth1", 1), ("lan", 2)], &[(0, "lan")], &[]);
        check(&[Some(("eth0", 1)), Some(("lan", 2))], &[("eth0", 1)], &[], &[1]);
    }

    #[test]
    fn another_hardware_address_or_a_tap_takes_a_start() {
        let there = live(&[Some(("eth0", 1))]);
        assert!(replug(&there, &[interface("eth0", 9)], &[PlugWire::Socket]).is_err());
        let tap = PlugWire::Tap { tap: "tap0".into(), bridge: None };
        assert!(replug(&there, &[interface("eth0", 1)], std::slice::from_ref(&tap)).is_err());
        assert!(
            replug(&there, &[interface("eth0", 1), interface("b", 2)], &[PlugWire::Socket, tap]).is_err()
        );
    }
}
