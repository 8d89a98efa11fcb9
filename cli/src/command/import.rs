//! `mlnctl import`: a project from a file that `export` wrote.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{self, ExportImages};
use mln_protocol::id::{Name, NameError};
use mln_protocol::lang::{self, Edit, NoIncludes, Setting, SourceId};
use mln_protocol::wire::{ExportContents, ExportError, ExportReader, ExportedDisk};

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::misfit::{Misfit, MisfitKind, misfits};
use crate::offline::Variables;
use crate::ui::exports;
use crate::ui::screen::Screen;

/// How much is read at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// The arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples: mlnctl import ring.mlnx\n          \
    mlnctl import ring.mlnx --as ring2 --place router1=oslo\n          mlnctl import --check ring.mlnx")]
pub struct Import {
    /// The file that mlnctl export wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the project is called here [default: as it was]
    #[arg(long = "as", env = "MLN_AS", value_name = "NAME", value_parser = Name::parse)]
    label: Option<Name>,
    /// Only look whether the file is whole, and say what is in it; no agent is asked
    #[arg(long, env = "MLN_CHECK", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    check: bool,
    /// On which service host a host of the project goes, where that is another one than in its text; several, or with commas
    #[arg(long, env = "MLN_PLACE", value_name = "HOST=SERVICE_HOST", value_delimiter = ',', value_parser = parse_place)]
    place: Vec<(Name, String)>,
    #[command(flatten)]
    variables: Variables,
}

impl Import {
    /// Whether nobody has to be asked.
    pub fn only_checks(&self) -> bool {
        self.check
    }
}

fn parse_place(text: &str) -> Result<(Name, String), String> {
    let (host, service_host) = text.split_once('=').ok_or("expected HOST=SERVICE_HOST")?;
    let host = Name::parse(host).map_err(|error: NameError| error.to_string())?;
    Ok((host, service_host.to_owned()))
}

/// Looks whether a file is whole, and shows what is in it.
pub fn check(args: &Import, screen: &Screen) -> Result<Exit, CommandError> {
    let contents = read(&args.file)?;
    let definition = contents.definition.as_ref();
    let found = definition.and_then(|definition| {
        let mut variables: BTreeMap<String, String> = definition.variables.iter().cloned().collect();
        variables.extend(args.variables.by_name());
        Some(misfits(definition.source.as_ref()?, variables, &contents.vms))
    });
    let found = found.unwrap_or_default();
    screen.answer(|layout| exports::table(&contents, layout), || exports::json(&contents, &found));
    found.iter().for_each(|misfit| screen.notice(&misfit.text()));
    refuse_misfits(&found)?;
    Ok(Exit::Done)
}

/// Refuses what is certain not to be built. Nothing was asked.
fn refuse_misfits(found: &[Misfit]) -> Result<(), CommandError> {
    match found.iter().find(|misfit| misfit.kind == MisfitKind::Mounted) {
        Some(misfit) => Err(CommandError::Misfit { text: misfit.text() }),
        None => Ok(()),
    }
}

/// Builds a project from a file. That it is whole is found out before anybody is asked, and once more by the agent.
pub async fn run(args: Import, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    if args.check {
        return check(&args, screen);
    }
    let contents = read(&args.file)?;
    let no_text = || CommandError::Export(ExportError::Order { at: 0, what: "no project's text" });
    let (head, definition) = contents.head.zip(contents.definition).ok_or_else(no_text)?;
    let mut source = definition.source.ok_or_else(no_text)?;
    let project = args.label.unwrap_or_else(|| head.label.project.clone());
    let mut edits = Vec::new();
    if project != head.label.project {
        let (path, value) = ("/global/project".to_owned(), Some(project.to_string()));
        edits.push(Edit::Set(Setting { path, value }));
    }
    known_places(&contents.vms, &args.place)?;
    let places = args.place.into_iter();
    edits.extend(places.map(|(host, service_host)| Edit::Place { host: host.to_string(), service_host }));
    for edit in edits {
        source = edited(source, &edit)
            .map_err(|source| CommandError::Edit { project: head.label.project.to_string(), source })?;
    }
    // What is said now wins over what was said then.
    let mut vars: BTreeMap<String, String> = definition.variables.into_iter().collect();
    vars.extend(args.variables.by_name());
    let found = misfits(&source, vars.clone(), &contents.vms);
    found.iter().for_each(|misfit| screen.notice(&misfit.text()));
    refuse_misfits(&found)?;
    let request = Request::Import(message::Import {
        project,
        source,
        vars: vars.into_iter().collect(),
        images: if contents.images.is_empty() { ExportImages::Named } else { ExportImages::Along },
    });
    let opened = tokio::fs::File::open(&args.file).await;
    let file = opened.map_err(|source| CommandError::File { path: args.file.clone(), source })?;
    let answer = agent.ask_with_file(&request, file, &args.file, screen).await?;
    Ok(screen.outcome(&answer))
}

/// Refuses a place for a host that the project doesn't have.
fn known_places(vms: &[ExportedDisk], places: &[(Name, String)]) -> Result<(), CommandError> {
    match places.iter().find(|(host, _)| vms.iter().all(|vm| vm.name != *host)) {
        Some((host, _)) => {
            let meant = lang::did_you_mean(host.as_str(), vms.iter().map(|vm| vm.name.as_str()));
            Err(CommandError::NoSuchPlaced { host: host.to_string(), meant })
        }
        None => Ok(()),
    }
}

fn edited(source: String, edit: &Edit) -> Result<String, lang::EditError> {
    let (tree, _) = lang::parse("project", source, &NoIncludes);
    let changes = lang::edit(&tree, edit)?;
    let files = lang::rewrite(tree.sources(), changes);
    Ok(files.into_iter().next().map_or_else(|| tree.text(SourceId::ROOT), |file| file.text))
}

/// Reads a file to its end, and returns what is in it.
fn read(path: &Path) -> Result<ExportContents, CommandError> {
    let unreadable = |source| CommandError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let (mut reader, mut piece) = (ExportReader::whole(), vec![0; PIECE_BYTES]);
    loop {
        let length = match file.read(&mut piece) {
            Ok(0) => return reader.end().map_err(CommandError::Export),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        reader.push(&piece[..length]);
        while reader.record().map_err(CommandError::Export)?.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::Digest;
    use mln_protocol::wire::ExportWriter;
    use std::io::Write;

    #[test]
    fn a_project_gets_its_new_name_and_places_in_its_text() {
        let text = "global {\n  project ring # ours\n}\nhost a {\n  service_host oslo\n}\n".to_owned();
        let value = Some("again".to_owned());
        let text = edited(text, &Edit::Set(Setting { path: "/global/project".to_owned(), value }));
        let (host, service_host) = parse_place("a=bergen").expect("a place");
        let edit = Edit::Place { host: host.to_string(), service_host };
        let text = edited(text.expect("it has a name"), &edit).expect("it has such a host");
        assert_eq!(text, "global {\n  project again # ours\n}\nhost a {\n  service_host bergen\n}\n");
        assert!(parse_place("a").is_err());
    }

    #[test]
    fn a_place_for_a_host_that_is_none_is_refused_with_the_one_that_was_meant() {
        let vms = ["router1", "router2"].map(|vm| ExportedDisk {
            name: Name::parse(vm).expect("a name"),
            drives: Vec::new(),
            blocks: 0,
            bytes: 0,
            root: Digest([0; 32]),
        });
        let place = |host: &str| [parse_place(&format!("{host}=oslo")).expect("a place")];
        known_places(&vms, &place("router1")).expect("it has it");
        let refused = known_places(&vms, &place("ruoter1")).expect_err("it has none").to_string();
        assert!(refused.contains("did you mean router1?"), "{refused}");
    }

    #[test]
    fn a_file_that_is_none_or_was_cut_off_is_refused_with_the_byte() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"global { project ring }\n").expect("room");
        let error = read(file.path()).expect_err("it is none");
        assert!(matches!(error, CommandError::Export(ExportError::NotExport)), "{error}");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&ExportWriter::begin().1).expect("room");
        let error = read(file.path()).expect_err("it is cut off").to_string();
        assert!(error.starts_with("the file ends at byte 13"), "{error}");
    }
}
