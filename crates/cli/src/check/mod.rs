//! `ferricornctl check`: what will go wrong one day, before it does. Exit status 0 with nothing or hints, 1 with warnings or
//! errors. The JSON's shape is public and written down in `docs/ferricornctl.md`: add fields, never change one.
//!
//! Not for: the rules (`core::check`).

mod databases;
mod gather;
mod said;
mod system;

pub(crate) use gather::Configured;

use crate::command::Check;
use crate::failure::Failure;
use crate::source::Source;
use crate::table::Ink;
use crate::units::printable;
use crate::workers::write_json;
use ferricorn_core::check::{self, Facts, Found, Level};
use serde::Serialize;
use std::io::{self, Write};

/// What is known, and what was found.
#[derive(Serialize)]
pub(crate) struct Page {
    schema: u32,
    findings: Vec<Found>,
    facts: Facts,
}

/// Gathers the facts and judges them.
pub(crate) fn find(
    options: &Check,
    source: Option<&Source>,
    configured: Configured<'_>,
) -> Result<Page, Failure> {
    let facts = gather::gather(options, source, configured)?;
    Ok(Page { schema: 1, findings: check::check(&facts), facts })
}

impl Page {
    /// Tells whether there is more than hints.
    pub(crate) fn is_alarming(&self) -> bool {
        self.findings.iter().any(|found| found.level > Level::Hint)
    }
}

/// Writes what was found, the worst first, and what could not be looked at.
pub(crate) fn text(page: &Page, colours: bool, out: &mut dyn Write) -> io::Result<()> {
    for found in &page.findings {
        let ink = match found.level {
            Level::Error => Ink::Bad,
            Level::Warning => Ink::Warn,
            Level::Hint => Ink::Good,
        };
        writeln!(out, "{}: {}", ink.paint(found.level.name(), colours), printable(&found.what))?;
        writeln!(out, "  why: {}", printable(&found.why))?;
        writeln!(out, "  try: {}", printable(&found.fix))?;
        writeln!(out, " code: {}\n", found.code)?;
    }
    if !page.facts.unseen.is_empty() {
        writeln!(out, "not looked at:")?;
        for gap in &page.facts.unseen {
            writeln!(out, "  {}; {}", printable(&gap.what), printable(&gap.how))?;
        }
        writeln!(out)?;
    }
    let count = |level| page.findings.iter().filter(|found| found.level == level).count();
    let several =
        |number: usize, name: &str| format!("{number} {name}{}", if number == 1 { "" } else { "s" });
    writeln!(
        out,
        "{}, {}, {}; {} not looked at",
        several(count(Level::Error), "error"),
        several(count(Level::Warning), "warning"),
        several(count(Level::Hint), "hint"),
        page.facts.unseen.len()
    )
}

/// Writes the JSON document.
pub(crate) fn json(page: &Page, out: &mut dyn Write) -> io::Result<()> {
    write_json(page, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::check::Said;
    use ferricorn_core::diagnosis::Gap;

    #[test]
    fn findings_for_a_person() {
        let said = Said {
            timeout_s: Some(0.0),
            threads: Some(4),
            worker_class: Some("sync".into()),
            ..Said::default()
        };
        let unseen = vec![Gap { what: "the proxy".into(), how: "`--nginx FILE`".into() }];
        let facts = Facts { said, unseen, ..Facts::default() };
        let page = Page { schema: 1, findings: check::check(&facts), facts };
        assert!(page.is_alarming());
        let mut out = Vec::new();
        text(&page, false, &mut out).expect("memory");
        insta::assert_snapshot!(String::from_utf8(out).expect("text"), @r#"
    warning: timeout is 0: requests have no deadline
      why: one that hangs holds its thread for ever, and its client learns nothing
      try: `timeout = 30`, and `route_timeouts` for the few that need more; `ferricornctl slow` says how much
     code: timeout.none

    hint: worker_class is sync, and threads is 4
      why: with more than one thread the server runs gthread, and the application must be safe in threads
      try: say `worker_class = "gthread"`
     code: worker.threads

    not looked at:
      the proxy; `--nginx FILE`

    0 errors, 1 warning, 1 hint; 1 not looked at
    "#);
        let mut out = Vec::new();
        text(&page, true, &mut out).expect("memory");
        assert!(String::from_utf8_lossy(&out).starts_with("\x1b[33mwarning\x1b[0m: timeout is 0"));
    }

    #[test]
    fn jobs_of_a_configuration_file_behind_nginx() {
        use ferricorn_settings::{Said as Spoken, Source as Speaker, Value, told};
        let folder = tempfile::tempdir().expect("a folder");
        let nginx = folder.path().join("nginx.conf");
        let places =
            "location /api/ { proxy_pass http://127.0.0.1:8000; } location / { try_files $uri /index.html; }";
        std::fs::write(&nginx, format!("http {{ server {{ {places} }} }}")).expect("written");
        let mut spoken = Spoken::default();
        let routes = vec!["POST /api/reports/* timeout=3600".to_owned()];
        spoken.say("offload", Value::List(routes), Speaker::File).expect("said");
        let codes = |spoken: &Spoken| {
            let text = told(spoken);
            let config = Some(folder.path().join("gunicorn.conf.py"));
            let options = Check { config, nginx: Some(nginx.clone()), ..Check::default() };
            let page = find(&options, None, &|_| Ok(text.clone())).expect("a page");
            let mut out = Vec::new();
            super::text(&page, false, &mut out).expect("memory");
            json(&page, &mut out).expect("memory");
            let out = String::from_utf8(out).expect("text");
            assert!(!out.contains("geheim") && !out.contains("rabbit/"), "{out}");
            let of_jobs = page.findings.iter().filter(|found| found.code.starts_with("offload."));
            of_jobs.map(|found| found.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(&spoken), ["offload.proxy", "offload.stop", "offload.name"]);
        for (name, value) in [("offload_broker", "amqp://shop:geheim@rabbit/"), ("proc_name", "shop")] {
            spoken.say(name, Value::from(value), Speaker::File).expect("said");
        }
        assert_eq!(codes(&spoken), ["offload.proxy", "offload.consumer_timeout", "offload.broker"]);
        spoken.say("offload", Value::List(Vec::new()), Speaker::File).expect("said");
        assert_eq!(codes(&spoken), [""; 0]);
    }
}
