//! `echod generate`: prints the manual and the shells' completions, made from the definition of the command
//! line. Packages of the daemon contain them.

mod manual;
mod sections;

use std::io::{self, Write};

use clap::{Arg, ArgAction, CommandFactory, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::cli::Cli;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Artifact {
    Man,
    Bash,
    Zsh,
    Fish,
}

/// Writes the `artifact` to standard output.
pub(crate) fn print(artifact: Artifact) -> io::Result<()> {
    let mut text = Vec::new();
    match artifact {
        Artifact::Man => manual::write(&mut text)?,
        Artifact::Bash => complete(Shell::Bash, &mut text),
        Artifact::Zsh => complete(Shell::Zsh, &mut text),
        Artifact::Fish => complete(Shell::Fish, &mut text),
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
}

/// Writes the completions of a shell.
fn complete(shell: Shell, text: &mut Vec<u8>) {
    // Otherwise shells would complete file names, but no value is a file.
    let without_files = |arg: Arg| match arg.get_action() {
        ArgAction::Set | ArgAction::Append => arg.value_hint(ValueHint::Other),
        _ => arg,
    };
    let mut command = Cli::command()
        .mut_args(without_files)
        .mut_subcommands(|command| command.mut_args(without_files));
    clap_complete::generate(shell, &mut command, "echod", text);
    if shell == Shell::Fish {
        offer_values_in_fish(text);
    }
}

/// Makes fish complete the value of a flag before a subcommand.
///
/// While the value is missing, `argparse` fails in the generated condition. clap's script then takes the
/// condition for false, and fish offers file names.
fn offer_values_in_fish(text: &mut Vec<u8>) {
    let script = String::from_utf8_lossy(text);
    *text = script
        .replace(
            "2>/dev/null\n    or return\n",
            "2>/dev/null\n    or return 0\n",
        )
        .into_bytes();
}
