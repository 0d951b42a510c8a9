//! Rules about words and links: no machine's private paths, no unfinished business, no page that nobody finds.
//! Not for: spelling.

use super::Finding;
use super::source::has_word;
use super::tree::Tree;

/// Paths of one developer's machine. Written in pieces, or this file would break its own rule.
const PRIVATE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/tmp/", "venv"), concat!("../sh", "ared")];
/// Words that promise work instead of doing it.
const UNFINISHED: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Returns what is wrong with the words and links.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let words = tree.files.iter().filter(|(path, _)| !path.ends_with(".lock"));
    let mut findings: Vec<Finding> = words.flat_map(|(path, text)| words_of(path, text)).collect();
    findings.extend(tree.ending(".md").flat_map(|(path, text)| broken_links(path, text, tree)));
    findings.extend(lonely_pages(tree));
    findings
}

fn words_of(path: &str, text: &str) -> Vec<Finding> {
    let finding =
        |index: usize, rule, fix: String| Finding { path: path.to_owned(), line: index + 1, rule, fix };
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for private in PRIVATE_PATHS.iter().filter(|private| has_path(line, private)) {
            let fix = format!(
                "{private} exists on one machine only: say it relative to the repository, or not at all"
            );
            findings.push(finding(index, "private path", fix));
        }
        for word in UNFINISHED.iter().filter(|word| has_word(line, word)) {
            let fix = format!("do it, or open an issue and drop the {word}");
            findings.push(finding(index, "unfinished", fix));
        }
    }
    findings
}

/// Tells whether a path begins in the line, not as the tail of a longer one.
fn has_path(line: &str, path: &str) -> bool {
    let tail =
        |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || "_-.$}".contains(c));
    line.match_indices(path).any(|(at, _)| !tail(line[..at].chars().next_back()))
}

/// The relative links of a page, each with its line number, outside fenced code, without their `#fragment`.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    let prose = text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    });
    let targets = prose.flat_map(|(index, line)| {
        let after = line.split("](").skip(1);
        after.filter_map(move |rest| Some((index + 1, rest.split_once(')')?.0)))
    });
    let relative = targets.filter(|(_, target)| !target.contains(':') && !target.starts_with('#'));
    relative.map(|(line, target)| (line, target.split('#').next().unwrap_or(target)))
}

/// Resolves a link against the folder of the page that holds it.
fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn broken_links(path: &str, text: &str, tree: &Tree) -> Vec<Finding> {
    let exists = |target: &str| {
        let folder = format!("{target}/");
        tree.files.keys().any(|file| file == target || file.starts_with(&folder))
    };
    links(text)
        .map(|(line, target)| (line, resolve(path, target)))
        .filter(|(_, target)| !exists(target))
        .map(|(line, target)| Finding {
            path: path.to_owned(),
            line,
            rule: "broken link",
            fix: format!("there is no {target}: correct or drop the link"),
        })
        .collect()
}

fn lonely_pages(tree: &Tree) -> Vec<Finding> {
    const ENTRIES: [&str; 2] = ["README.md", "docs/index.md"];
    let linked: Vec<String> = ENTRIES
        .iter()
        .filter_map(|entry| Some((entry, tree.files.get(*entry)?)))
        .flat_map(|(entry, text)| links(text).map(|(_, target)| resolve(entry, target)))
        .collect();
    let pages = tree.ending(".md").filter(|(path, _)| path.starts_with("docs/"));
    let lonely =
        pages.filter(|(path, _)| !ENTRIES.contains(path) && !linked.iter().any(|target| target == path));
    lonely
        .map(|(path, _)| Finding {
            path: path.to_owned(),
            line: 1,
            rule: "lonely page",
            fix: "link it from docs/index.md".to_owned(),
        })
        .collect()
}
