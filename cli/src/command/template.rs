//! `mlnctl template`.

use std::fs::File;
use std::io::{self, Seek};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use mln_link::Request;
use mln_protocol::id::Name;
use rustix::fs::SeekFrom;
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
    /// List the templates of the agent's host
    List,
    /// Make a template from a recipe that the agent knows, such as mini
    Build(Build),
    /// Add an image as a template
    Add(Add),
}

/// The arguments of `template build`.
#[derive(Debug, Args)]
pub struct Build {
    /// The recipe
    #[arg(value_parser = Name::parse)]
    name: Name,
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
        Template::List => {
            let answer = agent.ask(&Request::TemplateList, screen).await?;
            show(&answer, screen);
            Ok(screen.troubles(&answer))
        }
        Template::Build(Build { name }) => {
            let answer = agent.ask(&Request::TemplateBuild { name }, screen).await?;
            show(&answer, screen);
            Ok(screen.outcome(&answer))
        }
        Template::Add(add) => run_add(add, agent, screen).await,
    }
}

/// Sends the image to the agent: it is never given a path, since it may read what the user may not.
async fn run_add(args: Add, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let unreadable = |source| CommandError::File { path: args.file.clone(), source };
    let image = File::open(&args.file).map_err(unreadable)?;
    let bytes = image.metadata().map_err(unreadable)?.len();
    let data_bytes = data_end(&image, bytes).map_err(unreadable)?;
    let data = tokio::fs::File::from_std(image).take(data_bytes);
    let request = Request::TemplateAdd { name: args.name, bytes };
    let answer = agent.ask_with_file(&request, data, &args.file, screen).await?;
    show(&answer, screen);
    Ok(screen.outcome(&answer))
}

/// Returns where the hole begins in which a file ends: an image has room to grow, often gigabytes, and the agent
/// knows from its length what is not sent. Where holes can't be found, all of it counts as data.
fn data_end(mut file: &File, bytes: u64) -> io::Result<u64> {
    let mut end = 0;
    loop {
        match rustix::fs::seek(file, SeekFrom::Data(end)) {
            Ok(data) => end = rustix::fs::seek(file, SeekFrom::Hole(data))?,
            // There is no data after this.
            Err(Errno::NXIO) => break,
            // Not every file system, and no pipe, knows its holes.
            Err(_) => end = bytes,
        }
        if end >= bytes {
            break;
        }
    }
    file.rewind()?;
    Ok(end.min(bytes))
}

fn show(answer: &Answer, screen: &Screen) {
    screen.answer(|layout| rows::templates(&answer.templates, layout), || json::templates(&answer.templates));
}
