//! `mlnctl token`.

use clap::{Args, Subcommand, ValueEnum};
use mln_link::Request;
use mln_link::message::OperatorToken;
use mln_protocol::id::Name;
use mln_protocol::trust::Verb;

use crate::conversation::Agent;
use crate::error::{CommandError, UsageError};
use crate::exit::Exit;
use crate::quantity::parse_duration_ms;
use crate::ui::json;
use crate::ui::screen::Screen;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Print a token with which somebody may join; whoever has it may
    New(New),
}

/// The arguments of `token new`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mlnctl token new                                   # for a host: mlnd join TOKEN --name HOST\n  mlnctl token new --role operator --may read,exec    # for a person: mlnctl ctx join TOKEN"
)]
pub struct New {
    /// As what somebody may join
    #[arg(long, env = "MLN_ROLE", value_enum, default_value = "host")]
    role: Role,
    /// For how long the token is good
    #[arg(long = "ttl", env = "MLN_TTL", value_name = "TIME", default_value = "1h", value_parser = parse_duration_ms)]
    ttl_ms: u64,
    /// What the operator may do: read, control, use, all, or verbs such as build,start,exec [default: all but grant]
    #[arg(long, env = "MLN_MAY", value_name = "WORDS", value_delimiter = ',')]
    may: Vec<String>,
    /// The operator's name: nobody can redeem the token under another one
    #[arg(long = "name", env = "MLN_GRANTEE", value_name = "OWNER", value_parser = Name::parse)]
    name: Option<Name>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Host,
    Operator,
}

/// Words that stand for several verbs.
const SETS: [(&str, &[Verb]); 4] = [
    ("read", &[Verb::View]),
    ("control", &[Verb::View, Verb::Start, Verb::Stop]),
    ("use", &[Verb::View, Verb::Console, Verb::Exec]),
    (
        "all",
        &[
            Verb::View,
            Verb::Build,
            Verb::Start,
            Verb::Stop,
            Verb::Upgrade,
            Verb::Remove,
            Verb::Console,
            Verb::Exec,
            Verb::Template,
            Verb::Takeover,
        ],
    ),
];

impl New {
    fn request(self) -> Result<Request, UsageError> {
        let ttl_s = self.ttl_ms.div_ceil(1000);
        match self.role {
            Role::Host if self.may.is_empty() && self.name.is_none() => {
                Ok(Request::TokenNew { role: mln_link::message::Role::Host, ttl_s })
            }
            Role::Host => Err(UsageError::HostTokenOptions),
            Role::Operator => {
                Ok(Request::OperatorToken(OperatorToken { ttl_s, verbs: verbs(&self.may)?, name: self.name }))
            }
        }
    }
}

/// Returns the bits of what words allow. Who may do anything may also look at it.
pub(super) fn verbs(words: &[String]) -> Result<u32, UsageError> {
    let usual = ["all".to_owned()];
    let words = if words.is_empty() { &usual[..] } else { words };
    let mut bits = Verb::View.bit();
    for word in words {
        let set = SETS.iter().find(|(name, _)| name == word).map(|(_, verbs)| verbs.to_vec());
        // A host is made by another token.
        let verb = Verb::parse(word).filter(|verb| *verb != Verb::Join).map(|verb| vec![verb]);
        let found = set.or(verb).ok_or_else(|| {
            let sets = SETS.iter().map(|(name, _)| *name);
            let verbs = Verb::ALL.into_iter().filter(|verb| *verb != Verb::Join).map(Verb::word);
            UsageError::Right(word.clone(), sets.chain(verbs).collect::<Vec<_>>().join(", "))
        })?;
        bits |= found.iter().fold(0, |bits, verb| bits | verb.bit());
    }
    Ok(bits)
}

/// Prints a new token, alone, so that a script can use it.
pub async fn run(args: Token, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let Token::New(new) = args;
    let answer = agent.ask(&new.request().map_err(CommandError::Usage)?, screen).await?;
    if let Some(token) = &answer.token {
        screen.answer(|_layout| format!("{}\n", token.text), || json::token(token));
    }
    Ok(screen.troubles(&answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_verbs_or_sets_of_them_and_whoever_may_do_anything_may_look() {
        let bits = |words: &[&str]| verbs(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(bits(&["exec"]), Ok(Verb::View.bit() | Verb::Exec.bit()));
        assert_eq!(bits(&["read"]), Ok(Verb::View.bit()));
        assert_eq!(bits(&["read", "control"]), bits(&["start", "stop"]));
        let all = bits(&[]).expect("the usual");
        assert_eq!(all & (Verb::Join.bit() | Verb::Grant.bit()), 0);
        assert_eq!(bits(&["all", "grant"]), Ok(all | Verb::Grant.bit()));
        for wrong in ["join", "fly", ""] {
            assert!(matches!(bits(&[wrong]), Err(UsageError::Right(..))), "{wrong}");
        }
    }
}
