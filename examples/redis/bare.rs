//! Runs the same handler on bare threads of the standard library, for comparison.
//!
//! README.md beside this file lists what is missing here.

use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use crate::session;
use crate::store::Store;

pub(crate) fn serve(addr: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(addr)?;
    println!("listening at {}", listener.local_addr()?);
    let store = Arc::new(Store::default());
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        let store = Arc::clone(&store);
        thread::spawn(move || session::talk(stream, &store));
    }
    Ok(())
}
