//! Pages of `docs/` that are written by programs, and the check that they are up to date.
//! Not for: pages that people write; `tidy` checks their links.

use crate::Findings;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// A generated page: where it lies, and what makes it.
struct Page {
    path: &'static str,
    text: fn() -> String,
}

const PAGES: [Page; 2] = [
    Page { path: "docs/settings.md", text: ferricorn_settings::reference_markdown },
    Page { path: "docs/settings.schema.json", text: ferricorn_settings::schema_json },
];

/// Writes every page.
pub(crate) fn write(root: &Path) -> Findings {
    for page in &PAGES {
        fs::write(root.join(page.path), (page.text)())?;
    }
    Ok(Vec::new())
}

/// Returns the pages that are not what would be written.
pub(crate) fn check(root: &Path) -> Findings {
    let mut findings = Vec::new();
    for page in &PAGES {
        let text = match fs::read_to_string(root.join(page.path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            other => other?,
        };
        findings.extend(stale(page.path, &text, &(page.text)()));
    }
    Ok(findings)
}

/// Names the first line that differs.
fn stale(path: &str, present: &str, wanted: &str) -> Option<String> {
    if present == wanted {
        return None;
    }
    let same = present.lines().zip(wanted.lines()).take_while(|(a, b)| a == b).count();
    let line = same + 1;
    let new = wanted.lines().nth(same).unwrap_or("(end)");
    Some(format!("{path}:{line}: generated page is stale, would be {new:?}: run `cargo xtask docs`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_page_is_named_with_its_first_difference() {
        assert_eq!(stale("d.md", "a\nb\n", "a\nb\n"), None);
        let table = [
            ("a\nb\n", "a\nc\n", "d.md:2: generated page is stale, would be \"c\": run `cargo xtask docs`"),
            ("a\nb\n", "a\n", "d.md:2: generated page is stale, would be \"(end)\": run `cargo xtask docs`"),
            ("", "a\n", "d.md:1: generated page is stale, would be \"a\": run `cargo xtask docs`"),
        ];
        for (present, wanted, finding) in table {
            assert_eq!(stale("d.md", present, wanted).as_deref(), Some(finding));
        }
    }

    #[test]
    fn the_committed_pages_are_up_to_date() {
        let findings = check(&crate::root()).expect("readable pages");
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
