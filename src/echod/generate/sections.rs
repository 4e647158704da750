//! The sections that only the manual has.

use crate::help::Section;

pub(super) const MANUAL_SECTIONS: &[Section] = &[
    Section {
        title: "Log",
        entries: &[
            (
                "levels",
                "error: a listener failed, a handler panicked. warning: a limit, a shortage, a setting \
                 without effect, connections that were aborted. info: start, stop, totals. debug (-v): \
                 two lines for each connection",
            ),
            (
                "slow readers",
                "never delay the echo. If standard error is read too slowly, log lines are dropped, and \
                 a warning says how many",
            ),
            (
                "service",
                "the name of the service, if the daemon serves several",
            ),
            ("id", "the number of the connection within its service"),
            ("peer, local", "the addresses of the client and of this end"),
            ("bytes_in, bytes_out", "bytes received, and bytes sent"),
            (
                "duration",
                "seconds from accept to close. It includes the time in which the daemon waits for the \
                 client's FIN after its own",
            ),
            ("reason", "why the connection ended: see REASONS"),
            (
                "connections, rejected, aborted",
                "in the last line: connections that were served, closed at a limit, and reset",
            ),
            (
                "--log-format json",
                "has these fields by the same names, and time, level and message",
            ),
        ],
    },
    Section {
        title: "Reasons",
        entries: &[
            ("eof", "the client half-closed"),
            ("reset", "the client reset the connection, or vanished"),
            ("idle", "the client sent nothing for --idle-timeout"),
            ("stalled", "the client read nothing for --write-timeout"),
            ("lifetime", "the connection was older than --max-lifetime"),
            (
                "deadline",
                "a request was not complete in time (metrics, systat)",
            ),
            ("shutdown", "the daemon was stopped"),
            ("limit", "the connection was rejected at a limit"),
            (
                "proxy-header",
                "a connection from a trusted proxy did not begin with a valid header",
            ),
            (
                "done",
                "the service had sent everything before the client closed",
            ),
            (
                "error, panic",
                "the service failed: the line before says how",
            ),
            (
                "closed, aborted, denied",
                "only in programs that use the library: a handle closed or reset the connection, or the \
                 verify hook denied it",
            ),
        ],
    },
    Section {
        title: "Sizing",
        entries: &[
            (
                "descriptors",
                "one for each connection, and 100. echod raises its soft limit to the hard one, which \
                 systemd sets to 524288 (LimitNOFILE=)",
            ),
            (
                "memory",
                "less than 1 KiB of the process and about 4 KiB of the kernel for each idle connection. A \
                 client that does not read can take 64 KiB of the process, and up to 6 MB of the kernel's \
                 buffers unless --socket-buffers bounds them",
            ),
            (
                "threads",
                "none for an idle echo. Each connection of chargen takes one, so at most about 14000 \
                 with the default of vm.max_map_count",
            ),
        ],
    },
    Section {
        title: "As a service",
        entries: &[
            (
                "another port",
                "systemctl edit echod.socket, with the lines [Socket], ListenStream= and \
                 ListenStream=7777; then systemctl stop echod.service and systemctl restart \
                 echod.socket. For echod-standalone.service set ECHOD_LISTEN=:7777",
            ),
            (
                "sockets for other services",
                "a socket unit of its own with Service=echod.service and FileDescriptorName=daytime, \
                 for example. For echod-standalone.service set ECHOD_SERVICE=daytime=:13",
            ),
            (
                "restart",
                "connected clients get the echo of what had arrived, then FIN, within --drain-timeout. \
                 New clients wait at the sockets of echod.socket. Without systemd, --reuse-port lets the \
                 next process listen before the old one stops",
            ),
        ],
    },
];
