//! Threads that close, abort and wake connections while clients connect and leave and the server stops.
//!
//! To run for longer than a second: `RACE_SECONDS=30 cargo test --test it races`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{Connection, Rest, ServerHandle, Wait, from_fn};

use crate::support::{TIMEOUT, TestServer, field, logged, read_to_end};

/// Closes, aborts and wakes live connections at random, until `stopped` is set.
fn interfere(server: &ServerHandle, stopped: &AtomicBool) {
    while !stopped.load(Ordering::Relaxed) {
        for conn in server.connections() {
            match fastrand::u8(0..8) {
                0 => conn.close(),
                1 => conn.abort(),
                2 | 3 => conn.wake(),
                _ => thread::yield_now(),
            }
        }
    }
}

/// A handler that waits for input, wake-ups and the end, and then leaves an echo to the server.
fn wait_then_echo(conn: &mut Connection) -> io::Result<()> {
    let mut buffer = [0; 256];
    conn.set_deadline(Instant::now() + Duration::from_millis(50));
    for _ in 0..4 {
        match conn.wait(Duration::from_millis(5))? {
            Wait::Input => {
                let n = conn.read(&mut buffer)?;
                conn.write_all(&buffer[..n])?;
            }
            Wait::Closing => return Ok(()),
            _ => {}
        }
    }
    conn.continue_with(Rest::Echo, &[]);
    Ok(())
}

#[test]
fn closes_aborts_and_wake_ups_by_threads_end_every_connection_and_the_totals_add_up() {
    let (builder, lines) = logged();
    let given = std::env::var("RACE_SECONDS");
    let seconds = given.map_or(1, |seconds| seconds.parse().unwrap());
    let server = TestServer::with(builder.drain_timeout(TIMEOUT), from_fn(wait_then_echo));
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| interfere(&server.handle, &stopped));
        }
        for _ in 0..4 {
            scope.spawn(|| {
                while let Ok(client) = TcpStream::connect(server.addr) {
                    visit(&client);
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        // This is the duration of the race, and not a wait for a condition.
        thread::sleep(Duration::from_secs(seconds));
        server.handle.shutdown();
        stopped.store(true, Ordering::Relaxed);
    });
    let totals = server.join();
    let lines = lines.all();
    let sum = |name| {
        let numbers = lines.iter().map(|line| field(line, name).unwrap());
        numbers.map(|n| n.parse::<u64>().unwrap()).sum::<u64>()
    };
    let aborted = lines
        .iter()
        .filter(|line| field(line, "reason") == Some("aborted"));
    assert_eq!(totals.connections(), lines.len() as u64);
    assert_eq!(
        (totals.bytes_in(), totals.bytes_out()),
        (sum("bytes_in"), sum("bytes_out"))
    );
    assert_eq!(totals.aborted(), aborted.count() as u64);
    assert!(totals.aborted() > 0 && totals.aborted() < totals.connections());
}

/// Sends something, and reads until the connection ends.
fn visit(mut client: &TcpStream) {
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    // This fails if the connection has already been aborted.
    let _ = client.write_all(&[0; 200]);
    if fastrand::bool() {
        let _ = client.shutdown(Shutdown::Write);
    }
    if let Err(error) = read_to_end(client) {
        assert_ne!(error.kind(), ErrorKind::WouldBlock, "it hangs");
    }
}
