//! `echod generate`: the manual, checked by its formatters, and the completions, run by their shells.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Daemon, available, words};

/// A generated file. It is removed when the test ends.
struct Generated(PathBuf);

impl Generated {
    /// Generates `artifact`, in a file of this `name` in a folder of its own.
    fn new(artifact: &str, name: &str) -> Self {
        let output = Daemon::command()
            .args(["generate", artifact])
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, output.stdout).unwrap();
        Self(path)
    }

    /// Returns what `program` prints for the file. `program` must print no warning.
    fn read_by(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program)
            .args(args)
            .arg(&self.0)
            .current_dir(self.0.parent().unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(
            output.status.success() && stderr.is_empty(),
            "{stdout}{stderr}"
        );
        stdout
    }
}

impl Drop for Generated {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

#[test]
fn the_manual_is_well_formed_and_names_what_the_help_names() {
    if !available(&["groff"]) {
        return;
    }
    let manual = Generated::new("man", "echod.8");
    let page = manual.read_by("groff", &["-man", "-Tascii", "-P-cbou", "-ww"]);
    let sections: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter(|line| !line.contains("ECHOD(8)") && !line.contains("echod 0"))
        .collect();
    assert_eq!(
        sections,
        [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "ADDRESSES",
            "DURATIONS",
            "SIZES",
            "BEHIND A PROXY",
            "INHERITED SOCKETS",
            "SERVICES",
            "SIGNALS",
            "EXIT STATUS",
            "PROBE",
            "OUTPUT",
            "EXIT STATUS OF A PROBE",
            "LIMITS AND TIMEOUTS",
            "SMALL SERVICES",
            "PROXY PROTOCOL",
            "SOCKETS FROM A SERVICE MANAGER",
            "SIGNALS IN DETAIL",
            "PROBE IN DETAIL",
            "LOG",
            "REASONS",
            "SIZING",
            "AS A SERVICE",
            "RESTART WITHOUT A SERVICE MANAGER",
            "ENVIRONMENT",
            "FILES",
            "EXAMPLES",
            "SEE ALSO"
        ],
        "{page}"
    );
    let help = Daemon::command().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let probe = Daemon::command()
        .args(["probe", "--help"])
        .output()
        .unwrap();
    let help = help + &String::from_utf8(probe.stdout).unwrap();
    for word in words(&help, "--").chain(words(&help, "ECHOD_")) {
        assert!(page.contains(word), "{word} is not in:\n{page}");
    }
}

#[test]
fn bash_completes_flags_and_values() {
    if !available(&["bash"]) {
        return;
    }
    let script = Generated::new("bash", "echod");
    // Complete as the shell does: call the function that `complete -p` names. `compopt` works only during a
    // completion, so replace it.
    let complete = |words: &str| {
        let ask = format!(
            "compopt() {{ :; }}; source \"$0\" && read -ra told <<<\"$(complete -p echod)\" && COMP_WORDS=({words}) && \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
             for at in \"${{!told[@]}}\"; do [ \"${{told[at]}}\" != -F ] || function=${{told[at+1]}}; done && \
             \"$function\" echod \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\" && \
             echo \"${{COMPREPLY[@]}}\""
        );
        script.read_by("bash", &["--norc", "-c", &ask])
    };
    assert_eq!(complete("echod --lis"), "--listen\n");
    assert_eq!(complete("echod --at-limit ''"), "wait reject\n");
    // The folder has a file, the script, which must not be offered.
    for flag in ["--listen", "-c", "--idle-timeout", "--max-lifetime"] {
        assert_eq!(complete(&format!("echod {flag} ''")), "\n", "{flag}");
    }
}

#[test]
fn zsh_takes_the_completions() {
    if !available(&["zsh"]) {
        return;
    }
    let script = Generated::new("zsh", "_echod");
    let load = "fpath=($PWD $fpath); autoload -Uz compinit && compinit -u -D && \
                echo $_comps[echod] && autoload +X _echod && functions _echod";
    let loaded = script.read_by("zsh", &["-f", "-c", load]);
    assert!(loaded.starts_with("_echod\n"), "{loaded}");
    assert!(loaded.contains("--listen="), "{loaded}");
    assert!(!loaded.contains("_default"), "{loaded}");
}

#[test]
fn fish_completes_flags_and_values() {
    if !available(&["fish"]) {
        return;
    }
    let script = Generated::new("fish", "echod.fish");
    let complete = |line: &str| {
        let ask = format!("source $argv[1]; complete --do-complete '{line}'");
        script.read_by("fish", &["--no-config", "-c", &ask])
    };
    assert!(complete("echod --lis").starts_with("--listen\t"));
    // The folder has a file, the script, which must not be offered.
    assert_eq!(complete("echod --listen "), "");
    assert_eq!(
        complete("echod --at-limit ")
            .split_whitespace()
            .collect::<BTreeSet<_>>(),
        BTreeSet::from(["reject", "wait"])
    );
}
