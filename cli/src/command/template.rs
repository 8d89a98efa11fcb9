//! `mlnctl template`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Subcommand};
use mln_link::Request;
use mln_link::message::{
    Package, TemplateChoice, TemplatePull, TemplatePush, TemplateRecipe, TemplateRemoval, TemplateRemove,
};
use mln_protocol::id::Name;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use tokio::io::AsyncReadExt;

use crate::conversation::{Agent, Answer};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::{json, rows};

/// What to do with templates.
#[derive(Debug, Subcommand)]
pub enum Template {
    /// List the templates of the agent's host, or of all
    #[command(after_help = "Example: mlnctl template list --peers")]
    List(List),
    /// Make a template from a recipe that the agent knows: mini, or debian
    #[command(
        after_help = "Example: mlnctl template build debian --package cfengine3 --name debian-cfengine"
    )]
    Build(Build),
    /// Add an image as a template
    #[command(after_help = "Example: mlnctl template add mini -f mini.img")]
    Add(Add),
    /// Fetch a template from a host that has it
    #[command(after_help = "Example: mlnctl template pull mini:2 --from oslo")]
    Pull(Pull),
    /// Have another host fetch a template from the agent's
    #[command(after_help = "Example: mlnctl template push mini --to bergen")]
    Push(Push),
    /// Remove a template; its image goes once no VM uses it
    #[command(after_help = "Example: mlnctl template rm mini:1")]
    Rm(Rm),
}

/// The arguments of `template list`.
#[derive(Debug, Args)]
pub struct List {
    /// Those of all connected hosts, each with where it is
    #[arg(long, env = "MLN_TEMPLATE_PEERS", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    peers: bool,
}

/// The arguments of `template pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// NAME, NAME:VERSION or a digest
    #[arg(value_parser = TemplateChoice::parse)]
    template: TemplateChoice,
    /// The host to fetch it from [default: any that has it]
    #[arg(long, env = "MLN_FROM", value_name = "SERVICE_HOST", value_parser = Name::parse)]
    from: Option<Name>,
}

/// The arguments of `template push`.
#[derive(Debug, Args)]
pub struct Push {
    /// NAME, NAME:VERSION or a digest
    #[arg(value_parser = TemplateChoice::parse)]
    template: TemplateChoice,
    /// The host that shall have it
    #[arg(long, env = "MLN_TO", value_name = "SERVICE_HOST", value_parser = Name::parse)]
    to: Name,
}

/// The arguments of `template rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// NAME, where it has one version, NAME:VERSION or a digest
    #[arg(value_parser = TemplateChoice::parse)]
    template: TemplateChoice,
    /// Also while VMs use it: the name goes, and the image stays as long as they do
    #[arg(long, env = "MLN_FORCE", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    force: bool,
}

/// The arguments of `template build`.
#[derive(Debug, Args)]
pub struct Build {
    /// The recipe: mini or debian
    #[arg(value_parser = Name::parse)]
    recipe: Name,
    /// A Debian package to install as well, with what it depends on; several, or with commas (debian only)
    #[arg(long = "package", env = "MLN_PACKAGES", value_name = "PACKAGE", value_delimiter = ',', value_parser = Package::parse)]
    packages: Vec<Package>,
    /// What the template is called [default: as the recipe]
    #[arg(long, env = "MLN_TEMPLATE_NAME", value_parser = Name::parse)]
    name: Option<Name>,
}

/// The arguments of `template add`.
#[derive(Debug, Args)]
pub struct Add {
    /// The template's name
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// The image of its file system
    #[arg(short, long, env = "MLN_FILE")]
    file: PathBuf,
}

/// Carries out one of them.
pub async fn run(args: Template, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    match args {
        Template::List(List { peers: true }) => {
            let answer = agent.ask(&Request::TemplatePeers, screen).await?;
            screen.answer(
                |layout| rows::template_hosts(&answer.template_hosts, layout),
                || json::template_hosts(&answer.template_hosts),
            );
            Ok(screen.troubles(&answer))
        }
        Template::List(List { peers: false }) => {
            let answer = agent.ask(&Request::TemplateList, screen).await?;
            show(&answer, screen);
            Ok(screen.troubles(&answer))
        }
        Template::Build(Build { recipe, packages, name }) => {
            // An agent that knows no packages knows this.
            let request = match name {
                None if packages.is_empty() => Request::TemplateBuild { name: recipe },
                name => Request::TemplateRecipe(TemplateRecipe {
                    name: name.unwrap_or_else(|| recipe.clone()),
                    recipe,
                    packages,
                }),
            };
            work(&request, agent, screen).await
        }
        Template::Add(add) => run_add(add, agent, screen).await,
        Template::Pull(Pull { template, from }) => {
            work(&Request::TemplatePull(TemplatePull { template, from }), agent, screen).await
        }
        Template::Push(Push { template, to }) => {
            work(&Request::TemplatePush(TemplatePush { template, to }), agent, screen).await
        }
        Template::Rm(Rm { template, force }) => {
            let removal = if force { TemplateRemoval::Forced } else { TemplateRemoval::Unused };
            work(&Request::TemplateRemove(TemplateRemove { template, removal }), agent, screen).await
        }
    }
}

/// Asks for work on one template, and shows that.
async fn work(request: &Request, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let answer = agent.ask(request, screen).await?;
    show_made(&answer, screen);
    Ok(screen.outcome(&answer))
}

/// Sends the image to the agent: it is never given a path, since it may read what the user may not.
async fn run_add(args: Add, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let unreadable = |source| CommandError::File { path: args.file.clone(), source };
    let image = std::fs::File::open(&args.file).map_err(unreadable)?;
    let bytes = image.metadata().map_err(unreadable)?.len();
    let sent = data_end(&image).map_err(unreadable)?;
    let image = tokio::fs::File::from_std(image).take(sent);
    let request = Request::TemplateAdd { name: args.name, bytes };
    let answer = agent.ask_with_file(&request, image, &args.file, screen).await?;
    show_made(&answer, screen);
    Ok(screen.outcome(&answer))
}

/// Returns where the last data of a file ends and nothing but a hole follows; leaves its cursor at the beginning.
///
/// An image is mostly a hole, which the agent makes again from its length (lseek(2), `SEEK_DATA`).
fn data_end(file: &std::fs::File) -> std::io::Result<u64> {
    let mut end = 0;
    loop {
        match seek(file, SeekFrom::Data(end)) {
            Ok(data) => end = seek(file, SeekFrom::Hole(data))?,
            // No data behind this place.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        }
    }
    seek(file, SeekFrom::Start(0))?;
    Ok(end)
}

/// Shows the template that work was about; where that failed there is none, and no table.
fn show_made(answer: &Answer, screen: &Screen) {
    if !answer.templates.is_empty() {
        show(answer, screen);
    }
}

fn show(answer: &Answer, screen: &Screen) {
    screen.answer(|layout| rows::templates(&answer.templates, layout), || json::templates(&answer.templates));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    #[test]
    fn the_hole_at_the_end_of_an_image_is_not_sent() {
        let mut file = tempfile::tempfile().expect("a file");
        file.seek(std::io::SeekFrom::Start(1 << 20)).expect("a position");
        file.write_all(b"data").expect("room");
        file.set_len(1 << 30).expect("a hole");
        let end = data_end(&file).expect("a file system that knows holes");
        assert!(end > 1 << 20 && end <= 2 << 20, "{end}");
        assert_eq!(file.stream_position().expect("a position"), 0);
    }
}
