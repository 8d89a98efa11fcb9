//! Edits: what is set is there afterwards, and nothing else has changed.

use std::collections::BTreeMap;

use mln_protocol::lang::{self, Edit, EditError, NoIncludes, Setting, SourceLoader, Tree};
use mln_protocol::resolve::{self, Options};

use crate::golden::cases;
use crate::mutation::Numbers;
use crate::{Folder, crate_folder, options, understand};

fn setting(path: &str, value: Option<&str>) -> Setting {
    Setting { path: path.to_owned(), value: value.map(str::to_owned) }
}

fn set(path: &str, value: &str) -> Edit {
    Edit::Set(setting(path, Some(value)))
}

fn unset(path: &str) -> Edit {
    Edit::Unset { path: path.to_owned() }
}

/// Returns the project file after an edit.
fn edited(path: &str, text: &str, loader: &dyn SourceLoader, edit: &Edit) -> Result<String, EditError> {
    let (tree, _) = lang::parse(path, text.to_owned(), loader);
    let files = lang::rewrite(tree.sources(), lang::edit(&tree, edit)?);
    Ok(files.into_iter().find(|file| file.path == path).map_or_else(|| text.to_owned(), |file| file.text))
}

#[track_caller]
fn check(text: &str, edit: &Edit, expect: &str) {
    assert_eq!(edited("p.mln", text, &NoIncludes, edit).as_deref(), Ok(expect));
}

#[test]
fn a_value_is_replaced_where_it_stands() {
    check(
        "host a {\n\tmemory  64M # m\r\n}",
        &set("/host/a/memory", "1G"),
        "host a {\n\tmemory  1G # m\r\n}",
    );
    check("host a { location x }", &set("/host/a/service_host", "y"), "host a { location y }");
    check("host a { size 2G; uml }", &set("/host/a/free_space", "1G"), "host a { free_space 1G; uml }");
    check(
        "host a { network e { slirp } }",
        &set("/host/a/network/e/switch", "s"),
        "host a { network e { switch s } }",
    );
    check("host a { memory 1; memory 2 }", &set("/host/a/memory", "3"), "host a { memory 1; memory 3 }");
    check("global { $a=1; $b = ; $c }", &set("/global/$a", "x y"), "global { $a=x y; $b = ; $c }");
    check("global { $a=1; $b = ; $c }", &set("/global/$b", "2"), "global { $a=1; $b = 2 ; $c }");
    check("host a { color }", &set("/host/a/color", "red"), "host a { color red }");
    check("host a { color red }", &Edit::Set(setting("/host/a/color", None)), "host a { color }");
    check("host a { uml }", &set("/host/a/platform", "kvm"), "host a { kvm }");
    check("host a { extra \"a;b\" }", &set("/host/a/extra", "{c}  d"), "host a { extra \"{c}  d\" }");
}

#[test]
fn what_is_not_there_is_added_in_the_layout_around_it() {
    check(
        "host a {\n  uml\n\n  # end\n}\n",
        &set("/host/a/memory", "1G"),
        "host a {\n  uml\n  memory 1G\n\n  # end\n}\n",
    );
    check(
        "host a {\n  uml; # x\n}\n",
        &set("/host/a/memory", "1G"),
        "host a {\n  uml; # x\n  memory 1G\n}\n",
    );
    check("host a { }", &set("/host/a/memory", "1G"), "host a { memory 1G }");
    check("host a {}", &set("/host/a/$m", "1G"), "host a { $m = 1G }");
    check(" host a {\n }", &set("/host/a/memory", "1G"), " host a {\n     memory 1G\n }");
    check("host a { uml }", &set("/host/a/memory", "1G"), "host a { uml; memory 1G }");
    check("host a { users { b c } }", &set("/host/a/memory", "1G"), "host a { memory 1G; users { b c } }");
    check(
        "host a {\r\n\tusers { b c }\r\n}",
        &set("/host/a/memory", "1"),
        "host a {\r\n\tmemory 1\r\n\tusers { b c }\r\n}",
    );
    check("host a { uml }", &set("/host/a/network/e/switch", "s"), "host a { uml; network e { switch s } }");
    check(
        "host a {\n    uml\n}\n",
        &set("/host/a/network/e/switch", "s"),
        "host a {\n    uml\n    network e {\n        switch s\n    }\n}\n",
    );
    check("# c", &set("/global/project", "p"), "# c\n\nglobal {\n    project p\n}\n");
}

#[test]
fn what_is_taken_out_takes_its_line_along_and_leaves_comments() {
    check("host a {\n  uml\n  memory 1\n}", &unset("/host/a/memory"), "host a {\n  uml\n}");
    check("host a {\n  memory 1 # why\n}", &unset("/host/a/memory"), "host a {\n  # why\n}");
    check("host a { uml; memory 1; size 2G }", &unset("/host/a/memory"), "host a { uml; size 2G }");
    check("host a { memory 1; memory 2 }", &unset("/host/a/memory"), "host a { }");
    check("host a {\n uml; memory 1;\n}", &unset("/host/a/memory"), "host a {\n uml;\n}");
    check(
        "host a {\n startup {\n x\n }\n}\nhost b { }",
        &unset("/host/a/startup"),
        "host a {\n}\nhost b { }",
    );
    check("host a { }\nhost b { }\n", &unset("/host/a"), "host b { }\n");
    check("host a { network e { uml } }", &unset("/host/a/network/e"), "host a { }");
    check("global { $a = 1; project p }", &unset("/global/$a"), "global { project p }");
}

#[test]
fn hosts_are_added_at_the_end_and_enumerations_scaled() {
    let add = |name: &str, settings: Vec<Setting>| Edit::AddHost { name: name.to_owned(), settings };
    let network = |keyword: &str, value| setting(&format!("network/eth0/{keyword}"), Some(value));
    let web = add(
        "web2",
        vec![
            setting("superclass", Some("web")),
            network("switch", "lan"),
            setting("uml", None),
            network("address", "10.0.0.2"),
        ],
    );
    check(
        "host web { }\n",
        &web,
        concat!(
            "host web { }\n\nhost web2 {\n    superclass web\n    network eth0 {\n        switch lan\n        ",
            "address 10.0.0.2\n    }\n    uml\n}\n"
        ),
    );
    check("", &add("a", vec![]), "host a { }\n");
    let scale = |class: &str| Edit::Scale { class: class.to_owned(), count: 7 };
    let crew = "global { autoenum crew { superclass node; numhosts $n } }";
    let scaled = "global { autoenum crew { superclass node; numhosts 7 } }";
    check(crew, &scale("crew"), scaled);
    check(crew, &scale("node"), scaled);
    check(crew, &set("/global/autoenum/crew/numhosts", "7"), scaled);
    let unknown = |text: &str, class: &str| {
        let (tree, _) = lang::parse("p.mln", text.to_owned(), &NoIncludes);
        lang::edit(&tree, &scale(class)).expect_err("there is none").to_string()
    };
    assert!(unknown(crew, "nodee").ends_with("; did you mean `node`?"));
    assert!(unknown(crew, "x").ends_with("; there are: crew, node"));
    assert!(unknown("host a { }", "x").ends_with("; there is none (a block `autoenum` makes one)"));
    check(
        "global { autoenum { superclass n } }",
        &scale("n"),
        "global { autoenum { superclass n; numhosts 7 } }",
    );
    check(
        "global { autoenum { } }",
        &set("/global/autoenum/1/numhosts", "7"),
        "global { autoenum { numhosts 7 } }",
    );
}

#[test]
fn a_host_is_placed_in_its_own_block_and_one_of_an_enumeration_by_amending_it() {
    let place = |host: &str| Edit::Place { host: host.to_owned(), service_host: "bergen".to_owned() };
    check("host a { memory 64M }\n", &place("a"), "host a { memory 64M; service_host bergen }\n");
    check("host a { service_host $h }\n", &place("a"), "host a { service_host bergen }\n");
    let farm = "global { autoenum { superclass n; numhosts 3 } }\n";
    let amended = format!("{farm}\namend node2 {{\n    service_host bergen\n}}\n");
    check(farm, &place("node2"), &amended);
    check(&amended, &place("node2"), &amended);
    let elsewhere = amended.replace("bergen", "oslo");
    check(&elsewhere, &place("node2"), &amended);
}

#[test]
fn edits_that_cannot_be_made_say_why() {
    let text =
        "global { autoenum { superclass n }\n autoenum { superclass n } }\nhost web { startup { x } }\n";
    let check = |edit: &Edit, expect: &str| {
        let error = edited("p.mln", text, &NoIncludes, edit).expect_err(expect);
        assert_eq!(error.to_string(), expect);
    };
    check(&set("/host/wbe/memory", "1"), "there is no block `host wbe` in the file; did you mean `web`?");
    check(
        &set("/host/web/memroy", "1"),
        "`memroy` means nothing in `host` and `superclass`; did you mean `memory`?",
    );
    check(&set("/host/web/startup", "x"), "`startup` is a list of lines: edit them in the file");
    check(&set("/host/web/uml", "yes"), "`uml` does not take the value `yes`");
    check(&Edit::Set(setting("/host/web/memory", None)), "`memory` lacks its value");
    check(&set("/host/web/memory", "1\n2"), "a value cannot have several lines");
    check(&unset("/host/web/memory"), "`/host/web/memory` is not set there");
    check(
        &Edit::Scale { class: "n".to_owned(), count: 1 },
        "2 enumerations have the superclass `n`: name the enumeration",
    );
    check(
        &Edit::Scale { class: "m".to_owned(), count: 1 },
        "no enumeration is named `m` or has that superclass; there are: n",
    );
    check(&Edit::AddHost { name: "web".to_owned(), settings: Vec::new() }, "there is a host `web` already");
}

/// Returns every path of a project with what it leads to.
fn everything(tree: &Tree, options: &Options) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), 0)];
    while let Some((path, depth)) = open.pop() {
        if let Some(lines) = resolve::query(tree, options, &path) {
            if depth < 7 {
                open.extend(
                    lines
                        .iter()
                        .filter(|line| !line.is_empty() && !line.contains('/'))
                        .map(|line| (format!("{path}/{line}"), depth + 1)),
                );
            }
            found.insert(path, lines);
        }
    }
    found
}

/// Paths within a host that may be set, each with values that it may have and the paths that it excludes.
const SETTINGS: [(&str, &[&str], &[&str]); 10] = [
    ("memory", &["77M", "1G"], &[]),
    ("size", &["3G", "900M"], &["free_space"]),
    ("free_space", &["3G", "900M"], &["size"]),
    ("service_host", &["oslo", "h-1"], &["location"]),
    ("boot_order", &["7", "0"], &[]),
    ("template", &["t@1"], &[]),
    ("root_password", &["a b", "two  blanks", "\"{#;}\\", "$6$x$y", ""], &["root_passwd"]),
    ("extra", &["x;y", " # "], &[]),
    ("network/eth0/gateway", &["10.0.0.99"], &[]),
    ("network/eth9/bridge", &["br7"], &["network/eth9/switch", "network/eth9/slirp"]),
];

/// Returns how many lines of a text are not there in another one, byte for byte, before and behind what is new there.
fn lines_changed(before: &str, after: &str) -> usize {
    let lines = |text: &str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(before), lines(after));
    let same_start = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[same_start..], &after[same_start..]);
    let same_end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    before.len() - same_end
}

#[test]
fn what_is_set_is_there_and_nothing_else_has_changed() {
    let loader = Folder(crate_folder().join("tests/lang"));
    let options = options(&[("n", "2")]);
    let mut numbers = Numbers(3);
    let mut made = 0;
    for case in cases("ok") {
        let text = std::fs::read_to_string(&case).expect("cases are text");
        let name = case.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = format!("ok/{name}");
        let (tree, resolved, _) = understand(&path, &text, &loader, &options);
        let before = everything(&tree, &options);
        for _ in 0..40 {
            let host = &resolved.project.vms[numbers.below(resolved.project.vms.len())].name;
            let (within, values, excluded) = SETTINGS[numbers.below(SETTINGS.len())];
            let value = values[numbers.below(values.len())];
            let wanted = format!("/host/{host}/{within}");
            // Hosts of enumerations and in files that are included twice are refused.
            let Ok(new_text) = edited(&path, &text, &loader, &set(&wanted, value)) else { continue };
            let told = format!("{path}: {wanted} = {value}\n{new_text}");
            let (new_tree, _, diagnostics) = understand(&path, &new_text, &loader, &options);
            assert!(diagnostics.iter().all(|one| one.code.as_str() != "E0101"), "{told}");
            let mut after = everything(&new_tree, &options);
            if new_text == text && before.get(&wanted) != Some(&vec![value.to_owned()]) {
                // The change is in an included file, which this test doesn't write.
                continue;
            }
            // Asked for by this name: the file may have another word for it.
            let found = resolve::query(&new_tree, &options, &wanted);
            assert_eq!(found, Some(vec![value.to_owned()]), "{told}");
            assert!(lines_changed(&text, &new_text) <= 1, "{told}");
            let concerned = |found: &str| {
                found == wanted
                    || wanted.starts_with(&format!("{found}/"))
                    || excluded.iter().any(|other| found == format!("/host/{host}/{other}"))
                    || found.is_empty()
            };
            let mut expected = before.clone();
            expected.retain(|found, _| !concerned(found));
            after.retain(|found, _| !concerned(found));
            assert_eq!(expected, after, "{told}");
            made += 1;
        }
    }
    assert!(made > 150, "only {made} edits were made");
}

#[test]
fn what_was_added_can_be_taken_out_again() {
    let options = options(&[]);
    let texts = [
        "host a { }",
        "host a {\n\tuml\n}",
        "host a { uml; users { b c } } # x",
        "host a {\n users { b c } }\n",
    ];
    for text in texts {
        for (within, values, _) in SETTINGS {
            let path = format!("/host/a/{within}");
            let added = edited("p.mln", text, &NoIncludes, &set(&path, values[0])).expect("it can be set");
            let again = edited("p.mln", &added, &NoIncludes, &unset(&path)).expect("it is there");
            let all = |text: &str| everything(&understand("p.mln", text, &NoIncludes, &options).0, &options);
            let mut after = all(&again);
            after.retain(|found, lines| !lines.is_empty() || !found.contains("/network/"));
            let mut before = all(text);
            let block = within.contains('/');
            before.retain(|found, _| !block || found.len() > "/host/a".len());
            after.retain(|found, _| !block || (found.len() > "/host/a".len() && !found.contains("/network")));
            assert_eq!(before, after, "{text}\n{added}\n{again}");
        }
    }
}
