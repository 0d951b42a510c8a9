//! What the detectors cost in false alarms, and how fast they are: months of services, simulated, with budgets that are
//! asserted. Everything is drawn from a seed, so that each run is the same; `FERRICORN_DETECT_RUNS=20` and `--nocapture`
//! show the same tables over more seeds, which the budgets have to keep as well.
//!
//! Simulated services are no real ones: these figures compare settings, they promise nothing.

mod latency;
mod sparse;

/// Splitmix64, and what is drawn with it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, neither of them.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// By counting products of uniform numbers (Knuth); for small means.
    fn poisson(&mut self, mean: f64) -> u64 {
        let end = (-mean).exp();
        let (mut count, mut product) = (0, self.uniform());
        while product > end {
            count += 1;
            product *= self.uniform();
        }
        count
    }
}

/// How many times everything is run; their seeds are the numbers below.
fn runs(default: u64) -> u64 {
    std::env::var("FERRICORN_DETECT_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(default)
}

/// The quantile `q` of some delays.
fn quantile(delays: &mut [u64], q: f64) -> u64 {
    delays.sort_unstable();
    delays.get(((delays.len() as f64 * q) as usize).min(delays.len().saturating_sub(1))).copied().unwrap_or(0)
}
