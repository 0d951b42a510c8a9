//! Password files as libpq has them: `host:port:database:user:password` in each line
//! (<https://www.postgresql.org/docs/current/libpq-pgpass.html>). Not for: passwords that were said otherwise.

use super::target::Place;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Most bytes of a file that are read.
const SIZE_MAX: u64 = 1 << 20;

/// Returns the password of the first line that fits; none where others may read the file, as with libpq.
pub(super) fn find(file: &Path, place: &Place, database: &str, user: &str) -> Option<String> {
    let about = fs::metadata(file).ok()?;
    if !about.is_file() || about.len() > SIZE_MAX || about.permissions().mode() & 0o077 != 0 {
        return None;
    }
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| fits(line, place, database, user))
}

fn fits(line: &str, place: &Place, database: &str, user: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let fields = fields(line);
    let [host, port, name, role, password] = fields.as_slice() else { return None };
    let is = |field: &str, value: &str| field == "*" || field == value;
    let here = match place {
        Place::Tcp { host: name, .. } => is(host, name),
        Place::Unix { path, .. } => {
            is(host, "localhost") || path.parent().is_some_and(|folder| Path::new(host) == folder)
        }
    };
    let fits = here && is(port, &place.port().to_string()) && is(name, database) && is(role, user);
    fits.then(|| password.clone())
}

/// Four fields and the rest. A backslash escapes a colon or a backslash.
fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => field.extend(characters.next()),
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            // Beyond the password nothing follows.
            ':' => break,
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.into(), address: None, port }
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let lines = "# db:5432:*:*:no\n\
                     db:5432:shop:reflex:one\n\
                     db:*:*:*:two\\:\\\\2\n\
                     localhost:5432:*:*:three\n\
                     \\:\\:1:5432:*:*:four\n\
                     /srv/run:5432:*:*:five\n\
                     too:few\n";
        file.write_all(lines.as_bytes()).expect("written");
        let unix = |folder: &str| Place::Unix { path: Path::new(folder).join(".s.PGSQL.5432"), port: 5432 };
        let table = [
            (tcp("db", 5432), "shop", Some("one")),
            (tcp("db", 5432), "other", Some("two:\\2")),
            (tcp("db", 1), "shop", Some("two:\\2")),
            (tcp("elsewhere", 5432), "shop", None),
            (tcp("::1", 5432), "shop", Some("four")),
            (unix("/run/postgresql"), "shop", Some("three")),
            (tcp("too", 5432), "shop", None),
        ];
        for (place, database, password) in table {
            assert_eq!(find(file.path(), &place, database, "reflex").as_deref(), password, "{place}");
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).expect("permissions");
        assert_eq!(find(file.path(), &tcp("db", 1), "shop", "reflex"), None, "others may read it");
        assert_eq!(find(Path::new("/nowhere"), &tcp("db", 1), "shop", "reflex"), None);
    }
}
