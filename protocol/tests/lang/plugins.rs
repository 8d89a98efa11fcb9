//! Plugins as far as the language knows them: their words, what stands there for them, and what they have made.

use mln_protocol::convert::{plugin_answer, plugin_request};
use mln_protocol::lang::grammar::Context;
use mln_protocol::lang::{
    self, Claim, ClaimForm, Code, Diagnostic, Made, Manifest, ManifestError, ManifestLoader, NoIncludes,
    NoPlugins, Plugged,
};
use mln_protocol::resolve;
use serde_json::{Value, json};

use crate::{options, understand, understand_plugged};

/// The manifests that the cases know.
#[derive(Debug)]
pub(crate) struct Known;

fn claim(word: &str, form: ClaimForm) -> Claim {
    Claim { word: word.to_owned(), form }
}

impl ManifestLoader for Known {
    fn manifest(&self, name: &str) -> Result<Manifest, ManifestError> {
        let pair = |word: &str| claim(word, ClaimForm::Pair);
        match name {
            "cfengine" => Ok(Manifest {
                claims: vec![(vec![Context::Host], claim("cfengine", ClaimForm::Lines))],
                settings: vec![pair("path"), pair("class"), claim("more", ClaimForm::Lines)],
            }),
            "apache" => {
                let vhost = vec![
                    pair("root"),
                    claim("alias", ClaimForm::Pairs),
                    claim("index", ClaimForm::Flag),
                    claim("extra", ClaimForm::Lines),
                ];
                let places = vec![Context::Global, Context::Host, Context::Network, Context::Switch];
                Ok(Manifest {
                    claims: vec![
                        (vec![Context::Host], claim("vhost", ClaimForm::Blocks(vhost))),
                        (places, pair("label")),
                    ],
                    settings: Vec::new(),
                })
            }
            "broken" => Err(ManifestError::Unusable { reason: "others may write it".to_owned() }),
            "greedy" => Ok(Manifest {
                claims: vec![(vec![Context::Host], claim("memory", ClaimForm::Pair))],
                settings: Vec::new(),
            }),
            "rival" => Ok(Manifest {
                claims: vec![(vec![Context::Host], claim("cfengine", ClaimForm::Pair))],
                settings: Vec::new(),
            }),
            "other" | "made" | "own" | "a" | "b" | "c" => Ok(Manifest {
                claims: Vec::new(),
                settings: vec![
                    pair("any"),
                    claim("thing", ClaimForm::Block(vec![claim("goes", ClaimForm::Flag)])),
                ],
            }),
            name => Err(ManifestError::NotFound {
                file: format!("{name}.toml"),
                searched: vec!["/usr/share/mln/plugins".to_owned()],
                known: vec!["apache".to_owned(), "cfengine".to_owned()],
            }),
        }
    }
}

const PROJECT: &str = r#"
global { project p; plugins cfengine apache; $where = /srv; label all }
plugin cfengine { path /etc/policy.cf }
superclass web {
    cfengine {
        bundle agent main {
            "$[where]/$[hostname]" create => "true";
        }
    }
    vhost shop { root $[where]/shop; alias www.shop }
    network eth0 { switch lan; label inner }
}
switch lan { label segment }
host a {
    superclass web
    cfengine { # more of it
        # a comment
        bundle agent extra { reports: "it's $(sys.date)"; }
    }
    vhost shop { root /other; alias shop.example; index }
    vhost wiki { root /wiki; extra { <Location "/x;y"> } }
    plugin cfengine { class one }
}
host b { superclass web; no vhost }
"#;

fn request(text: &str, index: usize) -> Value {
    let (tree, resolved, diagnostics) = understand("p.mln", text, &NoIncludes, &options(&[]));
    assert_eq!(diagnostics, [], "{text}");
    let plugin = &tree.claims().plugins()[index];
    serde_json::from_str(&plugin_request(plugin, index, &resolved)).expect("a request is JSON")
}

#[test]
fn a_plugin_is_told_what_is_said_to_it_inherited_and_with_variables_put_in() {
    let cfengine = request(PROJECT, 0);
    assert_eq!(cfengine["version"], 1);
    assert_eq!(cfengine["settings"], json!({"path": "/etc/policy.cf"}));
    let host = &cfengine["project"]["hosts"][0];
    assert_eq!(host["settings"], json!({"class": "one"}));
    let lines = [
        "bundle agent main {",
        "    \"/srv/a\" create => \"true\";",
        "}",
        "bundle agent extra { reports: \"it's $(sys.date)\"; }",
    ];
    assert_eq!(
        host["claimed"],
        json!({"cfengine": lines}),
        "the class's lines come first; no other plugin's words"
    );
    let apache = request(PROJECT, 1);
    assert_eq!(apache["global"], json!({"label": "all"}));
    let hosts = &apache["project"]["hosts"];
    let shop =
        json!({"name": "shop", "root": "/other", "alias": ["www.shop", "shop.example"], "index": true});
    let wiki = json!({"name": "wiki", "root": "/wiki", "extra": ["<Location \"/x;y\">"]});
    assert_eq!(hosts[0]["claimed"], json!({"vhost": [shop, wiki]}));
    assert_eq!(hosts[1]["claimed"], json!({}), "`no vhost` removes what was inherited");
    assert_eq!(hosts[0]["networks"][0]["claimed"], json!({"label": "inner"}));
    assert_eq!(apache["project"]["switches"][0]["claimed"], json!({"label": "segment"}));
    assert_eq!(hosts[0]["memory_mib"], 64, "the rest is as `show --json` has it");
}

#[test]
fn a_query_reaches_what_is_said_to_plugins() {
    let (tree, ..) = understand("p.mln", PROJECT, &NoIncludes, &options(&[]));
    let query = |path: &str| resolve::query(&tree, &options(&[]), path);
    assert_eq!(query("/host/a/vhost").unwrap_or_default(), ["shop", "wiki"]);
    assert_eq!(query("/host/a/vhost/shop/alias").unwrap_or_default(), ["www.shop", "shop.example"]);
    assert_eq!(query("/host/a/vhost/shop/index").unwrap_or_default(), ["index"]);
    assert_eq!(query("/host/a/cfengine").unwrap_or_default().len(), 4);
    assert_eq!(query("/host/b/vhost"), None);
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics.iter().map(|one| one.code.as_str()).collect()
}

#[test]
fn what_a_plugin_makes_is_part_of_the_project_and_of_what_is_sent() {
    let answer = json!({
        "version": 1,
        "text": "host c { superclass web; network eth1 { switch lan } }",
        "set": [{"host": "a", "keyword": "memory", "value": "96M"},
                {"host": "a", "network": "eth0", "keyword": "address", "value": "10.0.0.7/24"}],
        "files": [{"host": "a", "path": "/etc/x", "mode": "0600", "text": "{ $hostname\n"}],
        "startup": [{"host": "c", "lines": ["if true; then", "    echo \"$[hostname]\"", "fi"]}],
        "diagnostics": [{"severity": "warning", "message": "odd", "host": "a"},
                        {"severity": "error", "message": "bad"}],
    });
    let answer = plugin_answer(&answer.to_string()).expect("an answer");
    let (made, files) = answer.made("cfengine").expect("it can be said");
    let (tree, before, _) = understand("p.mln", PROJECT, &NoIncludes, &options(&[]));
    let said = answer.diagnostics(&tree.claims().plugins()[0], 0, &before);
    assert_eq!(codes(&said), ["W0906", "E0905"]);
    assert_eq!(tree.sources().slice(said[0].span), "cfengine", "it points at what the host says");
    assert_eq!(said[0].message, "cfengine: host a: odd");

    let made = [made];
    let (tree, resolved, diagnostics) =
        understand_plugged("p.mln", PROJECT, &NoIncludes, &options(&[]), &made);
    assert_eq!(diagnostics, []);
    let vms = &resolved.project.vms;
    assert_eq!((vms[0].memory.0, vms[2].name.as_str()), (96, "c"));
    assert_eq!(vms[0].files[0].from, files[0].from);
    assert_eq!(vms[2].startup, ["if true; then", "echo \"c\"", "fi"]);
    let folded = lang::fold(&tree);
    assert!(!folded.contains("vhost") && !folded.contains("plugin "), "{folded}");
    let (tree, mut diagnostics) = lang::parse("project", folded, &NoIncludes);
    let again = resolve::resolve(&tree, &options(&[]));
    diagnostics.extend(again.diagnostics);
    assert_eq!(diagnostics, [], "whoever gets it needs no plugin");
    assert_eq!(again.project, resolved.project);
}

#[test]
fn a_mistake_in_what_was_made_has_a_place_and_no_fix_on_disk() {
    let made = [Made {
        plugin: "cfengine".to_owned(),
        text: "amend aa { memroy 5 }\nglobal { plugins own }".to_owned(),
    }];
    let (tree, _, diagnostics) = understand_plugged("p.mln", PROJECT, &NoIncludes, &options(&[]), &made);
    assert_eq!(codes(&diagnostics), ["E0908", "E0201", "E0202"]);
    let place = tree.sources().position(diagnostics[1].span);
    assert_eq!((place.path, place.line), ("(made by the plugin cfengine)", 1));
    let chain: Vec<&str> =
        tree.sources().chain(diagnostics[1].span.source).map(|span| tree.sources().slice(span)).collect();
    assert_eq!(chain, ["cfengine"], "it was put in where the plugin is named");
    let fixes = diagnostics.iter().filter_map(|one| one.fix.clone());
    assert_eq!(lang::rewrite(tree.sources(), fixes), []);
}

#[test]
fn what_is_amended_is_nearer_than_what_an_enumeration_makes() {
    let text = "global { project p; autoenum { numhosts 2; superclass c; network 10.0.0.0/24; service_hosts { oslo } } }
        superclass c { memory 32M; startup { one } }
        amend node2 { memory 64M; service_host bergen; network eth0 { address 10.0.0.99/24 }; startup { two } }
        amend node2 { boot_order 3 }";
    let (_, resolved, diagnostics) = understand("p.mln", text, &NoIncludes, &options(&[]));
    assert_eq!(diagnostics, []);
    let (first, second) = (&resolved.project.vms[0], &resolved.project.vms[1]);
    assert_eq!((first.memory.0, second.memory.0, second.boot_order.0), (32, 64, 3));
    assert_eq!(second.service_host.as_ref().map(|host| host.0.as_str()), Some("bergen"));
    assert_eq!(second.startup, ["one", "two"]);
    let shown = mln_protocol::convert::project_json(&resolved.project, None, &[], &Default::default());
    assert!(shown.contains("10.0.0.99") && shown.contains("10.0.0.1\""), "{shown}");
}

#[test]
fn whoever_gets_a_text_runs_no_plugins() {
    let plugged = Plugged { manifests: &NoPlugins, made: &[] };
    let text = "global { project p; plugins cfengine }\nhost a { }".to_owned();
    let (_, diagnostics) = lang::parse_with("project", text, &NoIncludes, &plugged);
    assert_eq!(diagnostics.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::PluginUnknown]);
    assert!(diagnostics[0].message.contains("where a project is submitted"), "{}", diagnostics[0].message);
}

#[test]
fn plugins_that_an_include_hides_or_shows_end_the_search() {
    // Whether the second line names plugins depends on how the first is read, again and again.
    let text =
        "global { project p; plugins cfengine }\nhost a { cfengine {\n\"\n} }\nglobal { plugins apache }\n";
    let (tree, ..) = understand("p.mln", text, &NoIncludes, &options(&[]));
    let names: Vec<&str> = tree.claims().plugins().iter().map(|plugin| plugin.name.as_str()).collect();
    assert_eq!(names, ["cfengine", "apache"]);
}

#[test]
fn what_is_laid_out_and_edited_keeps_what_is_a_plugins() {
    let (tree, _, diagnostics) = understand("p.mln", PROJECT, &NoIncludes, &options(&[]));
    let laid_out = lang::format(&tree, &diagnostics).expect("nothing is damaged");
    let line = "            \"$[where]/$[hostname]\" create => \"true\";\n";
    assert!(laid_out.contains(line), "{laid_out}");
    assert_eq!(request(&laid_out, 0), request(PROJECT, 0));
    assert_eq!(request(&laid_out, 1), request(PROJECT, 1));
    let edit =
        lang::Edit::Set(lang::Setting { path: "/host/a/memory".to_owned(), value: Some("96M".to_owned()) });
    let changes = lang::edit(&tree, &edit).expect("a change");
    let files = lang::rewrite(tree.sources(), changes);
    assert_eq!(
        request(&files[0].text, 1)["project"]["hosts"][0]["claimed"],
        request(PROJECT, 1)["project"]["hosts"][0]["claimed"]
    );
}
