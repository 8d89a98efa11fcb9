//! How sources are named, sized and written.

use super::tree::{none_break, sources, texts};

/// The most lines of a source file, tests apart.
const LINES_MAX: usize = 800;

/// Names that say nothing: what is in there has a better one.
const DRAWERS: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "misc", "manager"];

/// Where types may be serialised: the codec, the shapes of a project for other tools, control messages, and the
/// two files of an agent's folder that are text, and the one of an operator's contexts.
const SERDE_PLACES: [&str; 8] = [
    "protocol/src/wire/",
    "protocol/src/convert/",
    "agent/link/",
    "agent/src/config.rs",
    "agent/src/identity.rs",
    "agent/src/owner.rs",
    "cli/src/context.rs",
    // A small file that people write.
    "cli/src/plugin/manifest.rs",
];

/// Words of the machine that something was written on; in halves, so that this file has none of them.
const MACHINE_WORDS: [(&str, &str); 4] =
    [("/wor", "k/"), ("/far", "m/"), (".librar", "y"), ("/root/.", "cargo")];

fn is_test(path: &str) -> bool {
    path.ends_with("_test.rs") || path.starts_with("tests/") || path.contains("/tests/")
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|file| !is_test(&file.path))
        .map(|file| (file.text.lines().count(), &file.path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    none_break(&format!("a source has at most {LINES_MAX} lines"), &long);
}

#[test]
fn no_module_is_a_drawer() {
    let named: Vec<String> = sources()
        .into_iter()
        .map(|file| file.path)
        .filter(|path| path.split('/').any(|part| DRAWERS.contains(&part.trim_end_matches(".rs"))))
        .collect();
    none_break("a module is named by what is in it", &named);
    let declared: Vec<String> = sources()
        .iter()
        .flat_map(|file| file.text.lines().map(move |line| (&file.path, line.trim())))
        .filter(|(_, line)| {
            let name = line.split_once("mod ").map(|(_, rest)| rest.trim_end_matches([';', '{', ' ']));
            !line.starts_with("//") && name.is_some_and(|name| DRAWERS.contains(&name))
        })
        .map(|(path, line)| format!("{path}: {line}"))
        .collect();
    none_break("a module is named by what is in it", &declared);
}

#[test]
fn only_the_edges_know_how_types_are_serialised() {
    let derives = |text: &str| {
        text.split("derive(").skip(1).filter_map(|rest| rest.split_once(')')).any(|(list, _)| {
            list.split([',', ':']).any(|word| matches!(word.trim(), "Serialize" | "Deserialize"))
        })
    };
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|file| !SERDE_PLACES.iter().any(|place| file.path.starts_with(place)))
        .filter(|file| !file.path.starts_with("tests/") && derives(&file.text))
        .map(|file| file.path)
        .collect();
    none_break("types of the domain don't derive serde", &wrong);
}

/// Whether a line has a word at the beginning of a path; in the middle of one it is somebody else's.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.".contains(c)))
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let wrong: Vec<String> = texts()
        .iter()
        .flat_map(|file| file.text.lines().enumerate().map(move |(at, line)| (&file.path, at + 1, line)))
        .filter(|(_, _, line)| MACHINE_WORDS.iter().any(|(one, two)| names(line, &format!("{one}{two}"))))
        .map(|(path, at, line)| format!("{path}:{at}: {}", line.trim()))
        .collect();
    none_break("files hold for every machine", &wrong);
}

#[test]
fn tests_are_neither_skipped_nor_expected_to_panic() {
    let words = [
        concat!("#[ign", "ore"),
        concat!("#[should_", "panic"),
        concat!("todo", "!("),
        concat!("unimpl", "emented!("),
    ];
    let wrong: Vec<String> = sources()
        .iter()
        .flat_map(|file| file.text.lines().enumerate().map(move |(at, line)| (&file.path, at + 1, line)))
        .filter(|(_, _, line)| words.iter().any(|word| line.contains(word)))
        .map(|(path, at, line)| format!("{path}:{at}: {}", line.trim()))
        .collect();
    none_break("a test that doesn't run tells nothing", &wrong);
}
