//! Writes the manual, echod(8): the texts of the help, and the sections that only the manual has.

use std::io;

use clap::{ArgAction, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::sections::{ENVIRONMENT, MANUAL_SECTIONS};
use crate::cli::Cli;
use crate::help::{EXAMPLES, PROBE_EXAMPLES, PROBE_SECTIONS, RUST_LOG, SECTIONS, Section};

/// Writes the manual as roff, the input of `man(1)`.
pub(super) fn write(text: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Cli::command();
    // Only a built command can display the arguments of its subcommands.
    command.build();
    let synopsis = synopsis(&command);
    let rest = sections(&command);
    let man = Man::new(command)
        .title("ECHOD")
        .section("8")
        // An empty date needs quotes. Otherwise roff would take the next word for the date.
        .date("\"\"")
        .manual("System Manager's Manual");
    man.render_title(text)?;
    man.render_name_section(text)?;
    synopsis.to_writer(text)?;
    man.render_description_section(text)?;
    man.render_options_section(text)?;
    rest.to_writer(text)
}

/// Makes the synopsis. clap's own leaves out the values of the flags.
fn synopsis(command: &Command) -> Roff {
    let mut page = Roff::new();
    // A hyphen at the end of a line would look like a part of a flag.
    page.control("nh", []);
    page.control("SH", ["SYNOPSIS"]);
    page.text(usage("echod", command));
    if let Some(probe) = command.find_subcommand("probe") {
        page.control("PP", []);
        page.text(usage("echod probe", probe));
    }
    page
}

/// Returns a command with all its flags and values.
fn usage(name: &str, command: &Command) -> Vec<Inline> {
    let mut line = vec![bold(name)];
    for arg in command.get_arguments() {
        let values = arg.get_value_names().unwrap_or_default();
        let value = values.first().map(ToString::to_string).unwrap_or_default();
        let Some(flag) = arg.get_long() else {
            line.extend([roman(" "), italic(value)]);
            continue;
        };
        line.push(roman(" ["));
        if let Some(short) = arg.get_short() {
            line.extend([bold(format!("-{short}")), roman("|")]);
        }
        line.push(bold(format!("--{flag}")));
        let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        if takes_value && arg.get_num_args().is_none_or(|range| range.takes_values()) {
            line.extend([roman(" "), italic(value)]);
        }
        let repeats = matches!(arg.get_action(), ArgAction::Append | ArgAction::Count);
        line.push(roman(if repeats { "]..." } else { "]" }));
    }
    line
}

/// Makes the sections after the options.
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
    page.text([roman(ENVIRONMENT)]);
    for arg in command.get_arguments() {
        if let (Some(name), Some(flag)) = (arg.get_env(), arg.get_long()) {
            let relation = match arg.get_action() {
                ArgAction::Count => "gives the flag this many times:",
                _ => "the same as",
            };
            entry(
                &mut page,
                &name.to_string_lossy(),
                &format!("{relation} --{flag}"),
            );
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

/// Writes the section about the subcommand `probe`, which has no manual of its own.
fn write_probe(page: &mut Roff, probe: &Command) {
    page.control("SH", ["PROBE"]);
    let about = probe.get_long_about().or(probe.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    for (index, paragraph) in about.split("\n\n").enumerate() {
        if index > 0 {
            page.control("PP", []);
        }
        page.text([roman(paragraph)]);
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
    // Roff keeps the lines of an example as they are.
    page.control("EX", []);
    for line in examples.lines() {
        page.text([roman(line)]);
    }
    page.control("EE", []);
    // groff's EE turns hyphenation on again.
    page.control("nh", []);
}

const FILES: [(&str, &str); 9] = [
    (
        "/etc/default/echod",
        "the environment of both services, with every variable and its default",
    ),
    (
        "/usr/share/doc/echod/README.md",
        "running echod as a service, another port, how many connections",
    ),
    (
        "/usr/share/doc/echod/access.md",
        "who may connect: limits in the kernel, by systemd and nftables",
    ),
    (
        "/usr/share/doc/echod/haproxy.md",
        "several servers behind a load balancer",
    ),
    (
        "/usr/share/doc/echod/monitoring.md",
        "metrics and systat: every metric, alerts, and sockets of systemd for both",
    ),
    (
        "/usr/share/doc/echod/other-managers.md",
        "s6, runit, supervisor, containers, and a restart without a gap",
    ),
    ("echod.socket", "listens on port 7 for echod.service"),
    (
        "echod.service",
        "serves the sockets of echod.socket; the first connection starts it; has no privilege",
    ),
    ("echod-standalone.service", "binds port 7 itself"),
];

/// Writes a term and its meaning, as a tagged paragraph.
fn entry(page: &mut Roff, term: &str, meaning: &str) {
    page.control("TP", []);
    page.text([bold(term)]);
    page.text([roman(meaning)]);
}
