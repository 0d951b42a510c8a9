//! Reads Prometheus's text, so that it can be compared with what others say. Not for: proving that it is well-formed, which promtool does.

use std::collections::BTreeMap;

/// Labels by their names, `__name__` among them.
pub type Labels = BTreeMap<String, String>;

/// Returns every sample of an exposition.
pub fn samples(text: &str) -> BTreeMap<Labels, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let samples: Vec<(Labels, f64)> = lines.map(sample).collect();
    let count = samples.len();
    let samples: BTreeMap<Labels, f64> = samples.into_iter().collect();
    assert_eq!(samples.len(), count, "two samples have the same labels");
    samples
}

fn sample(line: &str) -> (Labels, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut all = Labels::from([("__name__".to_owned(), name.to_owned())]);
    let mut rest = labels;
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().expect("a quote at the end") {
                (_, '\\') => value.push(match characters.next().expect("an escaped character").1 {
                    'n' => '\n',
                    other => other,
                }),
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        all.insert(name.trim_start_matches(',').to_owned(), value);
        rest = &after[end + 1..];
    }
    let value = if value == "+Inf" { f64::INFINITY } else { value.parse().expect("a number") };
    (all, value)
}

/// Returns the samples of one name that have these labels, and perhaps others.
pub fn of<'a>(
    samples: &'a BTreeMap<Labels, f64>,
    name: &'a str,
    labels: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = (&'a Labels, f64)> {
    let is = move |all: &Labels| {
        all["__name__"] == name
            && labels.iter().all(|(label, value)| all.get(*label).is_some_and(|v| v == value))
    };
    samples.iter().filter(move |(all, _)| is(all)).map(|(all, value)| (all, *value))
}

/// Returns the one sample of a name with these labels.
pub fn one(samples: &BTreeMap<Labels, f64>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let found: Vec<f64> = of(samples, name, labels).map(|(_, value)| value).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}");
    found[0]
}
