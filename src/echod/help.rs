//! The texts of `--help` below the flags. The manual has the same texts.

use std::fmt::Write;

/// A section of the help and of the manual.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// Terms and their meanings.
    pub(crate) entries: &'static [(&'static str, &'static str)],
}

pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "Addresses",
        entries: &[
            ("127.0.0.1:7007", "an IPv4 address and a port"),
            ("[::1]:7007", "an IPv6 address, in brackets"),
            (
                ":7, *:7",
                "every address, IPv4 and IPv6; for a probe, the loopback",
            ),
            (
                "localhost:echo",
                "a host name, and the name of a port in /etc/services",
            ),
        ],
    },
    Section {
        title: "Durations",
        entries: &[(
            "50us, 500ms, 30s, 1h30m",
            "a number with a unit: us, ms, s, m or h; only 0 needs none",
        )],
    },
    Section {
        title: "Sizes",
        entries: &[(
            "65536, 256KiB, 1MB",
            "in bytes, in units of 1024 or in units of 1000",
        )],
    },
    Section {
        title: "Behind a proxy",
        entries: &[
            (
                "10.0.0.0/8, 2001:db8::/32",
                "must send a header within 3s; from other addresses a header is data",
            ),
            (
                "192.0.2.7",
                "one address; in a network, bits beyond the prefix must be zero",
            ),
            (
                "health checks",
                "of a proxy keep the proxy's address; echod probe sends no header",
            ),
        ],
    },
    Section {
        title: "Inherited sockets",
        entries: &[
            (
                "listeners",
                "replace --listen; FileDescriptorName= names the service [default: echo]",
            ),
            (
                "standard input",
                "a TCP connection, from inetd(8) or with Accept=yes, is served, then echod exits",
            ),
        ],
    },
    Section {
        title: "Services",
        entries: &[
            (
                "daytime",
                "sends day and time, UTC, in the format of NIST's servers (RFC 867)",
            ),
            (
                "daytime-long, daytime-short",
                "send it in the two formats of the RFC",
            ),
            (
                "time",
                "sends the seconds since 1900, in four bytes (RFC 868)",
            ),
            ("discard", "discards what it receives (RFC 863)"),
            (
                "chargen",
                "sends characters until the client closes (RFC 864)",
            ),
            (
                "systat",
                "lists the live connections of all services (RFC 866)",
            ),
            (
                "metrics",
                "shows counters to Prometheus over HTTP, at /metrics",
            ),
            (
                "systat, metrics",
                "answer every client, so bind them to a loopback address",
            ),
        ],
    },
    Section {
        title: "Signals",
        entries: &[
            (
                "SIGINT, SIGTERM, SIGHUP",
                "wait for --shutdown-delay, stop accepting, drain connections, exit",
            ),
            (
                "a second one",
                "end the delay; without or after a delay, abort the connections",
            ),
            ("SIGUSR1", "log the live connections, as systat lists them"),
        ],
    },
    Section {
        title: "Exit status",
        entries: &[
            ("0", "clean stop"),
            (
                "1",
                "the start failed, a listener failed, or any failure not listed below",
            ),
            ("2", "the command line or a variable is wrong"),
            (
                "8",
                "connections were aborted, after --drain-timeout or at a second signal",
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
                "connections tried: the sum of right, wrong and lost",
            ),
            ("right", "the same bytes came back, then the end"),
            ("wrong", "other bytes, more or fewer came back"),
            ("lost", "not connected, timed out, or reset"),
            ("connect", "time to establish the connection"),
            (
                "echo",
                "time from the first byte sent to the last byte received",
            ),
            (
                "--format json",
                "uses these names, with times in seconds; \"failures\" counts failures by their text",
            ),
        ],
    },
    Section {
        title: "Exit status of a probe",
        entries: &[
            ("0", "every connection was right"),
            (
                "1",
                "Ctrl-C before the first probe ended, or any failure not listed below",
            ),
            ("2", "the command line is wrong"),
            ("3", "ADDR does not resolve: unknown host or port name"),
            ("4", "the connection was refused"),
            ("5", "the connection timed out"),
            ("6", "the connection was reset"),
            ("7", "other bytes, more or fewer came back"),
            ("several", "the highest code of all failures"),
        ],
    },
];

pub(crate) const EXAMPLES: &str = "\
echod &
printf 'hello\\n' | nc -N 127.0.0.1 7007
echod probe 127.0.0.1:7007
";

pub(crate) const RUST_LOG: &str = "if set, chooses what is logged, instead of -v and -q.";

pub(crate) const PROBE_EXAMPLES: &str = "\
echod probe localhost:7007
echod probe localhost:7007 --count 100 --interval 100ms
echod probe localhost:7007 --connections 1000 --timeout 10s
";

/// Returns what `echod --help` shows below the flags.
pub(crate) fn daemon() -> String {
    let mut text = list(SECTIONS, EXAMPLES);
    // Writing to a `String` never fails.
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
