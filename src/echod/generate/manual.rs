//! The manual, echod(8): what the help has, and what only the manual has.

use std::io;

use clap::{ArgAction, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::sections::MANUAL_SECTIONS;
use crate::cli::Cli;
use crate::help::{EXAMPLES, PROBE_EXAMPLES, PROBE_SECTIONS, RUST_LOG, SECTIONS, Section};

pub(super) fn write(text: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Cli::command();
    // Before that, an argument of a subcommand can't be displayed.
    command.build();
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
        write_section(&mut page, section);
    }
    if let Some(probe) = command.find_subcommand("probe") {
        write_probe(&mut page, probe);
    }
    for section in MANUAL_SECTIONS {
        write_section(&mut page, section);
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
    write_examples(&mut page, EXAMPLES);
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

fn write_section(page: &mut Roff, section: &Section) {
    page.control("SH", [&*section.title.to_uppercase()]);
    for (term, meaning) in section.entries {
        entry(page, term, meaning);
    }
}

/// The subcommand has no page of its own.
fn write_probe(page: &mut Roff, probe: &Command) {
    page.control("SH", ["PROBE"]);
    page.text([bold("echod probe"), roman(" [OPTIONS] ADDR")]);
    page.control("PP", []);
    let about = probe.get_long_about().or(probe.get_about());
    for paragraph in about
        .map(ToString::to_string)
        .unwrap_or_default()
        .split("\n\n")
    {
        page.text([roman(paragraph)]);
        page.control("PP", []);
    }
    for arg in probe.get_arguments() {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = arg.get_default_values().first();
        let default = default.map_or_else(String::new, |default| {
            format!(" [default: {}]", default.to_string_lossy())
        });
        let short = arg
            .get_short()
            .map_or_else(String::new, |short| format!("-{short}, "));
        entry(page, &format!("{short}{arg}"), &format!("{help}{default}"));
    }
    for section in PROBE_SECTIONS {
        write_section(page, section);
    }
    page.control("PP", []);
    write_examples(page, PROBE_EXAMPLES);
}

fn write_examples(page: &mut Roff, examples: &str) {
    // As it is, without filling.
    page.control("EX", []);
    for line in examples.lines() {
        page.text([roman(line)]);
    }
    page.control("EE", []);
}

const FILES: [(&str, &str); 6] = [
    ("/etc/default/echod", "the environment of both services"),
    (
        "/usr/share/doc/echod/haproxy.md",
        "several servers behind a balancer",
    ),
    (
        "/usr/share/doc/echod/monitoring.md",
        "metrics and systat: what they show, how to ask for them, alerts",
    ),
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
