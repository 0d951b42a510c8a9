//! How an incident is said to each kind of receiver. Not for: sending it.

use super::News;
use ferricorn_core::incident::{Incident, State};
use ferricorn_core::stamp::rfc3339;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Name of the alerts.
const ALERT: &str = "FerricornIncident";
/// Most characters of a line in a message for people.
const LINE_MAX: usize = 300;

/// The labels that make an alert the same alert.
pub(super) type Labels = BTreeMap<&'static str, String>;

/// Returns the labels of an incident's alert. What changes with every request is none of them.
pub(super) fn labels(incident: &Incident, host: &str) -> Labels {
    let labels = [
        ("alertname", ALERT.to_owned()),
        ("cause", incident.cause.code().to_owned()),
        ("incident", incident.id.clone()),
        ("instance", host.to_owned()),
        ("route", incident.route.clone()),
        ("server", incident.server.name.clone()),
        ("severity", incident.severity().name().to_owned()),
    ];
    // An empty label is the same as none to Alertmanager.
    labels.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Returns an alert as `POST /api/v2/alerts` takes it (Alertmanager 0.16 and later). It ends at `ends_at_s` unless it is sent again
/// before that: an observer that is no more resolves its alerts so.
pub(super) fn alert(incident: &Incident, labels: &Labels, ends_at_s: f64) -> Value {
    let starts_at_s = incident.opened_at.unwrap_or(incident.noted_at);
    let mut description = incident.impact.join(" ");
    if let Some(fix) = fix(incident) {
        description = format!("{description} Now: {fix}").trim().to_owned();
    }
    if let Some(blame) = incident.blame() {
        description = format!("{description} {blame}.").trim().to_owned();
    }
    json!({
        "labels": labels,
        "annotations": {
            "summary": incident.verdict,
            "description": description,
            "confidence": format!("{:.2}", incident.confidence),
            "state": incident.state.name(),
        },
        "startsAt": rfc3339(starts_at_s),
        "endsAt": rfc3339(ends_at_s.max(starts_at_s)),
    })
}

fn fix(incident: &Incident) -> Option<&String> {
    incident.fixes.now.first().or(incident.fixes.next.first()).or(incident.fixes.proper.first())
}

/// Returns a message of at most three lines for people.
pub(super) fn message(news: News, incident: &Incident, host: &str) -> String {
    let head = match news {
        News::Opened | News::Changed | News::Nothing => incident.severity().name(),
        News::Mitigated | News::Closed => incident.state.name(),
    };
    let changed = if news == News::Changed { "now seen as: " } else { "" };
    let name = if incident.server.name.is_empty() { "server" } else { &incident.server.name };
    let first = format!("[{head}] {name}@{host}: {changed}{}", incident.verdict);
    let route = if incident.route.is_empty() { String::new() } else { format!("{}: ", incident.route) };
    let known = match incident.cause.code() {
        "unknown" => "cause unknown".to_owned(),
        code => format!("{code}, confidence {:.2}", incident.confidence),
    };
    let known = incident.blame().map_or(known.clone(), |blame| format!("{known}, {blame}"));
    let workers = match incident.workers.len() {
        1 => "1 worker".to_owned(),
        many => format!("{many} workers"),
    };
    let (lost, stuck) = (incident.requests_lost, incident.requests_stuck);
    let second = format!("{route}{lost} requests lost, {stuck} stuck, {workers}; {known}");
    let why = format!("ferricornctl why {}", incident.id);
    let third = match fix(incident).filter(|_| incident.state != State::Closed) {
        Some(fix) => format!("{} | {why}", cut(fix, LINE_MAX - why.len().min(LINE_MAX / 2) - 3)),
        None => why,
    };
    [cut(&first, LINE_MAX), cut(&second, LINE_MAX), third].join("\n")
}

/// Returns a line of text, cut at so many characters.
fn cut(text: &str, max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(max) {
        None => line,
        Some(_) => line.chars().take(max.saturating_sub(3)).collect::<String>() + "...",
    }
}

/// Returns the body of a Slack webhook. Three characters have a meaning there, and nothing in an incident is meant to.
pub(super) fn slack(message: &str) -> Value {
    json!({ "text": message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::diagnosis::{Cause, Fixes};
    use ferricorn_core::incident::Trigger;
    use ferricorn_core::record::Server;

    fn incident() -> Incident {
        Incident {
            id: "20261126-7".to_owned(),
            server: Server {
                pid: 7,
                name: "shop".to_owned(),
                version: "0.1.0".to_owned(),
                started_ns: 0,
                kind: ferricorn_core::snapshot::Kind::Ferricorn,
            },
            state: State::Open,
            trigger: Some(Trigger::Losses),
            cause: Cause::DbLock,
            confidence: 0.956,
            verdict: "UPDATE accounts waits for a lock that pid 912 has held <4 min & more>.".to_owned(),
            route: "POST /transfer".to_owned(),
            opened_at: Some(1_795_716_245.25),
            requests_lost: 5,
            requests_stuck: 6,
            workers: vec![1, 2],
            impact: vec!["5 requests lost.".to_owned(), "Both workers busy.".to_owned()],
            fixes: Fixes { now: vec!["end session 912".to_owned()], ..Fixes::default() },
            ..Incident::default()
        }
    }

    #[test]
    fn people_get_three_lines() {
        insta::assert_snapshot!(message(News::Opened, &incident(), "host3"), @"
        [critical] shop@host3: UPDATE accounts waits for a lock that pid 912 has held <4 min & more>.
        POST /transfer: 5 requests lost, 6 stuck, 2 workers; db.lock, confidence 0.96
        end session 912 | ferricornctl why 20261126-7
        ");
        let closed = Incident { state: State::Closed, ..incident() };
        insta::assert_snapshot!(message(News::Closed, &closed, "host3"), @"
        [closed] shop@host3: UPDATE accounts waits for a lock that pid 912 has held <4 min & more>.
        POST /transfer: 5 requests lost, 6 stuck, 2 workers; db.lock, confidence 0.96
        ferricornctl why 20261126-7
        ");
        let bare = Incident { id: "1".to_owned(), workers: vec![1], ..Incident::default() };
        insta::assert_snapshot!(message(News::Changed, &bare, "h"), @"
        [warning] server@h: now seen as:
        0 requests lost, 0 stuck, 1 worker; cause unknown
        ferricornctl why 1
        ");
    }

    #[test]
    fn a_message_has_three_lines_whatever_is_in_it() {
        let long = "word\n".repeat(1000);
        let mut incident = incident();
        incident.verdict.clone_from(&long);
        incident.route.clone_from(&long);
        incident.id = "x".repeat(1000);
        incident.fixes.now = vec![long];
        let message = message(News::Opened, &incident, "h");
        assert_eq!(message.lines().count(), 3);
        assert!(message.lines().take(2).all(|line| line.chars().count() <= LINE_MAX));
        assert!(slack("<!channel> & a").to_string().contains("&lt;!channel&gt; &amp; a"));
    }

    #[test]
    fn an_alert_is_what_alertmanager_takes() {
        let incident = incident();
        let labels = labels(&incident, "host3");
        let alert = alert(&incident, &labels, 1_795_716_545.25);
        insta::assert_snapshot!(serde_json::to_string_pretty(&alert).expect("JSON"), @r#"
        {
          "annotations": {
            "confidence": "0.96",
            "description": "5 requests lost. Both workers busy. Now: end session 912",
            "state": "open",
            "summary": "UPDATE accounts waits for a lock that pid 912 has held <4 min & more>."
          },
          "endsAt": "2026-11-26T18:09:05.250Z",
          "labels": {
            "alertname": "FerricornIncident",
            "cause": "db.lock",
            "incident": "20261126-7",
            "instance": "host3",
            "route": "POST /transfer",
            "server": "shop",
            "severity": "critical"
          },
          "startsAt": "2026-11-26T18:04:05.250Z"
        }
        "#);
    }

    #[test]
    fn empty_labels_are_left_out() {
        let bare = labels(&Incident::default(), "");
        assert_eq!(bare.keys().copied().collect::<Vec<_>>(), ["alertname", "cause", "severity"]);
    }
}
