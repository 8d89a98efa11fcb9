//! `mlnctl explain`: what a code means, at length.

use clap::Args;
use mln_protocol::convert;
use mln_protocol::lang::{self, Code};

use super::FAILED;
use crate::ui::explanation;
use crate::ui::outcome::Outcome;

/// Say what the code of an error or a warning means, with an example.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// The code, such as E0201; without one, all of them are listed.
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

impl Explain {
    pub(super) fn outcome(&self, json: bool) -> Outcome {
        let answer = match (&self.code, json) {
            (None, false) => explanation::list(Code::ALL),
            (None, true) => convert::explanations_json(Code::ALL) + "\n",
            (Some(text), json) => match Code::parse(text) {
                None => return unknown(text),
                Some(code) if json => convert::explanation_json(code) + "\n",
                Some(code) => explanation::describe(code),
            },
        };
        Outcome { answer, ..Outcome::default() }
    }
}

fn unknown(text: &str) -> Outcome {
    let meant = lang::nearest(text, Code::ALL.iter().map(|code| code.as_str()));
    let hint = match meant {
        Some(code) => format!("did you mean {code}?"),
        None => "`mlnctl explain` lists all codes".to_owned(),
    };
    let complaint = format!("error: there is no code {}\nhint: {hint}\n", crate::ui::text::printable(text));
    Outcome { answer: String::new(), complaint, code: FAILED }
}
