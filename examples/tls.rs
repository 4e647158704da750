//! An echo over TLS, by rustls.
//!
//! ```sh
//! cargo run --example tls > cert.pem
//! openssl s_client -quiet -CAfile cert.pem -connect localhost:7007   # in another terminal
//! ```
//!
//! rustls does no I/O of its own: it reads from and writes to anything that implements `Read` and `Write`,
//! as `&Connection` does. So the timeouts of the connection and the shutdown of the server hold for TLS, too.

#[path = "support/serve.rs"]
mod serve;
mod support;

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socketserver::{Connection, RequestHandler, TcpServer};

/// Time limit for the handshake, however slowly its bytes arrive, and for the last alert.
const LIMIT: Duration = Duration::from_secs(5);
/// The server closes a connection whose client has sent nothing, or has read nothing, for this long.
const IDLE: Duration = Duration::from_secs(60);

struct Tls(Arc<ServerConfig>);

impl RequestHandler for Tls {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let conn = &*conn;
        let session = ServerConnection::new(Arc::clone(&self.0)).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(session, conn);
        conn.set_deadline(Instant::now() + LIMIT);
        tls.conn.complete_io(&mut tls.sock)?;
        conn.set_deadline(None);
        let echoed = match echo(&mut tls) {
            // When the server stops, a read returns an end of file. rustls reports it as an error, because
            // the client has sent no `close_notify`.
            Err(_) if conn.is_closing() => Ok(()),
            echoed => echoed,
        };
        conn.set_deadline(Instant::now() + LIMIT);
        // Without this alert a client can't tell the end of the reply from an attacker's FIN.
        tls.conn.send_close_notify();
        tls.flush().and(echoed)
    }
}

/// Sends back what arrives, until the client's own `close_notify`.
fn echo(tls: &mut (impl Read + Write)) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let n = tls.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        tls.write_all(&buffer[..n])?;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A real server loads a certificate that an authority has signed. This certificate is new at each
    // start and signed by its own key. The server prints it, so that clients can check it.
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::generate_simple_self_signed(names)?;
    support::print(own.cert.pem().trim_end());
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)?;
    let config = Arc::new(config);
    let builder = TcpServer::builder().idle_timeout(IDLE).write_timeout(IDLE);
    let addr = support::argument(1, "127.0.0.1:7007");
    serve::serve(builder, &addr, move || Tls(Arc::clone(&config)))
}
