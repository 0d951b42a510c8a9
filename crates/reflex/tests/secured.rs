//! Connections with passwords and TLS, to real servers.

mod servers;

use mysql_async::prelude::Queryable;
use servers::mariadb::Mariadb;
use servers::postgres::{Postgres, Session};
use servers::{Asked, Folder, certificates, skip};
use std::os::unix::fs::PermissionsExt;

/// Each way to connect, and what the log says of it.
fn check(base: &str, table: &[(&str, &str)]) {
    for (url, expected) in table {
        let line = Asked::first_line(format!("{base}{url}"));
        assert!(line.contains(expected), "{url}: {line}");
        assert!(!line.contains("geheim"), "{line}");
    }
}

#[test]
fn postgresql_with_tls_and_passwords() {
    if !Postgres::can_encrypt() {
        return skip("PostgreSQL is not installed, or built without TLS");
    }
    let folder = Folder::new("postgres");
    if !certificates(&folder) {
        return skip("openssl is not installed");
    }
    let at = folder.path().display().to_string();
    let hba = "local all all trust\nhostssl all reflex all scram-sha-256\nhostnossl all reflex all reject\n\
               hostnossl all plain all trust\nhostssl all plain all reject\nhost all all all trust\n";
    std::fs::write(folder.path().join("hba"), hba).expect("written");
    let settings = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={at}/server.pem"),
        format!("ssl_key_file={at}/server.key"),
        format!("hba_file={at}/hba"),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let Some(postgres) = Postgres::start_in(folder, &settings) else {
        return skip("PostgreSQL is not installed");
    };
    let owner = Session::tcp(postgres.address(), "tests");
    owner.run("create role reflex login password 'geheim1'; create role plain login");
    let passwords = postgres.folder.path().join("passwords");
    std::fs::write(&passwords, format!("localhost:{}:*:reflex:geheim1\n", postgres.port)).expect("written");
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o600)).expect("permissions");

    let (port, passwords) = (postgres.port, passwords.display());
    let asks = "Observer asks PostgreSQL";
    check(
        "postgresql://",
        &[
            (&format!("reflex:geheim1@127.0.0.1:{port}/postgres"), asks),
            (&format!("reflex:geheim1@127.0.0.1:{port}/postgres?sslmode=require"), asks),
            (&format!("reflex@localhost:{port}/postgres?passfile={passwords}"), asks),
            (&format!("reflex@127.0.0.1:{port}/postgres?passfile={passwords}"), "password missing"),
            (&format!("reflex:geheim2@127.0.0.1:{port}/postgres"), "password authentication failed"),
            (&format!("reflex:geheim1@127.0.0.1:{port}/postgres?sslmode=disable"), "pg_hba.conf rejects"),
            (
                &format!(
                    "reflex:geheim1@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={at}/ca.pem"
                ),
                asks,
            ),
            (
                &format!(
                    "reflex:geheim1@127.0.0.1:{port}/postgres?sslmode=verify-ca&sslrootcert={at}/ca.pem"
                ),
                asks,
            ),
            (
                &format!(
                    "reflex:geheim1@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={at}/ca.pem"
                ),
                "not valid for name",
            ),
            (
                &format!("reflex:geheim1@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={at}/hba"),
                "has no certificate to trust",
            ),
            (&format!("reflex:geheim1@localhost:{port}/postgres?sslmode=verify-full"), "UnknownIssuer"),
            // Who wants none may go without, unless it has to be.
            (&format!("plain@127.0.0.1:{port}/postgres"), asks),
            (&format!("plain@127.0.0.1:{port}/postgres?sslmode=require"), "pg_hba.conf rejects"),
        ],
    );
    let mut asked = Asked::new(&[format!("postgresql://reflex:geheim1@127.0.0.1:{port}/postgres")]);
    asked.line(asks);
    let secured = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'ferricorn-reflex'";
    assert_eq!(owner.run(secured), ["t"]);
    let name = owner
        .run("select count(*) from pg_stat_activity where query like '%geheim%' and pid <> pg_backend_pid()");
    assert_eq!(name, ["0"]);
}

#[test]
fn mariadb_with_tls_and_passwords() {
    let folder = Folder::new("mysql");
    if !certificates(&folder) {
        return skip("openssl is not installed");
    }
    let at = folder.path().display().to_string();
    let settings = [
        format!("--ssl-cert={at}/server.pem"),
        format!("--ssl-key={at}/server.key"),
        format!("--ssl-ca={at}/ca.pem"),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let Some(mariadb) = Mariadb::start_in(folder, &settings) else { return skip("MariaDB is not installed") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut root = mysql_async::Conn::new(mariadb.options("root")).await.expect("connected");
        let user = "grant process on *.* to reflex@'%' identified by 'geheim1' require ssl";
        root.query_drop(user).await.expect("created");
    });
    let (port, asks) = (mariadb.port, "Observer asks MySQL");
    check(
        "mysql://",
        &[
            (&format!("reflex:geheim1@127.0.0.1:{port}/"), asks),
            (&format!("reflex:geheim1@127.0.0.1:{port}/?ssl-mode=REQUIRED"), asks),
            (&format!("reflex:geheim1@127.0.0.1:{port}/?ssl-mode=DISABLED"), "Access denied"),
            (&format!("reflex:geheim2@127.0.0.1:{port}/"), "Access denied"),
            (&format!("reflex:geheim1@localhost:{port}/?ssl-mode=VERIFY_IDENTITY&ssl-ca={at}/ca.pem"), asks),
            (&format!("reflex:geheim1@localhost:{port}/?ssl-mode=VERIFY_CA&ssl-ca={at}/ca.pem"), asks),
            (
                &format!("reflex:geheim1@127.0.0.1:{port}/?ssl-mode=VERIFY_IDENTITY&ssl-ca={at}/ca.pem"),
                "not valid for name",
            ),
            (&format!("reflex:geheim1@localhost:{port}/?ssl-mode=VERIFY_IDENTITY"), "UnknownIssuer"),
        ],
    );
}
