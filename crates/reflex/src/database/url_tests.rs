//! How databases are said.

use super::super::target::{Place, Secret};
use super::*;
use std::fs;
use std::path::Path;

fn around<'a>(variable: &'a dyn Fn(&str) -> Option<String>, home: Option<&Path>) -> Surroundings<'a> {
    Surroundings { variable, home: home.map(Path::to_owned), user: Some("ferri".to_owned()) }
}

fn read(text: &str) -> Result<Target, Wrong> {
    let mut all = Target::all_in(&[text.to_owned()], &around(&|_| None, None))?;
    Ok(all.remove(0))
}

/// `kind name user password tls`
fn line(target: &Target) -> String {
    let places: Vec<String> = target.places.iter().map(Place::to_string).collect();
    let password = target.password.as_ref().map_or("-", Secret::reveal);
    format!(
        "{:?} {} {} {password} {} {:?}",
        target.service,
        places.join(","),
        target.user,
        target.database,
        target.tls.mode
    )
}

#[test]
fn urls_and_pairs_are_read() {
    let table = [
        ("postgresql://reflex@db/shop", "Postgres db:5432 reflex - shop Prefer"),
        (
            "postgres://reflex:p%40s:s%2F@db:6000/shop?sslmode=require",
            "Postgres db:6000 reflex p@s:s/ shop Require",
        ),
        ("postgresql+psycopg://u@[::1]:1/x?plan=1&application_name=a", "Postgres [::1]:1 u - x Prefer"),
        ("postgresql://u@a:1,b:2/x", "Postgres a:1,b:2 u - x Prefer"),
        ("postgresql://u@a,b/x?port=7", "Postgres a:7,b:7 u - x Prefer"),
        ("postgresql://u@%2Fsrv%2Frun/x", "Postgres unix:/srv/run/.s.PGSQL.5432 u - x Prefer"),
        (
            "postgresql:///x?host=/srv/run&port=9&user=u&password=p%20p",
            "Postgres unix:/srv/run/.s.PGSQL.9 u p p x Prefer",
        ),
        ("postgresql://h", "Postgres h:5432 ferri - ferri Prefer"),
        (
            "host=db user = u password='a b\\'c' dbname=x sslmode=verify-full",
            "Postgres db:5432 u a b'c x VerifyFull",
        ),
        ("hostaddr=10.0.0.1 user=u dbname=x", "Postgres 10.0.0.1:5432 u - x Prefer"),
        ("host=db hostaddr=10.0.0.1 sslrootcert=system", "Postgres db:5432 ferri - ferri VerifyFull"),
        ("host=db sslmode=require sslrootcert=/ca.pem", "Postgres db:5432 ferri - ferri VerifyCa"),
        ("pgbouncer://stats:pw@pool:6432/", "Pgbouncer pool:6432 stats pw pgbouncer Prefer"),
        ("pgbouncer://stats@%2Frun", "Pgbouncer unix:/run/.s.PGSQL.6432 stats - pgbouncer Prefer"),
        ("mysql://reflex:pw@db/?ssl-mode=DISABLED", "Mysql db:3306 reflex pw  Disable"),
        ("mariadb+pymysql://r@db:3307/shop?ssl-mode=VERIFY_IDENTITY", "Mysql db:3307 r - shop VerifyFull"),
        ("mysql://r@/?socket=/run/my.sock", "Mysql unix:/run/my.sock r -  Prefer"),
    ];
    for (text, expected) in table {
        let target = read(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
        assert_eq!(line(&target), expected, "{text}");
    }
    assert!(read("postgresql://db/x?plan=1").expect("read").plan);
    let seconds =
        |text: &str| read(&format!("host=db connect_timeout={text}")).expect("read").patience.as_secs();
    assert_eq!([seconds("0"), seconds("1"), seconds("5"), seconds("99")], [10, 1, 5, 10]);
}

#[test]
fn names_and_debug_output_hide_who_asks() {
    let target = read("postgresql://reflex:geheim@db:6000/shop").expect("read");
    assert_eq!(target.name(), "db:6000/shop");
    assert!(!format!("{target:?}").contains("geheim"));
    assert_eq!(read("pgbouncer://stats:geheim@pool/").expect("read").name(), "pool:6432");
    assert_eq!(read("mysql://stats:geheim@db/").expect("read").name(), "db:3306");
}

#[test]
fn mistakes_are_named_and_nothing_of_them_is_repeated() {
    let table = [
        ("geheim", "it is neither a URL nor key=value"),
        ("oracle://geheim@db", "its scheme is none that is known"),
        ("postgresql://u:geheim%2@db", "a % in it is not followed by two hexadecimal digits"),
        ("postgresql://u:geheim%ff@db", "it is not UTF-8"),
        ("postgresql://u@db:geheim/x", "a port is no number below 65536"),
        ("postgresql://u@a:1,b:2,c/x?port=1,2", "its hosts and its ports differ in number"),
        ("postgresql://u@db?sslmode=geheim", "its sslmode is none that is known"),
        ("postgresql://u@db?sslmod=geheim", "sslmod is not a parameter that is known"),
        ("postgresql://u:a?geheim9@db/x", "an @ stands where no user does"),
        ("postgresql://u:12/geheim@db/x", "an @ stands where no user does"),
        ("postgresql://u@db/x?Geheim1=2", "it holds a parameter that is not known"),
        ("postgresql://u@db?plan=geheim", "plan is neither 0 nor 1"),
        ("host=db geheim", "a key in it has no value"),
        ("password='geheim", "a quote in it has no end"),
        ("host=db connect_timeout=geheim", "connect_timeout is not a whole number"),
        ("hostaddr=geheim", "hostaddr is no IP address"),
    ];
    for (text, why) in table {
        let wrong = read(text).expect_err(text);
        assert_eq!(wrong.why, why, "{text}");
        assert!(!wrong.to_string().contains("geheim"), "{wrong}");
        assert!(wrong.what.starts_with("reflex_database (number 1) cannot be used"), "{wrong}");
    }
    let many = vec!["postgresql://db".to_owned(); TARGETS_MAX + 1];
    assert!(Target::all_in(&many, &around(&|_| None, None)).is_err());
    assert_eq!(Target::all_in(&many[1..], &around(&|_| None, None)).map(|all| all.len()), Ok(TARGETS_MAX));
}

#[test]
fn what_is_left_out_comes_from_the_service_and_then_from_the_environment() {
    let home = tempfile::tempdir().expect("a folder");
    let services =
        "# ours\n[other]\nhost=no\n[shop]\nhost = db9\nport=6001\nuser=reflex\n\n[shop]\nhost=no\n";
    fs::write(home.path().join(".pg_service.conf"), services).expect("written");
    let variables = |name: &str| {
        let value = match name {
            "PGSERVICE" => "shop",
            "PGUSER" | "PGHOST" | "PGHOSTADDR" => "no",
            "PGDATABASE" => "shop_db",
            "PGPASSWORD" => "pw",
            "PGSSLMODE" => "disable",
            "PGPORT" => "",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let around = around(&variables, Some(home.path()));
    let all = Target::all_in(&[], &around).expect("read");
    assert_eq!(all.iter().map(line).collect::<Vec<_>>(), ["Postgres db9:6001 reflex pw shop_db Disable"]);
    assert_eq!(all[0].passfile, Some(home.path().join(".pgpass")));
    // What is said comes first, and PgBouncer's console is nobody's service.
    let said = ["postgresql://me@here/mine".to_owned(), "pgbouncer://stats@pool".to_owned()];
    let all = Target::all_in(&said, &around).expect("read");
    assert_eq!(
        all.iter().map(line).collect::<Vec<_>>(),
        ["Postgres here:6001 me pw mine Disable", "Pgbouncer pool:6432 stats - pgbouncer Prefer"]
    );
    fs::write(home.path().join(".pg_service.conf"), "[shop]\nhost\n").expect("written");
    let wrong = Target::all_in(&[], &around).expect_err("no key=value");
    assert!(wrong.why.ends_with(".pg_service.conf: line 2 is not key=value"), "{wrong}");
    fs::remove_file(home.path().join(".pg_service.conf")).expect("removed");
    let wrong = Target::all_in(
        &[],
        &Surroundings {
            variable: &|name| variables(name).or_else(|| (name == "PGSYSCONFDIR").then(|| "/nowhere".into())),
            ..around
        },
    );
    assert_eq!(wrong.expect_err("no service").why, "there is no service shop");
}

#[test]
fn nobody_is_asked_without_being_said() {
    let only_host = |name: &str| (name == "PGHOST").then(|| "db".to_owned());
    assert_eq!(Target::all_in(&[], &around(&only_host, None)), Ok(Vec::new()));
}
