use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use socketserver::{Builder, Error, RequestHandler, ServerHandle, TcpServer, Totals};

/// A server of the library, on a thread. It is stopped and joined when the test ends.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    pub(crate) handle: ServerHandle,
    thread: Option<JoinHandle<Result<Totals, Error>>>,
}

impl TestServer {
    pub(crate) fn start<F, H>(factory: F) -> Self
    where
        F: Fn() -> H + Send + Sync + 'static,
        H: RequestHandler + 'static,
    {
        Self::with(TcpServer::builder(), factory)
    }

    pub(crate) fn with<F, H>(builder: Builder, factory: F) -> Self
    where
        F: Fn() -> H + Send + Sync + 'static,
        H: RequestHandler + 'static,
    {
        Self::serve(builder.bind("127.0.0.1:0").unwrap(), factory)
    }

    pub(crate) fn serve<F, H>(server: TcpServer, factory: F) -> Self
    where
        F: Fn() -> H + Send + Sync + 'static,
        H: RequestHandler + 'static,
    {
        Self {
            addr: server.local_addr(),
            handle: server.handle(),
            thread: Some(thread::spawn(move || server.serve_forever(factory))),
        }
    }

    /// Shuts the server down, and returns the totals.
    pub(crate) fn stop(self) -> Totals {
        self.handle.shutdown();
        self.join()
    }

    pub(crate) fn join(mut self) -> Totals {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }

    pub(crate) fn join_err(mut self) -> io::Error {
        let result = self.thread.take().unwrap().join().unwrap();
        result.expect_err("the server must fail").into()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.handle.shutdown_now();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the server panicked");
        }
    }
}
