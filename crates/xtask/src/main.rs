//! Developer tools: `cargo xtask tidy` checks what the compiler does not, `cargo xtask docs` writes generated pages.
//! Not for: anything that ships.
#![forbid(unsafe_code)]

mod docs;
mod tidy;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Developer tools of Ferricorn.

  cargo xtask tidy           check import directions, unsafe fences, module docs, lengths, words, links
  cargo xtask docs           write the generated pages of docs/
  cargo xtask docs --check   fail if a generated page is not what would be written
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (text, ok) = match words.as_slice() {
        ["tidy"] => report(tidy::check(&root())),
        ["docs"] => report(docs::write(&root())),
        ["docs", "--check"] => report(docs::check(&root())),
        [] | ["help" | "-h" | "--help"] => (HELP.to_owned(), true),
        other => (format!("unknown: {}\n\n{HELP}", other.join(" ")), false),
    };
    // A closed pipe must not hide the verdict, which is the exit status.
    let _ =
        if ok { io::stdout().write_all(text.as_bytes()) } else { io::stderr().write_all(text.as_bytes()) };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a tool found: lines to show, none of them if all is well.
type Findings = io::Result<Vec<String>>;

fn report(findings: Findings) -> (String, bool) {
    match findings {
        Err(error) => (format!("xtask: {error}\n"), false),
        Ok(lines) if lines.is_empty() => ("ok\n".to_owned(), true),
        Ok(lines) => (format!("{}\n{} to fix\n", lines.join("\n"), lines.len()), false),
    }
}

/// The repository: two levels above this crate.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).expect("crates/xtask lies in a repository").to_owned()
}
