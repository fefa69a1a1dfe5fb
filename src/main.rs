//! The command-line tool: [`tollgate::cli`], which is the crate's top layer, as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::main()
}
