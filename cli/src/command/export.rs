//! `mlnctl export`: a whole project into one file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::message::{self, ExportImages, OutputStream, ProjectRef};
use mln_link::{Reply, Request};
use mln_protocol::id::Name;
use mln_protocol::wire::{ExportContents, ExportReader};
use tempfile::NamedTempFile;

use crate::conversation::{Agent, Answer, Signals};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::exports;
use crate::ui::screen::Screen;

/// The arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples: mlnctl export -p ring ring.mlnx\n          \
    mlnctl export -p ring --force ring.mlnx\n          \
    mlnctl export -p ring --snapshot before-lab3 - | ssh vault 'cat > ring.mlnx'")]
pub struct Export {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: ProjectRef,
    /// The file to write, or - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// As its disks are in this snapshot [default: one that is taken for it, and removed afterwards]
    #[arg(long, env = "MLN_SNAPSHOT", value_name = "NAME", value_parser = Name::parse)]
    snapshot: Option<Name>,
    /// With the images that its disks are layers over: for a mesh that doesn't have them
    #[arg(long, env = "MLN_WITH_IMAGES", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    with_images: bool,
    /// Also where there is such a file: it is replaced when all of the new one is there
    #[arg(long, env = "MLN_FORCE", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    force: bool,
}

/// What becomes of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExistingFile {
    /// It is a reason to refuse.
    Refuse,
    /// It is replaced.
    Replace,
}

/// Where the bytes go.
enum Target {
    Stdout,
    /// A file that has its name only when all of it is there.
    File(NamedTempFile, PathBuf),
    /// Something that is there and is no file, a device or a pipe: what is written goes through it.
    Through(File, PathBuf),
}

impl Target {
    fn open(path: &Path, existing: ExistingFile) -> Result<Self, CommandError> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let failed = |source| CommandError::Write { path: path.to_owned(), source };
        // A link stays, and what it leads to is replaced; one that leads nowhere is replaced itself.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        match path.metadata() {
            Ok(there) if !there.is_file() => {
                let file = File::options().write(true).open(path).map_err(failed)?;
                return Ok(Self::Through(file, path.clone()));
            }
            Ok(_) if existing == ExistingFile::Refuse => {
                return Err(CommandError::FileExists { path: path.clone() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let made = tempfile::Builder::new().prefix(&format!(".{name}.")).tempfile_in(folder);
        let file = made.map_err(failed)?;
        Ok(Self::File(file, path.to_owned()))
    }

    async fn write(&mut self, bytes: &[u8], screen: &Screen) -> Result<(), CommandError> {
        match self {
            Self::Stdout => {
                screen.pass_through(OutputStream::Stdout, bytes).await.map_err(CommandError::Terminal)
            }
            Self::File(file, path) => {
                file.write_all(bytes).map_err(|source| CommandError::Write { path: path.clone(), source })
            }
            Self::Through(file, path) => {
                file.write_all(bytes).map_err(|source| CommandError::Write { path: path.clone(), source })
            }
        }
    }

    /// Makes it durable, and gives it its name.
    fn finish(self) -> Result<(), CommandError> {
        let Self::File(file, path) = self else { return Ok(()) };
        let failed = |source| CommandError::Write { path: path.clone(), source };
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// Writes a project into a file; there is none unless it is whole.
pub async fn run(args: Export, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let existing = if args.force { ExistingFile::Replace } else { ExistingFile::Refuse };
    let mut target = Target::open(&args.file, existing)?;
    let began = Instant::now();
    let request = Request::Export(message::Export {
        project: args.project,
        snapshot: args.snapshot,
        images: if args.with_images { ExportImages::Along } else { ExportImages::Named },
    });
    let (answer, contents) = receive(&request, &mut target, agent, screen).await?;
    let Some(contents) = contents else { return Ok(screen.outcome(&answer)) };
    let is_stream = matches!(target, Target::Stdout);
    target.finish()?;
    if is_stream {
        // What is on standard output is the export alone.
        return Ok(screen.troubles(&answer));
    }
    let file = args.file.display().to_string();
    let words = exports::exported(&file, &contents, began.elapsed());
    screen.copied(&words, || exports::exported_json(&file, &contents, began.elapsed()));
    Ok(screen.troubles(&answer))
}

/// Returns what was in it too, where it came whole.
async fn receive(
    request: &Request,
    target: &mut Target,
    agent: &Agent,
    screen: &Screen,
) -> Result<(Answer, Option<ExportContents>), CommandError> {
    let mut signals = Signals::listen().map_err(CommandError::Terminal)?;
    // The sending half is kept until the end: dropping it would be no harm, but says something else.
    let (_input, mut replies) = agent.begin(request).await?;
    let (mut reader, mut answer) = (ExportReader::whole(), Answer::default());
    // What is on standard output is the export alone.
    let mut live = (!matches!(target, Target::Stdout)).then(|| screen.progress());
    loop {
        // Both arms are cancel-safe: a reply that isn't whole stays in its reader.
        let reply = tokio::select! {
            reply = replies.next() => reply.map_err(CommandError::BrokeOff)?,
            signal = signals.next() => return Err(CommandError::Interrupted { signal }),
        };
        match reply {
            None => break,
            Some(Reply::Output { stream: OutputStream::Stdout, bytes }) => {
                target.write(&bytes, screen).await?;
                reader.push(&bytes);
                while reader.record().map_err(CommandError::Export)?.is_some() {}
            }
            Some(Reply::Progress(progress)) => {
                if let Some(live) = &mut live {
                    live.note(&progress);
                }
            }
            Some(reply) => answer.note(reply),
        }
    }
    drop(live);
    if !answer.refusals.is_empty() || !answer.failures.is_empty() || !answer.silences.is_empty() {
        return Ok((answer, None));
    }
    let contents = reader.end().map_err(CommandError::Export)?;
    Ok((answer, Some(contents)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, symlink};

    #[tokio::test]
    async fn what_is_no_file_is_written_through_and_a_link_stays_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let screen = Screen::open(crate::args::Output::Json);
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("coreutils");
        assert!(made.success());
        let from = pipe.clone();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            File::open(from).expect("it is there").read_to_end(&mut bytes).expect("reads");
            bytes
        });
        let mut target = Target::open(&pipe, ExistingFile::Refuse).expect("it is there");
        target.write(b"all of it", &screen).await.expect("somebody reads");
        target.finish().expect("nothing is renamed");
        assert_eq!(reader.join().expect("reads"), b"all of it");
        assert!(fs::metadata(&pipe).expect("it is there").file_type().is_fifo());

        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "before").expect("room");
        symlink("file", &link).expect("room");
        let refused = Target::open(&link, ExistingFile::Refuse).err().expect("there is a file");
        assert!(matches!(refused, CommandError::FileExists { .. }), "{refused}");
        let mut target = Target::open(&link, ExistingFile::Replace).expect("a file");
        target.write(b"after", &screen).await.expect("room");
        assert_eq!(fs::read(&file).expect("reads"), b"before", "until all of it is there");
        target.finish().expect("room");
        assert_eq!(fs::read(&file).expect("reads"), b"after");
        assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
        let into =
            Target::open(folder.path(), ExistingFile::Replace).err().expect("a folder is none").to_string();
        assert!(into.ends_with("can't be written"), "{into}");
        assert!(into.contains(folder.path().to_str().expect("a path")), "{into}");
    }
}
