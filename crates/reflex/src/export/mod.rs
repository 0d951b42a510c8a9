//! Everything by which the observer tells others what it sees: Prometheus and the admin endpoint ([`crate::admin`]), OpenTelemetry,
//! statsd, and notifications of incidents. All of it reads one place, [`Shared`], where the observer publishes what it has seen; a
//! number is computed in `core` or not at all.
//!
//! Everything here runs in threads of its own, and nothing of it can hold the observer up: mailboxes have a limit, requests a time.
//! Not for: looking at a server, and not for deciding what an incident is.

#[cfg(test)]
#[expect(dead_code, reason = "other crates' tests use the rest")]
#[path = "../../../post/src/fake.rs"]
mod fake;
pub(crate) mod families;
mod family;
pub(crate) mod figures;
mod fold;
mod mailbox;
mod notify;
mod otlp;
pub(crate) mod prometheus;
mod shared;
mod statsd;

pub use figures::Figures;
pub use otlp::{Config as Otlp, Identity};
pub(crate) use shared::STALE;
pub use shared::{Changes, Published, Shared};

use crate::admin::{self, Admin, Places};
use ferricorn_core::incident::Incident;
use ferricorn_core::log::Level;
use ferricorn_settings::{Destination, Settings, Statsd};
use mailbox::Mailbox;
use notify::Notifier;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Most receivers of notifications: each has a thread.
const RECEIVERS_MAX: usize = 16;
/// How long the end waits for what is being sent.
const STOP: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// Who is told, and how.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where the admin endpoint listens.
    pub admin: Places,
    /// Where metrics are sent.
    pub otlp: Option<Otlp>,
    /// Where gauges are sent.
    pub statsd: Option<Statsd>,
    /// Who is told of incidents.
    pub notify: Vec<Destination>,
    /// The name of this host.
    pub host: String,
    /// What could not be understood, for the log.
    pub complaints: Vec<String>,
}

impl Config {
    /// Returns what settings and variables come to. `folder` is where the server keeps its records, if anywhere, and `arbiter` the pid
    /// after which the socket in it is named.
    pub fn of(
        settings: &Settings,
        folder: Option<&Path>,
        arbiter: u32,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let host = host();
        let identity = Identity { service: &settings.proc_name, host: &host, pid: arbiter };
        let (otlp, complaint) = match Otlp::of(settings.otlp_endpoint.as_deref(), variable, identity) {
            Ok(otlp) => (otlp, None),
            Err(why) => (None, Some(why)),
        };
        let notify: Vec<Destination> = settings.notify.iter().take(RECEIVERS_MAX).cloned().collect();
        let left = settings.notify.len() - notify.len();
        let too_many = (left > 0).then(|| {
            format!("{left} of the receivers in `notify` are told nothing: there may be {RECEIVERS_MAX}")
        });
        Self {
            admin: Places {
                socket: folder.map(|folder| admin::socket_path(folder, arbiter)),
                bind: settings.admin_bind.clone(),
            },
            otlp,
            statsd: settings.statsd.clone(),
            notify,
            complaints: complaint.into_iter().chain(too_many).collect(),
            host,
        }
    }
}

/// Returns the name of this host.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The threads that tell others. They end when it is dropped.
#[derive(Debug)]
pub struct Exports {
    notifier: Notifier,
    /// Of OpenTelemetry and statsd.
    stop: Arc<Mailbox<()>>,
    threads: Vec<JoinHandle<()>>,
    admin: Admin,
}

/// Begins to tell others what is published in `shared`. What does not work is said in its lines; the rest goes on. To be called
/// after the last fork.
pub fn start(config: Config, shared: &Arc<Shared>) -> Exports {
    for complaint in &config.complaints {
        shared.say(Level::Warning, complaint.clone());
    }
    let stop = Arc::new(Mailbox::new(1));
    let mut threads = Vec::new();
    if let Some(otlp) = config.otlp {
        let stop = stop.clone();
        threads.extend(spawn("reflex-otlp", shared, move |shared| otlp::run(&otlp, shared, &stop)));
    }
    if let Some(statsd) = config.statsd {
        let stop = stop.clone();
        let run = move |shared: &Shared| statsd::run(&statsd, statsd::INTERVAL, shared, &stop);
        threads.extend(spawn("reflex-statsd", shared, run));
    }
    let mut notifier = Notifier::new(shared.clone());
    for destination in config.notify.into_iter().take(RECEIVERS_MAX) {
        let mailbox = notifier.mailbox(destination.form);
        let receiver = notify::Receiver { destination, host: config.host.clone() };
        let run = move |shared: &Shared| notify::run(&receiver, &mailbox, shared);
        threads.extend(spawn("reflex-notify", shared, run));
    }
    Exports { notifier, stop, threads, admin: admin::start(config.admin, shared) }
}

fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    run: impl FnOnce(&Shared) + Send + 'static,
) -> Option<JoinHandle<()>> {
    let within = shared.clone();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&within));
    let failed =
        |error: &std::io::Error| shared.say(Level::Error, format!("{name} could not be started: {error}"));
    thread.inspect_err(failed).ok()
}

impl Exports {
    /// Tells receivers what is new about an incident, if anything is. To be called whenever one changes.
    pub fn incident_changed(&self, incident: &Incident) {
        self.notifier.incident_changed(incident);
    }

    /// Takes incidents of an earlier observer as told: nobody hears of them again until something changes, and those that
    /// want to be told again and again are. To be called once, before the first [`Self::incident_changed`].
    pub fn resume(&self, incidents: &[Incident]) {
        incidents.iter().for_each(|incident| self.notifier.knows(incident));
    }

    /// Returns where `admin_bind` listens, with the port that the kernel has chosen.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.address()
    }
}

impl Drop for Exports {
    fn drop(&mut self) {
        self.stop.stop();
        self.notifier.stop();
        self.admin.stop();
        let end = Instant::now() + STOP;
        let mut threads = std::mem::take(&mut self.threads);
        threads.extend(self.admin.thread());
        while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        // Who still waits for another server ends with the process: each of them has a time.
        for thread in threads.into_iter().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

/// Locks what nobody can leave half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_settings::{Said, Source, Surroundings, Value, resolve};

    fn settings(values: &[(&str, Value)]) -> Settings {
        let mut said = Said::default();
        for (name, value) in values {
            said.say(name, value.clone(), Source::CommandLine).expect("a setting");
        }
        let surroundings = Surroundings {
            variable: &|_| None,
            directory: Path::new("/"),
            exists: &|_| true,
            user: 0,
            group: 0,
        };
        resolve(&said, &surroundings).expect("settings")
    }

    #[test]
    fn who_is_told_comes_from_settings_and_variables() {
        let nothing = Config::of(&settings(&[]), None, 7, &|_| None);
        assert!(nothing.otlp.is_none() && nothing.statsd.is_none() && nothing.notify.is_empty());
        assert!(nothing.admin.socket.is_none() && nothing.admin.bind.is_none());
        assert!(!nothing.host.is_empty() && nothing.complaints.is_empty());
        let receivers = vec!["webhook=http://h/".to_owned(); RECEIVERS_MAX + 2];
        let settings = settings(&[
            ("admin_bind", Value::from("127.0.0.1:9100")),
            ("statsd_host", Value::from("h:1")),
            ("notify", Value::List(receivers)),
        ]);
        let variable = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://c:4317".to_owned()),
            "OTEL_EXPORTER_OTLP_PROTOCOL" => Some("grpc".to_owned()),
            _ => None,
        };
        let config = Config::of(&settings, Some(Path::new("/state")), 7, &variable);
        assert_eq!(config.admin.socket.as_deref(), Some(Path::new("/state/7.sock")));
        assert!(config.admin.bind.is_some() && config.statsd.is_some() && config.otlp.is_none());
        assert_eq!(config.notify.len(), RECEIVERS_MAX);
        assert!(config.complaints[0].contains("grpc") && config.complaints[1].starts_with("2 of"));
    }

    #[test]
    fn what_is_started_ends() {
        let shared = Shared::new().expect("a place");
        let folder = tempfile::tempdir().expect("a folder");
        let notify = vec![Destination::parse("webhook=http://127.0.0.1:1/").expect("a destination")];
        let socket = Some(folder.path().join("7.sock"));
        let config = Config {
            admin: Places { socket, bind: None },
            notify,
            complaints: vec!["something is odd".to_owned()],
            ..Config::default()
        };
        let exports = start(config, &shared);
        exports.incident_changed(&Incident::default());
        assert!(folder.path().join("7.sock").exists());
        assert_eq!(shared.lines(), [(Level::Warning, "something is odd".to_owned())]);
        drop(exports);
        assert!(!folder.path().join("7.sock").exists());
        // Nobody else holds it any more: all threads have ended.
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}
