//! `template build`, `add` and `list`.

use std::io::Write;

use mln_link::InputQueue;
use mln_link::message::{Input, Progress, Reply, Step, StepState, TemplateRow};
use mln_protocol::id::Name;

use super::{answer, failure, refusal};
use crate::causes::chain;
use crate::control::ReplySender;
use crate::event_loop::EventLoop;
use crate::image::{ImageStore, Template, build_mini};

/// The recipes that this agent knows.
const RECIPES: [&str; 1] = ["mini"];

/// The longest image, holes included, in bytes.
const IMAGE_BYTES_MAX: u64 = 1 << 40;

impl EventLoop {
    pub(super) fn request_template_build(&self, name: Name, reply: ReplySender) {
        if !RECIPES.contains(&name.as_str()) {
            let text = format!("there is no recipe {name}; there is {}", RECIPES.join(", "));
            return answer(
                &reply,
                [refusal("no-such-recipe", text, Some("add an image of your own: mlnctl template add"))],
            );
        }
        let images = self.images.clone();
        tokio::task::spawn_blocking(move || {
            let told = reply.clone();
            let made = build_mini(&images, &name, |step| {
                let progress = Progress {
                    project: None,
                    vm: None,
                    host: None,
                    step: Step::Template,
                    state: StepState::Begun,
                    detail: step.to_owned(),
                };
                // The template is finished even if nobody waits for it any more.
                let _ = told.post(Reply::Progress(progress));
            });
            match made {
                Ok(template) => answer(&reply, [Reply::Templates(vec![row(&images, template)])]),
                Err(error) => {
                    answer(&reply, [failure("building the template", chain(&error), &["make deps"])])
                }
            }
        });
    }

    pub(super) fn request_template_add(&self, name: Name, bytes: u64, reply: ReplySender, input: InputQueue) {
        if bytes > IMAGE_BYTES_MAX {
            let text = format!("an image of {bytes} bytes, where at most {IMAGE_BYTES_MAX} are taken");
            return answer(&reply, [refusal("image-size", text, None)]);
        }
        let images = self.images.clone();
        tokio::spawn(async move {
            let message = match receive(&images, &name, bytes, input).await {
                Ok(template) => Reply::Templates(vec![row(&images, template)]),
                Err(why) => failure("adding the template", why, &["mlnctl template list"]),
            };
            answer(&reply, [message]);
        });
    }

    pub(super) fn request_template_list(&self, reply: ReplySender) {
        let images = self.images.clone();
        tokio::task::spawn_blocking(move || {
            let rows = images.list().into_iter().map(|template| row(&images, template)).collect();
            if reply.post_rows(rows, Reply::Templates).is_ok() {
                answer(&reply, []);
            }
        });
    }
}

/// Receives an image into the store. What is not sent at its end is a hole: most of an image is one.
async fn receive(
    images: &ImageStore,
    name: &Name,
    bytes: u64,
    mut input: InputQueue,
) -> Result<Template, String> {
    let mut file = tempfile::NamedTempFile::new_in(images.folder()).map_err(|error| chain(&error))?;
    let mut received = 0;
    loop {
        match input.next().await {
            Some(Input::Bytes(chunk)) => {
                received += chunk.len() as u64;
                if received > bytes {
                    return Err("more bytes were sent than announced".to_owned());
                }
                file.write_all(&chunk).map_err(|error| chain(&error))?;
            }
            Some(Input::End) => break,
            Some(Input::Signal(_) | Input::Resize(_)) => {}
            None => return Err("the sender left in the middle".to_owned()),
        }
    }
    let (images, name) = (images.clone(), name.clone());
    let added = tokio::task::spawn_blocking(move || {
        file.as_file().set_len(bytes).map_err(|error| chain(&error))?;
        images.add(file.path(), &name, None).map_err(|error| chain(&error))
    });
    added.await.map_err(|error| error.to_string())?
}

fn row(images: &ImageStore, template: Template) -> TemplateRow {
    use std::os::unix::fs::MetadataExt;
    let on_disk = std::fs::metadata(images.path(&template.digest)).map_or(0, |meta| meta.blocks() * 512);
    TemplateRow {
        name: template.name,
        version: template.version,
        digest: template.digest.to_string(),
        bytes: template.file_system_bytes,
        bytes_on_disk: on_disk,
        created_unix_ms: template.added_unix_ms,
    }
}
