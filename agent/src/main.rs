//! `mlnd`: one of its roles.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = mlnd::roles::run_small(&args) {
        return code;
    }
    run_host()
}

#[cfg(feature = "host")]
fn run_host() -> ExitCode {
    match mlnd::host::main() {
        Ok(code) => code,
        Err(error) => {
            use std::io::Write;
            // There is nowhere else to say it.
            let _ = writeln!(std::io::stderr(), "mlnd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(feature = "host"))]
fn run_host() -> ExitCode {
    use std::io::Write;
    let _ =
        writeln!(std::io::stderr(), "mlnd: this build is the agent for guests alone; run it as mlnd-guest");
    ExitCode::from(64)
}
