//! What operators wait for: each operation of the node with the conversation that asked for it.

use std::collections::BTreeMap;

use mln_link::Reply;
use mln_link::message::{Failure, Progress, Refusal, Revised, Silence, Step, StepState};
use mln_protocol::id::{Label, Name, ProjectId, VmId};
use mln_protocol::node::{FailureCause, HostRefusal, OpId, Outcome, Rule, VmFailure};
use mln_protocol::record::VmState;

use crate::event_loop::Fetching;
use crate::events::Asker;

use crate::control::ReplySender;

/// Operations that are under way.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    waiting: BTreeMap<OpId, Waiting>,
    last: u64,
}

#[derive(Debug)]
struct Waiting {
    reply: ReplySender,
    kind: Kind,
    project: Option<Name>,
    /// The project that it changes.
    changes: Option<ProjectId>,
    /// The project that it removes.
    removes: Option<ProjectId>,
    /// The VMs of which something was said, with what was done.
    shown: BTreeMap<Name, Shown>,
    /// The VMs that were as they are wanted when it began, with their hosts; twice where two are called so.
    unchanged: Vec<(Name, Name)>,
    /// The VM that it takes over, and the host that does, with what is to be said of its copy.
    taken: Option<Taken>,
    /// The VM that wants it; none where people do.
    asker: Option<Asker>,
}

/// A VM that is taken over.
#[derive(Debug)]
struct Taken {
    vm: VmId,
    host: Name,
    /// What its copy is, until that is said.
    detail: Option<String>,
}

/// What was said of a VM during a change.
#[derive(Debug)]
struct Shown {
    /// What was done; nothing where it has only been seen.
    step: Option<Step>,
    /// Where it was first.
    from: Name,
    /// Whether it ran there.
    ran: bool,
    /// Whether it was there when it was last seen: what was removed before isn't removed now.
    lives: bool,
}

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Build,
    Start,
    Stop,
    Remove,
    Upgrade,
    /// Of the host's own key.
    Confirm,
    TakeOver,
}

impl Kind {
    fn gerund(self) -> &'static str {
        match self {
            Self::Build => "building",
            Self::Start => "starting",
            Self::Stop => "stopping",
            Self::Remove => "removing",
            Self::Upgrade => "changing",
            Self::Confirm => "confirming",
            Self::TakeOver => "taking over",
        }
    }

    fn step(self) -> Step {
        match self {
            Self::Build | Self::Upgrade => Step::Build,
            Self::Start => Step::Start,
            Self::Stop => Step::Stop,
            Self::Remove => Step::Remove,
            // There is none, and nothing is shown of it.
            Self::Confirm => Step::Publish,
            Self::TakeOver => Step::TakeOver,
        }
    }

    fn next_commands(self) -> &'static [&'static str] {
        match self {
            Self::Build => {
                &["mlnctl build -f FILE --keep   # to look at what is left of it", "mlnctl daemon_status"]
            }
            Self::Confirm | Self::Start | Self::Stop | Self::TakeOver => &["mlnctl status"],
            Self::Upgrade => &["mlnctl status", "mlnctl rollback -p PROJECT"],
            Self::Remove => &["mlnctl status", "mlnctl remove -p PROJECT --force"],
        }
    }
}

impl Operations {
    /// Notes that somebody waits; returns the name of the operation.
    pub(crate) fn begin(&mut self, reply: ReplySender, kind: Kind, project: Option<Name>) -> OpId {
        self.last += 1;
        let op = OpId(self.last);
        let (shown, unchanged) = (BTreeMap::new(), Vec::new());
        let (changes, removes, taken, asker) = (None, None, None, None);
        let waiting = Waiting { reply, kind, project, changes, removes, shown, unchanged, taken, asker };
        self.waiting.insert(op, waiting);
        op
    }

    /// Notes that somebody waits for VMs to be up, or down, of which these are so already, each with its host; returns the
    /// name of the operation.
    pub(crate) fn begin_run(
        &mut self,
        reply: ReplySender,
        kind: Kind,
        project: Option<Name>,
        unchanged: Vec<(Name, Name)>,
    ) -> OpId {
        let op = self.begin(reply, kind, project);
        if let Some(waiting) = self.waiting.get_mut(&op) {
            waiting.unchanged = unchanged;
        }
        op
    }

    /// Notes that somebody waits until a project is removed; returns the name of the operation.
    pub(crate) fn begin_removal(&mut self, reply: ReplySender, name: Name, project: ProjectId) -> OpId {
        let op = self.begin(reply, Kind::Remove, Some(name));
        if let Some(waiting) = self.waiting.get_mut(&op) {
            waiting.removes = Some(project);
        }
        op
    }

    /// Notes that a VM waits for a change of its project; returns the name of the operation.
    pub(crate) fn begin_wish(&mut self, reply: ReplySender, asker: Asker, project: ProjectId) -> OpId {
        let op = self.begin_change(reply, Kind::Upgrade, asker.project.project.clone(), project);
        if let Some(waiting) = self.waiting.get_mut(&op) {
            waiting.asker = Some(asker);
        }
        op
    }

    /// Returns the VM that wants an operation that is under way.
    pub(crate) fn asker(&self, op: OpId) -> Option<&Asker> {
        self.waiting.get(&op)?.asker.as_ref()
    }

    /// Notes that somebody waits for a change of a project; returns the name of the operation.
    pub(crate) fn begin_change(
        &mut self,
        reply: ReplySender,
        kind: Kind,
        name: Name,
        project: ProjectId,
    ) -> OpId {
        let op = self.begin(reply, kind, Some(name));
        if let Some(waiting) = self.waiting.get_mut(&op) {
            waiting.changes = Some(project);
        }
        op
    }

    /// Notes which VM an operation is to take over, and with what: it is told once nobody refuses it.
    pub(crate) fn will_take_over(&mut self, op: OpId, vm: VmId, host: Name, detail: String) {
        if let Some(waiting) = self.waiting.get_mut(&op) {
            waiting.taken = Some(Taken { vm, host, detail: Some(detail) });
        }
    }

    /// Says that the copy of a VM is read, to whoever takes it over.
    pub(crate) fn reading_copy(&mut self, vm: &VmId) {
        for waiting in self.waiting.values_mut() {
            if waiting.taken.as_ref().is_some_and(|taken| taken.vm == *vm) {
                waiting.tell_begun();
            }
        }
    }

    /// Returns the project that an operation changes.
    pub(crate) fn changes(&self, op: OpId) -> Option<ProjectId> {
        self.waiting.get(&op)?.changes
    }

    /// Returns the project that an operation changes or removes.
    pub(crate) fn project(&self, op: OpId) -> Option<ProjectId> {
        let waiting = self.waiting.get(&op)?;
        waiting.changes.or(waiting.removes)
    }

    /// Tells where the project stands that an operation has changed.
    pub(crate) fn revised(&self, op: OpId, revised: Revised) {
        if let Some(waiting) = self.waiting.get(&op) {
            // Whoever no longer listens doesn't need to be told.
            let _ = waiting.reply.post(Reply::Revised(revised));
        }
    }

    /// Shows progress; true where whoever waited has gone.
    pub(crate) fn progress(&mut self, op: OpId, vm: Name, host: Name, state: &VmState) -> bool {
        let Some(waiting) = self.waiting.get_mut(&op) else { return false };
        let (step, state) = match waiting.kind {
            Kind::Upgrade => match changed_state(&mut waiting.shown, &vm, &host, state) {
                Some(shown) => shown,
                None => return false,
            },
            Kind::Remove => match removed_state(&mut waiting.shown, &vm, &host, state) {
                Some(shown) => shown,
                None => return false,
            },
            kind => {
                let is_it = |(name, at): &(Name, Name)| (name, at) == (&vm, &host);
                // Of those that are called so, the ones that are as they should be are shown first.
                let known =
                    waiting.unchanged.iter().position(is_it).map(|at| waiting.unchanged.swap_remove(at));
                match step_state(kind, state) {
                    // Another host may have seen it otherwise, and then it does what it is told.
                    StepState::Done if known.is_some() => (kind.step(), StepState::Unchanged),
                    shown => (kind.step(), shown),
                }
            }
        };
        let progress = Progress {
            project: waiting.project.clone(),
            vm: Some(vm),
            host: Some(host),
            step,
            state,
            detail: String::new(),
        };
        waiting.reply.post(Reply::Progress(progress)).is_err()
    }

    /// Shows how far the fetch of an image is to whoever waits for its project here. Whoever waits at another host
    /// sees that the VM is being built.
    pub(crate) fn fetching(&self, fetching: &Fetching, host: &Name) {
        let is_whole = fetching.progress.bytes == fetching.progress.bytes_all;
        let waiting = self.waiting.values().filter(|waiting| {
            matches!(waiting.kind, Kind::Build | Kind::Upgrade)
                && waiting.project.as_ref() == Some(&fetching.label.project)
        });
        for waiting in waiting {
            let progress = Progress {
                project: waiting.project.clone(),
                vm: Some(fetching.vm.clone()),
                host: Some(host.clone()),
                step: Step::Fetch,
                state: if is_whole { StepState::Done } else { StepState::Begun },
                detail: fetching.progress.to_string(),
            };
            // That nobody listens any more is noticed when a state changes.
            let _ = waiting.reply.post(Reply::Progress(progress));
        }
    }

    /// Shows how it is with a disk that comes to this host, to whoever waits for its project here.
    pub(crate) fn moving(&self, vm: &VmId, label: &Label, detail: &str, host: &Name) {
        let waiting = self.waiting.values().filter(|waiting| {
            waiting.kind == Kind::Upgrade && waiting.project.as_ref() == Some(&label.project)
        });
        for waiting in waiting {
            let progress = Progress {
                project: waiting.project.clone(),
                vm: Some(vm.name.clone()),
                host: Some(host.clone()),
                step: Step::Move,
                state: StepState::Begun,
                detail: detail.to_owned(),
            };
            // That nobody listens any more is noticed when a state changes.
            let _ = waiting.reply.post(Reply::Progress(progress));
        }
    }

    /// Tells the outcome and ends the wait.
    pub(crate) fn done(&mut self, op: OpId, outcome: Outcome) {
        let Some(mut waiting) = self.waiting.remove(&op) else { return };
        let replies: Vec<Reply> = match outcome {
            Outcome::Done => {
                waiting.tell_begun();
                waiting.tell_taken(StepState::Done, String::new());
                Vec::new()
            }
            Outcome::Refused(refusals) => refusals.into_iter().map(refused).collect(),
            Outcome::Failed(failures) => failures.into_iter().map(|f| failed(waiting.kind, f)).collect(),
        };
        for reply in replies.into_iter().chain([Reply::Done]) {
            // Whoever no longer listens doesn't need to be told.
            let _ = waiting.reply.post(reply);
        }
    }
}

impl Waiting {
    /// Says that a VM is being taken over, and with what, unless that was said.
    fn tell_begun(&mut self) {
        if let Some(detail) = self.taken.as_mut().and_then(|taken| taken.detail.take()) {
            self.tell_taken(StepState::Begun, detail);
        }
    }

    /// Says how far it is with the VM that is taken over, where one is.
    fn tell_taken(&self, state: StepState, detail: String) {
        let Some(Taken { vm, host, .. }) = &self.taken else { return };
        let project = self.project.clone();
        let (vm, host, step) = (Some(vm.name.clone()), Some(host.clone()), Step::TakeOver);
        // Whoever no longer listens doesn't need to be told.
        let _ = self.reply.post(Reply::Progress(Progress { project, vm, host, step, state, detail }));
    }
}

/// Returns what is shown of a VM during a change: only what was built, stopped, moved or removed for it.
fn changed_state(
    shown: &mut BTreeMap<Name, Shown>,
    vm: &Name,
    host: &Name,
    state: &VmState,
) -> Option<(Step, StepState)> {
    let known = shown.entry(vm.clone()).or_insert_with(|| Shown::first(host));
    let before = known.step;
    if known.sees(state) == Sight::GoneBefore {
        // It was left out by an earlier change, and may be about to come back by this one.
        return None;
    }
    if known.from != *host {
        // Its new owner says so: it has arrived, and does there what it did.
        let step_state = match state {
            VmState::Failed { .. } => StepState::Failed,
            VmState::Down if known.ran => StepState::Begun,
            VmState::Down | VmState::Up | VmState::Removed | VmState::Kept => StepState::Done,
            VmState::Building | VmState::Booting | VmState::Stopping => StepState::Begun,
        };
        known.step = Some(Step::Move);
        return Some((Step::Move, step_state));
    }
    known.ran |= matches!(state, VmState::Booting | VmState::Up | VmState::Stopping);
    let step = match (state, before) {
        (VmState::Building, _) => Step::Build,
        (VmState::Stopping, _) => Step::Stop,
        (VmState::Removed | VmState::Kept, _) => Step::Remove,
        (VmState::Failed { .. }, before) => before.unwrap_or(Step::Build),
        (VmState::Down, Some(before @ (Step::Build | Step::Stop))) => before,
        // It is started once more.
        (VmState::Booting, Some(Step::Stop)) => Step::Start,
        (VmState::Up, Some(Step::Stop | Step::Start)) => {
            known.step = None;
            return Some((Step::Start, StepState::Done));
        }
        (VmState::Down | VmState::Booting | VmState::Up, _) => return None,
    };
    known.step = Some(step);
    Some((
        step,
        match state {
            VmState::Failed { .. } => StepState::Failed,
            VmState::Down | VmState::Removed | VmState::Kept | VmState::Up => StepState::Done,
            VmState::Building | VmState::Stopping | VmState::Booting => StepState::Begun,
        },
    ))
}

/// Returns what is shown of a VM while its project is removed: nothing of one that an earlier change has left out.
fn removed_state(
    shown: &mut BTreeMap<Name, Shown>,
    vm: &Name,
    host: &Name,
    state: &VmState,
) -> Option<(Step, StepState)> {
    let known = shown.entry(vm.clone()).or_insert_with(|| Shown::first(host));
    match known.sees(state) {
        Sight::GoneBefore => None,
        Sight::Goes | Sight::Lives => Some((Step::Remove, step_state(Kind::Remove, state))),
    }
}

/// How a state of a VM stands to what was seen of it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// It is there.
    Lives,
    /// It was there, and is gone.
    Goes,
    /// It was gone before, or was never seen: it may be an earlier VM of that name.
    GoneBefore,
}

impl Shown {
    fn first(host: &Name) -> Self {
        Self { step: None, from: host.clone(), ran: false, lives: false }
    }

    fn sees(&mut self, state: &VmState) -> Sight {
        let lived = self.lives;
        self.lives = !matches!(state, VmState::Removed | VmState::Kept);
        match (lived, self.lives) {
            (_, true) => Sight::Lives,
            (true, false) => Sight::Goes,
            (false, false) => Sight::GoneBefore,
        }
    }
}

fn step_state(kind: Kind, state: &VmState) -> StepState {
    match (kind, state) {
        (_, VmState::Failed { .. }) => StepState::Failed,
        (Kind::Build | Kind::Upgrade, VmState::Down | VmState::Booting | VmState::Up)
        | (Kind::Start, VmState::Booting | VmState::Up)
        | (Kind::Stop, VmState::Down | VmState::Removed | VmState::Kept)
        | (Kind::Remove, VmState::Removed | VmState::Kept) => StepState::Done,
        (
            _,
            VmState::Building
            | VmState::Down
            | VmState::Booting
            | VmState::Up
            | VmState::Stopping
            | VmState::Removed
            | VmState::Kept,
        ) => StepState::Begun,
    }
}

pub(crate) fn refused(host_refusal: HostRefusal) -> Reply {
    Reply::Refused(Refusal {
        host: Name::parse(&host_refusal.host).ok(),
        vm: None,
        rule: host_refusal.refusal.rule.code().to_owned(),
        text: host_refusal.refusal.detail,
        who_can_change: remedy(host_refusal.refusal.rule, &host_refusal.host),
    })
}

/// Returns who can change what a rule refuses, and how.
pub(crate) fn remedy(rule: Rule, host: &str) -> Option<String> {
    match rule {
        Rule::UnknownHost => {
            Some("the author of the project; or that host joins: mlnctl token new".to_owned())
        }
        Rule::HostOff => Some(format!(
            "whoever runs {host}: mlnd run; where it is gone for good, you, for each of its machines of which another host has a \
             copy: mlnctl takeover PROJECT/HOST"
        )),
        Rule::NoAnswer => Some(format!("whoever runs {host}: mlnd run")),
        Rule::LabelInUse => {
            Some(
                "the project's owner, by mlnctl upgrade -f FILE, or by mlnctl remove; if it is being built, wait".to_owned(),
            )
        }
        Rule::Memory => Some(format!("whoever runs {host}: memory_mib in its config.toml")),
        Rule::Template => Some(
            "whoever runs a host of the mesh: mlnctl template build, or template add; any one that has it is enough"
                .to_owned(),
        ),
        Rule::Platform | Rule::Disk => Some(format!("whoever runs {host}, or the author of the project")),
        Rule::Running => Some("you: mlnctl stop, or the same with --force".to_owned()),
        Rule::Share => Some(format!("whoever runs {host}: [share] folders in its config.toml")),
        Rule::Hooks => Some(format!("whoever runs {host}: [hooks] owners in its config.toml")),
        Rule::Size => Some("the author of the project: fewer hosts, or smaller parts".to_owned()),
        Rule::Group => Some(
            "whoever runs one of these hosts: memory_mib and groups in its config.toml; or the author of the project"
                .to_owned(),
        ),
        Rule::Forgotten => {
            Some(format!(
                "whoever runs {host}: mlnctl doctor there says which journal is wanted back; where its key has signed \
                 elsewhere, mlnctl key confirm there"
            ))
        }
        Rule::Grant => Some("whoever gave the grant; mlnctl grant list says who".to_owned()),
        Rule::GrantLimit => {
            Some("you, by removing what the grant pays for; or whoever gave it, by a wider one: mlnctl grant".to_owned())
        }
        Rule::Envelope => Some("the project's owner, by a wider `policy` in its text: mlnctl upgrade -f FILE".to_owned()),
        // It asks again, with the key that it has by then.
        Rule::GuestKey | Rule::GuestRate => None,
        Rule::DiskLoss => Some(
            "the author of the project: leave the template or disk as it is; or give the new machine another name, and take what \
             is to be kept over with mlnctl cp"
                .to_owned(),
        ),
        Rule::Majority => Some("whoever runs the hosts that are off: mlnd run".to_owned()),
        Rule::Ownership => {
            Some("whoever runs the host that owns it; or, where that is gone, whoever may take it over".to_owned())
        }
        Rule::Contested => Some("whoever may change the project, by choosing one of its heads".to_owned()),
        // Try again: nobody has to change anything.
        Rule::Overtaken | Rule::Unchanged | Rule::Undecided => None,
        Rule::Files | Rule::Parent | Rule::Malformed => None,
    }
}

fn failed(kind: Kind, failure: VmFailure) -> Reply {
    let host = Name::parse(&failure.host).ok();
    if let (FailureCause::Silent, Some(host)) = (failure.cause, &host) {
        let text = format!("{} {}: {}", kind.gerund(), failure.vm, failure.reason);
        return Reply::Silent(Silence { host: host.clone(), text });
    }
    let (why, console_tail) = split_reason(&failure.reason);
    Reply::Failed(Failure {
        what: kind.gerund().to_owned(),
        host,
        vm: Some(failure.vm),
        why,
        console_tail,
        next: kind.next_commands().iter().map(|&command| command.to_owned()).collect(),
    })
}

/// How console lines are told from the reason before them, in a VM's published state.
const CONSOLE_MARK: &str = "| ";

/// Joins a reason and the last lines of a console into one text.
pub(crate) fn join_reason(why: &str, console: &[String]) -> String {
    let lines = console.iter().map(|line| {
        let line: String = line.chars().filter(|c| !c.is_control()).take(120).collect();
        format!("\n{CONSOLE_MARK}{line}")
    });
    let clean: String = why.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    clean + &lines.collect::<String>()
}

/// Takes such a text apart again.
pub(crate) fn split_reason(text: &str) -> (String, Vec<String>) {
    let (console, why): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with(CONSOLE_MARK));
    let console = console.into_iter().map(|line| line[CONSOLE_MARK.len()..].to_owned()).collect();
    (why.join("\n"), console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_that_moves_is_shown_as_it_stops_and_as_it_comes_up_elsewhere() {
        let mut shown = BTreeMap::new();
        let name = |text: &str| Name::parse(text).expect("a name");
        let mut tell = |host: &str, state| changed_state(&mut shown, &name("web"), &name(host), &state);
        assert_eq!(tell("oslo", VmState::Up), None);
        assert_eq!(tell("oslo", VmState::Stopping), Some((Step::Stop, StepState::Begun)));
        assert_eq!(tell("oslo", VmState::Down), Some((Step::Stop, StepState::Done)));
        assert_eq!(tell("bergen", VmState::Down), Some((Step::Move, StepState::Begun)));
        assert_eq!(tell("bergen", VmState::Booting), Some((Step::Move, StepState::Begun)));
        assert_eq!(tell("bergen", VmState::Up), Some((Step::Move, StepState::Done)));
    }

    #[test]
    fn a_vm_that_is_started_once_more_is_shown_until_it_is_up() {
        let mut shown = BTreeMap::new();
        let name = |text: &str| Name::parse(text).expect("a name");
        let mut tell = |state| changed_state(&mut shown, &name("web"), &name("oslo"), &state);
        assert_eq!(tell(VmState::Up), None);
        assert_eq!(tell(VmState::Stopping), Some((Step::Stop, StepState::Begun)));
        assert_eq!(tell(VmState::Down), Some((Step::Stop, StepState::Done)));
        assert_eq!(tell(VmState::Booting), Some((Step::Start, StepState::Begun)));
        assert_eq!(tell(VmState::Up), Some((Step::Start, StepState::Done)));
        assert_eq!(tell(VmState::Up), None);
    }

    #[test]
    fn what_was_left_out_before_is_not_shown_as_removed_by_the_change_that_brings_it_back() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let mut shown = BTreeMap::new();
        let mut tell = |vm: &str, state| changed_state(&mut shown, &name(vm), &name("oslo"), &state);
        assert_eq!(tell("back", VmState::Kept), None);
        assert_eq!(tell("back", VmState::Down), None);
        assert_eq!(tell("gone", VmState::Down), None);
        assert_eq!(tell("gone", VmState::Kept), Some((Step::Remove, StepState::Done)));
    }

    /// `remove` told it of each VM that had ever been called so.
    #[test]
    fn a_vm_is_removed_once_however_many_were_called_so_before() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let (mut changed, mut removed) = (BTreeMap::new(), BTreeMap::new());
        let mut change = |state| changed_state(&mut changed, &name("web"), &name("oslo"), &state);
        let told = [VmState::Down, VmState::Kept, VmState::Removed, VmState::Kept].map(&mut change);
        assert_eq!(told, [None, Some((Step::Remove, StepState::Done)), None, None]);
        let mut remove = |vm: &str, state| removed_state(&mut removed, &name(vm), &name("oslo"), &state);
        assert_eq!(remove("web", VmState::Kept), None);
        assert_eq!(remove("web", VmState::Down), Some((Step::Remove, StepState::Begun)));
        assert_eq!(remove("web", VmState::Removed), Some((Step::Remove, StepState::Done)));
        assert_eq!(remove("web", VmState::Removed), None);
        assert_eq!(remove("old", VmState::Kept), None);
        assert_eq!(remove("old", VmState::Removed), None);
    }

    #[test]
    fn what_is_up_already_is_not_said_to_be_started() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let (reply, mut replies) = ReplySender::channel();
        let mut operations = Operations::default();
        // Of another project, and called so too.
        let known = ["web", "gone"].map(|vm| (name(vm), name("oslo")));
        let op = operations.begin_run(reply, Kind::Start, None, known.into());
        let failed = VmState::Failed { reason: "no kernel".to_owned() };
        for (vm, state) in
            [("web", VmState::Up), ("web", VmState::Booting), ("db", VmState::Up), ("gone", failed)]
        {
            assert!(!operations.progress(op, name(vm), name("oslo"), &state));
        }
        let told: Vec<StepState> = std::iter::from_fn(|| replies.try_recv().ok())
            .filter_map(|reply| match reply {
                Reply::Progress(progress) => Some(progress.state),
                _ => None,
            })
            .collect();
        assert_eq!(told, [StepState::Unchanged, StepState::Done, StepState::Done, StepState::Failed]);
    }

    #[test]
    fn a_reason_and_its_console_come_apart_again() {
        let console = vec!["[ 0.1] Kernel panic".to_owned(), "a\u{1b}[31mred".to_owned()];
        let text = join_reason("the disk is full", &console);
        let expected = vec!["[ 0.1] Kernel panic".to_owned(), "a[31mred".to_owned()];
        assert_eq!(split_reason(&text), ("the disk is full".to_owned(), expected));
    }
}
