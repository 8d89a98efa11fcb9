//! `mlnctl token`.

use clap::{Args, Subcommand, ValueEnum};
use mln_link::Request;

use crate::conversation::Agent;
use crate::error::CommandError;
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
pub struct New {
    /// As what somebody may join
    #[arg(long, env = "MLN_ROLE", value_enum, default_value = "host")]
    role: Role,
    /// For how long the token is good
    #[arg(long = "ttl", env = "MLN_TTL", value_name = "TIME", default_value = "1h", value_parser = parse_duration_ms)]
    ttl_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Host,
}

/// Prints a new token, alone, so that a script can use it.
pub async fn run(args: Token, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let Token::New(New { role, ttl_ms }) = args;
    let role = match role {
        Role::Host => mln_link::message::Role::Host,
    };
    let answer = agent.ask(&Request::TokenNew { role, ttl_s: ttl_ms.div_ceil(1000) }, screen).await?;
    if let Some(token) = &answer.token {
        screen.answer(|_layout| format!("{}\n", token.text), || json::token(token));
    }
    Ok(screen.troubles(&answer))
}
