//! `mlnctl migrate`.

use std::path::PathBuf;

use clap::Args;
use mln_link::Request;
use mln_link::message::{ChangeContent, Definition, ProjectRef};
use mln_protocol::id::Name;
use mln_protocol::lang::{self, Edit, NoIncludes, SourceId, did_you_mean};
use mln_protocol::resolve::{self, Options};

use super::change::{self, ChangeArgs, Wanted};
use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `migrate`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mlnctl migrate -p ring -h router1 --to bergen --yes")]
pub struct Migrate {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: ProjectRef,
    /// The host of the project that moves; may be repeated
    #[arg(short = 'h', long, env = "MLN_VM", value_name = "HOST", required = true, value_delimiter = ',', value_parser = Name::parse)]
    host: Vec<Name>,
    /// The service host that it moves to; or a group, as @GROUP
    #[arg(long, env = "MLN_TO", value_name = "SERVICE_HOST", value_parser = service_host)]
    to: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Changes where hosts of a project run, in the text that the project came from.
pub async fn run(args: Migrate, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let answer = agent.ask(&Request::Definition(args.project.clone()), screen).await?;
    let Some(definition) = &answer.definition else { return Ok(screen.outcome(&answer)) };
    let known = hosts_of(definition);
    if let Some(missing) = args.host.iter().find(|host| !known.is_empty() && !known.contains(host)) {
        let names: Vec<&str> = known.iter().map(Name::as_str).collect();
        return Err(CommandError::NoSuchHost {
            project: args.project.to_string(),
            host: missing.to_string(),
            meant: did_you_mean(missing.as_str(), names.iter().copied()),
            known: names.join(", "),
        });
    }
    let places: Vec<(&str, &str)> = args.host.iter().map(|host| (host.as_str(), args.to.as_str())).collect();
    let source = placed(definition, &places)?;
    let wanted = Wanted {
        project: Some(args.project),
        content: ChangeContent::Edited { source },
        from_head: None,
        reason: "migrate",
        bytes: &[],
        path: PathBuf::new(),
    };
    change::run(&args.change, wanted, agent, screen).await
}

/// Returns the hosts that a project has by its text; none where that can't be understood here.
fn hosts_of(definition: &Definition) -> Vec<Name> {
    let (tree, _) = lang::parse("project", definition.source.clone(), &NoIncludes);
    let variables = definition.vars.iter().cloned().collect();
    let owner = Some(definition.owner.clone());
    let project = resolve::resolve(&tree, &Options { variables, owner }).project;
    project.vms.into_iter().map(|vm| vm.name).collect()
}

/// Returns the text of a project with these hosts on these service hosts.
pub(super) fn placed(definition: &Definition, places: &[(&str, &str)]) -> Result<String, CommandError> {
    let mut source = definition.source.clone();
    for (host, service_host) in places {
        let (tree, _) = lang::parse("project", source.clone(), &NoIncludes);
        let edit = Edit::Place { host: (*host).to_owned(), service_host: (*service_host).to_owned() };
        let changes = lang::edit(&tree, &edit)
            .map_err(|source| CommandError::Edit { project: definition.project.to_string(), source })?;
        let files = lang::rewrite(tree.sources(), changes);
        let unchanged = || tree.text(SourceId::ROOT);
        source = files.into_iter().next().map_or_else(unchanged, |file| file.text);
    }
    Ok(source)
}

fn service_host(text: &str) -> Result<String, mln_protocol::id::NameError> {
    Name::parse(text.strip_prefix('@').unwrap_or(text)).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use mln_link::message::RevisionRef;

    use super::*;

    #[test]
    fn several_hosts_are_placed_in_one_text() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let definition = Definition {
            owner: name("anna"),
            project: name("p"),
            revision: RevisionRef { number: 1, digest: String::new() },
            source: "host a { }\nhost b { service_host oslo }\n".to_owned(),
            vars: Vec::new(),
        };
        let text = placed(&definition, &[("a", "bergen"), ("b", "@lab")]).expect("both are there");
        assert_eq!(text, "host a { service_host bergen }\nhost b { service_host @lab }\n");
    }
}
