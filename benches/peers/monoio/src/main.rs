//! An echo server on monoio: a task for each connection, on `io_uring`.
//!
//! The structure is that of the echo example in monoio's repository. If the kernel refuses `io_uring`, that
//! example uses monoio's epoll driver. This server is built without that driver, and fails.
//!
//! monoio's model is a thread for each processor, and a listener for each thread (`SO_REUSEPORT`).
//! Here one thread serves, because the benchmark's client needs a processor, too. On 2 processors,
//! one thread answered more messages of 128 bytes than two threads: 32 % more on 8 connections,
//! 63 % on 50, 2 % on 300. Two threads were ahead at `connect` (11 %), `bulk-8` (30 %) and `idle`
//! (24 %). Pinning the two threads made most workloads slower. On more processors, one thread is too
//! few for monoio.

use std::io;
use std::net::SocketAddr;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

/// Twice the size in the example. Each connection needs its buffer even while it waits, because the kernel
/// writes into the buffer.
const BUFFER: usize = 16 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr: SocketAddr = std::env::args().nth(1).ok_or("usage: ADDR")?.parse()?;
    let runtime = RuntimeBuilder::<IoUringDriver>::new().build();
    let mut runtime = runtime.map_err(|error| format!("cannot set up io_uring: {error}"))?;
    runtime.block_on(serve(addr))?;
    Ok(())
}

async fn serve(addr: SocketAddr) -> io::Result<()> {
    let options = ListenerOpts::new().backlog(4096);
    let listener = TcpListener::bind_with_config(addr, &options)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // An error ends only its own connection.
        monoio::spawn(async { echo(stream).await.is_ok() });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut result;
    loop {
        // A read fills the buffer from its beginning, and sets its length.
        (result, buffer) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        (result, buffer) = stream.write_all(buffer).await;
        result?;
    }
}
