//! `mlnctl ctx`: contexts, that is, meshes that this user may ask over the network.

use clap::{Args, Subcommand};
use mln_door::dial::without_peer;
use mln_door::join::{Membership, join};
use mln_door::key::peer_id_of;
use mln_protocol::id::{Name, PublicKey};
use mln_protocol::trust::{AdmitError, Role, mesh_of};
use mln_protocol::wire::{GrantText, Token};
use serde_json::{Value, json};

use crate::context::{Context, Contexts, Home, LOCAL};
use crate::error::{CommandError, UsageError};
use crate::exit::Exit;
use crate::ui::rows::{self, ContextRow};
use crate::ui::screen::Screen;

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub enum Ctx {
    /// Redeem an operator's token, or take a grant for your key, and keep it as a context
    #[command(
        after_help = "Example:\n  mlnctl ctx join mln1_… --name lab\n\nThe token comes from a host: mlnctl token new --role operator\nA grant comes from whoever may give one: mlnctl grant --to KEY"
    )]
    Join(Join),
    /// List the contexts
    List,
    /// Use a context where none is named; `local` is the agent of this machine
    #[command(after_help = "Example:\n  mlnctl ctx use lab\n  mlnctl ctx use local")]
    Use(Named),
    /// Show what a context allows, until when, and where its agents answer
    Show(MaybeNamed),
    /// Forget a context with its grants; a new token is needed to come back
    Rm(Named),
}

/// The arguments of `ctx join`.
#[derive(Debug, Args)]
pub struct Join {
    /// The token, or the grant
    #[arg(env = "MLN_TOKEN", hide_env_values = true)]
    token: String,
    /// What the context is called here [default: mesh- and the beginning of the mesh's identity]
    #[arg(long, value_name = "NAME", value_parser = Name::parse)]
    name: Option<Name>,
    /// Your name in the mesh: the owner of what you build [default: what the token says, else your login]
    #[arg(long = "as", value_name = "OWNER", value_parser = Name::parse)]
    owner: Option<Name>,
}

/// A context.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

/// A context, or the one that is used.
#[derive(Debug, Args)]
pub struct MaybeNamed {
    /// Its name [default: the one that is used]
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Carries out one of them.
pub async fn run(args: Ctx, screen: &Screen) -> Result<Exit, CommandError> {
    let home = Home::of_user()?;
    match args {
        Ctx::Join(args) => run_join(args, &home, screen).await,
        Ctx::List => {
            let contexts = home.contexts()?;
            let rows = contexts
                .all
                .iter()
                .map(|context| row(context, &contexts, &home))
                .collect::<Result<Vec<_>, _>>()?;
            screen.answer(|layout| rows::contexts(&rows, layout), || rows.iter().map(of_row).collect());
            Ok(Exit::Done)
        }
        Ctx::Use(Named { name }) => {
            home.change(|contexts| {
                contexts.current = match name.as_str() {
                    LOCAL => None,
                    name => Some(contexts.get(name)?.name.clone()),
                };
                Ok(())
            })?;
            screen.answer(|_layout| format!("{name} is used from now on\n"), || json!({ "current": name }));
            Ok(Exit::Done)
        }
        Ctx::Show(MaybeNamed { name }) => {
            let contexts = home.contexts()?;
            let context = match &name {
                Some(name) => contexts.get(name)?,
                None => contexts.current().ok_or(CommandError::Usage(UsageError::NoContext))?,
            };
            show(context, &contexts, &home, screen)?;
            Ok(Exit::Done)
        }
        Ctx::Rm(Named { name }) => {
            home.change(|contexts| contexts.remove(&name))?;
            screen.answer(|_layout| format!("{name} is forgotten\n"), || json!({ "removed": name }));
            Ok(Exit::Done)
        }
    }
}

async fn run_join(args: Join, home: &Home, screen: &Screen) -> Result<Exit, CommandError> {
    if GrantText::is_one(&args.token) {
        return run_take(&args, home, screen);
    }
    let token = Token::parse(&args.token).map_err(CommandError::Token)?;
    let bound = token.claims().and_then(|grant| grant.name);
    let owner = args.owner.or(bound).or_else(login).ok_or(CommandError::Usage(UsageError::NoOwner))?;
    let name = context_name(args.name, token.root, home)?;
    let keys = home.key()?;
    let membership = join(&token, Role::Operator, &owner, &keys).await.map_err(CommandError::Join)?;
    let Membership { root, chain, known } = membership;
    let addresses = known.into_iter().flat_map(|(key, addresses)| {
        let peer = peer_id_of(key);
        addresses
            .into_iter()
            .filter_map(move |address| Some(without_peer(address).with_p2p(peer?).ok()?.to_string()))
    });
    let mut context = Context { name: name.clone(), root, chain, addresses: Vec::new() };
    context.learn(addresses);
    let contexts = home.change(|contexts| {
        contexts.add(context)?;
        Ok(contexts.clone())
    })?;
    show(contexts.get(name.as_str())?, &contexts, home, screen)?;
    Ok(Exit::Done)
}

/// Takes a grant for this user's key: nobody has to be asked.
fn run_take(args: &Join, home: &Home, screen: &Screen) -> Result<Exit, CommandError> {
    let GrantText { root, chain, addresses } = GrantText::parse(&args.token).map_err(CommandError::Token)?;
    let name = context_name(args.name.clone(), root, home)?;
    let mut context = Context { name: name.clone(), root, chain, addresses: Vec::new() };
    let key = home.key()?.public();
    context.standing(key).and_then(|standing| standing.operator().map(drop)).map_err(CommandError::Chain)?;
    context.learn(addresses);
    let contexts = home.change(|contexts| {
        // Where agents answer is known from before, too.
        let known = contexts.named(name.as_str()).map(|known| known.addresses.clone()).unwrap_or_default();
        let told = context.addresses.clone();
        context.addresses = known;
        context.learn(told);
        contexts.add(context)?;
        Ok(contexts.clone())
    })?;
    show(contexts.get(name.as_str())?, &contexts, home, screen)?;
    Ok(Exit::Done)
}

/// Returns what a context is to be called; refused before a token is spent.
fn context_name(wanted: Option<Name>, root: PublicKey, home: &Home) -> Result<Name, CommandError> {
    let name = match wanted {
        Some(name) if name.as_str() == LOCAL => return Err(CommandError::Usage(UsageError::LocalIsTaken)),
        Some(name) => name,
        None => Name::parse(&format!("mesh-{}", mesh_of(root).short()))
            .expect("letters, a dash and hexadecimal digits are a name"),
    };
    if home.contexts()?.named(name.as_str()).is_some_and(|known| known.root != root) {
        return Err(crate::context::ContextError::Taken(name).into());
    }
    Ok(name)
}

/// Returns the user's login where it can be an owner's name.
fn login() -> Option<Name> {
    ["LOGNAME", "USER"].iter().find_map(|name| Name::parse(&std::env::var(name).ok()?).ok())
}

fn row(context: &Context, contexts: &Contexts, home: &Home) -> Result<ContextRow, CommandError> {
    let standing = context.standing(home.key()?.public());
    let problem = match &standing {
        Ok(_) => None,
        Err(AdmitError::Expired { .. }) => Some("expired: join again with a new token".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    let standing = standing.ok();
    Ok(ContextRow {
        name: context.name.to_string(),
        used: contexts.current.as_ref() == Some(&context.name),
        mesh: mesh_of(context.root).to_string(),
        owner: standing.as_ref().and_then(|standing| standing.name.as_ref()).map(ToString::to_string),
        may: standing.iter().flat_map(|standing| &standing.verbs).map(|verb| verb.word()).collect(),
        ends_unix_ms: standing.as_ref().and_then(|standing| standing.not_after_unix_ms),
        addresses: context.addresses.clone(),
        problem,
    })
}

fn of_row(row: &ContextRow) -> Value {
    json!({
        "name": row.name,
        "used": row.used,
        "mesh": row.mesh,
        "owner": row.owner,
        "may": row.may,
        "ends_unix_ms": row.ends_unix_ms,
        "addresses": row.addresses,
        "problem": row.problem,
    })
}

fn show(context: &Context, contexts: &Contexts, home: &Home, screen: &Screen) -> Result<(), CommandError> {
    let row = row(context, contexts, home)?;
    screen.answer(|_layout| rows::context(&row), || of_row(&row));
    Ok(())
}
