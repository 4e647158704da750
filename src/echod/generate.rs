//! `--generate`: the manual and the shells' completions, made from the definition of the command
//! line for whoever packages the daemon.

use std::io::{self, Write};

use clap::{Arg, ArgAction, Command, CommandFactory, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::Cli;
use crate::help::{EXAMPLES, RUST_LOG, SECTIONS};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Man,
    Bash,
    Zsh,
    Fish,
}

/// Writes `part` to standard output.
pub(crate) fn print(part: Part) -> io::Result<()> {
    let mut text = Vec::new();
    match part {
        Part::Man => write_manual(&mut text)?,
        Part::Bash => complete(Shell::Bash, &mut text),
        Part::Zsh => complete(Shell::Zsh, &mut text),
        Part::Fish => complete(Shell::Fish, &mut text),
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
}

fn complete(shell: Shell, text: &mut Vec<u8>) {
    // No value is a file, which is what shells offer otherwise.
    let without_files = |arg: Arg| match arg.get_action() {
        ArgAction::Set | ArgAction::Append => arg.value_hint(ValueHint::Other),
        _ => arg,
    };
    let mut command = Cli::command().mut_args(without_files);
    clap_complete::generate(shell, &mut command, "echod", text);
}

fn write_manual(text: &mut Vec<u8>) -> io::Result<()> {
    let command = Cli::command();
    let rest = sections(&command);
    let man = Man::new(command)
        .title("ECHOD")
        .section("8")
        // None, but in quotes: as nothing at all it would be left out, and the rest move up.
        .date("\"\"")
        .manual("System Manager's Manual");
    man.render_title(text)?;
    man.render_name_section(text)?;
    man.render_synopsis_section(text)?;
    man.render_description_section(text)?;
    man.render_options_section(text)?;
    rest.to_writer(text)
}

/// The sections after the options.
fn sections(command: &Command) -> Roff {
    let mut page = Roff::new();
    for section in SECTIONS {
        page.control("SH", [&*section.title.to_uppercase()]);
        for (term, meaning) in section.entries {
            entry(&mut page, term, meaning);
        }
    }
    page.control("SH", ["ENVIRONMENT"]);
    for arg in command.get_arguments() {
        if let (Some(name), Some(flag)) = (arg.get_env(), arg.get_long()) {
            let same = match arg.get_action() {
                ArgAction::Count => "so many times",
                _ => "the same as",
            };
            let meaning = format!("{same} --{flag}, which wins over it");
            entry(&mut page, &name.to_string_lossy(), &meaning);
        }
    }
    entry(&mut page, "RUST_LOG", RUST_LOG);
    page.control("SH", ["FILES"]);
    for (path, meaning) in FILES {
        entry(&mut page, path, meaning);
    }
    page.control("SH", ["EXAMPLES"]);
    // As it is, without filling.
    page.control("EX", []);
    for line in EXAMPLES.lines() {
        page.text([roman(line)]);
    }
    page.control("EE", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("nc"),
        roman("(1), "),
        bold("systemctl"),
        roman("(1), "),
        bold("systemd.socket"),
        roman("(5), RFC 862"),
    ]);
    page
}

const FILES: [(&str, &str); 4] = [
    ("/etc/default/echod", "the environment of both services"),
    ("echod.socket", "port 7, for echod.service"),
    (
        "echod.service",
        "started by the first connection, without any privilege",
    ),
    ("echod-standalone.service", "binds port 7 itself"),
];

/// A paragraph with a tag.
fn entry(page: &mut Roff, term: &str, meaning: &str) {
    page.control("TP", []);
    page.text([bold(term)]);
    page.text([roman(meaning)]);
}
