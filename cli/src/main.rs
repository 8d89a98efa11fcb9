//! `mlnctl`: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(mln_cli::run(std::env::args_os()).code())
}
