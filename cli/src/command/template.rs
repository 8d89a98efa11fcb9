//! `mlnctl template`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mln_link::Request;
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
    let image = std::fs::File::open(&args.file).map_err(unreadable)?;
    let bytes = image.metadata().map_err(unreadable)?.len();
    let sent = data_end(&image).map_err(unreadable)?;
    let image = tokio::fs::File::from_std(image).take(sent);
    let request = Request::TemplateAdd { name: args.name, bytes };
    let answer = agent.ask_with_file(&request, image, &args.file, screen).await?;
    show(&answer, screen);
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
