//! Finds settings by name, and the one that was meant. Not for: flags ([`crate::parse_args`]).

use crate::setting::Setting;
use crate::table::SETTINGS;

/// Returns the setting of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Returns the setting whose name is so near to `name` that it was probably meant; not if it is that name.
pub fn nearest(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    closest(&lower, SETTINGS.iter().map(|setting| setting.name)).filter(|found| *found != name)
}

/// Returns the nearest word, within one mistake for each four letters, and three at most.
pub(crate) fn closest<'a>(wanted: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (wanted.len() / 4).min(3);
    words
        .map(|word| (distance(wanted, word), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Counts the letters to insert, drop, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_near_to_a_setting_is_found() {
        let table = [
            ("wrokers", Some("workers")),
            ("worker", Some("workers")),
            ("Workers", Some("workers")),
            ("time_out", Some("timeout")),
            ("keep_alive", Some("keepalive")),
            ("graceful_timout", Some("graceful_timeout")),
            ("max_request", Some("max_requests")),
            ("workers", None),
            ("os", None),
            ("cpus", None),
            ("multiprocessing", None),
            ("", None),
        ];
        for (name, meant) in table {
            assert_eq!(nearest(name), meant, "{name}");
        }
    }
}
