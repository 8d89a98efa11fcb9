//! A host for tests: its own VMs, shared images, and a record of what happened.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mln_protocol::id::{Digest, Label, Name, VmId};
use mln_protocol::model::{
    BootOrder, DiskSize, MemoryMib, Network, Platform as PlatformKind, TemplateRef, Vm,
};
use mlnd::image::{ImageStore, build_mini};
use mlnd::platform::uml::{Uml, UmlConfig};
use mlnd::platform::{
    BootProgress, BuildRequest, End, ExecCommand, ExecError, ExecOutputEvent, Exit, FileContent, Platform,
    VmEvent, VmEventKind,
};
use tokio::sync::Notify;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) uml: Uml,
    pub(crate) config: UmlConfig,
    pub(crate) images: ImageStore,
    record: Arc<Record>,
    data: Option<tempfile::TempDir>,
}

#[derive(Default)]
struct Record {
    events: Mutex<Vec<VmEvent>>,
    changed: Notify,
}

impl World {
    pub(crate) fn new() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut world = Self::at(data.path());
        world.data = Some(data);
        world
    }

    /// Opens a host whose data may be there already.
    pub(crate) fn at(data: &Path) -> Self {
        let (images, guest_agent) = shared_images();
        let config = UmlConfig {
            holder: PathBuf::from(env!("CARGO_BIN_EXE_mlnd")),
            guest_agent: guest_agent.clone(),
            ..UmlConfig::usual(data).expect("this program has a path")
        };
        Self::with(config, images.clone())
    }

    pub(crate) fn with(config: UmlConfig, images: ImageStore) -> Self {
        let (uml, mut events) = Uml::open(config.clone(), images.clone()).expect("opens");
        let record = Arc::new(Record::default());
        let writer = record.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                writer.events.lock().expect("not poisoned").push(event);
                writer.changed.notify_waiters();
            }
        });
        Self { uml, config, images, record, data: None }
    }

    pub(crate) fn folder(&self, vm: &VmId) -> PathBuf {
        self.config.vms.join(format!("{}-{}", vm.birth.short(), vm.name))
    }

    pub(crate) async fn build(&self, vm: Vm) -> VmId {
        self.build_with(vm, Vec::new()).await
    }

    pub(crate) async fn build_with(&self, vm: Vm, files: Vec<FileContent>) -> VmId {
        let checked = self.uml.check(&vm).await.expect("can be built");
        let request = request(vm, checked.template, files);
        let id = request.id.clone();
        self.uml.build(request).await.expect("is built");
        id
    }

    /// Builds a VM, starts it and waits until it is ready.
    pub(crate) async fn run(&self, vm: Vm) -> VmId {
        let vm = self.build(vm).await;
        self.start(&vm).await;
        vm
    }

    pub(crate) async fn start(&self, vm: &VmId) {
        self.uml.start(vm).await.expect("starts");
        self.ready(vm).await;
    }

    pub(crate) async fn ready(&self, vm: &VmId) {
        let progress = self
            .take(vm, "it to come up", |kind| match kind {
                VmEventKind::Progress(BootProgress::Booting) => None,
                VmEventKind::Progress(progress) => Some(progress.clone()),
                _ => None,
            })
            .await;
        assert_eq!(progress, BootProgress::Ready, "{}", self.console(vm));
    }

    pub(crate) async fn exited(&self, vm: &VmId) -> Exit {
        self.take(vm, "its exit", |kind| match kind {
            VmEventKind::Exited(exit) => Some(exit.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for an event of a VM, and takes it and those before it out of the record.
    pub(crate) async fn take<T>(
        &self,
        vm: &VmId,
        what: &str,
        wanted: impl Fn(&VmEventKind) -> Option<T>,
    ) -> T {
        let search = async {
            loop {
                let changed = self.record.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = self.take_now(vm, &wanted) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(LIMIT, search).await {
            Ok(found) => found,
            Err(_) => panic!(
                "waited in vain for {what} of {vm}; happened: {:?}\nconsole: {}",
                self.record.events.lock().expect("not poisoned"),
                self.console(vm)
            ),
        }
    }

    fn take_now<T>(&self, vm: &VmId, wanted: &impl Fn(&VmEventKind) -> Option<T>) -> Option<T> {
        let mut events = self.record.events.lock().expect("not poisoned");
        let (at, found) = events.iter().enumerate().find_map(|(at, event)| {
            (event.vm == *vm).then(|| wanted(&event.kind)).flatten().map(|found| (at, found))
        })?;
        let mut index = 0;
        events.retain(|event| {
            index += 1;
            event.vm != *vm || index > at + 1
        });
        Some(found)
    }

    /// Waits for the socket of an interface, and takes it out of the record.
    pub(crate) async fn interface(&self, vm: &VmId, name: &str) -> std::os::fd::OwnedFd {
        self.take(vm, name, |kind| match kind {
            VmEventKind::InterfaceUp { interface, socket } if interface.as_str() == name => {
                Some(socket.try_clone().expect("one more descriptor"))
            }
            _ => None,
        })
        .await
    }

    fn console(&self, vm: &VmId) -> String {
        let holder = std::fs::read_to_string(self.folder(vm).join("holder.log")).unwrap_or_default();
        format!("{:#?}\nholder: {holder}", self.uml.console_tail(vm, 200))
    }

    /// Runs a shell line in a VM; returns what it printed and how it ended.
    pub(crate) async fn shell(&self, vm: &VmId, line: &str) -> (String, String, Result<End, ExecError>) {
        self.shell_with(vm, line, b"").await
    }

    pub(crate) async fn shell_with(
        &self,
        vm: &VmId,
        line: &str,
        input: &[u8],
    ) -> (String, String, Result<End, ExecError>) {
        let run = async {
            let command = ExecCommand::of(["sh", "-c", line]);
            let mut exec = match self.uml.exec(vm, command).await {
                Ok(exec) => exec,
                Err(error) => return (vec![], vec![], Err(error)),
            };
            let input = input.to_vec();
            let feed = tokio::spawn(async move {
                // A command may end before it has taken all.
                if exec.input.write(&input).await.is_ok() {
                    let _ = exec.input.close().await;
                }
            });
            let (mut out, mut err, mut end) = (vec![], vec![], Err(ExecError::GuestEnded));
            while let Some(event) = exec.output.next().await {
                match event {
                    ExecOutputEvent::Stdout(bytes) => out.extend(bytes),
                    ExecOutputEvent::Stderr(bytes) => err.extend(bytes),
                    ExecOutputEvent::Ended(how) => end = Ok(how),
                    ExecOutputEvent::Failed(error) => end = Err(error),
                }
            }
            feed.abort();
            (out, err, end)
        };
        let (out, err, end) = tokio::time::timeout(LIMIT, run)
            .await
            .unwrap_or_else(|_| panic!("`{line}` did not end; console: {}", self.console(vm)));
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (text(out), text(err), end)
    }

    /// Runs a shell line in a VM that must end well; returns what it printed.
    pub(crate) async fn ok(&self, vm: &VmId, line: &str) -> String {
        let (out, err, end) = self.shell(vm, line).await;
        assert_eq!(end, Ok(End::Exited(0)), "`{line}` printed {out:?} and {err:?}");
        out
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Guests outlive agents; those of a test that is over must not.
        if self.data.is_some() {
            kill_all_in(&self.config.vms);
        }
    }
}

/// Ends the guests of a folder when a test is over that opens it several times.
pub(crate) struct KillGuests(pub(crate) PathBuf);

impl Drop for KillGuests {
    fn drop(&mut self) {
        kill_all_in(&self.0);
    }
}

/// Kills every process whose working folder is below `folder`, and waits for them: they write there.
pub(crate) fn kill_all_in(folder: &Path) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes_in(folder);
        if left.is_empty() || std::time::Instant::now() > deadline {
            return;
        }
        for pid in left {
            let pid = rustix::process::Pid::from_raw(pid).expect("a process has a number");
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        std::thread::yield_now();
    }
}

/// Returns the processes whose working folder is below `folder`.
pub(crate) fn processes_in(folder: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("is there").flatten();
    entries
        .filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

/// Returns a VM with nothing in it.
pub(crate) fn plain(vm: &str) -> Vm {
    Vm {
        name: name(vm),
        platform: PlatformKind::Uml,
        service_host: None,
        template: Some(TemplateRef::Newest(name("mini"))),
        memory: MemoryMib(64),
        vcpus: 1,
        disk: DiskSize::Template,
        boot_order: BootOrder::default(),
        networks: Vec::<Network>::new(),
        users: Vec::new(),
        files: Vec::new(),
        startup: Vec::new(),
        nameservers: Vec::new(),
        modules: Vec::new(),
        setup: Default::default(),
        scheduling: Default::default(),
    }
}

pub(crate) fn request(vm: Vm, template: Digest, files: Vec<FileContent>) -> BuildRequest {
    BuildRequest {
        id: VmId { birth: Digest::of(b"a revision"), name: vm.name.clone() },
        label: Label { owner: name("root"), project: name("test") },
        template,
        guest_names: vec![(name("peer"), [10, 0, 0, 2].into())],
        files,
        first: None,
        vm,
    }
}

/// Returns the images and the guest agent, made once for all tests and kept from run to run.
fn shared_images() -> &'static (ImageStore, PathBuf) {
    static SHARED: OnceLock<(ImageStore, PathBuf)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let cache = std::env::var_os("MLN_TEST_CACHE").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("uml"));
        std::fs::create_dir_all(&cache).expect("a cache");
        // Other test processes do the same.
        let lock = File::create(cache.join("lock")).expect("a lock");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locks");
        let recipe =
            concat!(include_str!("../../src/image/mini.sh"), include_str!("../../src/image/mini-init.sh"));
        let folder = cache.join(format!("images-{}", Digest::of(recipe.as_bytes()).short()));
        let images = ImageStore::open(&folder).expect("opens");
        if images.resolve(&TemplateRef::Newest(name("mini"))).is_err() {
            build_mini(&images, &name("mini"), |_| {}).expect("the template is built");
        }
        (images, guest_agent(&cache))
    })
}

fn guest_agent(cache: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os("MLN_GUEST_AGENT") {
        return path.into();
    }
    let target = cache.join("guest");
    let output = Command::new(env!("CARGO"))
        .args(["build", "-p", "mlnd", "--no-default-features", "--profile", "guest"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("x86_64-unknown-linux-gnu/guest/mlnd")
}
