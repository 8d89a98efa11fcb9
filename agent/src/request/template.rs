//! `template build`, `add`, `list` and `rm`: the templates of this host.

use std::collections::BTreeSet;
use std::io::Write;

use mln_link::InputQueue;
use mln_link::message::{
    Input, PACKAGES_MAX, Package, Progress, Reply, Step, StepState, TemplateChoice, TemplateRecipe,
    TemplateRemoval, TemplateRemove, TemplateRow,
};
use mln_protocol::id::{Digest, Name};
use mln_protocol::model::TemplateRef;
use mln_protocol::wire::MANIFEST_FILE_BYTES_MAX;

use super::{answer, failure, refusal};
use crate::causes::chain;
use crate::control::ReplySender;
use crate::event_loop::EventLoop;
use crate::image::{
    ImageStore, MEMORY_MIN, NewName, NewVersion, Recipe, RecipeError, Template, build_recipe,
};
use crate::platform::Platform;

/// The longest image, holes included, in bytes.
const IMAGE_BYTES_MAX: u64 = MANIFEST_FILE_BYTES_MAX;

/// How many VMs are named that use a template.
const USERS_SHOWN_MAX: usize = 10;

impl EventLoop {
    pub(super) fn request_template_build(&self, wanted: TemplateRecipe, reply: ReplySender) {
        let TemplateRecipe { recipe, name, packages } = wanted;
        let Some(recipe) = Recipe::of(recipe.as_str()) else {
            let known = Recipe::ALL.map(Recipe::word).join(", ");
            let text = format!("there is no recipe {recipe}; there is {known}");
            return answer(
                &reply,
                [refusal("no-such-recipe", text, Some("add an image of your own: mlnctl template add"))],
            );
        };
        if packages.len() > PACKAGES_MAX {
            let text = format!("{} packages, where at most {PACKAGES_MAX} are taken", packages.len());
            return answer(&reply, [refusal("packages", text, None)]);
        }
        if !packages.is_empty() && !recipe.takes_packages() {
            let text = format!("the recipe {} takes no further packages", recipe.word());
            let next = Some("whoever builds it; try: mlnctl template build debian --package NAME");
            return answer(&reply, [refusal("packages", text, next)]);
        }
        let images = self.exchange.images().clone();
        tokio::task::spawn_blocking(move || {
            let told = reply.clone();
            let packages: Vec<&str> = packages.iter().map(Package::as_str).collect();
            let made = build_recipe(&images, recipe, &name, &packages, |step| {
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
                    let next: &[&str] = match &error {
                        // What to do is said already.
                        RecipeError::MissingTool { .. } => &[],
                        RecipeError::Store(_) => &["mlnctl gc", "df -h"],
                        RecipeError::Run(_) | RecipeError::Failed { .. } => {
                            &["apt-get update   # does this machine reach its Debian mirror?", "df -h"]
                        }
                    };
                    let what = format!("building the template {name}");
                    answer(&reply, [failure(&what, chain(&error), next)]);
                }
            }
        });
    }

    pub(super) fn request_template_add(&self, name: Name, bytes: u64, reply: ReplySender, input: InputQueue) {
        if bytes > IMAGE_BYTES_MAX {
            let text = format!("an image of {bytes} bytes, where at most {IMAGE_BYTES_MAX} are taken");
            return answer(&reply, [refusal("image-size", text, None)]);
        }
        let images = self.exchange.images().clone();
        tokio::spawn(async move {
            let message = match receive(&images, &name, bytes, input).await {
                Ok(template) => Reply::Templates(vec![row(&images, template)]),
                Err(why) => failure("adding the template", why, &["mlnctl template list"]),
            };
            answer(&reply, [message]);
        });
    }

    pub(super) fn request_template_list(&self, reply: ReplySender) {
        let images = self.exchange.images().clone();
        tokio::task::spawn_blocking(move || {
            let rows = images.list().into_iter().map(|template| row(&images, template)).collect();
            if reply.post_rows(rows, Reply::Templates).is_ok() {
                answer(&reply, []);
            }
        });
    }

    pub(super) fn request_template_remove(&self, remove: TemplateRemove, reply: ReplySender) {
        let (images, platform) = (self.exchange.images().clone(), self.platform.clone());
        // What is defined here counts as well: it may be waiting to be built.
        let defined: Vec<(String, Digest)> = self
            .node
            .owned_vms()
            .filter_map(|(id, ..)| self.node.owned(id))
            .filter_map(|(label, _, vm)| match &vm.template {
                Some(TemplateRef::Exact(_, digest)) => Some((format!("{label}/{}", vm.name), *digest)),
                Some(TemplateRef::Newest(_) | TemplateRef::Version(..)) | None => None,
            })
            .collect();
        tokio::task::spawn_blocking(move || {
            let message = match remove_template(&images, &*platform, &defined, &remove) {
                Ok(template) => Reply::Templates(vec![template]),
                Err(message) => *message,
            };
            answer(&reply, [message]);
        });
    }
}

/// Removes a template's name, and its image if nobody needs it. Blocks.
fn remove_template(
    images: &ImageStore,
    platform: &dyn Platform,
    defined: &[(String, Digest)],
    remove: &TemplateRemove,
) -> Result<TemplateRow, Box<Reply>> {
    let failed = |why: String| Box::new(failure("removing the template", why, &["mlnctl template list"]));
    let exclusive = images.exclusive();
    let template =
        images.resolve_one(&template_ref(&remove.template)).map_err(|error| failed(chain(&error)))?;
    let uses = platform.image_uses().map_err(|error| failed(chain(&error)))?;
    let mut users: BTreeSet<String> = uses
        .iter()
        .filter(|used| used.template == template.digest)
        .map(|used| format!("{}/{}", used.label, used.vm.name))
        .collect();
    users.extend(defined.iter().filter(|(_, digest)| *digest == template.digest).map(|(vm, _)| vm.clone()));
    if !users.is_empty() && remove.removal == TemplateRemoval::Unused {
        let shown: Vec<&str> = users.iter().map(String::as_str).take(USERS_SHOWN_MAX).collect();
        let more = users.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!("{}:{} is used by {}{more}", template.name, template.version, shown.join(", "));
        let who = "you: remove those first, or say --force: then the name goes, and the image stays while they use it";
        return Err(Box::new(refusal("template-in-use", text, Some(who))));
    }
    let row = row(images, template.clone());
    images.unname(&template).map_err(|error| failed(chain(&error)))?;
    images.drop_unused(&exclusive, &template.digest, &uses).map_err(|error| failed(chain(&error)))?;
    Ok(row)
}

/// Returns a template as the store knows it. By its digest alone it is found under any name.
pub(super) fn template_ref(choice: &TemplateChoice) -> TemplateRef {
    match choice {
        TemplateChoice::Newest(name) => TemplateRef::Newest(name.clone()),
        TemplateChoice::Version(name, version) => TemplateRef::Version(name.clone(), version.to_string()),
        TemplateChoice::Digest(text) => {
            let name = Name::parse("image").expect("five letters are a name");
            // What is no digest is no image's.
            TemplateRef::Exact(name, Digest::from_hex(text).unwrap_or(Digest([0; 32])))
        }
    }
}

/// Receives an image into the store. What is not sent at its end is a hole: most of an image is one.
async fn receive(
    images: &ImageStore,
    name: &Name,
    bytes: u64,
    mut input: InputQueue,
) -> Result<Template, String> {
    let work = images.work_folder().map_err(|error| chain(&error))?;
    let path = work.path().join("received");
    let mut file = std::fs::File::create_new(&path).map_err(|error| chain(&error))?;
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
        file.set_len(bytes).map_err(|error| chain(&error))?;
        let new = NewName { name: &name, version: NewVersion::Next, memory_min: MEMORY_MIN };
        let added = images.add(&path, &new).map_err(|error| chain(&error));
        drop(work);
        added
    });
    added.await.map_err(|error| error.to_string())?
}

/// Returns the row of a template of this host.
pub(super) fn row(images: &ImageStore, template: Template) -> TemplateRow {
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
