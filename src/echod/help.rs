//! What is said of `echod` beside its flags: below them in `--help`, and in the manual.

use std::fmt::Write;

pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// Each with what it means.
    pub(crate) entries: &'static [(&'static str, &'static str)],
}

pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "Addresses",
        entries: &[
            ("127.0.0.1:7007", "one address"),
            (
                ":7, *:7",
                "all, IPv4 and IPv6; to a probe, those of the loopback",
            ),
            ("localhost:echo", "a name, and a service by name"),
            ("[::1]:7007", "IPv6, in brackets"),
        ],
    },
    Section {
        title: "Durations",
        entries: &[("50us, 500ms, 30s, 1h30m", "as people write them")],
    },
    Section {
        title: "Sizes",
        entries: &[(
            "65536, 256KiB, 1MB",
            "in bytes, in units of 1024, in units of 1000",
        )],
    },
    Section {
        title: "Behind a proxy",
        entries: &[
            (
                "10.0.0.0/8, 2001:db8::/32",
                "networks whose connections must begin with a header, within 3s; from others, a header \
                 is data",
            ),
            (
                "192.0.2.7",
                "one address; in a network, bits beyond the prefix must be zero",
            ),
            (
                "health checks",
                "with LOCAL or UNKNOWN have the proxy's address; echod probe sends no header, so let it \
                 check the proxy, or run it from an address that is not trusted",
            ),
        ],
    },
    Section {
        title: "Inherited sockets",
        entries: &[
            (
                "listeners",
                "take the place of --listen; FileDescriptorName= names the service, if not the echo",
            ),
            (
                "standard input",
                "is served if it is a connection, as from inetd(8) or with Accept=yes",
            ),
        ],
    },
    Section {
        title: "Services",
        entries: &[
            (
                "daytime",
                "day and time, UTC, as NIST's servers send it (RFC 867)",
            ),
            (
                "daytime-long, daytime-short",
                "in the two forms that the RFC shows",
            ),
            ("time", "the seconds since 1900, in four bytes (RFC 868)"),
            ("discard", "throws away what it receives (RFC 863)"),
            ("chargen", "characters, until the client goes (RFC 864)"),
            (
                "systat",
                "who is connected, a line for each connection (RFC 866)",
            ),
            ("metrics", "counters for Prometheus over HTTP, at /metrics"),
            (
                "systat, metrics",
                "tell whoever connects, so bind them to loopback",
            ),
        ],
    },
    Section {
        title: "Signals",
        entries: &[
            (
                "SIGINT, SIGTERM, SIGHUP",
                "after --shutdown-delay stop accepting, let connections end, exit",
            ),
            (
                "another one",
                "ends the delay; without or after it, aborts the connections that are left",
            ),
            ("SIGUSR1", "log who is connected, as systat tells it"),
        ],
    },
    Section {
        title: "Exit status",
        entries: &[
            ("0", "a clean stop"),
            (
                "1",
                "it could not start, or a listener failed; any failure that is not below",
            ),
            ("2", "the command line or a variable is wrong"),
            (
                "8",
                "the stop took longer than --drain-timeout, or was asked for twice, and connections \
                 were aborted",
            ),
        ],
    },
];

pub(crate) const PROBE_SECTIONS: &[Section] = &[
    Section {
        title: "Output",
        entries: &[
            (
                "sent",
                "connections that were tried: the sum of right, wrong and lost",
            ),
            ("right", "the same bytes came back, and then the end"),
            ("wrong", "other bytes came back, or more, or fewer"),
            ("lost", "no answer: not connected, too late, or reset"),
            ("connect", "time until the connection was established"),
            (
                "echo",
                "time from the first byte that was sent to the last that came back",
            ),
            (
                "--format json",
                "has the same names, with times in seconds; failures are counted by their text",
            ),
        ],
    },
    Section {
        title: "Exit status of a probe",
        entries: &[
            ("0", "every connection was right"),
            (
                "1",
                "any failure that is not below; Ctrl-C before the first probe ended",
            ),
            ("2", "the command line is wrong"),
            ("3", "the name or the service is not known"),
            ("4", "the connection was refused"),
            ("5", "it took too long"),
            ("6", "the connection was reset"),
            ("7", "other bytes came back, or more, or fewer"),
            ("several", "of several failures, the highest code counts"),
        ],
    },
];

pub(crate) const EXAMPLES: &str = "\
echod &
printf 'hello\\n' | nc -N 127.0.0.1 7007
echod probe 127.0.0.1:7007
";

pub(crate) const RUST_LOG: &str = "if set, decides what is logged instead of -v and -q.";

pub(crate) const PROBE_EXAMPLES: &str = "\
echod probe localhost:7007
echod probe localhost:7007 --count 100 --interval 100ms
echod probe localhost:7007 --connections 1000 --timeout 10s
";

/// Returns what `echod --help` shows below the flags.
pub(crate) fn daemon() -> String {
    let mut text = list(SECTIONS, EXAMPLES);
    // A `String` takes whatever is written to it.
    let _ = write!(text, "\nRUST_LOG, {RUST_LOG}");
    text
}

/// Returns what `echod probe --help` shows below the flags.
pub(crate) fn probe() -> String {
    list(PROBE_SECTIONS, PROBE_EXAMPLES)
}

fn list(sections: &[Section], examples: &str) -> String {
    let mut text = String::new();
    for Section { title, entries } in sections {
        let width = entries
            .iter()
            .map(|(term, _)| term.len())
            .max()
            .unwrap_or(0);
        let _ = writeln!(text, "{title}:");
        for (term, meaning) in *entries {
            let _ = writeln!(text, "  {term:width$}  {meaning}");
        }
        text.push('\n');
    }
    let _ = writeln!(text, "Try it:");
    for line in examples.lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}
