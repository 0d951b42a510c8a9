//! The admin endpoint: metrics, health, snapshots and incidents over HTTP. It listens on a Unix socket in the server's folder, for its
//! own user alone, and on `admin_bind` where that is set. Nobody is asked who he is: what can be reached can be read,
//! and nothing of the server can be changed; a deploy can be marked.
//!
//! [`routes`] is what is answered, [`listen`] where, [`serve`] how connections are kept short and few. Not for: the server's own
//! clients, and not for anything that waits for a worker.

mod listen;
mod problem;
mod routes;
mod serve;

use crate::export::Shared;
use ferricorn_core::log::Level;
use ferricorn_settings::BindAddress;
use listen::Bound;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How often a port is tried that another process has: one that is about to end, mostly.
const RETRY: Duration = Duration::from_secs(2);

/// Where the endpoint listens.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The socket for the server's own user.
    pub socket: Option<PathBuf>,
    /// `admin_bind`.
    pub bind: Option<BindAddress>,
}

/// Returns where the socket of a server lies whose records are in this folder.
pub fn socket_path(folder: &Path, arbiter: u32) -> PathBuf {
    folder.join(format!("{arbiter}.sock"))
}

/// The endpoint's thread.
#[derive(Debug)]
pub(crate) struct Admin {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    address: Arc<OnceLock<SocketAddr>>,
}

/// Begins to listen. What does not work is said in the lines of `shared`.
pub(crate) fn start(places: Places, shared: &Arc<Shared>) -> Admin {
    let (stop, stopped) = watch::channel(false);
    let address = Arc::new(OnceLock::new());
    let own = places.socket.and_then(|path| own_socket(&path, shared));
    let bind = places.bind.map(|place| {
        let listener = listen::open(&place, listen::GROUP_MODE);
        match &listener {
            Ok(bound) => shared.say(Level::Info, served(&place, bound)),
            Err(error) => shared.say(Level::Error, unbound(&place, error)),
        }
        (place, listener.ok())
    });
    if own.is_none() && bind.is_none() {
        return Admin { stop, thread: None, address };
    }
    let (within, found) = (shared.clone(), address.clone());
    if let Some((_, Some(bound))) = &bind {
        note(bound, &found);
    }
    let run = move || run(own, bind, &within, stopped, &found);
    let thread = std::thread::Builder::new().name("reflex-admin".to_owned()).spawn(run);
    let failed = |error: &io::Error| {
        shared.say(Level::Error, format!("The admin endpoint could not be started: {error}"))
    };
    Admin { stop, thread: thread.inspect_err(failed).ok(), address }
}

impl Admin {
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn thread(&mut self) -> Option<JoinHandle<()>> {
        self.thread.take()
    }
}

fn own_socket(path: &Path, shared: &Shared) -> Option<Bound> {
    if let Some(folder) = path.parent() {
        listen::sweep(folder);
    }
    let place = BindAddress::Unix { path: path.to_owned() };
    let failed = |error: &io::Error| shared.say(Level::Warning, unbound(&place, error));
    listen::open(&place, listen::OWN_MODE).inspect_err(failed).ok()
}

fn served(place: &BindAddress, bound: &Bound) -> String {
    match bound.address() {
        Some(address) => format!("Metrics and health are served at: http://{address}"),
        None => format!("Metrics and health are served at: {place}"),
    }
}

fn unbound(place: &BindAddress, error: &io::Error) -> String {
    let what_to_do = match (place, error.kind()) {
        (BindAddress::Tcp { .. }, io::ErrorKind::AddrInUse) => {
            "Another process has it; it is tried again until it is free"
        }
        (BindAddress::Tcp { .. }, io::ErrorKind::PermissionDenied) => {
            "Ports below 1024 are root's: choose another"
        }
        (BindAddress::Tcp { .. }, _) => "Set --admin-bind to an address of this host",
        (_, io::ErrorKind::AddrInUse) => "Another server listens there",
        _ => {
            "Set --state-dir or --admin-bind to a folder that can be written to, with a shorter name if it is a long one"
        }
    };
    format!("Metrics and health are not served at {place}: {error}. {what_to_do}")
}

fn note(bound: &Bound, address: &OnceLock<SocketAddr>) {
    if let Some(found) = bound.address() {
        let _ = address.set(found);
    }
}

/// Serves until it is stopped.
fn run(
    own: Option<Bound>,
    bind: Option<(BindAddress, Option<Bound>)>,
    shared: &Arc<Shared>,
    stopped: watch::Receiver<bool>,
    address: &OnceLock<SocketAddr>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let line = format!("The admin endpoint could not be started: {error}");
            return shared.say(Level::Error, line);
        }
    };
    let router = routes::router(shared.clone());
    runtime.block_on(async {
        let mut end = stopped.clone();
        let own = async {
            if let Some(bound) = own {
                serve::serve(bound, router.clone()).await;
            }
        };
        let bound = async {
            if let Some((place, bound)) = bind {
                let bound = match bound {
                    Some(bound) => bound,
                    None => again(&place, shared, address).await,
                };
                serve::serve(bound, router.clone()).await;
            }
        };
        tokio::select! {
            _ = end.wait_for(|stopped| *stopped) => {}
            () = async { tokio::join!(own, bound); std::future::pending().await } => {}
        }
    });
    // Connections that are being answered are cut: nothing that they could wait for is left.
    runtime.shutdown_background();
}

/// Tries to listen until it succeeds.
async fn again(place: &BindAddress, shared: &Shared, address: &OnceLock<SocketAddr>) -> Bound {
    loop {
        tokio::time::sleep(RETRY).await;
        if let Ok(bound) = listen::open(place, listen::GROUP_MODE) {
            note(&bound, address);
            shared.say(Level::Info, served(place, &bound));
            return bound;
        }
    }
}
