//! Which requests are not served because the circuit of their route is open ([`ferricorn_core::circuits`]). Costs every other request
//! one look at a number. Not for: opening circuits.

use crate::http::head::Head;
use ferricorn_core::circuits::Circuits;
use ferricorn_core::route;

/// The circuits as a worker knows them.
#[derive(Debug, Default)]
pub(crate) struct Open {
    serial: u32,
    /// Routes that are not served, with the end of that.
    routes: Vec<(String, u64)>,
}

impl Open {
    /// Returns after how many seconds a request may come again; none if it is served.
    pub(crate) fn refuses(&mut self, circuits: &Circuits, head: &Head, now_ns: u64) -> Option<u32> {
        if circuits.serial() != self.serial {
            self.read(circuits, now_ns);
        }
        if self.routes.is_empty() {
            return None;
        }
        self.routes.retain(|(_, until_ns)| *until_ns > now_ns);
        let path = str::from_utf8(head.get(&head.path)).ok()?;
        let fits = |(name, _): &&(String, u64)| {
            route::split(name).is_some_and(|(method, pattern)| {
                method.as_bytes() == head.method() && route::fits(pattern, path)
            })
        };
        let (_, until_ns) = self.routes.iter().find(fits)?;
        Some((until_ns - now_ns).div_ceil(1_000_000_000) as u32)
    }

    #[cold]
    fn read(&mut self, circuits: &Circuits, now_ns: u64) {
        // While they are written, what was known counts.
        let Some((serial, open)) = circuits.read(now_ns) else { return };
        self.serial = serial;
        self.routes = open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Rules, Scan, parse};

    fn head(line: &str) -> Head {
        let (rules, mut head) = (Rules::default(), Head::default());
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let found = Scan::default().advance(text.as_bytes(), &rules).expect("a head").expect("whole");
        parse(text.as_bytes(), &found, &rules, false, &mut head).expect("a head");
        head
    }

    #[test]
    fn requests_of_an_open_route_are_refused_until_its_time_is_over() {
        let (circuits, mut open) = (Circuits::default(), Open::default());
        let mut refuses = |line: &str, now_ns: u64| open.refuses(&circuits, &head(line), now_ns);
        assert_eq!(refuses("GET /orders/7", 0), None);
        assert!(circuits.open("GET /orders/<int:id>", 5_500_000_000, 0));
        assert_eq!(refuses("GET /orders/7?full=1", 1_000_000_000), Some(5));
        for other in ["GET /orders", "GET /orders/7/items", "POST /orders/7", "GET /"] {
            assert_eq!(refuses(other, 1_000_000_000), None, "{other}");
        }
        assert_eq!(refuses("GET /orders/7", 5_500_000_000), None);
    }
}
