//! What review should never have to mention: checks over the whole tree that neither rustc nor clippy makes.
//! Each finding reads `file:line: rule: fix`. Not for: style that rustfmt decides.

mod crates;
mod masked;
mod prose;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use crate::Findings;
use std::fmt;
use std::path::Path;
use tree::Tree;

/// One thing to fix.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, fix } = self;
        write!(f, "{path}:{line}: {rule}: {fix}")
    }
}

/// Checks the repository at `root`.
pub(crate) fn check(root: &Path) -> Findings {
    let tree = Tree::read(root)?;
    let mut findings = crates::check(&crates::workspace(root)?, &tree);
    findings.extend(source::check(&tree));
    findings.extend(prose::check(&tree));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    Ok(findings.iter().map(Finding::to_string).collect())
}
