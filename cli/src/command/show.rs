//! `mlnctl show -p`: what a project was submitted as that is there.

use mln_link::Request;
use mln_link::message::ProjectRef;
use mln_protocol::convert;
use mln_protocol::lang::{self, NoIncludes};
use mln_protocol::resolve::{self, Options};

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::offline::ShowForm;
use crate::ui::project;
use crate::ui::screen::Screen;

/// Shows the project, as it is understood or as its text.
pub async fn run(
    wanted: ProjectRef,
    form: ShowForm,
    agent: &Agent,
    screen: &Screen,
) -> Result<Exit, CommandError> {
    let answer = agent.ask(&Request::Definition(wanted), screen).await?;
    if let Some(definition) = &answer.definition {
        let (tree, diagnostics) = lang::parse("project", definition.source.clone(), &NoIncludes);
        let options = Options {
            variables: definition.vars.iter().cloned().collect(),
            owner: Some(definition.owner.clone()),
        };
        let resolved = resolve::resolve(&tree, &options);
        match form {
            ShowForm::Text => screen.text(&definition.source),
            ShowForm::Understood => {
                let owner = Some(&definition.owner);
                let shown = convert::Shown {
                    project: &resolved.project,
                    mandates: &resolved.mandates,
                    owner,
                    diagnostics: &diagnostics,
                    sources: tree.sources(),
                    made_files: &[],
                };
                screen.answer_text(|| project::describe(&resolved.project), || shown.to_json() + "\n");
            }
        }
    }
    Ok(screen.troubles(&answer))
}
