//! `mlnctl`: parse, run, exit code.

use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Parser};
use mln_cli::offline::{self, Offline};

/// Groups of virtual machines over many hosts, without a master.
#[derive(Debug, Parser)]
#[command(name = "mlnctl", version, disable_help_flag = true)]
struct Args {
    /// Answer in JSON.
    #[arg(long, global = true, env = "MLN_JSON", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    json: bool,
    /// Explain the command line.
    #[arg(long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(subcommand)]
    offline: Offline,
}

/// The exit code of a command line that is wrong.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(args) => ExitCode::from(offline::run(&args.offline, args.json)),
        Err(error) => {
            // Where even that cannot be written, there is nobody to tell.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
        }
    }
}
