//! How likely it is to see so many or more: the upper tails of the binomial and the negative binomial distribution, both
//! of which are the regularised incomplete beta function (DLMF 8.17.5, 8.17.24). Exact to nine digits, far out too.
//!
//! By hand, because it is two functions: a crate of statistics brings linear algebra and random numbers with it.
//!
//! Not for: distributions to draw from.

/// Steps of the continued fraction; it needs about the root of the larger parameter.
const STEPS_MAX: u32 = 20_000;
const PRECISION: f64 = 1e-13;
/// From here on, Stirling's series has all digits.
const STIRLING_MIN: f64 = 12.0;

/// Returns the probability of `count` or more events where `mean` are expected, if the rate itself varies like a gamma
/// distribution of this `shape`: the smaller the shape, the wilder; Poisson's in the limit.
pub(super) fn negative_binomial(count: u64, mean: f64, shape: f64) -> f64 {
    if count == 0 {
        return 1.0;
    }
    if !(mean > 0.0 && shape > 0.0) {
        return 0.0;
    }
    incomplete_beta(count as f64, shape, mean / (mean + shape))
}

/// Returns the probability of `hits` or more among `of`, each of which is one with the probability `share`.
pub(super) fn binomial(hits: u64, of: u64, share: f64) -> f64 {
    if hits == 0 {
        return 1.0;
    }
    if hits > of || share.is_nan() {
        return 0.0;
    }
    incomplete_beta(hits as f64, (of - hits) as f64 + 1.0, share)
}

/// I_x(a, b) for positive `a` and `b`: the distribution function of a Beta distribution.
pub(crate) fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let ln_factor = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    // The fraction converges fast below the mean only; above it, so does that of the other tail (DLMF 8.17.4).
    let value = if x <= (a + 1.0) / (a + b + 2.0) {
        ln_factor.exp() / a * fraction(a, b, x)
    } else {
        1.0 - ln_factor.exp() / b * fraction(b, a, 1.0 - x)
    };
    // Numbers so great that nothing is left of them say nothing.
    if value.is_nan() { 1.0 } else { value.clamp(0.0, 1.0) }
}

/// The continued fraction 1/(1+ d1/(1+ d2/(1+ ...))) of DLMF 8.17.22, evaluated forwards (Lentz's method).
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let (mut value, mut c, mut d) = (1.0, f64::INFINITY, 1.0);
    for step in 1..STEPS_MAX {
        let m = f64::from(step / 2);
        let term = if step % 2 == 1 {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        } else {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        };
        d = 1.0 / nonzero(1.0 + term * d);
        c = nonzero(1.0 + term / c);
        value *= c * d;
        if (c * d - 1.0).abs() < PRECISION {
            break;
        }
    }
    value
}

fn nonzero(value: f64) -> f64 {
    if value.abs() < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { value }
}

/// The logarithm of the gamma function for positive `x`: Stirling's series (DLMF 5.11.1), reached by recurrence.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 1.0);
    while x < STIRLING_MIN {
        below *= x;
        x += 1.0;
    }
    let z = 1.0 / (x * x);
    let series = 1.0 / 12.0 - z * (1.0 / 360.0 - z * (1.0 / 1260.0 - z * (1.0 / 1680.0 - z / 1188.0)));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series / x - f64::ln(below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(seen: f64, expected: f64, what: &str) {
        assert!((seen / expected - 1.0).abs() < 1e-9, "{what}: {seen:e}, expected {expected:e}");
    }

    /// Expected values are sums of all terms below, with 60 digits.
    #[test]
    fn binomial_tails_are_known() {
        let cases = [
            (1, 1, 0.5, 0.5),
            (3, 3, 0.03, 2.7e-5),
            (13, 120, 0.03, 6.979817208870231e-5),
            (3, 10, 0.25, 0.4744071960449219),
            (60, 300, 0.03, 2.9169771598138477e-31),
            (150, 18_000, 0.005, 4.333514771637347e-9),
            (9, 10, 0.9, 0.7360989291),
        ];
        for (hits, of, share, expected) in cases {
            near(binomial(hits, of, share), expected, &format!("{hits} of {of} at {share}"));
        }
        let edges =
            [(0, 0, 0.5, 1.0), (1, 0, 0.5, 0.0), (5, 10, 0.0, 0.0), (5, 10, 1.0, 1.0), (5, 10, 7.0, 1.0)];
        for (hits, of, share, expected) in edges {
            assert_eq!(binomial(hits, of, share), expected, "{hits} of {of} at {share}");
        }
        assert_eq!(binomial(5, 10, f64::NAN), 0.0);
    }

    #[test]
    fn negative_binomial_tails_are_known() {
        let cases = [
            (1, 1.0, 1.0, 0.5),
            (3, 0.004, 0.5, 1.5668779916094115e-7),
            (3, 0.25, 0.5, 0.013399964712331043),
            (67, 7.5, 1.0, 0.00022805343831026472),
            (12, 0.5, 0.01, 0.011170519524525045),
            (200, 100.0, 50.0, 1.3026854400546046e-6),
            (1000, 500.0, 20.0, 0.00022003208848380326),
            (3, 0.0001, 0.5, 2.4986879723556653e-12),
            // Nearly Poisson.
            (5, 2.0, 100_000.0, 0.05265482179610967),
        ];
        for (count, mean, shape, expected) in cases {
            near(negative_binomial(count, mean, shape), expected, &format!("{count}, {mean}, {shape}"));
        }
        for (mean, shape) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (-1.0, 1.0)] {
            assert_eq!(negative_binomial(0, mean, shape), 1.0);
            assert_eq!(negative_binomial(3, mean, shape), 0.0);
        }
    }

    #[test]
    fn great_numbers_end() {
        let half = binomial(500_000_000, 1_000_000_000, 0.5);
        assert!((half - 0.5).abs() < 1e-3, "{half}");
        assert!(negative_binomial(u64::from(u32::MAX), 1e9, 1e9) < 1e-9);
        assert!(negative_binomial(u64::MAX, f64::MAX, f64::MIN_POSITIVE).is_finite());
    }

    proptest! {
        #[test]
        fn tails_are_probabilities_and_fall(
            count in 0u64..5_000, mean in 1e-6..1e4, shape in 1e-3..1e6, of in 1u64..10_000, share in 0.0..1.0,
        ) {
            let tails = [
                [0, 1, 7].map(|more| negative_binomial(count + more, mean, shape)),
                [0, 1, 7].map(|more| binomial(count + more, of, share)),
            ];
            for tail in tails {
                prop_assert!(tail.iter().all(|p| (0.0..=1.0).contains(p)), "{tail:?}");
                prop_assert!(tail.windows(2).all(|pair| pair[1] <= pair[0] + 1e-10), "{tail:?}");
            }
        }

        #[test]
        fn more_is_likelier_where_more_is_expected(
            count in 1u64..200, mean in 1e-3..1e2, shape in 0.1..1e3, share in 0.0..0.9,
        ) {
            let rarer = negative_binomial(count, mean, shape);
            prop_assert!(rarer <= negative_binomial(count, mean * 1.1, shape) + 1e-10);
            prop_assert!(binomial(count, 200, share) <= binomial(count, 200, share + 0.1) + 1e-10);
        }
    }
}
