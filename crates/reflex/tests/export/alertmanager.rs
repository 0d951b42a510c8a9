//! Debian's Alertmanager takes our alerts, keeps them open, and resolves them.

use crate::process::{Program, free_port, get};
use crate::server::{incident, wait_for};
use ferricorn_core::diagnosis::Cause;
use ferricorn_core::incident::{Incident, State};
use ferricorn_reflex::export::{Config, Shared, start};
use ferricorn_settings::Destination;
use ferricorn_sys::clock;
use serde_json::Value;
use std::process::Command;

#[test]
fn alertmanager_knows_what_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("alertmanager.yml");
    std::fs::write(&path, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").expect("written");
    let port = free_port();
    let process = Program::start(
        Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .current_dir(folder.path()),
    );
    let Some(_process) = process else {
        eprintln!("skipped: Alertmanager is not installed (Debian package prometheus-alertmanager)");
        return;
    };
    let url = format!("http://127.0.0.1:{port}");
    wait_for("Alertmanager", || get(&format!("{url}/-/ready")));
    let alerts = || -> Vec<Value> {
        let text = get(&format!("{url}/api/v2/alerts")).expect("alerts");
        serde_json::from_str(&text).expect("JSON")
    };
    let causes = || -> Vec<String> {
        alerts().iter().map(|alert| alert["labels"]["cause"].as_str().expect("a cause").to_owned()).collect()
    };
    let shared = Shared::new().expect("a place");
    let notify = vec![Destination::parse(&format!("alertmanager={url}")).expect("a destination")];
    let exports = start(Config { notify, host: "h".to_owned(), ..Config::default() }, &shared);
    exports.incident_changed(&incident("1", State::Note, Cause::Unknown));
    exports.incident_changed(&incident("1", State::Open, Cause::Unknown));
    wait_for("alert", || (causes() == ["unknown"]).then_some(()));
    let alert = alerts().remove(0);
    let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
    let labels = ["alertname", "instance", "severity", "route", "incident"].map(label);
    assert_eq!(labels, ["FerricornIncident", "h", "critical", "POST /transfer", "1"]);
    assert_eq!(alert["annotations"]["summary"], "trouble 1");
    assert_eq!(alert["status"]["state"], "active");
    // Its cause is another now: one alert ends, one begins.
    exports.incident_changed(&incident("1", State::Open, Cause::DbLock));
    wait_for("other alert", || (causes() == ["db.lock"]).then_some(()));
    exports.incident_changed(&incident("1", State::Mitigated, Cause::DbLock));
    wait_for("annotation", || (alerts()[0]["annotations"]["state"] == "mitigated").then_some(()));
    let closed = incident("1", State::Closed, Cause::DbLock);
    exports.incident_changed(&Incident { closed_at: Some(clock::wall_time_s()), ..closed });
    wait_for("end", || causes().is_empty().then_some(()));
    assert_eq!(shared.lines(), []);
}
