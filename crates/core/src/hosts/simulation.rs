//! Seeded days of a few hosts that all want to do as much as they can, with cuts between them and the bus, answers that get lost, clocks
//! that differ, observers that are started again. Checked against what was really done, not against anybody's books.

use super::*;

const HOSTS: usize = 5;
const SEEDS: u64 = 300;
const STEPS: u32 = 4000;

struct Host {
    name: String,
    purse: Purse,
    cut: bool,
    /// How far its clock is from the true time, seconds.
    skew_s: f64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }
}

fn claim(host: &str, number: u64, at: f64) -> Claim {
    Claim { host: host.into(), server: format!("{host}/1"), number, what: "recycle".into(), at }
}

/// What was done: when, and whether its host was cut off.
type Done = Vec<(f64, bool)>;

fn run(seed: u64, limits: &Limits) -> Done {
    let mut random = Random(seed * 0x9E37_79B9 + 1);
    let mut shared = Shared::default();
    let mut hosts: Vec<Host> = (0..HOSTS)
        .map(|number| Host {
            name: format!("web-{number}"),
            purse: Purse::default(),
            cut: false,
            skew_s: random.below(60) as f64 - 30.0,
        })
        .collect();
    let mut done: Done = Vec::new();
    let mut now = 1_000_000.0;
    for _ in 0..STEPS {
        now += random.below(90) as f64;
        // How many hosts there are everyone sees for themselves, late.
        let seen = 1 + random.below(HOSTS as u64) as usize;
        let host = &mut hosts[random.below(HOSTS as u64) as usize];
        let time = now + host.skew_s;
        let answer_lost = random.one_in(8);
        match random.below(10) {
            0 => host.cut = !host.cut,
            1 => {
                // The observer is started again, with its books.
                let kept = serde_json::to_string(&host.purse).expect("JSON");
                host.purse = serde_json::from_str(&kept).expect("its own");
            }
            2..=4 => {
                let told = host.purse.untold();
                let last = told.iter().map(|claim| claim.number).max().unwrap_or(0);
                host.purse.ask(limits.fair(seen));
                if !host.cut {
                    let count = shared.renew(&host.name, &told, seen, limits, time);
                    if !answer_lost {
                        host.purse.renewed(count, last, time);
                    }
                }
            }
            5 if !host.cut && random.one_in(20) => {
                let told = host.purse.untold();
                host.purse = Purse::default();
                shared.leave(&host.name, &told, limits, time);
            }
            _ => {
                let claim = host.purse.number(claim(&host.name, 0, time));
                let granted = match host.cut {
                    false => shared.claim(claim, seen, limits, time).is_ok() && !answer_lost,
                    true => host.purse.spend(claim, limits, time).is_ok(),
                };
                if granted {
                    done.push((now, host.cut));
                }
            }
        }
    }
    done
}

#[test]
fn the_budget_of_all_holds_on_whatever_side_of_a_cut() {
    let mut by_the_cut_off = 0;
    for seed in 0..SEEDS {
        let count = 4 + (seed % 13) as u32;
        let limits = Limits { count, window_s: 3600.0, hosts: 1.0, at_once_s: 60.0 };
        let done = run(seed, &limits);
        for (at, _) in &done {
            let within = done.iter().filter(|(other, _)| (*at..at + limits.window_s).contains(other)).count();
            assert!(within <= count as usize, "seed {seed}: {within} of {count} since {at}");
        }
        assert!(done.len() > 20, "seed {seed}: {} in two days", done.len());
        by_the_cut_off += done.iter().filter(|(_, cut)| *cut).count();
    }
    assert!(by_the_cut_off > 1000, "{by_the_cut_off}");
}

#[test]
fn no_more_hosts_are_touched_at_once_than_may_be() {
    let limits = Limits { count: 100, window_s: 3600.0, hosts: 0.25, at_once_s: 60.0 };
    let mut shared = Shared::default();
    let mut ask = |host: &str, number: u64, at: f64| shared.claim(claim(host, number, at), 8, &limits, at);
    assert_eq!(ask("a", 1, 10.0), Ok(()));
    assert_eq!(ask("b", 1, 11.0), Ok(()));
    let refused = ask("c", 1, 12.0).expect_err("two of eight");
    assert_eq!(refused, "something was just done on a, b: no more than 2 of 8 hosts at once");
    assert_eq!(ask("a", 2, 12.0), Ok(()), "it is touched already");
    assert_eq!(ask("a", 2, 13.0), Ok(()), "the same once more is the same");
    assert_eq!(ask("c", 1, 72.5), Ok(()));
}

#[test]
fn what_is_dealt_out_is_not_claimed() {
    let limits = Limits { count: 8, window_s: 600.0, hosts: 1.0, at_once_s: 0.0 };
    let mut shared = Shared::default();
    assert_eq!([shared.renew("a", &[], 2, &limits, 0.0), shared.renew("b", &[], 2, &limits, 0.0)], [1, 1]);
    assert_eq!(shared.renew("c", &[], 3, &limits, 0.0), 0, "two of eight are all that may be dealt out");
    let granted =
        (1..=8).filter(|number| shared.claim(claim("c", *number, 1.0), 3, &limits, 1.0).is_ok()).count();
    assert_eq!(granted, 6);
    let why = shared.claim(claim("c", 9, 1.0), 3, &limits, 1.0).expect_err("the rest is dealt out");
    assert!(why.ends_with("2 of them kept for hosts that are cut off"), "{why}");
    // Who goes leaves its part to others.
    shared.leave("a", &[], &limits, 1.0);
    assert_eq!(shared.claim(claim("c", 9, 1.0), 3, &limits, 1.0), Ok(()));
    // Who was cut off for too long does nothing any more.
    let mut purse = Purse::default();
    purse.renewed(1, 0, 0.0);
    let mut spend = |now: f64| {
        let claim = purse.number(claim("b", 0, now));
        purse.spend(claim, &limits, now)
    };
    assert!(spend(10.0).is_ok());
    assert!(spend(20.0).is_err_and(|why| why.contains("may do 1 such actions in 600 s")));
    assert!(spend(10.0 + 661.0).is_ok());
    assert!(spend(80_000.0).is_err_and(|why| why.contains("for too long")));
}
