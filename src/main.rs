//! The command-line tool.

mod cli;

use clap::Parser;

fn main() {
    let cli = cli::args::Cli::parse();
    eprintln!("{cli:?}");
}
