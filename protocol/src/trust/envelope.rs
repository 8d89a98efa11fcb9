//! The envelope: how far a VM may change its own project, as the parent of the change says.
//!
//! What the VM asks for is never trusted. From the difference follow steps: so many of a class, the VM elsewhere, volumes
//! more. Each is held against the policies of the parent. Then the steps that are granted are made in the parent's own
//! text, by whoever judges, and the child must be exactly that, to the byte. So whatever is not named here is refused, also
//! what is added to the language later, and what no VM shows: a class that nobody has yet would come with the next growth.
//!
//! ```text
//! parent, child ──▶ steps ──policies of the parent──▶ granted ──remade──▶ parent with the steps  ==  child
//! ```
//!
//! Pure: how the parent's text is edited, which hosts are in which groups and what is spent come in.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Digest, Name};
use crate::lang::EditError;
use crate::model::{DiskBytes, HostAddress, Mandate, May, Mount, MountSource, Policy, Project, Vm};

/// A project, what its VMs may decide, and the text that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constitution {
    /// The project.
    pub project: Project,
    /// What each VM counts among and may decide.
    pub mandates: BTreeMap<Name, Mandate>,
    /// The digest of its definition: text, variables, files and images.
    pub definition: Digest,
}

/// One change of a project's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There are so many of a class.
    Scale {
        /// The superclass or enumeration.
        class: Name,
        /// How many.
        to: u32,
    },
    /// The VM that asks is on this service host.
    Place {
        /// The service host, or its group.
        to: HostAddress,
    },
    /// The VM that asks has these disks behind those that it has.
    Volumes {
        /// The disks.
        mounts: Vec<Mount>,
    },
}

/// What a VM asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The VM.
    pub vm: &'a Name,
    /// What stands: only its policies count.
    pub parent: &'a Constitution,
    /// What is to stand.
    pub child: &'a Constitution,
    /// How many hours in a cloud it wants reserved.
    pub cloud_hours: u32,
}

/// A service host, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The groups that it counts itself to.
    pub groups: BTreeSet<Name>,
    /// Whether it is paid for by the hour.
    pub cost: Cost,
}

/// Whether a host is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cost {
    /// It is one of the mesh's own.
    #[default]
    None,
    /// It is paid for by the hour.
    Hourly,
}

/// What a policy's budget has been used for, by all VMs that inherit it from one place, as whoever judges counts it from
/// the chain of revisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// The hours in clouds that were reserved today.
    pub cloud_hours: u32,
    /// The volumes that were given.
    pub volumes: u32,
    /// How long ago something was decided by it, in milliseconds; none if nothing ever was.
    pub last_ms_ago: Option<u64>,
}

/// What surrounds the question.
pub struct Surroundings<'a> {
    /// The service hosts that are known, by name.
    pub hosts: &'a BTreeMap<Name, Destination>,
    /// What of each of the VM's policies is spent, by the policy's name; what is not there is not spent.
    pub spent: &'a BTreeMap<Name, Spent>,
    /// Makes steps in the parent's own text, in this order: [`Step::Scale`], [`Step::Place`], [`Step::Volumes`], each at
    /// most once. None if that can't be done.
    pub remade: &'a dyn Fn(&[Step]) -> Option<Constitution>,
}

/// What was granted by a policy; for those who count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Whose block the policy is: all who have it from there share what it allows.
    pub origin: Name,
    /// The policy.
    pub policy: Name,
    /// For what.
    pub kind: UseKind,
}

/// What a policy was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// The VM goes to another service host.
    Move {
        /// Which one, or which group.
        to: HostAddress,
    },
    /// There are to be so many of a class.
    Scale {
        /// The class.
        class: Name,
        /// How many.
        to: u32,
    },
    /// The VM gets so many further disks.
    Volumes {
        /// How many.
        count: u32,
    },
    /// It is to be so many more hours in a cloud.
    Cloud {
        /// How many.
        hours: u32,
    },
}

/// Why a VM may not do what it asks for. Nothing was changed; only the project's owner can widen what it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The parent has no such VM, or lets it decide nothing.
    #[error("the project lets `{vm}` decide nothing: its owner can give it a `policy`")]
    NoPolicy {
        /// The VM.
        vm: Name,
    },
    /// Nothing would change.
    #[error("nothing would change")]
    Nothing,
    /// What some VM may decide would change; no VM may do that.
    #[error("what `{vm}` may decide would change: only the project's owner can change a `policy`")]
    PolicyTouched {
        /// Whose it is.
        vm: Name,
    },
    /// No `may move` names the host.
    #[error("no `may move` of `{vm}` names {to}: the project's owner can add it")]
    MoveOutside {
        /// The VM.
        vm: Name,
        /// Where it would go.
        to: String,
    },
    /// There would be too few or too many of a class.
    #[error(
        "{to} of `{class}` are outside of `may scale {class} {least}..{most}`: the project's owner can widen it"
    )]
    ScaleOutside {
        /// The class.
        class: Name,
        /// How many there would be.
        to: u32,
        /// The fewest.
        least: u32,
        /// The most.
        most: u32,
    },
    /// The project's text can't have so many without anything else being different.
    #[error("the project's text can't have {to} of `{class}` and all else as it is: its owner can change it")]
    ScaleElse {
        /// The class.
        class: Name,
        /// How many there would be.
        to: u32,
    },
    /// The project's text can't be changed in that way.
    #[error("the project's text can't be changed in that way for `{vm}`: its owner can change it")]
    NotMade {
        /// The VM.
        vm: Name,
    },
    /// No `may volume`, or not so many.
    #[error(
        "{count} volumes are more than the {most} of `may volume` of `{vm}`: the project's owner can widen it"
    )]
    VolumesSpent {
        /// The VM.
        vm: Name,
        /// How many it would have been given.
        count: u32,
        /// How many it may be given.
        most: u32,
    },
    /// A volume is larger than `may volume` says.
    #[error("a volume of {size} is larger than the {most} of `may volume`: the project's owner can widen it")]
    VolumeLarge {
        /// How large it would be.
        size: DiskBytes,
        /// How large it may be.
        most: DiskBytes,
    },
    /// A host that is paid for, and no hours are asked for; or hours, and no such host.
    #[error(
        "hours in a cloud and being on a host that is paid by the hour go together: ask for both, or for neither"
    )]
    CloudHours,
    /// No `may cloud`, or what it says is spent.
    #[error(
        "{hours} hours in clouds today are more than the {most} of `may cloud` of `{vm}`: the project's owner can widen it"
    )]
    CloudSpent {
        /// The VM.
        vm: Name,
        /// How many there would be.
        hours: u32,
        /// How many there may be.
        most: u32,
    },
    /// The grace after the last decision is not over.
    #[error(
        "policy `{policy}` has decided something {} s ago, and its `grace` is {} s: ask again in {} s",
        .ago_ms / 1000, .grace_ms.div_ceil(1000), .grace_ms.saturating_sub(*.ago_ms).div_ceil(1000)
    )]
    TooSoon {
        /// The policy.
        policy: Name,
        /// How long ago, in milliseconds.
        ago_ms: u64,
        /// How long the grace is, in milliseconds.
        grace_ms: u64,
    },
    /// The text is not kept: nobody can tell from it what the project would be.
    #[error(
        "the project's text is not kept, since a password stands in it in plain: its owner can write that as a hash, and upgrade"
    )]
    NoText,
    /// Something is larger than any host looks at for a VM.
    #[error(
        "{what} of {found} is more than the {most} that hosts look at for a machine: the project's owner can change it"
    )]
    Large {
        /// What.
        what: &'static str,
        /// How much it is.
        found: usize,
        /// How much is possible.
        most: usize,
    },
    /// The text would be wrong.
    #[error("line {line} of the text would be wrong: {message}")]
    Wrong {
        /// The line, from 1.
        line: usize,
        /// What is wrong, for people.
        message: String,
    },
    /// The text can't be edited like that.
    #[error("the project's text can't be changed in that way: {0}")]
    Edit(#[from] EditError),
    /// Something else would change.
    #[error(
        "{what} would change, and no `policy` of `{vm}` is about that: the project's owner can change it"
    )]
    Else {
        /// The VM.
        vm: Name,
        /// What.
        what: Touched,
    },
}

/// What would change though no policy is about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// The project's name.
    ProjectName,
    /// A VM.
    Vm(Name),
    /// The order of the VMs.
    Order,
    /// The switches.
    Switches,
    /// What service hosts run around start and stop.
    Hooks,
    /// What a VM counts among.
    Classes,
    /// Something of the text, of the files or of the images that no host shows.
    Definition,
}

/// Judges what a VM asks for, by the policies that it has in the parent; returns what they are used for.
///
/// Each host that is concerned judges by itself. That the child's parent is the head, neither contested nor partial, is
/// not judged here.
pub fn judge(asked: Asked<'_>, around: &Surroundings<'_>) -> Result<Vec<Use>, EnvelopeError> {
    let Asked { vm, parent, child, .. } = asked;
    let policies = match parent.mandates.get(vm) {
        Some(mandate) if !mandate.policies.is_empty() && find(parent, vm).is_some() => &mandate.policies,
        Some(_) | None => return Err(EnvelopeError::NoPolicy { vm: vm.clone() }),
    };
    policies_stand(parent, child)?;
    let Some(own) = find(child, vm) else {
        return Err(EnvelopeError::Else { vm: vm.clone(), what: Touched::Vm(vm.clone()) });
    };
    let case = Case { asked, around, policies };
    let mut uses = Vec::new();
    let mut steps: Vec<Step> = case.scaled(&mut uses)?.into_iter().collect();
    if let Some(before) = find(parent, vm) {
        steps.extend(case.moved(before, own, &mut uses)?);
        steps.extend(case.supplied(before, own, &mut uses)?);
    }
    case.cloud(own, &mut uses)?;
    let expected = match steps.as_slice() {
        [] => parent.clone(),
        steps => (around.remade)(steps).ok_or_else(|| EnvelopeError::NotMade { vm: vm.clone() })?,
    };
    if let Some(what) = touched(&expected, child) {
        return Err(EnvelopeError::Else { vm: vm.clone(), what });
    }
    if uses.is_empty() {
        return Err(EnvelopeError::Nothing);
    }
    case.in_time(&uses)?;
    Ok(uses)
}

/// The question, with the policies that count.
struct Case<'a> {
    asked: Asked<'a>,
    around: &'a Surroundings<'a>,
    policies: &'a [Policy],
}

impl Case<'_> {
    /// Returns what the policies say, each thing with its policy.
    fn may(&self) -> impl Iterator<Item = (&Policy, &May)> {
        self.policies.iter().flat_map(|policy| policy.may.iter().map(move |may| (policy, may)))
    }

    /// Returns the step to as many of a class as the child has, where policies are about that class, if it may be.
    fn scaled(&self, uses: &mut Vec<Use>) -> Result<Option<Step>, EnvelopeError> {
        let Asked { parent, child, .. } = self.asked;
        let classes: BTreeSet<&Name> = self
            .may()
            .filter_map(|(_, may)| match may {
                May::Scale { class, .. } => Some(class),
                May::Move(_) | May::Cloud { .. } | May::Volume { .. } => None,
            })
            .collect();
        let mut differing = classes
            .into_iter()
            .map(|class| (class, members(parent, class), members(child, class)))
            .filter(|(_, before, after)| before != after);
        let Some((class, _, to)) = differing.next() else { return Ok(None) };
        uses.push(self.scale(class, to)?);
        // Classes may overlap: then both bounds hold.
        for (other, _, after) in differing {
            uses.push(self.scale(other, after)?);
        }
        let fails = || EnvelopeError::ScaleElse { class: class.clone(), to };
        let step = Step::Scale { class: class.clone(), to };
        let grown = (self.around.remade)(std::slice::from_ref(&step)).ok_or_else(fails)?;
        if members(&grown, class) != to || !only_class_differs(parent, &grown, class) {
            return Err(fails());
        }
        Ok(Some(step))
    }

    fn scale(&self, of: &Name, to: u32) -> Result<Use, EnvelopeError> {
        let mut refused = None;
        for (policy, may) in self.may() {
            let May::Scale { class, least, most } = may else { continue };
            if class != of {
                continue;
            }
            if (*least..=*most).contains(&to) {
                let kind = UseKind::Scale { class: class.clone(), to };
                return Ok(granted(policy, kind));
            }
            refused = Some((*least, *most));
        }
        let (least, most) = refused.unwrap_or((0, 0));
        Err(EnvelopeError::ScaleOutside { class: of.clone(), to, least, most })
    }

    /// Returns the step to where the VM wants to be, if it may.
    fn moved(&self, before: &Vm, own: &Vm, uses: &mut Vec<Use>) -> Result<Option<Step>, EnvelopeError> {
        if before.service_host == own.service_host {
            return Ok(None);
        }
        let outside = |to: String| EnvelopeError::MoveOutside { vm: own.name.clone(), to };
        let Some(to) = &own.service_host else { return Err(outside("the host that is asked".to_owned())) };
        let allowing = self.may().find(|(_, may)| match may {
            May::Move(hosts) => hosts.iter().any(|host| self.is_meant(host, to)),
            May::Scale { .. } | May::Cloud { .. } | May::Volume { .. } => false,
        });
        let Some((policy, _)) = allowing else { return Err(outside(format!("`{to}`"))) };
        uses.push(granted(policy, UseKind::Move { to: to.clone() }));
        Ok(Some(Step::Place { to: to.clone() }))
    }

    /// Whether a destination is what a policy names: the same words, or a host of the group.
    fn is_meant(&self, named: &HostAddress, to: &HostAddress) -> bool {
        let known = Name::parse(&to.0).ok().and_then(|name| self.around.hosts.get(&name));
        let is_in = |group: Name| known.is_some_and(|host| host.groups.contains(&group));
        named == to || named.group().is_some_and(is_in)
    }

    /// Returns the step to the disks that the VM wants behind those that it has, if it may.
    fn supplied(&self, before: &Vm, own: &Vm, uses: &mut Vec<Use>) -> Result<Option<Step>, EnvelopeError> {
        let there = before.setup.mounts.as_slice();
        let Some(new) = own.setup.mounts.strip_prefix(there).filter(|new| !new.is_empty()) else {
            return Ok(None);
        };
        let sizes = new.iter().map(|mount| match mount.source {
            MountSource::Disk(size) => Some(size),
            MountSource::Image(_) | MountSource::Folder(_) => None,
        });
        // What is no disk of its own shows as a change that no policy is about.
        let Some(sizes) = sizes.collect::<Option<Vec<DiskBytes>>>() else { return Ok(None) };
        let asked = u32::try_from(sizes.len()).unwrap_or(u32::MAX);
        let largest = sizes.into_iter().map(|size| size.0).max().map_or(DiskBytes(0), DiskBytes);
        let spent = |count, most| EnvelopeError::VolumesSpent { vm: own.name.clone(), count, most };
        let mut refused = spent(asked, 0);
        for (policy, may) in self.may() {
            let May::Volume { count: most, size } = may else { continue };
            let count = self.spent(policy).volumes.saturating_add(asked);
            if count > *most {
                refused = spent(count, *most);
            } else if largest.0 > size.0 {
                refused = EnvelopeError::VolumeLarge { size: largest, most: *size };
            } else {
                uses.push(granted(policy, UseKind::Volumes { count: asked }));
                return Ok(Some(Step::Volumes { mounts: new.to_vec() }));
            }
        }
        Err(refused)
    }

    /// Judges the hours in a cloud: who goes to a host that is paid for asks for some, and who doesn't asks for none.
    fn cloud(&self, own: &Vm, uses: &mut Vec<Use>) -> Result<(), EnvelopeError> {
        let hours = self.asked.cloud_hours;
        let name = own.service_host.as_ref().and_then(|host| Name::parse(&host.0).ok());
        let cost = name.and_then(|name| self.around.hosts.get(&name)).map_or(Cost::None, |host| host.cost);
        let moves = uses.iter().any(|one| matches!(one.kind, UseKind::Move { .. }));
        match (cost, hours) {
            (Cost::None, 0) => return Ok(()),
            // It is there already, and changes something else.
            (Cost::Hourly, 0) if !moves => return Ok(()),
            (Cost::Hourly, 0) | (Cost::None, _) => return Err(EnvelopeError::CloudHours),
            (Cost::Hourly, _) => {}
        }
        let spent = |hours, most| EnvelopeError::CloudSpent { vm: own.name.clone(), hours, most };
        let mut refused = spent(hours, 0);
        for (policy, may) in self.may() {
            let May::Cloud { hours_per_day } = may else { continue };
            let all = self.spent(policy).cloud_hours.saturating_add(hours);
            if all <= *hours_per_day {
                uses.push(granted(policy, UseKind::Cloud { hours }));
                return Ok(());
            }
            refused = spent(all, *hours_per_day);
        }
        Err(refused)
    }

    fn spent(&self, policy: &Policy) -> Spent {
        self.around.spent.get(&policy.name).copied().unwrap_or_default()
    }

    /// Judges whether each policy that is used is past its grace.
    fn in_time(&self, uses: &[Use]) -> Result<(), EnvelopeError> {
        let used = self.policies.iter().filter(|policy| uses.iter().any(|one| one.policy == policy.name));
        for policy in used {
            if let Some(ago_ms) = self.spent(policy).last_ms_ago
                && ago_ms < policy.grace_ms
            {
                let (policy, grace_ms) = (policy.name.clone(), policy.grace_ms);
                return Err(EnvelopeError::TooSoon { policy, ago_ms, grace_ms });
            }
        }
        Ok(())
    }
}

fn granted(policy: &Policy, kind: UseKind) -> Use {
    Use { origin: policy.origin.clone(), policy: policy.name.clone(), kind }
}

fn find<'c>(of: &'c Constitution, vm: &Name) -> Option<&'c Vm> {
    of.project.vms.iter().find(|there| there.name == *vm)
}

fn is_of(of: &Constitution, vm: &Name, class: &Name) -> bool {
    of.mandates.get(vm).is_some_and(|mandate| mandate.classes.contains(class))
}

/// Returns how many VMs are of a class.
fn members(of: &Constitution, class: &Name) -> u32 {
    let count = of.project.vms.iter().filter(|vm| is_of(of, &vm.name, class)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Judges that no VM that stays may decide anything else than before.
fn policies_stand(parent: &Constitution, child: &Constitution) -> Result<(), EnvelopeError> {
    let of = |side: &Constitution, vm: &Name| {
        side.mandates.get(vm).map(|mandate| mandate.policies.clone()).unwrap_or_default()
    };
    let staying = parent.project.vms.iter().filter(|vm| find(child, &vm.name).is_some());
    for vm in staying {
        if of(parent, &vm.name) != of(child, &vm.name) {
            return Err(EnvelopeError::PolicyTouched { vm: vm.name.clone() });
        }
    }
    Ok(())
}

/// Whether two projects differ in nothing but how many of a class there are: a text may give those that stay
/// another name or address as others come, and that is not growth.
fn only_class_differs(parent: &Constitution, grown: &Constitution, class: &Name) -> bool {
    let alone = |one: &Constitution, other: &Constitution| {
        let all = one.project.vms.iter();
        all.filter(|vm| find(other, &vm.name).is_none()).map(|vm| vm.name.clone()).collect::<Vec<_>>()
    };
    let (gone, new) = (alone(parent, grown), alone(grown, parent));
    (gone.is_empty() || new.is_empty())
        && gone.iter().all(|vm| is_of(parent, vm, class))
        && new.iter().all(|vm| is_of(grown, vm, class))
        && parent.project.vms.iter().filter(|vm| !gone.contains(&vm.name)).all(|vm| {
            find(grown, &vm.name) == Some(vm) && parent.mandates.get(&vm.name) == grown.mandates.get(&vm.name)
        })
}

/// Returns something in which the child is not what it may be; none where it is exactly that.
fn touched(expected: &Constitution, child: &Constitution) -> Option<Touched> {
    let Project { name, vms, switches, hooks } = &expected.project;
    if *name != child.project.name {
        return Some(Touched::ProjectName);
    }
    let differing = vms.iter().find(|vm| find(child, &vm.name) != Some(vm));
    let new = child.project.vms.iter().find(|vm| find(expected, &vm.name).is_none());
    if let Some(vm) = differing.or(new) {
        return Some(Touched::Vm(vm.name.clone()));
    }
    if *vms != child.project.vms {
        return Some(Touched::Order);
    }
    if *hooks != child.project.hooks {
        return Some(Touched::Hooks);
    }
    if *switches != child.project.switches {
        return Some(Touched::Switches);
    }
    if expected.mandates != child.mandates {
        return Some(Touched::Classes);
    }
    (expected.definition != child.definition).then_some(Touched::Definition)
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("hosts", self.hosts)
            .field("spent", self.spent)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for Touched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ProjectName => f.write_str("the project's name"),
            Self::Vm(name) => write!(f, "`{name}`"),
            Self::Order => f.write_str("the order of the hosts"),
            Self::Switches => f.write_str("a switch"),
            Self::Hooks => f.write_str("what service hosts run"),
            Self::Classes => f.write_str("what a host inherits"),
            Self::Definition => f.write_str("what the project is written as"),
        }
    }
}
