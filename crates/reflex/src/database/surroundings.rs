//! Where libpq looks for what was not said: the service file, then environment variables, in this order
//! (<https://www.postgresql.org/docs/current/libpq-connect.html>, sections 34.15 and 34.17). Not for: what was said.

use super::url::{Reason, Words};
use std::fs;
use std::path::{Path, PathBuf};

/// Environment variables and what they say.
const VARIABLES: [(&str, &str); 12] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGDATABASE", "dbname"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGSERVICE", "service"),
];
/// Where the services of a whole host are: Debian's place, and that of others.
const HOST_FOLDERS: [&str; 2] = ["/etc/postgresql-common", "/etc"];
/// Most bytes of a service file.
const SIZE_MAX: u64 = 1 << 20;

/// What has to be known of the process.
pub(crate) struct Surroundings<'a> {
    /// Looks an environment variable up.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// The user's name.
    pub user: Option<String>,
}

impl Surroundings<'static> {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        Self {
            variable: &|name| std::env::var(name).ok(),
            home: std::env::var_os("HOME").map(PathBuf::from),
            user: ferricorn_sys::process::own_name(),
        }
    }
}

impl Surroundings<'_> {
    pub(super) fn get(&self, variable: &str) -> Option<String> {
        (self.variable)(variable).filter(|value| !value.is_empty())
    }

    /// Adds what was not said.
    pub(super) fn complete(&self, words: &mut Words) -> Result<(), Reason> {
        if let Some(service) = words.remove("service").or_else(|| self.get("PGSERVICE")) {
            for (key, value) in self.service(&service)? {
                words.entry(key).or_insert(value);
            }
        }
        // An address that was said is not that of a host from elsewhere, and the other way round.
        let placed = words.contains_key("host") || words.contains_key("hostaddr");
        for (variable, key) in VARIABLES {
            if (placed && matches!(key, "host" | "hostaddr")) || key == "service" {
                continue;
            }
            if let Some(value) = self.get(variable) {
                words.entry(key.to_owned()).or_insert(value);
            }
        }
        self.add_passfile(words);
        Ok(())
    }

    /// Adds where passwords are, if nobody has said.
    pub(super) fn add_passfile(&self, words: &mut Words) {
        let home = || Some(self.home.as_ref()?.join(".pgpass").display().to_string());
        if !words.contains_key("passfile")
            && let Some(file) = self.get("PGPASSFILE").or_else(home)
        {
            words.insert("passfile".to_owned(), file);
        }
    }

    fn service(&self, name: &str) -> Result<Words, Reason> {
        let own = self.get("PGSERVICEFILE").map(PathBuf::from);
        let own = own.or_else(|| Some(self.home.as_ref()?.join(".pg_service.conf")));
        let folders = self.get("PGSYSCONFDIR").map_or_else(
            || HOST_FOLDERS.iter().map(PathBuf::from).collect(),
            |folder| vec![PathBuf::from(folder)],
        );
        let files = own.into_iter().chain(folders.into_iter().map(|folder| folder.join("pg_service.conf")));
        for file in files {
            if let Some(words) = section(&file, name)? {
                return Ok(words);
            }
        }
        let why = format!("there is no service {name}");
        Err((why, "Add it to ~/.pg_service.conf, or name the file in PGSERVICEFILE".to_owned()))
    }
}

/// The first section of this name; none if the file or the section is not there.
fn section(file: &Path, name: &str) -> Result<Option<Words>, Reason> {
    let wrong = |why: String| (format!("{}: {why}", file.display()), "Correct the file".to_owned());
    match fs::metadata(file) {
        Err(_) => return Ok(None),
        Ok(about) if about.len() > SIZE_MAX => return Err(wrong("it is too large".to_owned())),
        Ok(_) => {}
    }
    let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut found: Option<Words> = None;
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            found = (section == name).then(Words::new);
        } else if let Some(words) = &mut found {
            let number = number + 1;
            if line.starts_with("ldap") {
                return Err(wrong(format!("line {number} asks LDAP, which is not done here")));
            }
            let (key, value) =
                line.split_once('=').ok_or_else(|| wrong(format!("line {number} is not key=value")))?;
            words.entry(key.trim().to_owned()).or_insert(value.trim().to_owned());
        }
    }
    Ok(found)
}
