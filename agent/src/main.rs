//! `mlnd`: arguments, then one of its roles.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = mlnd::roles::run_small(&args) {
        return code;
    }
    ExitCode::from(64)
}
