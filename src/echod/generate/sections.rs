//! The sections that only the manual has.

use crate::help::Section;

pub(super) const ENVIRONMENT: &str = "Each variable sets what its flag sets, and the flag wins. An empty \
    variable counts as unset. A variable that begins with ECHOD_ and is not in this list causes a warning. \
    echod probe reads none of them.";

pub(super) const MANUAL_SECTIONS: &[Section] = &[
    Section {
        title: "Limits and timeouts",
        entries: &[
            (
                "--max-connections",
                "counts the connections of each service separately. At the limit, new clients wait in the \
                 kernel's backlog, or are accepted and closed with --at-limit reject. systat and metrics take \
                 at most 64 connections each. The start warns if descriptors, threads or memory don't suffice",
            ),
            (
                "--max-per-source",
                "rejects further connections of a source even with --at-limit wait, because in the backlog \
                 they would delay other clients",
            ),
            (
                "--idle-timeout",
                "counts only what the client sends. Receiving does not make a client active",
            ),
            (
                "--write-timeout",
                "begins when the kernel's buffers are full. A client that reads slower than about 400 kB \
                 per timeout may count as stalled, because the kernel reports progress in steps",
            ),
            (
                "--max-lifetime",
                "ends a connection as a shutdown does: the client gets the echo of what had arrived, then \
                 FIN. A client that takes more than 2 s to read the rest may lose it",
            ),
            (
                "after the last byte",
                "echod sends FIN and waits up to 2 s for the client's FIN. Without that wait, a client that \
                 is still sending would get a reset, which can destroy the end of its echo",
            ),
            (
                "keepalive",
                "after 60 s without traffic the kernel tests whether the client is still there. A client \
                 that has vanished gives its slot back after some minutes",
            ),
            (
                "--drain-timeout",
                "is the time for all connections together to finish at a shutdown. With 0 they are aborted \
                 at once",
            ),
            (
                "0",
                "means no limit for --max-per-source, --idle-timeout, --write-timeout, --max-lifetime and \
                 --socket-buffers",
            ),
        ],
    },
    Section {
        title: "Small services",
        entries: &[
            (
                "--service",
                "adds a service to the echo, in the same process. Each service has its own limits, counters \
                 and name in the log. Names are those under SERVICES, and echo",
            ),
            (
                "daytime",
                "sends, for example, \"61368 26-11-24 14:24:31 00 0 0   0.0 UTC(HOST) *\": the modified Julian \
                 date, date and time, then flags. All services use this machine's clock",
            ),
            (
                "daytime-long",
                "sends, for example, \"Tuesday, November 24, 2026 14:24:31-UTC\"",
            ),
            (
                "daytime-short",
                "sends, for example, \"24 NOV 26 14:24:31 UTC\"",
            ),
            (
                "time",
                "sends the most significant byte first. The count begins again at 0 on 7 February 2036",
            ),
            (
                "chargen",
                "sends as fast as the client reads. --write-timeout ends a connection whose client has \
                 stopped reading, --max-lifetime ends every connection. Each connection takes a thread",
            ),
            (
                "systat",
                "sends at most 1000 connections of each service, the oldest first, with their age, bytes and \
                 state: handler (a thread works for it), reactor (an event loop carries it) or closing",
            ),
            (
                "metrics",
                "answers GET and HEAD of /metrics, in the format of Prometheus or OpenMetrics, within 5 s. \
                 /ready answers 200, and 503 from the first stop signal on",
            ),
            (
                "--print-addr",
                "prints the address and port of each socket, so that scripts can use port 0: \
                 \"127.0.0.1:39329\" for the echo, then \"daytime=[::]:1313\" for other services",
            ),
            ("--banner", "is for the echo only. The line ends with CR LF"),
        ],
    },
    Section {
        title: "PROXY protocol",
        entries: &[
            (
                "purpose",
                "a proxy opens its own connections, so that every client has the proxy's address. A header \
                 at the start of each connection passes on the client's address, which echod then uses in \
                 the log, in systat and for --max-per-source. HAProxy sends it with send-proxy-v2, nginx \
                 with proxy_protocol on",
            ),
            (
                "trust",
                "only proxies belong in the networks of --proxy-protocol, because every program that can \
                 connect from there can claim any address. From other addresses a header is data, and is \
                 echoed",
            ),
            (
                "header",
                "at most 107 bytes in version 1 and 4096 bytes in version 2, complete within 3 s. The header \
                 is neither echoed nor counted in bytes_in",
            ),
            (
                "no valid header",
                "closes the connection with the reason proxy-header. A warning names the source and says \
                 what came instead, once per episode; -v logs each connection",
            ),
            (
                "health checks",
                "of the proxy itself (LOCAL, UNKNOWN) keep the proxy's address. A check that connects and \
                 closes without sending causes no warning. echod probe sends no header, so let it test the \
                 proxy, or run it from an address that is not trusted",
            ),
        ],
    },
    Section {
        title: "Sockets from a service manager",
        entries: &[
            (
                "listeners",
                "LISTEN_FDS, LISTEN_PID, LISTEN_PIDFDID and LISTEN_FDNAMES describe them, as in \
                 sd_listen_fds(3). Each serves the service of its name. Without FileDescriptorName= that is \
                 the echo. --listen, --backlog, --socket-buffers and --reuse-port have no effect on them",
            ),
            (
                "standard input",
                "a listening TCP socket (\"wait\" in inetd.conf) serves the echo. A TCP connection is served \
                 alone, and echod exits when it ends; set StandardInput=socket for Accept=yes",
            ),
            (
                "anything else",
                "is an error that names the descriptor, its name and its kind. Only a Unix stream connection \
                 on standard input is ignored, with a warning",
            ),
        ],
    },
    Section {
        title: "Signals in detail",
        entries: &[
            (
                "draining",
                "echod accepts no more clients. Each connected client gets the echo of what had arrived, \
                 then FIN. The kernel resets clients in the backlog, unless a service manager or another \
                 process (--reuse-port) holds the socket",
            ),
            ("during the start", "a stop signal ends echod with status 0"),
            (
                "ignored signals",
                "SIGHUP that was ignored at the start, as under nohup(1), stays ignored. SIGINT stops echod \
                 even if ignored, because shells ignore it for background jobs",
            ),
            (
                "SIGUSR1",
                "logs at most 100 connections of each service, at level info",
            ),
        ],
    },
    Section {
        title: "Probe in detail",
        entries: &[
            (
                "order",
                "the addresses of a name are tried in turn until one accepts. The probe half-closes after the \
                 echo, because some forwarders drop data at a half-close",
            ),
            (
                "--count, --interval",
                "repeat the probe as ping does: one line for each, and a summary at the end or at Ctrl-C, \
                 with the least, median, 99th percentile and most of the times",
            ),
            (
                "--connections",
                "opens all connections, then tests each while all are open. That shows whether a firewall or \
                 a load balancer holds this many",
            ),
            (
                "wrong",
                "is also the result for a server that accepts and closes at its limit",
            ),
        ],
    },
    Section {
        title: "Log",
        entries: &[
            (
                "levels",
                "error: a listener failed, a handler panicked. warning: a limit was reached, a resource ran \
                 out, a setting has no effect, connections were aborted. info: start, stop, totals. debug \
                 (-v): two lines for each connection, and one, without id, for each that is rejected",
            ),
            (
                "first line of a connection",
                "is logged once the connection is accepted and, behind a proxy, its client is known: \
                 \"id=1 peer=127.0.0.1:58628 local=127.0.0.1:7007 accepted\"",
            ),
            (
                "last line of a connection",
                "has these fields, too, and \"bytes_in=6 bytes_out=6 duration=0.000132 reason=eof\". A \
                 connection that is rejected at a limit has only this line, without an id",
            ),
            (
                "service",
                "name of the service, if the daemon serves several",
            ),
            ("id", "number of the connection within its service"),
            ("peer, local", "addresses of the client and of this end"),
            ("bytes_in, bytes_out", "bytes received and bytes sent"),
            (
                "duration",
                "seconds from accept to close, including the wait of up to 2 s for the client's FIN",
            ),
            ("reason", "why the connection ended: see REASONS"),
            (
                "connections, rejected, aborted",
                "in the line \"stopped\": connections served, closed at a limit, and reset by echod",
            ),
            (
                "--log-format json",
                "has these fields with the same names, and time, level and message",
            ),
            (
                "slow readers",
                "never delay the echo. If standard error is not read in time, echod drops log lines and logs \
                 a warning with their number",
            ),
            (
                "journal",
                "if standard error is the journal, lines have its priorities, and lines of text no time: \
                 journalctl -u echod -p warning shows what needs attention",
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
                "the client did not complete a request, or did not read its reply, in time (metrics, systat)",
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
                "the service failed; the line before has the cause",
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
                 systemd sets to 524288. For more, set LimitNOFILE= and the sysctl fs.nr_open",
            ),
            (
                "memory, idle",
                "less than 1 KiB of the process and about 4 KiB of the kernel for each connection: 10000 \
                 take 11 MB and 38 MB (measured), 1000000 take 750 MB and 3.8 GB (extrapolated)",
            ),
            (
                "memory, busy",
                "a client that stops reading can take 64 KiB of the process, and the kernel's buffers up to the \
                 maxima of tcp_rmem and tcp_wmem, together 10 MB or, on newer kernels, 36 MB, unless \
                 --socket-buffers bounds them. A fixed size also bounds the rate: about one size per \
                 round-trip time",
            ),
            (
                "threads",
                "none for an idle echo. Each connection of chargen takes one, so at most about 14000 \
                 with the default of vm.max_map_count, because a thread takes four memory mappings",
            ),
            (
                "backlog, buffers",
                "the kernel caps --backlog at net.core.somaxconn, and --socket-buffers at net.core.rmem_max and \
                 net.core.wmem_max; the start warns of both",
            ),
            (
                "--busy-poll",
                "saves a sleep and a wake-up per message on connections whose messages follow each other \
                 closely. Values above 20ms count as 20ms",
            ),
        ],
    },
    Section {
        title: "As a service",
        entries: &[
            (
                "settings",
                "are in /etc/default/echod; systemctl restart echod applies them. systemctl status echod \
                 shows a wrong setting. The service tries again every 3 s, and so starts by itself once the \
                 setting is right",
            ),
            (
                "defaults of the units",
                "one source may have 1000 connections, a connection whose client has read nothing for 1m is \
                 closed, and each of the kernel's buffers has 128 KiB. Exit status 8 counts as success",
            ),
            (
                "another port",
                "systemctl edit echod.socket, with the lines [Socket], ListenStream= and \
                 ListenStream=7777; then systemctl stop echod.service and systemctl restart \
                 echod.socket. For echod-standalone.service set ECHOD_LISTEN=:7777 and restart it",
            ),
            (
                "sockets for other services",
                "a socket unit of its own with Service=echod.service and FileDescriptorName=daytime, \
                 for example. For echod-standalone.service set ECHOD_SERVICE=daytime=:13",
            ),
            (
                "restart",
                "connected clients get the echo of what had arrived, then FIN, within --drain-timeout. \
                 New clients wait at the sockets of echod.socket",
            ),
            (
                "notification",
                "with NOTIFY_SOCKET, echod reports that it is ready, its status (at most every 5 s, or twice \
                 per watchdog timeout), the stop, and the error that ended it. With WATCHDOG_USEC it feeds the watchdog \
                 while all its accept loops respond",
            ),
        ],
    },
    Section {
        title: "Restart without a service manager",
        entries: &[
            (
                "--reuse-port",
                "start the new process, wait until it listens (--print-addr), then stop the old one. The \
                 kernel gives all new clients to the process that began to listen last. Both processes need \
                 the flag and the same user. Linux only",
            ),
            (
                "--shutdown-delay",
                "the old process accepts the clients that came before. Make the delay longer than a round \
                 trip to your clients, for example 1s",
            ),
            (
                "limits",
                "a client that waits because the old process is at --max-connections is reset when the old \
                 process stops, unless the sysctl net.ipv4.tcp_migrate_req is 1. Of three processes the \
                 second one gets all clients; to use more processors, raise --reactors",
            ),
        ],
    },
];
