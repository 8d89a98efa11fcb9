//! Links and examples don't rot.

use std::fs;

use super::tree::{none_break, root, texts};

/// Returns the targets of a page's links, as `[text](target)` has them; code is no text.
fn links(page: &str) -> Vec<String> {
    let mut in_code = false;
    let mut targets = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`code`");
        let after_brackets = prose.split("](").skip(1);
        targets.extend(after_brackets.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    targets
}

/// Returns the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut dead = Vec::new();
    for page in texts().iter().filter(|file| file.path.ends_with(".md")) {
        let here = root().join(&page.path);
        for link in links(&page.text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => here.clone(),
                _ => here.parent().expect("a file is in a folder").join(path),
            };
            let heading = |text: String| {
                text.lines()
                    .any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == fragment)
            };
            let is_there = match fragment {
                "" => target.exists(),
                _ => fs::read_to_string(&target).is_ok_and(heading),
            };
            if !is_there {
                dead.push(format!("{}: {link}", page.path));
            }
        }
    }
    none_break("every link leads somewhere", &dead);
}

#[test]
fn every_page_of_the_book_is_in_its_index() {
    let index = fs::read_to_string(root().join("docs/README.md")).expect("the book has an index");
    let listed = links(&index);
    let missing: Vec<String> = texts()
        .into_iter()
        .filter_map(|file| Some(file.path.strip_prefix("docs/")?.to_owned()))
        .filter(|name| name.ends_with(".md") && name != "README.md" && !listed.contains(name))
        .collect();
    none_break("docs/README.md lists every page", &missing);
}

#[test]
fn every_example_says_what_it_is() {
    let examples = fs::read_dir(root().join("examples")).expect("there are examples");
    let silent: Vec<String> = examples
        .map(|entry| entry.expect("an entry of a folder of the repository").path())
        .filter(|path| path.is_dir() && !path.join("README.md").is_file())
        .map(|path| path.display().to_string())
        .collect();
    none_break("every example has a README.md", &silent);
}
