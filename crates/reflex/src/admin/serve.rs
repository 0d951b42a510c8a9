//! Connections of the admin endpoint: few at a time, one request each, each within a time. Who is slow loses its connection; who comes
//! when there is no room waits in the kernel's queue, which is short.
//!
//! Not for: what is answered.

use super::listen::{Bound, Listener};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// Most connections at a time of one listener.
pub(super) const CONNECTIONS_MAX: usize = 32;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(3);
/// How long a connection may take as a whole.
const CONNECTION: Duration = Duration::from_secs(15);
/// Most bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;
/// How long nobody is accepted after that has failed: for want of descriptors, mostly.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts connections for as long as it is polled.
pub(super) async fn serve(mut bound: Bound, router: Router) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let Some(listener) = Accepting::of(&mut bound.listener) else { return };
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let router = router.clone();
        match listener.accept().await {
            Ok(Stream::Unix(stream)) => drop(tokio::spawn(async move {
                connection(stream, router).await;
                drop(permit);
            })),
            Ok(Stream::Tcp(stream)) => drop(tokio::spawn(async move {
                connection(stream, router).await;
                drop(permit);
            })),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_MAX)
        // A kept connection would hold a place of the few there are, for one request in fifteen seconds.
        .keep_alive(false);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Whatever went wrong is the client's own affair.
    let _ = tokio::time::timeout(CONNECTION, served).await;
}

enum Accepting {
    Unix(UnixListener),
    Tcp(TcpListener),
}

enum Stream {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

impl Accepting {
    fn of(listener: &mut Listener) -> Option<Self> {
        match listener {
            Listener::Unix(listener) => {
                listener.try_clone().and_then(UnixListener::from_std).map(Self::Unix).ok()
            }
            Listener::Tcp(listener) => {
                listener.try_clone().and_then(TcpListener::from_std).map(Self::Tcp).ok()
            }
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
        }
    }
}
