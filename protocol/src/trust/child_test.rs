//! What a project becomes by what one of its VMs wants: text, images, and nothing else.

use super::*;
use crate::id::{Digest, Label, Name};
use crate::model::{Definition, HostAddress, PinnedTemplate, TemplateRef, Vm};
use crate::sample::name;

const TEXT: &str = "\
global { project web; autoenum c { numhosts 2; superclass s; service_hosts { a all } } }
superclass s { template mini; memory $size }
host web { service_host a; policy p { may move b; may scale c 1..4 } }
host old { template mini@7; service_host a }
";

fn label() -> Label {
    Label { owner: name("root"), project: name("web") }
}

fn pin(vm: &str, template: &str, digest: u8) -> PinnedTemplate {
    PinnedTemplate { vm: name(vm), template: name(template), digest: Digest([digest; 32]) }
}

fn parent() -> Definition {
    Definition {
        source: Some(TEXT.to_owned()),
        variables: vec![("size".to_owned(), "48M".to_owned())],
        files: Vec::new(),
        templates: vec![
            pin("node1", "mini", 1),
            pin("node2", "mini", 2),
            pin("web", "usual", 3),
            pin("old", "mini", 7),
        ],
    }
}

fn child(wanted: &Wanted) -> Result<Child, EnvelopeError> {
    child_of(&parent(), &label(), &name("web"), wanted)
}

fn image(child: &Child, vm: &str) -> Option<TemplateRef> {
    let vm: Option<&Vm> = child.project.vms.iter().find(|found| found.name == name(vm));
    vm.and_then(|vm| vm.template.clone())
}

#[test]
fn disks_stay_what_they_were_made_from_and_new_ones_are_like_those_of_the_same_words() {
    let child = child(&Wanted::Scale { class: name("c"), to: 3 }).expect("it can be made");
    let exact = |template: &str, digest: u8| Some(TemplateRef::Exact(name(template), Digest([digest; 32])));
    assert_eq!(image(&child, "node2"), exact("mini", 2));
    assert_eq!(image(&child, "node3"), exact("mini", 1), "as the first that is written like it");
    assert_eq!(image(&child, "web"), exact("usual", 3), "what is written nowhere was the usual one");
    assert_eq!(image(&child, "old"), exact("mini", 7));
    let pinned: Vec<&Name> = child.definition.templates.iter().map(|pin| &pin.vm).collect();
    assert_eq!(pinned, child.project.vms.iter().map(|vm| &vm.name).collect::<Vec<_>>());
    assert_eq!(child.definition.variables, parent().variables);
    assert_eq!(child.definition.source.as_deref(), Some(&*TEXT.replace("numhosts 2", "numhosts 3")));
    assert_eq!(crate::wire::decode_definition(&child.bytes), Ok(child.definition.clone()));
}

#[test]
fn a_move_says_the_host_in_the_text_and_changes_no_other_byte() {
    let child = child(&Wanted::Move { to: HostAddress("b".to_owned()) }).expect("it can be made");
    let expect = TEXT.replace("host web { service_host a", "host web { service_host b");
    assert_eq!(child.definition.source, Some(expect));
    assert!(child.mandates[&name("web")].classes.is_empty());
    assert_eq!(child.mandates[&name("web")].policies[0].origin, name("web"));
}

#[test]
fn what_is_too_large_or_not_kept_or_wrong_is_refused() {
    let bare = Definition { source: None, ..parent() };
    let wanted = Wanted::Scale { class: name("c"), to: 3 };
    assert_eq!(child_of(&bare, &label(), &name("web"), &wanted), Err(EnvelopeError::NoText));
    let large = |wanted: &Wanted| matches!(child(wanted), Err(EnvelopeError::Large { .. }));
    assert!(large(&Wanted::Text("#".repeat(GUEST_TEXT_BYTES_MAX + 1))));
    assert!(large(&Wanted::Scale { class: name("c"), to: 2_049 }));
    let many =
        Definition { source: Some(format!("{TEXT}{}", "#".repeat(GUEST_DEFINITION_BYTES_MAX))), ..parent() };
    assert!(matches!(child_of(&many, &label(), &name("web"), &wanted), Err(EnvelopeError::Large { .. })));
    let wrong = |text: String| matches!(child(&Wanted::Text(text)), Err(EnvelopeError::Wrong { .. }));
    assert!(wrong(TEXT.replace("numhosts 2", "numhosts 100000")), "a machine gets no more looked at");
    assert!(wrong(TEXT.replace("memory $size", "memory $other")));
    let no_such = Wanted::Set { path: "/host/web/momory".to_owned(), value: Some("1M".to_owned()) };
    assert!(matches!(child(&no_such), Err(EnvelopeError::Edit(_))));
}

#[test]
fn a_short_text_that_makes_much_work_is_too_large() {
    let head = |count: usize| {
        format!(
            "global {{ project web; autoenum servers {{ numhosts {count}; superclass s0 }} }}\nhost web {{ memory 32M }}\n"
        )
    };
    let each = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    // Each class adds lines, and each VM inherits them all.
    let chain = each(60, &|class| {
        let lines = each(50, &|line| format!("{class}{line}\n"));
        format!("superclass s{class} {{ superclass s{}\nstartup {{\n{lines}}}\n}}\n", class + 1)
    });
    let class = |inside: String| format!("superclass s0 {{ memory 32M\n{inside}}}\n");
    let policies =
        class(each(120, &|n| format!("policy p{n} {{ may scale servers 1..4; may move bergen }}\n")));
    let networks = class(each(250, &|n| format!("network eth{n} {{ switch s }}\n")));
    let variables = class(each(4_000, &|n| format!("$v{n} = 1\n")));
    for (what, text) in [
        ("lines", format!("{}superclass s60 {{ memory 32M }}\n{chain}", head(1_500))),
        ("policies", format!("{}{policies}", head(2_000))),
        ("networks", format!("{}switch s {{ }}\n{networks}", head(2_000))),
        ("variables", format!("{}{variables}", head(2_000))),
    ] {
        let refused = child(&Wanted::Text(text)).expect_err(what);
        let EnvelopeError::Wrong { message, .. } = &refused else { panic!("{what}: {refused}") };
        assert!(message.contains("values of all hosts together"), "{what}: {message}");
    }
    // As many VMs of a usual kind are none too many.
    let usual = class(format!("startup {{\n{}}}\n", each(60, &|n| format!("echo {n}\n"))));
    assert!(child(&Wanted::Text(format!("{}{usual}", head(2_000)))).is_ok());
}
