//! What is worked on later, and how: the settings `offload` and `offload_…`. Not for: which requests a route means (`core::pattern`).

use super::Reading;
use crate::check::{Invalid, seconds};
use crate::destination::url_of;
use crate::network::AllowList;
use crate::said::Source;
use crate::value::quoted;
use std::time::Duration;

/// Jobs that a worker of class `asgi` or `gevent` works on at a time.
const NESTED_JOBS: usize = 8;
/// Most attempts that a setting may ask for.
const RETRIES_MAX: u32 = 1000;
/// What a route may say beside itself.
const OPTIONS: &str = "timeout, retries, retention, concurrency";
/// Fewest letters of a secret that nobody guesses.
const SECRET_MIN: usize = 16;

/// The settings `offload` and `offload_…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// `offload`.
    pub routes: Vec<OffloadRoute>,
    /// `offload_prefer`.
    pub prefer: Vec<OffloadRoute>,
    /// `offload_workers`.
    pub workers: usize,
    /// `offload_threads`.
    pub threads: usize,
    /// `offload_timeout`; zero for none.
    pub timeout: Duration,
    /// `offload_retries`.
    pub retries: u32,
    /// `offload_retention`.
    pub retention: Duration,
    /// `offload_limit`.
    pub jobs_max: u64,
    /// `offload_disk_limit`.
    pub bytes_max: u64,
    /// `offload_memory_limit`; 0 for none.
    pub memory_max: u64,
    /// `offload_prefix`, without a slash at its end.
    pub prefix: String,
    /// `offload_cors_origins`.
    pub cors_origins: Vec<String>,
    /// `offload_url_secret`, if URLs of jobs are signed.
    pub url_secret: Option<String>,
    /// `offload_url_lifetime`; zero for any time.
    pub url_lifetime: Duration,
    /// `offload_nice`.
    pub nice: i32,
    /// `offload_webhook` and what belongs to it.
    pub webhooks: Option<Webhooks>,
    /// `offload_broker` and what belongs to it.
    pub celery: Option<Celery>,
}

/// Requests that may become jobs, with what holds for them alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffloadRoute {
    /// The route, as it is written.
    pub route: String,
    /// How long an attempt may take; zero for any time.
    pub timeout: Duration,
    /// How often a job is begun again.
    pub retries: u32,
    /// How long what it has come to is kept.
    pub retention: Duration,
    /// How many of its jobs run at a time; none for as many as there is room for.
    pub concurrency: Option<usize>,
}

/// Who is told when a job is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Webhooks {
    /// `offload_webhook`: told of every job.
    pub url: Option<String>,
    /// `offload_webhook_hosts`: where clients may have themselves told.
    pub hosts: Vec<String>,
    /// `offload_webhook_secret`: what the signatures are made with, one for each.
    pub secrets: Vec<String>,
    /// `offload_webhook_networks`: addresses that are told though they are nobody's in public.
    pub networks: AllowList,
}

/// A Celery that works on jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Celery {
    /// `offload_broker`.
    pub broker: String,
    /// `offload_results`, or the broker.
    pub results: String,
    /// `offload_queue`.
    pub queue: String,
}

impl Offload {
    /// Tells whether any request may be worked on later.
    pub fn is_on(&self) -> bool {
        !self.routes.is_empty() || !self.prefer.is_empty()
    }

    /// Returns the routes of both kinds, in the order in which the first that fits counts.
    pub fn all_routes(&self) -> impl Iterator<Item = &OffloadRoute> {
        self.routes.iter().chain(&self.prefer)
    }

    /// Returns the longest time that an attempt may take; zero for any.
    pub fn longest_timeout(&self) -> Duration {
        let times = || self.all_routes().map(|route| route.timeout).chain([self.timeout]);
        if times().any(|time| time.is_zero()) { Duration::ZERO } else { times().max().unwrap_or_default() }
    }

    /// Returns the longest time that anything is kept.
    pub fn longest_retention(&self) -> Duration {
        self.all_routes().map(|route| route.retention).chain([self.retention]).max().unwrap_or_default()
    }

    /// Reads `METHOD /path/* name=value …`; what it does not say is as here.
    ///
    /// # Errors
    /// What of it a route does not have.
    pub fn route(&self, text: &str) -> Result<OffloadRoute, String> {
        let is_option = |word: &&str| {
            word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            })
        };
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let at = words.iter().position(is_option).unwrap_or(words.len());
        let mut route = OffloadRoute {
            route: words[..at].join(" "),
            timeout: self.timeout,
            retries: self.retries,
            retention: self.retention,
            concurrency: None,
        };
        for word in &words[at..] {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let wrong = |what: &str| format!("`{word}` in {} is no {what}", quoted(text));
            let time = || seconds(value).ok_or_else(|| wrong("number of seconds"));
            match name {
                "timeout" => route.timeout = time()?,
                "retention" => route.retention = time()?,
                "retries" => {
                    route.retries = value
                        .parse::<u32>()
                        .map(|count| count.min(RETRIES_MAX))
                        .map_err(|_| wrong("number of attempts"))?;
                }
                "concurrency" => {
                    let count = value.parse().ok().filter(|count| *count > 0);
                    route.concurrency = Some(count.ok_or_else(|| wrong("number of jobs, from 1"))?);
                }
                _ => return Err(format!("`{word}` in {}: a route has {OPTIONS}", quoted(text))),
            }
        }
        Ok(route)
    }
}

impl Reading<'_> {
    /// Reads all of them; `threads` are those of a worker.
    pub(super) fn offload(&self, is_nested: bool, threads: usize) -> Result<Offload, Invalid> {
        let prefix = self.text("offload_prefix").unwrap_or_default();
        let prefix = prefix.trim_end_matches('/').to_owned();
        if !prefix.starts_with('/') {
            return Err(
                self.invalid("offload_prefix", format!("it is no path below `/`: {}", quoted(&prefix)))
            );
        }
        let retries = u32::try_from(self.count::<u64>("offload_retries")).unwrap_or(RETRIES_MAX);
        let mut offload = Offload {
            workers: self.count::<usize>("offload_workers").max(1),
            threads: match self.count("offload_threads") {
                0 if is_nested => NESTED_JOBS,
                0 => threads.max(1),
                threads => threads,
            },
            timeout: self.seconds("offload_timeout"),
            retries: retries.min(RETRIES_MAX),
            retention: self.seconds("offload_retention"),
            jobs_max: self.count("offload_limit"),
            bytes_max: self.count("offload_disk_limit"),
            memory_max: self.count("offload_memory_limit"),
            prefix,
            cors_origins: self.list("offload_cors_origins"),
            url_secret: self.secrets("offload_url_secret", false)?.pop(),
            url_lifetime: self.seconds("offload_url_lifetime"),
            nice: self.count::<u64>("offload_nice").min(19) as i32,
            webhooks: self.webhooks()?,
            celery: self.celery()?,
            ..Offload::default()
        };
        let routes = self.each("offload", |text| offload.route(text))?;
        offload.prefer = self.each("offload_prefer", |text| offload.route(text))?;
        offload.routes = routes;
        Ok(offload)
    }

    /// Secrets, with spaces between where there may be several; a short one could be guessed.
    fn secrets(&self, name: &str, several: bool) -> Result<Vec<String>, Invalid> {
        let Some(text) = self.text(name).filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
        let secrets: Vec<String> = match several {
            true => text.split_ascii_whitespace().map(str::to_owned).collect(),
            false => vec![text],
        };
        if secrets.iter().any(|secret| secret.len() < SECRET_MIN) {
            let each = if several { " each, and no spaces" } else { "" };
            let reason = format!(
                "a secret has {SECRET_MIN} letters or more{each}: `openssl rand -base64 32` makes one"
            );
            return Err(Invalid::unshown(name, self.source_of(name), reason));
        }
        Ok(secrets)
    }

    fn webhooks(&self) -> Result<Option<Webhooks>, Invalid> {
        let url = self.text("offload_webhook").filter(|url| !url.is_empty());
        let hosts = self.list("offload_webhook_hosts");
        if url.is_none() && hosts.is_empty() {
            return Ok(None);
        }
        let without_user = |url: &str| match url.split(['/', '?', '#']).nth(2) {
            Some(place) if place.contains('@') => {
                Err("the URL holds a user, who would not be told".to_owned())
            }
            _ => url_of(url),
        };
        let checked = url.as_deref().map(without_user).transpose();
        checked.map_err(|reason| {
            Invalid::unshown("offload_webhook", self.source_of("offload_webhook"), reason)
        })?;
        let secrets = self.secrets("offload_webhook_secret", true)?;
        if secrets.is_empty() {
            let name = if url.is_some() { "offload_webhook" } else { "offload_webhook_hosts" };
            let reason = "webhooks are signed: `offload_webhook_secret` in the configuration file is missing";
            return Err(Invalid::unshown(name, self.source_of(name), reason.to_owned()));
        }
        Ok(Some(Webhooks { url, hosts, secrets, networks: self.networks("offload_webhook_networks")? }))
    }

    fn celery(&self) -> Result<Option<Celery>, Invalid> {
        let Some(broker) = self.text("offload_broker").filter(|url| !url.is_empty()) else { return Ok(None) };
        let results = self.text("offload_results").filter(|url| !url.is_empty());
        // A Redis is both.
        let results = results.or_else(|| broker.starts_with("redis").then(|| broker.clone()));
        let Some(results) = results else {
            let reason = "this broker keeps no results: name a Redis or a database".to_owned();
            return Err(self.invalid("offload_results", reason));
        };
        Ok(Some(Celery { broker, results, queue: self.text("offload_queue").unwrap_or_default() }))
    }

    fn source_of(&self, name: &str) -> Source {
        self.said.source(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_what_holds_for_it_alone() {
        let offload = Offload {
            timeout: Duration::from_secs(900),
            retention: Duration::from_secs(60),
            ..Offload::default()
        };
        let read = offload.route("POST /api/reports/*  timeout=3600 concurrency=2").expect("a route");
        assert_eq!(read.route, "POST /api/reports/*");
        assert_eq!((read.timeout, read.retention), (Duration::from_secs(3600), offload.retention));
        assert_eq!((read.retries, read.concurrency), (0, Some(2)));
        let read = offload.route("/a?b=c retries=3 retention=0.5").expect("a route");
        assert_eq!((read.route.as_str(), read.retries), ("/a?b=c", 3));
        assert_eq!((read.timeout, read.retention), (offload.timeout, Duration::from_millis(500)));
        let table = [
            ("/a timeout=soon", "is no number of seconds"),
            ("/a retries=-1", "is no number of attempts"),
            ("/a concurrency=0", "is no number of jobs"),
            ("/a priority=1", "a route has timeout, retries"),
            ("/a retries=1 b", "`b` in"),
        ];
        for (text, reason) in table {
            let error = offload.route(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
