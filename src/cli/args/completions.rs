//! What `tollgate completions` takes.

use clap::Args;
use clap_complete::Shell;

/// Print a script that lets a shell complete commands, flags and values with the Tab key.
#[derive(Debug, Args)]
#[command(after_help = "\
Where a shell looks for it:
  bash        tollgate completions bash > ~/.local/share/bash-completion/completions/tollgate
  zsh         tollgate completions zsh > DIR/_tollgate, with DIR in $fpath before compinit
  fish        tollgate completions fish > ~/.config/fish/completions/tollgate.fish
  powershell  tollgate completions powershell | Out-String | Invoke-Expression    (in $PROFILE)
  elvish      eval (tollgate completions elvish | slurp)                          (in rc.elv)

Without a file, in this bash only: source <(tollgate completions bash)")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}
