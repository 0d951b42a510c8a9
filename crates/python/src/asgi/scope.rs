//! Scopes (ASGI 3): what does not change stands in a dict per listener that is copied; names of fields are kept as bytes
//! objects once they have been seen.

use crate::ffi::latin1;
use crate::fnv::BuildFnv;
use crate::jobs;
use crate::wsgi::method;
use ferricorn_worker::http::token::percent_decoded;
use ferricorn_worker::websocket::Handshake;
use ferricorn_worker::{Conn, Peer};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use rustix::net::getsockname;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// Names of fields kept; beyond that a name is made anew for each request.
const NAMES_MAX: usize = 512;

/// Makes scopes.
pub(super) struct Scopes {
    /// Per listener, what every request has.
    bases: Vec<Base>,
    root_path: String,
    state: Py<PyDict>,
    /// Address and port of the last peer of each place in the loop's table.
    peers: Mutex<Vec<Option<Known>>>,
    names: Mutex<HashMap<Box<[u8]>, Py<PyBytes>, BuildFnv>>,
}

/// A peer and what scopes say of it.
type Known = (SocketAddr, Py<PyAny>);

struct Base {
    http: Py<PyDict>,
    websocket: Py<PyDict>,
    /// The address stands for all of the host's: each connection has its own.
    is_wildcard: bool,
}

impl Scopes {
    /// `event_loop` knows `root_path`, the `state` of the lifespan and the `scopes` of every request and WebSocket; `names` are host and port
    /// of the listeners.
    pub(super) fn new(
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        names: &[(String, String)],
    ) -> PyResult<Self> {
        let base = |(host, port): &(String, String)| -> PyResult<Base> {
            let (http, websocket): (Bound<'_, PyDict>, Bound<'_, PyDict>) =
                event_loop.call_method0("scopes")?.extract()?;
            let server = match port.parse::<u16>() {
                Ok(port) => (host, port).into_pyobject(py)?.into_any(),
                Err(_) => (host, py.None()).into_pyobject(py)?.into_any(),
            };
            http.set_item("server", &server)?;
            websocket.set_item("server", server)?;
            let is_wildcard = host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
            Ok(Base { http: http.unbind(), websocket: websocket.unbind(), is_wildcard })
        };
        Ok(Self {
            bases: names.iter().map(base).collect::<PyResult<_>>()?,
            root_path: event_loop.getattr("root_path")?.extract()?,
            state: event_loop.getattr("state")?.cast_into::<PyDict>()?.unbind(),
            peers: Mutex::default(),
            names: Mutex::default(),
        })
    }

    /// Makes the scope of a request; of one for a WebSocket, if there is a handshake.
    pub(super) fn of<'py>(
        &self,
        py: Python<'py>,
        conn: &Conn,
        handshake: Option<&Handshake>,
        trusts: &dyn Fn(IpAddr) -> bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        // A connection handed over by a sibling of another configuration may name a listener that is gone.
        let base = self.bases.get(conn.listener).unwrap_or(&self.bases[0]);
        let scope = if handshake.is_some() { &base.websocket } else { &base.http }.bind(py).copy()?;
        for inner in [intern!(py, "asgi"), intern!(py, "extensions")] {
            if let Some(shared) = scope.get_item(inner)? {
                scope.set_item(inner, shared.cast::<PyDict>()?.copy()?)?;
            }
        }
        let head = &conn.head;
        if base.is_wildcard
            && let Some(address) = local(conn)
        {
            scope
                .set_item(intern!(py, "server"), (address.ip().to_canonical().to_string(), address.port()))?;
        }
        if head.https {
            let scheme = if handshake.is_some() { intern!(py, "wss") } else { intern!(py, "https") };
            scope.set_item(intern!(py, "scheme"), scheme)?;
        }
        match handshake {
            Some(handshake) => scope.set_item(intern!(py, "subprotocols"), &handshake.subprotocols)?,
            None if head.method().iter().any(u8::is_ascii_lowercase) => {
                scope.set_item(intern!(py, "method"), method(py, &head.method().to_ascii_uppercase())?)?;
            }
            None => scope.set_item(intern!(py, "method"), method(py, head.method())?)?,
        }
        scope.set_item(intern!(py, "client"), self.client(py, conn, trusts)?)?;
        if head.version != (1, 1) {
            let (major, minor) = head.version;
            scope.set_item(intern!(py, "http_version"), format!("{major}.{minor}"))?;
        }
        let raw = head.get(&head.path);
        scope.set_item(intern!(py, "path"), self.path(py, raw)?)?;
        let raw_path = if self.root_path.is_empty() {
            PyBytes::new(py, raw)
        } else {
            PyBytes::new(py, &[self.root_path.as_bytes(), raw].concat())
        };
        scope.set_item(intern!(py, "raw_path"), raw_path)?;
        scope.set_item(intern!(py, "query_string"), PyBytes::new(py, head.get(&head.query)))?;
        scope.set_item(intern!(py, "headers"), self.headers(py, conn)?)?;
        scope.set_item(intern!(py, "state"), self.state.bind(py).copy()?)?;
        if let (Some(job), Some(extensions)) = (&conn.job, scope.get_item(intern!(py, "extensions"))?) {
            jobs::is_one(conn.id, job);
            let told = PyDict::new(py);
            told.set_item(intern!(py, "id"), &job.id)?;
            told.set_item(intern!(py, "attempt"), job.attempt)?;
            extensions.set_item(intern!(py, "ferricorn.job"), told)?;
        }
        Ok(scope)
    }

    /// Who the client is: the peer, or whom a peer that may speak for others has named.
    fn client<'py>(
        &self,
        py: Python<'py>,
        conn: &Conn,
        trusts: &dyn Fn(IpAddr) -> bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if conn.trusted {
            let lines = conn.head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"x-forwarded-for"));
            let chain: Vec<_> = lines.map(|(_, value)| String::from_utf8_lossy(value)).collect();
            if let Some(named) = named(&chain, trusts) {
                return Ok(named.into_pyobject(py)?.into_any());
            }
        }
        let Peer::Tcp(address) = conn.peer else { return Ok(py.None().into_bound(py)) };
        let place = conn.place() as usize;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() <= place {
            peers.resize_with(place + 1, || None);
        }
        if let Some((known, peer)) = &peers[place]
            && *known == address
        {
            return Ok(peer.bind(py).clone());
        }
        let peer = (address.ip().to_string(), address.port()).into_pyobject(py)?.into_any();
        peers[place] = Some((address, peer.clone().unbind()));
        Ok(peer)
    }

    /// The path as text: decoded, and below `root_path`.
    fn path<'py>(&self, py: Python<'py>, raw: &[u8]) -> PyResult<Bound<'py, PyString>> {
        if self.root_path.is_empty() && memchr::memchr(b'%', raw).is_none() && raw.is_ascii() {
            return latin1(py, raw);
        }
        let decoded = percent_decoded(raw);
        Ok(PyString::new(py, &format!("{}{}", self.root_path, String::from_utf8_lossy(&decoded))))
    }

    fn headers<'py>(&self, py: Python<'py>, conn: &Conn) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in conn.head.fields() {
            let name = match names.get(name) {
                Some(known) => known.bind(py).clone(),
                None => {
                    let lower = PyBytes::new(py, &name.to_ascii_lowercase());
                    if names.len() < NAMES_MAX {
                        names.insert(name.into(), lower.clone().unbind());
                    }
                    lower
                }
            };
            list.append(PyTuple::new(py, [name, PyBytes::new(py, value)])?)?;
        }
        Ok(list)
    }
}

/// The address at which the client has reached us.
fn local(conn: &Conn) -> Option<SocketAddr> {
    getsockname(conn.socket()).ok().and_then(|address| SocketAddr::try_from(address).ok())
}

/// The client that a chain of proxies names: the last that is none of those that are trusted (`X-Forwarded-For`).
fn named(chain: &[Cow<'_, str>], trusts: &dyn Fn(IpAddr) -> bool) -> Option<(String, u16)> {
    let hosts =
        || chain.iter().flat_map(|line| line.split(',')).map(str::trim).filter(|host| !host.is_empty());
    let is_proxy = |host: &&str| {
        let (host, _) = with_port(host);
        host.parse::<IpAddr>().is_ok_and(|address| trusts(address.to_canonical()))
    };
    let (host, port) = with_port(hosts().rev().find(|host| !is_proxy(host)).or_else(|| hosts().next())?);
    Some((host.to_owned(), port))
}

/// Takes a host and its port apart; 0 where none is named.
fn with_port(host: &str) -> (&str, u16) {
    let bare = |host: &'_ str| host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some();
    if bare(host) {
        return (&host[1..host.len() - 1], 0);
    }
    match host.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) if bare(host) => (&host[1..host.len() - 1], port),
        // An address of IPv6 has more of them.
        Some((host, port)) if !host.contains(':') => (host, port),
        _ => (host, 0),
    }
}
