//! Every keyword of the language: where it may stand, what shape it has, and whether it is carried out.
//!
//! One table per kind of block. The parser needs it to know how the inside of a block is to be read; `resolve`
//! reports what is not in it. What a keyword means is not known here.

use super::claim::ClaimId;
use super::nearest::nearest;

/// A keyword in one kind of block.
#[derive(Debug, PartialEq, Eq)]
pub struct Keyword {
    /// As it is written.
    pub word: &'static str,
    /// The keyword that it is another spelling of, or itself.
    pub canonical: &'static str,
    /// May it stand alone?
    pub flag: bool,
    /// May it have a value?
    pub value: bool,
    /// May it have a block, and which?
    pub block: Option<BlockForm>,
    /// Do several in one block add up, instead of the last one winning?
    pub several: bool,
    /// What becomes of it.
    pub state: State,
}

/// What a keyword's block looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockForm {
    /// Does a name stand before the brace?
    pub naming: Naming,
    /// How its inside is read.
    pub body: Body,
}

/// Whether a block has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// It has none.
    None,
    /// It may have one.
    Optional,
    /// It must have one.
    Required,
}

/// How the inside of a block is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Keywords, as in [`keywords`].
    Keywords(Context),
    /// Lines of words, in order.
    Lines,
    /// Lines as they are.
    Raw,
    /// Names, each with a block of lines.
    Lists,
    /// Words that a plugin claims.
    Claimed(ClaimId),
    /// Whatever its owner likes: a platform's block, or one that nobody knows.
    Free,
}

/// A kind of block with keywords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// Outside of all blocks.
    Top,
    /// `global`.
    Global,
    /// `autoenum` in `global`.
    Autoenum,
    /// `host` and `superclass`.
    Host,
    /// `network` in a host.
    Network,
    /// `ec2` in a host.
    Ec2,
    /// `policy` in a host.
    Policy,
    /// `switch`.
    Switch,
}

/// What becomes of a keyword on User-Mode Linux; a test over all keywords holds each to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does what it says.
    CarriedOut,
    /// It is understood and kept, and will be carried out: a warning names it.
    NotYet,
    /// It cannot mean anything there: where it asks for something, a warning names it.
    NoEffect,
    /// A project that asks for it is refused.
    Refused,
    /// What becomes of it is what becomes of the block that it stands in.
    WithBlock,
    /// It no longer has a meaning; this took its place.
    Replaced(&'static str),
}

impl State {
    /// Returns what becomes of a keyword, in words, as the reference has it.
    pub fn words(self) -> String {
        match self {
            Self::CarriedOut => "carried out".to_owned(),
            Self::NotYet => "warned about, `W0801`".to_owned(),
            Self::NoEffect => "warned about, `W0803`".to_owned(),
            Self::Refused => "refused, `E0802`".to_owned(),
            Self::WithBlock => "as its block".to_owned(),
            Self::Replaced(by) => format!("warned about, `W0804`: {by} replace it"),
        }
    }
}

impl Context {
    /// Every kind, outermost first.
    pub const ALL: [Self; 8] = [
        Self::Top,
        Self::Global,
        Self::Autoenum,
        Self::Host,
        Self::Network,
        Self::Ec2,
        Self::Policy,
        Self::Switch,
    ];

    /// Returns where it is, in words.
    pub fn place(self) -> &'static str {
        match self {
            Self::Top => "outside of all blocks",
            Self::Global => "in `global`",
            Self::Autoenum => "in `autoenum`",
            Self::Host => "in `host` and `superclass`",
            Self::Network => "in `network`",
            Self::Ec2 => "in `ec2`",
            Self::Policy => "in `policy`",
            Self::Switch => "in `switch`",
        }
    }
}

/// Returns the keywords of a kind of block, in alphabetical order.
pub fn keywords(context: Context) -> &'static [Keyword] {
    match context {
        Context::Top => TOP,
        Context::Global => GLOBAL,
        Context::Autoenum => AUTOENUM,
        Context::Host => HOST,
        Context::Network => NETWORK,
        Context::Ec2 => EC2,
        Context::Policy => POLICY,
        Context::Switch => SWITCH,
    }
}

/// Returns a keyword of a kind of block.
pub fn keyword(context: Context, word: &str) -> Option<&'static Keyword> {
    let table = keywords(context);
    table.binary_search_by(|keyword| keyword.word.cmp(word)).ok().map(|at| &table[at])
}

/// Returns the keyword that somebody may have meant, of those with the shape that stands there.
pub fn nearest_keyword(context: Context, word: &str, is_block: bool) -> Option<&'static Keyword> {
    let fits =
        |keyword: &&Keyword| if is_block { keyword.block.is_some() } else { keyword.value || keyword.flag };
    let words = keywords(context).iter().filter(fits).map(|keyword| keyword.word);
    nearest(word, words).and_then(|near| keyword(context, near))
}

/// Returns how the inside of a block is read, from its keyword and where it stands. A block whose keyword is
/// misspelt is read as what it is meant to be, so that one mistake makes no others.
pub fn body_of(outer: Body, word: &str) -> Body {
    match outer {
        Body::Keywords(context) => keyword(context, word)
            .or_else(|| nearest_keyword(context, word, true))
            .and_then(|keyword| keyword.block)
            .map_or(Body::Free, |form| form.body),
        Body::Lists => Body::Lines,
        Body::Lines | Body::Raw | Body::Claimed(_) | Body::Free => Body::Free,
    }
}

/// Keywords that exclude each other share a slot: the nearest of them wins.
pub fn slot(keyword: &Keyword) -> &'static str {
    match keyword.canonical {
        "size" | "free_space" => "disk",
        "hub" => "type",
        "switch" | "bridge" | "slirp" if keyword.block.is_none() => "attachment",
        canonical => canonical,
    }
}

/// Returns whether a word with a name and a brace behind it can only begin a block outside of all others.
pub fn is_outermost(word: &str) -> bool {
    matches!(word, "amend" | "global" | "host" | "superclass" | "switch")
}

const fn bare(word: &'static str) -> Keyword {
    Keyword {
        word,
        canonical: word,
        flag: false,
        value: false,
        block: None,
        several: false,
        state: State::CarriedOut,
    }
}

const fn pair(word: &'static str) -> Keyword {
    Keyword { value: true, ..bare(word) }
}

const fn flag(word: &'static str) -> Keyword {
    Keyword { flag: true, ..bare(word) }
}

const fn block(word: &'static str, naming: Naming, body: Body) -> Keyword {
    Keyword { block: Some(BlockForm { naming, body }), ..bare(word) }
}

const fn lines(word: &'static str) -> Keyword {
    block(word, Naming::None, Body::Lines)
}

const fn raw(word: &'static str) -> Keyword {
    block(word, Naming::None, Body::Raw)
}

/// A platform: a flag, or a block with its own settings.
const fn platform(word: &'static str) -> Keyword {
    let form = BlockForm { naming: Naming::None, body: Body::Free };
    Keyword { flag: true, block: Some(form), canonical: "platform", ..bare(word) }
}

impl Keyword {
    const fn or_flag(self) -> Self {
        Self { flag: true, ..self }
    }

    const fn alias(self, canonical: &'static str) -> Self {
        Self { canonical, ..self }
    }

    const fn several(self) -> Self {
        Self { several: true, ..self }
    }

    const fn not_yet(self) -> Self {
        Self { state: State::NotYet, ..self }
    }

    const fn without_effect(self) -> Self {
        Self { state: State::NoEffect, ..self }
    }

    const fn refused(self) -> Self {
        Self { state: State::Refused, ..self }
    }

    const fn with_block(self) -> Self {
        Self { state: State::WithBlock, ..self }
    }

    const fn replaced(self, by: &'static str) -> Self {
        Self { state: State::Replaced(by), ..self }
    }
}

const TOP: &[Keyword] = &[
    block("amend", Naming::Required, Body::Keywords(Context::Host)),
    block("global", Naming::None, Body::Keywords(Context::Global)),
    block("host", Naming::Required, Body::Keywords(Context::Host)),
    block("plugin", Naming::Required, Body::Free),
    block("superclass", Naming::Required, Body::Keywords(Context::Host)),
    block("switch", Naming::Required, Body::Keywords(Context::Switch)),
];

const GLOBAL: &[Keyword] = &[
    raw("afterHostsStart"),
    raw("afterHostsStop"),
    raw("afterProjectStart"),
    raw("afterProjectStop"),
    block("autoenum", Naming::Optional, Body::Keywords(Context::Autoenum)),
    raw("beforeHostsStart"),
    raw("beforeHostsStop"),
    raw("beforeProjectStart"),
    raw("beforeProjectStop"),
    block("plugin", Naming::Required, Body::Free),
    pair("plugins").several(),
    pair("project"),
    pair("project_password").replaced("grants"),
];

const AUTOENUM: &[Keyword] = &[
    pair("address").alias("addresses"),
    pair("addresses"),
    pair("addresses_begin"),
    pair("hostprefix"),
    pair("interface"),
    pair("net").alias("network"),
    pair("network"),
    pair("numhosts"),
    lines("service_hosts"),
    pair("superclass"),
];

const HOST: &[Keyword] = &[
    pair("boot_order"),
    pair("color").or_flag().without_effect(),
    pair("cow_filesystem").or_flag().without_effect(),
    pair("cpus"),
    block("ec2", Naming::None, Body::Keywords(Context::Ec2)).not_yet(),
    pair("extra").without_effect(),
    pair("filepath").without_effect(),
    lines("files"),
    pair("filesystem").without_effect(),
    pair("free_space"),
    pair("group").without_effect(),
    block("groups", Naming::None, Body::Lists),
    flag("hvm").without_effect(),
    pair("iscsi").or_flag().without_effect(),
    pair("iscsi_target").without_effect(),
    pair("kernel").without_effect(),
    platform("kvm").refused(),
    pair("location").alias("service_host"),
    pair("lock_dir").without_effect(),
    pair("lock_timeout").without_effect(),
    pair("locking").or_flag().without_effect(),
    pair("lvm").or_flag().without_effect(),
    pair("lvm_snapshot").or_flag().without_effect(),
    pair("lvm_vg").without_effect(),
    pair("memory"),
    pair("memory_max"),
    lines("modules"),
    pair("modules_dir").without_effect(),
    lines("mount"),
    pair("nameserver").several(),
    block("network", Naming::Required, Body::Keywords(Context::Network)),
    pair("nice"),
    pair("owner").without_effect(),
    block("plugin", Naming::Required, Body::Free),
    block("policy", Naming::Required, Body::Keywords(Context::Policy)),
    platform("qemu").refused(),
    pair("ramdisk").without_effect(),
    pair("root_passwd").alias("root_password"),
    pair("root_password"),
    pair("service_host"),
    raw("shutdown"),
    pair("size"),
    raw("startup"),
    pair("sudo").or_flag().without_effect(),
    pair("superclass"),
    pair("swap"),
    pair("template"),
    pair("term").without_effect(),
    platform("uml"),
    lines("users"),
    pair("vcpus").without_effect(),
    platform("vmware").refused(),
    pair("vncdisplay").without_effect(),
    pair("vnckeymap").without_effect(),
    pair("vncpasswd").without_effect(),
    platform("xen").refused(),
    lines("xen_extra").without_effect(),
];

const NETWORK: &[Keyword] = &[
    pair("address"),
    flag("auto"),
    pair("bridge"),
    pair("broadcast"),
    pair("delay"),
    pair("forward").several(),
    pair("gateway"),
    pair("loss"),
    pair("mac"),
    pair("netmask"),
    pair("rate"),
    flag("slirp"),
    pair("switch"),
    pair("tun_address"),
    pair("tun_iface"),
];

const EC2: &[Keyword] = &[
    pair("ami").with_block(),
    pair("arch").with_block(),
    pair("elastic_ip").or_flag().with_block(),
    pair("endpoint").with_block(),
    pair("key").with_block(),
    flag("no_terminate").with_block(),
    pair("region").with_block(),
    pair("security_groups").with_block(),
    pair("spot").or_flag().with_block(),
    pair("subnet").with_block(),
    pair("type").with_block(),
    pair("use").with_block(),
    lines("user_data").with_block(),
    lines("volumes").with_block(),
    pair("zone").with_block(),
];

const POLICY: &[Keyword] = &[
    pair("builtin"),
    pair("every"),
    pair("gauge"),
    pair("grace"),
    pair("may").several(),
    pair("quota"),
    pair("run"),
    pair("window"),
];

const SWITCH: &[Keyword] = &[
    pair("bridge"),
    flag("hub"),
    pair("location").alias("service_host"),
    pair("service_host"),
    pair("tap").or_flag(),
    pair("type"),
    pair("vlan"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_order_and_every_keyword_has_a_shape() {
        for context in Context::ALL {
            let table = keywords(context);
            assert!(table.is_sorted_by(|a, b| a.word < b.word), "{context:?}");
            for keyword in table {
                assert!(keyword.flag || keyword.value || keyword.block.is_some(), "{}", keyword.word);
                let canonical = keyword.canonical == "platform"
                    || table.iter().any(|other| other.word == keyword.canonical);
                assert!(canonical, "{}", keyword.word);
            }
        }
    }
}
