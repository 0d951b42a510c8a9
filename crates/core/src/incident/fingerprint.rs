//! What makes two requests the same trouble: the cause, and what it is about. Not the route: a service that does not answer is
//! one trouble, however many routes call it.

use crate::diagnosis::{Cause, Diagnosis};
use crate::record::Request;

/// Returns the fingerprint of a request's trouble.
pub fn fingerprint(diagnosis: &Diagnosis, request: &Request) -> String {
    // A pool that is empty for want of the pooler's connections is the pooler's trouble.
    let by_pooler = diagnosis.because.as_ref().is_some_and(|because| because.cause == Cause::PoolPgbouncer);
    let cause = if by_pooler { Cause::PoolPgbouncer } else { diagnosis.cause };
    let subject = &diagnosis.subject;
    let place = subject.frames.first().map(|frame| {
        let function = frame.function.rsplit('.').next().unwrap_or_default();
        format!("{}:{function}", frame.file)
    });
    let route = || format!("{} {}", request.method, request.route.as_deref().unwrap_or(&request.path));
    let about = match cause {
        Cause::PoolExhausted | Cause::PoolLeak | Cause::PoolPgbouncer => None,
        Cause::HostPaused
        | Cause::HostCpuStarved
        | Cause::HostDiskOrSwap
        | Cause::WorkerMemory
        | Cause::ArbiterWedged => None,
        Cause::TimeoutTooLow | Cause::ClientSlow => Some(route()),
        _ if cause.family() == "external" => subject.peer.clone().or(place),
        _ if cause.family() == "db" => subject.query.clone().or(place).or_else(|| subject.peer.clone()),
        _ => place.or_else(|| Some(route())),
    };
    match about {
        Some(about) => format!("{cause} {about}"),
        None => cause.code().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Subject;
    use crate::evidence::Frame;

    #[test]
    fn the_same_trouble_has_the_same_fingerprint() {
        let frames = vec![Frame {
            function: "Shop.fetch".into(),
            file: "/srv/shop.py".into(),
            line: 9,
            ..Frame::default()
        }];
        let subject = Subject { peer: Some("10.0.0.9:80".into()), query: Some("SELECT $1".into()), frames };
        let of = |cause, path: &str| {
            let request = Request { method: "GET".into(), path: path.into(), ..Request::default() };
            fingerprint(&Diagnosis { cause, subject: subject.clone(), ..Diagnosis::default() }, &request)
        };
        let table = [
            (Cause::ExternalNoTimeout, "external.no_timeout 10.0.0.9:80"),
            (Cause::DbLock, "db.lock SELECT $1"),
            (Cause::CpuRegex, "cpu.regex /srv/shop.py:fetch"),
            (Cause::PoolLeak, "pool.leak"),
            (Cause::TimeoutTooLow, "config.timeout_too_low GET /a"),
        ];
        for (cause, expected) in table {
            assert_eq!(of(cause, "/a"), expected);
        }
        assert_eq!(of(Cause::DbLock, "/a"), of(Cause::DbLock, "/b"));
        assert_eq!(fingerprint(&Diagnosis::default(), &Request::default()), "unknown  ");
    }
}
