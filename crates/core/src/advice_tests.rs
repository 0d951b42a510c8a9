//! Verdicts, ranks and words, as tables.

use super::*;
use crate::latency::{Class, Key, Phases};

const MS: u64 = 1000;
const S: u64 = 1_000_000;

/// A route's answers and losses: so many of so many microseconds.
fn routes(path: &str, answered: &[(u64, u64)], lost: &[(u64, u64)]) -> Vec<Route> {
    let of = |class, counts: &[(u64, u64)]| {
        let mut phases = Phases::default();
        for (count, us) in counts {
            (0..*count).for_each(|_| phases.app.add(*us));
        }
        let key = Key { route: path.to_owned(), named: true, method: "GET".to_owned(), class };
        Route { key, phases }
    };
    vec![of(Class::Success, answered), of(Class::Lost, lost)]
}

#[test]
fn each_route_gets_its_verdict() {
    use Verdict::*;
    type Counts<'a> = &'a [(u64, u64)];
    type Case<'a> = (Counts<'a>, Counts<'a>, Option<f64>, Verdict, Option<f64>);
    let table: [Case<'_>; 13] = [
        // Too few to tell.
        (&[(99, 50 * MS)], &[], Some(30.0), Few, None),
        (&[], &[(500, 30 * S)], Some(30.0), Few, None),
        // Fast: never below a second.
        (&[(1000, 50 * MS)], &[], Some(30.0), Fits, Some(1.0)),
        // Three times what the slowest of a thousand need.
        (&[(1000, 900 * MS)], &[], Some(30.0), Fits, Some(3.0)),
        // One outlier beyond a thousand: it finishes today, and would tomorrow.
        (&[(5000, 50 * MS), (1, 21 * S)], &[], Some(30.0), Fits, Some(30.0)),
        (&[(5000, 50 * MS), (1, 29 * S)], &[], Some(30.0), Fits, Some(45.0)),
        // Near: nothing is lost yet.
        (&[(900, 10 * S), (100, 26 * S)], &[], Some(30.0), Near, Some(90.0)),
        // Lost although they only need more time.
        (&[(500, 10 * S), (500, 24 * S)], &[(20, 30 * S)], Some(30.0), TooShort, Some(90.0)),
        (&[(100, 20 * S)], &[(1, 30 * S)], Some(30.0), TooShort, Some(90.0)),
        // They hang: the others need nothing like it.
        (&[(1000, 50 * MS)], &[(20, 30 * S)], Some(30.0), Hangs, Some(1.0)),
        // Lost early, with their worker: no matter of the deadline.
        (&[(1000, 50 * MS)], &[(20, 3 * S)], Some(30.0), Fits, Some(1.0)),
        // Without a deadline there is only what it should be.
        (&[(1000, 4 * S)], &[], None, Fits, Some(15.0)),
        (&[(1000, 3000 * S)], &[], Some(0.0), Fits, Some(10_800.0)),
    ];
    for (answered, lost, timeout_s, verdict, should_be_s) in table {
        let ranking = rank(&routes("/a", answered, lost), timeout_s, By::Time);
        let row = &ranking.rows[0];
        assert_eq!(
            (row.verdict, row.should_be_s),
            (verdict, should_be_s),
            "{answered:?} {lost:?} {timeout_s:?}"
        );
        if let Some(should_be_s) = should_be_s {
            let slowest_s = quantile_s(&row.figures.answered.app, 1.0).expect("some");
            assert!(should_be_s >= slowest_s, "what finishes today goes on to");
        }
    }
}

#[test]
fn the_timeout_itself_is_judged() {
    let fast = routes("/a", &[(2000, 50 * MS)], &[]);
    let lower = Overall::Lower { should_be_s: 1.0, slowest_p99_s: 0.053_248 };
    assert_eq!(rank(&fast, Some(30.0), By::Time).overall, lower);
    assert_eq!(rank(&fast, None, By::Time).overall, Overall::Missing { should_be_s: 1.0 });
    assert_eq!(rank(&fast, Some(1.0), By::Time).overall, Overall::Fits);
    assert_eq!(rank(&routes("/a", &[(999, 50 * MS)], &[]), Some(30.0), By::Time).overall, Overall::Few);
    // A route that is asked for seldom keeps what it needs.
    let mut seldom = fast.clone();
    seldom.extend(routes("/export", &[(3, 20 * S)], &[]));
    assert_eq!(
        rank(&seldom, Some(300.0), By::Time).overall,
        Overall::Lower { should_be_s: 30.0, slowest_p99_s: 0.053_248 }
    );
    assert_eq!(rank(&seldom, Some(30.0), By::Time).overall, Overall::Fits);
}

#[test]
fn routes_are_ranked_by_what_is_asked() {
    let mut all = routes("/many", &[(3000, MS)], &[]);
    all.extend(routes("/long", &[(200, 5 * S)], &[]));
    all.extend(routes("/late", &[(100, 50 * MS)], &[(10, 30 * S)]));
    let order = |by| -> Vec<String> {
        rank(&all, Some(30.0), by).rows.into_iter().map(|row| row.figures.route).collect()
    };
    assert_eq!(order(By::Time), ["/long", "/late", "/many"]);
    assert_eq!(order(By::Deadline), ["/late", "/long", "/many"]);
    assert_eq!(order(By::Count), ["/many", "/long", "/late"]);
    let ranking = rank(&all, Some(30.0), By::Time);
    let nearest = rank(&all, Some(30.0), By::Deadline).rows[0].nearness;
    assert_eq!(nearest, Some(1.0), "lost at its deadline, not beyond it");
    let shares: f64 = ranking.rows.iter().map(|row| row.share).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    assert!(rank(&[], Some(30.0), By::Time).rows.is_empty());
}

#[test]
fn advice_is_one_sentence_with_the_setting() {
    let told = |answered: &[(u64, u64)], lost: &[(u64, u64)]| {
        rank(&routes("/reports/<int:n>", answered, lost), Some(30.0), By::Time).rows[0]
            .advice(Kind::Ferricorn)
    };
    assert_eq!(told(&[(1000, 50 * MS)], &[]), None);
    assert_eq!(told(&[(9, 50 * MS)], &[(9, 30 * S)]), None);
    assert_eq!(
        told(&[(1000, 25 * S)], &[]).as_deref(),
        Some(
            "requests come near their deadline (p99 25 s of 30 s): the timeout should be 90: \
             `route_timeouts = {\"GET /reports/*\": 90}`, or better, answer 202 at once: `offload = [\"GET /reports/*\"]`"
        )
    );
    assert_eq!(
        told(&[(1000, 17 * S)], &[(3, 30 * S)]).as_deref(),
        Some(
            "3 lost at 30 s, and those that finish need nearly as long (p99 19 s): the timeout should be 60: \
             `route_timeouts = {\"GET /reports/*\": 60}`, or answer 202 at once: `offload = [\"GET /reports/*\"]`"
        )
    );
    assert_eq!(
        told(&[(1000, 400 * MS)], &[(3, 30 * S)]).as_deref(),
        Some(
            "3 lost at 30 s while those that finish need 426 ms (p99): they hang, and more time would not help; \
             `ferricornctl timeouts` shows where"
        )
    );
    let lower = Overall::Lower { should_be_s: 5.0, slowest_p99_s: 1.4 };
    assert_eq!(
        lower.advice(Some(30.0)).as_deref(),
        Some("the timeout should be 5: it is 30 s, and the slowest route needs 1.4 s (p99)")
    );
    assert!(
        Overall::Missing { should_be_s: 5.0 }.advice(None).is_some_and(|text| text.contains("should be 5"))
    );
}

#[test]
fn deadlines_are_round() {
    let table = [(0.0, 1.0), (1.0, 1.0), (1.01, 2.0), (31.0, 45.0), (3600.0, 3600.0), (3601.0, 7200.0)];
    for (seconds, rounded) in table {
        assert_eq!(rounded_up(seconds), rounded, "{seconds}");
    }
}

#[test]
fn estimates_carry_no_advice() {
    let ranking = rank(&routes("/reports", &[(100, 20 * S)], &[(1, 30 * S)]), Some(30.0), By::Time);
    assert!(ranking.rows[0].should_be_s.is_some());
    let ranking = ranking.without_advice();
    assert_eq!((ranking.rows[0].should_be_s, ranking.rows[0].advice(Kind::Gunicorn)), (None, None));
    assert_eq!(ranking.overall, Overall::Few);
}
