//! Which crate may know which, from `cargo metadata`. The reasons stand in ARCHITECTURE.md.
//! Not for: dependencies of others.

use super::Finding;
use super::tree::Tree;
use serde_json::Value;
use std::io::{self, Error};
use std::path::Path;
use std::process::Command;

const PREFIX: &str = "ferricorn-";

/// Each crate with those of ours that it may import. A crate that is not here may not exist.
const MAY_IMPORT: [(&str, &[&str]); 11] = [
    ("core", &[]),
    ("settings", &[]),
    // It maps the layout that `core` describes.
    ("sys", &["core"]),
    ("arbiter", &["core", "settings", "sys"]),
    ("worker", &["core", "settings", "sys"]),
    // What speaks HTTP with other hosts.
    ("post", &[]),
    ("reflex", &["core", "post", "settings", "sys"]),
    ("offload", &["core", "post", "sys"]),
    ("cli", &["core", "offload", "reflex", "settings", "sys"]),
    ("python", &["arbiter", "cli", "core", "offload", "reflex", "settings", "sys", "worker"]),
    ("xtask", &["settings"]),
];

/// A crate of ours with its imports of ours, names without the prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub name: String,
    pub imports: Vec<String>,
}

/// Asks cargo.
pub(super) fn workspace(root: &Path) -> io::Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root).output()?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(Error::other(format!("cargo metadata: {}", reason.trim())));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages =
        metadata["packages"].as_array().ok_or_else(|| Error::other("cargo metadata names no packages"))?;
    Ok(packages.iter().map(package).collect())
}

fn package(value: &Value) -> Package {
    let ours =
        |value: &Value| value["name"].as_str().and_then(|name| name.strip_prefix(PREFIX)).map(str::to_owned);
    let imports = value["dependencies"].as_array().into_iter().flatten().filter_map(ours).collect();
    let whole = || value["name"].as_str().unwrap_or_default().to_owned();
    Package { name: ours(value).unwrap_or_else(whole), imports }
}

/// Returns the imports that go the wrong way.
pub(super) fn check(packages: &[Package], tree: &Tree) -> Vec<Finding> {
    packages.iter().flat_map(|package| check_one(package, tree)).collect()
}

fn check_one(package: &Package, tree: &Tree) -> Vec<Finding> {
    let path = format!("crates/{}/Cargo.toml", package.name);
    let finding = |line, fix| Finding { path: path.clone(), line, rule: "import direction", fix };
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == package.name) else {
        let fix = "write down in ARCHITECTURE.md and in tidy's table what this crate may import".to_owned();
        return vec![finding(1, fix)];
    };
    let wrong = package.imports.iter().filter(|import| !allowed.contains(&import.as_str()));
    wrong
        .map(|import| {
            let manifest = tree.files.get(&path).map_or("", String::as_str);
            let named = manifest.lines().position(|line| line.starts_with(&format!("{PREFIX}{import}")));
            let fix = format!(
                "`{}` may import {}, not `{import}`: move what both need into `core`, or pass it in",
                package.name,
                if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") },
            );
            finding(named.map_or(1, |line| line + 1), fix)
        })
        .collect()
}
