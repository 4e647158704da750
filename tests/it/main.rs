//! Tests from outside: of the library over loopback sockets, of the daemon as a process, and of both with the
//! client programs that users have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::needless_for_each,
    clippy::similar_names,
    reason = "`server` and `served` are clear, and `for_each` keeps a loop on one line"
)]

mod aborts;
mod accepting;
#[cfg(target_os = "linux")]
mod access;
mod banner;
mod binding;
mod chat;
mod cli;
mod clients;
mod closed;
mod conformance;
mod connection_handles;
mod control;
mod daemon_hygiene;
mod daytime;
mod deadlines;
mod echo;
mod examples;
mod failures;
mod generate;
mod gopher;
mod graceful;
mod handlers;
mod haproxy;
mod idle_timeouts;
mod inherited;
mod leading;
mod lecture;
mod limits;
mod log;
#[cfg(target_os = "linux")]
mod managers;
mod metrics;
mod notify;
mod packaging;
mod path;
mod peers;
mod probe;
mod probes;
mod prometheus;
mod proxy;
mod proxy_protocol;
mod races;
mod redis;
#[cfg(target_os = "linux")]
mod reuse_port;
mod server;
mod services;
mod shutdown;
mod shutdown_delay;
mod signals;
mod smtp;
mod status;
mod support;
mod systat;
mod timeouts;
mod tls;
mod wait;
mod websocket;
