//! A configuration with everything that is read, and what is not one.

use super::*;
use std::fs;

const CONFIG: &str = r#"
# what a distribution has, and more
worker_processes auto;
events { worker_connections 768; }
http {
    log_format main '$remote_addr "$request" # no comment \' {';
    proxy_read_timeout 120s;
    upstream app {
        server 127.0.0.1:8000 max_fails=3;
        server unix:/run/web.sock backup;
        server 10.0.0.9:8000 down;
        keepalive 32;
    }
    server {
        listen 80;
        server_name example.org www.example.org;
        proxy_set_header Connection "";
        location / {
            proxy_http_version 1.1;
            proxy_pass http://app;
        }
        location ~ "^/[a-z]{2}/" {
            proxy_pass http://127.0.0.1:8000/base/;
        }
        location /api {
            proxy_read_timeout 1m30s;
            proxy_connect_timeout 500ms;
            proxy_next_upstream error http_504 non_idempotent;
            proxy_set_header Host ${host};
            proxy_http_version 1.1;
            if ($request_method = POST) { proxy_pass http://app; }
        }
        location /other { proxy_pass https://elsewhere.example/; }
    }
}
"#;

fn read(text: &str) -> Vec<Directive> {
    from_dump(&format!("nginx: ok\n# configuration file /etc/nginx/nginx.conf:\n{text}")).expect("read")
}

#[test]
fn each_place_has_what_is_in_force_there() {
    let found = places(&read(CONFIG), None);
    let brief: Vec<_> = found
        .iter()
        .map(|proxy| (proxy.place.as_str(), proxy.servers, proxy.read_timeout_s, proxy.idle_s))
        .collect();
    assert_eq!(
        brief,
        [
            ("server example.org, location / (/etc/nginx/nginx.conf:20)", 2, 120.0, Some(60.0)),
            ("server example.org, location ~ ^/[a-z]{2}/ (/etc/nginx/nginx.conf:23)", 1, 120.0, None),
            // It sets a header, and inherits none.
            ("server example.org, location /api (/etc/nginx/nginx.conf:31)", 2, 90.0, None),
            ("server example.org, location /other (/etc/nginx/nginx.conf:33)", 1, 120.0, None),
        ]
    );
    assert_eq!(found[2].connect_timeout_s, 0.5);
    assert_eq!(found[2].next_upstream, ["error", "http_504", "non_idempotent"]);
    assert_eq!(
        (found[0].send_timeout_s, &found[0].next_upstream),
        (60.0, &vec!["error".into(), "timeout".into()])
    );
}

#[test]
fn places_are_told_by_where_they_lead() {
    let tree = read(CONFIG);
    let count = |bind: &[&str]| {
        let addresses: Vec<String> = bind.iter().map(|address| (*address).to_owned()).collect();
        places(&tree, Some(&addresses)).len()
    };
    for (bind, expected) in [
        (&["127.0.0.1:8000"][..], 3),
        (&["0.0.0.0:8000"], 3),
        (&["[::]:8000"], 3),
        (&["localhost:8000"], 3),
        (&["unix:/run/web.sock"], 2),
        (&["127.0.0.1:8001", "unix:/run/other.sock"], 0),
        (&["10.0.0.1:8000"], 0),
        (&[], 0),
    ] {
        assert_eq!(count(bind), expected, "{bind:?}");
    }
}

#[test]
fn files_are_included_from_the_disk_and_from_a_dump() {
    let folder = tempfile::tempdir().expect("a folder");
    let main = folder.path().join("nginx.conf");
    fs::create_dir(folder.path().join("conf.d")).expect("made");
    fs::write(&main, "http { include conf.d/*.conf; include mime.types; }").expect("written");
    fs::write(folder.path().join("mime.types"), "types { text/html html; }").expect("written");
    fs::write(folder.path().join("conf.d/b.conf"), "server { location / { include proxy; } }")
        .expect("written");
    fs::write(folder.path().join("conf.d/readme"), "no {{{ configuration").expect("written");
    fs::write(folder.path().join("proxy"), "proxy_read_timeout 7;\nproxy_pass http://unix:/run/web.sock:/x;")
        .expect("written");
    let found = places(&from_file(&main).expect("read"), Some(&["unix:/run/web.sock".into()]));
    assert_eq!((found.len(), found[0].read_timeout_s), (1, 7.0));
    let place = format!("server, location / ({}:2)", folder.path().join("proxy").display());
    assert_eq!(found[0].place, place);
    let dump = "# configuration file /e/nginx.conf:\nhttp { include c/*.conf; }\n\
                # configuration file /e/c/a.conf:\nserver { location / { proxy_pass http://x:1; } }\n";
    assert_eq!(places(&from_dump(dump).expect("read"), None)[0].place, "server, location / (/e/c/a.conf:1)");
    let kept = folder.path().join("dump");
    fs::write(&kept, dump).expect("written");
    assert_eq!(places(&from_file(&kept).expect("read"), None).len(), 1);
    fs::write(&main, "include nginx.conf;").expect("written");
    assert!(from_file(&main).expect_err("a ring").contains("without end"));
}

#[test]
fn what_is_no_configuration_says_where() {
    let table = [
        ("http {\n  server {\n", "/e:2: the brace of `server` is not closed"),
        ("http { }\n}", "/e:2: a brace closes what none has opened"),
        ("log_format x '...", "/e:1: a quote is not closed"),
    ];
    for (text, why) in table {
        let dump = format!("# configuration file /e:\n{text}");
        assert_eq!(from_dump(&dump).expect_err(text), why);
    }
    assert!(from_dump("nginx: [emerg] open() failed").is_err());
    let deep = format!("# configuration file /e:\n{}", "a { ".repeat(1000));
    assert!(from_dump(&deep).expect_err("deep").contains("more of it than any server has"));
}

#[test]
fn times_are_read_as_nginx_reads_them() {
    let table = [
        ("60", Some(60.0)),
        ("60s", Some(60.0)),
        ("1m30s", Some(90.0)),
        ("1h 30m", Some(5400.0)),
        ("500ms", Some(0.5)),
        ("1d", Some(86_400.0)),
        ("", None),
        ("soon", None),
        ("5x", None),
        ("$time", None),
    ];
    for (text, expected) in table {
        assert_eq!(seconds(text), expected, "{text}");
    }
}
