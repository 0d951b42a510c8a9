//! Puts fingerprints together: what is on disk, read once for all workers that start together, and what a process says of itself.
//! Not for: when to look (`watcher`).

use super::distributions;
use super::files::{Contents, Found, Root, hash};
use super::git::Repository;
use super::process;
use super::scene::{Scene, is_library};
use ferricorn_core::change::{Code, Config, Fingerprint};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most folders of code, and of libraries.
const ROOTS_MAX: usize = 8;
const LIBRARIES_MAX: usize = 16;
/// Most bytes of a configuration file.
const CONFIG_MAX: u64 = 1 << 20;
/// Workers that start within this time have read the same files.
const SHARED: Duration = Duration::from_millis(300);
/// Gunicorn's file, unless another is named.
const CONFIG: &str = "gunicorn.conf.py";

/// Reads fingerprints of one server.
#[derive(Debug)]
pub(super) struct Gatherer {
    scene: Scene,
    salt: String,
    contents: Contents,
    /// Folders of distributions that were seen; a worker that has only begun has not mapped all of its own.
    libraries: BTreeSet<PathBuf>,
    /// Whether the code is as its commit has it, and of what that was found out.
    dirty: Option<(DirtyOf, Option<bool>)>,
    /// What was last read for a worker, and when.
    last: Option<(Instant, Fingerprint)>,
}

type DirtyOf = ((u64, i64, i64), String, usize);

impl Gatherer {
    pub(super) fn new(scene: Scene, salt: String) -> Self {
        Self {
            scene,
            salt,
            contents: Contents::default(),
            libraries: BTreeSet::new(),
            dirty: None,
            last: None,
        }
    }

    /// Reads what is on disk, as the process of this pid sees it.
    pub(super) fn disk(&mut self, pid: u32) -> Fingerprint {
        let root = process::root(pid);
        let variables = process::variables(pid, &self.salt);
        let given = variables.as_ref().map(|found| found.python_path.clone()).unwrap_or_default();
        let folder = self.scene.folder.clone().or_else(|| process::folder(self.scene.arbiter));
        let mut gaps = Vec::new();
        if folder.is_none() {
            gaps.push("the application's folder may not be seen".to_owned());
        }
        let folder = folder.map(|folder| real(&process::under(&root, &folder)));
        let roots = self.roots(&root, folder.as_deref(), &given);
        let config = self.config(&root, folder.as_deref());
        let code = self.code(folder.as_deref(), &roots, Path::new(&config.path));
        let (python, prefix) = process::python(pid, &root);
        let named = variables.as_ref().map(|found| found.prefixes.clone()).unwrap_or_default();
        let distributions = self.distributions(pid, &root, &named, prefix, &roots);
        if variables.is_none() {
            gaps.push("its variables may not be seen".to_owned());
        }
        let revisions = variables.map(|found| found.revisions).unwrap_or_default();
        Fingerprint { code, distributions, config, python, revisions, gaps, ..Fingerprint::default() }
    }

    /// Adds to what is on disk what a worker says of itself; none if it has ended.
    pub(super) fn worker(&mut self, pid: u32) -> Option<Fingerprint> {
        let shared = self.last.take().filter(|(at, _)| at.elapsed() < SHARED);
        let (at, mut fingerprint) = shared.unwrap_or_else(|| (Instant::now(), self.disk(pid)));
        self.last = Some((at, fingerprint.clone()));
        if let Some(found) = process::variables(pid, &self.salt) {
            fingerprint.environment = found.hashes;
        }
        fingerprint.command = process::command(self.scene.arbiter, &self.salt).0.unwrap_or_default();
        fingerprint.settings = settings(&self.scene.settings, &self.salt);
        fingerprint.container = process::container(pid);
        // Who ends while he is read may have been read in part.
        process::lives(pid).then_some(fingerprint)
    }

    /// Returns the folders of code: the application's own, and those that are searched for modules and are no libraries.
    fn roots(&self, root: &Path, folder: Option<&Path>, given: &[PathBuf]) -> Vec<Root> {
        let mut roots: Vec<Root> = Vec::new();
        // Below the root of everything lies everything.
        if let Some(folder) = folder.filter(|folder| folder.parent().is_some() && *folder != root) {
            roots.push(Root { path: folder.to_owned(), label: String::new() });
        }
        for said in self.scene.python_path.iter().chain(given) {
            let path = real(&process::under(root, &folder.unwrap_or(Path::new("/")).join(said)));
            let is_below = roots.iter().any(|known| path.starts_with(&known.path));
            let is_code = !said.as_os_str().is_empty()
                && path.parent().is_some()
                && !is_library(&path)
                // Where the command itself lies.
                && !path.ends_with("bin");
            if is_code && !is_below && roots.len() < ROOTS_MAX && !is_own(&path) {
                roots.push(Root { path, label: said.display().to_string() });
            }
        }
        roots
    }

    /// Returns the code; the configuration file is Python, and none of it.
    fn code(&mut self, folder: Option<&Path>, roots: &[Root], config: &Path) -> Code {
        let Found { mut files, partial } = self.contents.walk(roots);
        files.retain(|file| folder.is_none_or(|folder| folder.join(&file.path) != config));
        let mut code = Code { files, partial, ..Code::default() };
        let Some((folder, repository)) = folder.and_then(|folder| Some((folder, Repository::of(folder)?)))
        else {
            return code;
        };
        code.head = repository.head().unwrap_or_default();
        if code.head.is_empty() {
            return code;
        }
        let known: DirtyOf = (repository.index_stamp(), files_stamp(&code), code.files.len());
        let dirty = match &self.dirty {
            Some((of, dirty)) if *of == known => *dirty,
            _ => {
                // Files of other folders are named by whole paths.
                let own: Vec<_> =
                    code.files.iter().filter(|file| !file.path.starts_with('/')).cloned().collect();
                repository.is_dirty(folder, &own, !partial)
            }
        };
        self.dirty = Some((known, dirty));
        code.dirty = dirty;
        code
    }

    fn distributions(
        &mut self,
        pid: u32,
        root: &Path,
        named: &[PathBuf],
        python: Option<PathBuf>,
        roots: &[Root],
    ) -> Vec<String> {
        let mut found: BTreeSet<PathBuf> = process::libraries(pid);
        found.extend(self.scene.python_path.iter().filter(|path| is_library(path)).cloned());
        let commanded = process::command(self.scene.arbiter, &self.salt).1;
        let prefixes: Vec<&PathBuf> = named.iter().chain(&commanded).collect();
        let mut isolated = false;
        for prefix in prefixes {
            let seen = process::under(root, prefix);
            isolated |= is_isolated(&seen);
            // Below `/usr` are those of the system, as of the interpreter itself.
            let within = distributions::below(&seen);
            found.extend(within.into_iter().filter_map(|path| strip(root, &path)));
        }
        if !isolated && found.is_empty() {
            let prefix = python.map(|prefix| process::under(root, &prefix));
            found.extend(prefix.iter().flat_map(|prefix| distributions::below(prefix)));
        }
        for path in found {
            if self.libraries.len() < LIBRARIES_MAX {
                self.libraries.insert(path);
            }
        }
        // `pip install --target` puts them beside code.
        let beside = roots.iter().map(|root| root.path.clone());
        let all: Vec<PathBuf> =
            self.libraries.iter().map(|path| process::under(root, path)).chain(beside).collect();
        distributions::installed(&all)
    }

    fn config(&self, root: &Path, folder: Option<&Path>) -> Config {
        let said = self.scene.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG));
        let path = match said.is_absolute() {
            true => process::under(root, &said),
            false => folder.unwrap_or(Path::new("/")).join(&said),
        };
        let Some(content) = hash(&path, CONFIG_MAX) else { return Config::default() };
        Config { path: path.display().to_string(), content }
    }
}

/// Follows links; where that is not possible the path is as good as any.
fn real(path: &Path) -> PathBuf {
    // Out of a container's root, links lead astray.
    if path.starts_with("/proc") {
        path.to_owned()
    } else {
        path.canonicalize().unwrap_or_else(|_| path.to_owned())
    }
}

/// A path below another root, as it is called there.
fn strip(root: &Path, path: &Path) -> Option<PathBuf> {
    match root.as_os_str().is_empty() {
        true => Some(path.to_owned()),
        false => Some(Path::new("/").join(path.strip_prefix(root).ok()?)),
    }
}

/// Our own package, where that is linked and not installed.
fn is_own(path: &Path) -> bool {
    path.join("ferricorn").join("server.py").exists() && path.ends_with("python")
}

/// Tells whether a virtual environment sees nothing of the system's libraries (PEP 405).
fn is_isolated(prefix: &Path) -> bool {
    let Ok(text) = fs::read_to_string(prefix.join("pyvenv.cfg")) else { return false };
    let line = text.lines().find_map(|line| {
        line.split_once('=').filter(|(name, _)| name.trim() == "include-system-site-packages")
    });
    line.is_none_or(|(_, value)| value.trim() != "true")
}

fn files_stamp(code: &Code) -> String {
    let newest = code.files.iter().map(|file| file.mtime_ns).max().unwrap_or_default();
    let bytes: u64 = code.files.iter().map(|file| file.size).sum();
    format!("{newest} {bytes} {}", code.head)
}

/// Lines `name = value` as hashes of values by name.
fn settings(lines: &str, salt: &str) -> BTreeMap<String, String> {
    let named = lines.lines().filter_map(|line| line.split_once('='));
    named
        .map(|(name, value)| (name.trim().to_owned(), process::salted(salt, name.trim(), value.trim())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(folder: &Path) -> Scene {
        Scene {
            arbiter: std::process::id(),
            folder: Some(folder.to_owned()),
            settings: "timeout = 30\nsecret = x\n".into(),
            ..Scene::default()
        }
    }

    #[test]
    fn a_process_and_its_folder_make_a_fingerprint() {
        let folder = tempfile::tempdir().expect("a folder");
        let site = folder.path().join("v/lib/python3.12/site-packages");
        fs::create_dir_all(site.join("requests-2.31.dist-info")).expect("made");
        fs::create_dir_all(folder.path().join("app")).expect("made");
        fs::write(folder.path().join("app/wsgi.py"), "x = 1\n").expect("written");
        fs::write(folder.path().join("app/gunicorn.conf.py"), "workers = 2\n").expect("written");
        let mut scene = scene(&folder.path().join("app"));
        scene.python_path = vec![site.clone(), folder.path().join("app"), folder.path().join("none")];
        let mut gatherer = Gatherer::new(scene, "salt".into());
        let first = gatherer.worker(std::process::id()).expect("alive");
        let names: Vec<&str> = first.code.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(names, ["wsgi.py"]);
        assert!(first.distributions.contains(&"requests-2.31".to_owned()), "{:?}", first.distributions);
        assert!(first.config.path.ends_with("app/gunicorn.conf.py") && first.config.content.len() == 16);
        assert!(first.settings.contains_key("timeout") && !format!("{first:?}").contains("= 30"));
        gatherer.last = None;
        assert_eq!(gatherer.worker(std::process::id()).as_ref(), Some(&first), "nothing has changed");
        gatherer.last = None;
        fs::rename(site.join("requests-2.31.dist-info"), site.join("requests-2.32.dist-info"))
            .expect("upgraded");
        let second = gatherer.worker(std::process::id()).expect("alive");
        let change = ferricorn_core::change::compare(&first, &second, &[]).expect("changed");
        assert_eq!(change.name, "requests 2.31 → 2.32");
    }

    #[test]
    fn a_folder_that_is_a_link_is_followed_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        for (release, code) in [("1", "x = 1\n"), ("2", "x = 2\n")] {
            fs::create_dir_all(folder.path().join(release)).expect("made");
            fs::write(folder.path().join(release).join("wsgi.py"), code).expect("written");
        }
        let current = folder.path().join("current");
        std::os::unix::fs::symlink(folder.path().join("1"), &current).expect("linked");
        let mut gatherer = Gatherer::new(scene(&current), String::new());
        let first = gatherer.disk(std::process::id());
        fs::remove_file(&current).expect("removed");
        std::os::unix::fs::symlink(folder.path().join("2"), &current).expect("linked");
        let second = gatherer.disk(std::process::id());
        assert_eq!(first.code.changed_to(&second.code), ["wsgi.py"]);
    }

    #[test]
    fn an_environment_says_whether_it_is_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!is_isolated(folder.path()));
        for (text, isolated) in [
            ("home = /usr/bin\n", true),
            ("include-system-site-packages = true\n", false),
            ("include-system-site-packages = false\n", true),
        ] {
            fs::write(folder.path().join("pyvenv.cfg"), text).expect("written");
            assert_eq!(is_isolated(folder.path()), isolated, "{text}");
        }
    }
}
