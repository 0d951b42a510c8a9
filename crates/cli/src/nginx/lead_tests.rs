//! Servers of nginx that lead jobs astray, and those of which that is not certain.

use super::super::from_dump;
use super::*;

const BELOW: &str = "/.well-known/ferricorn/jobs";
const API: &str = "location /api { proxy_set_header Host $host; proxy_pass http://app; }";

fn found(servers: &str, routes: &[&str]) -> Vec<Detour> {
    let text = format!(
        "# configuration file /n:\nhttp {{ upstream app {{ server 127.0.0.1:8000; server 10.0.0.2:8000; }}\n{servers}\n}}\n\
         stream {{ server {{ listen 1; proxy_pass app; }} }}\n"
    );
    let tree = from_dump(&text).expect("read");
    detours(&tree, &["127.0.0.1:8000".to_owned(), "unix:/run/web.sock".to_owned()], routes, BELOW)
}

/// What is said of a server with these places, in short.
fn brief(places: &str) -> Option<String> {
    let mut found = found(&format!("server {{ server_name a.example;\n{places} }}"), &["POST /api/*"]);
    assert!(found.len() <= 1);
    found.pop().map(|detour| {
        let to = detour.to.map_or(String::new(), |to| format!(" to {to}"));
        format!("{}{to}, {} by {}", detour.place, detour.beside, detour.upstream)
    })
}

#[test]
fn what_is_asked_elsewhere_is_told() {
    let table = [
        ("location /.well-known/ { root /var/www/acme; }", ", location /.well-known/ (/n:3)"),
        ("location ^~ /.well-known/ { allow all; }", ", location ^~ /.well-known/ (/n:3)"),
        ("location ^~/.well-known { return 404; }", ", location ^~/.well-known (/n:3)"),
        ("location / { try_files $uri $uri/ =404; }", ", location / (/n:3)"),
        ("location / { try_files $uri /index.html?p=$uri; }", ", location / (/n:3)"),
        ("location / { proxy_pass http://other:9000/x; }", ", location / (/n:3) to other:9000"),
        // Nothing takes them.
        ("", " (/n:2)"),
        ("location = / { proxy_pass http://app; }", " (/n:2)"),
        // Whichever takes it, it does not come here.
        (
            r"location ~ /\.(?!well-known) { deny all; } location ~ \.php$ { fastcgi_pass p; } root /a; index b;",
            " (/n:2)",
        ),
        (
            r"location ^~ /.well-known/ { root /a; } location ~ x { proxy_pass http://app; }",
            ", location ^~ /.well-known/ (/n:3)",
        ),
        (
            "location / { root /a; limit_except GET { deny all; } types { a b; } } if ($bad) { return 444; }",
            ", location / (/n:3)",
        ),
        (
            "error_page 500 502 /50x.html; location /.well-known/ { root /a; }",
            ", location /.well-known/ (/n:3)",
        ),
    ];
    for (places, expected) in table {
        let expected = format!("server a.example{expected}, location /api by http://app");
        assert_eq!(brief(&format!("{places} {API}")), Some(expected), "{places}");
    }
    // A target may have the path that its place has.
    let table = [
        ("http://app/api/", "http://app"),
        ("http://unix:/run/web.sock:/api/", "http://unix:/run/web.sock"),
        ("https://app", "https://app"),
    ];
    for (target, upstream) in table {
        let places = format!("location /api/ {{ proxy_pass {target}; }} location / {{ root /a; }}");
        assert!(brief(&places).expect(target).ends_with(&format!("location /api/ by {upstream}")));
    }
}

#[test]
fn what_is_not_certain_is_not_told() {
    let table = [
        "location / { proxy_pass http://app; }",
        "location / { proxy_pass http://app/; }",
        "location / { proxy_pass http://unix:/run/web.sock; }",
        "location /.well-known/ { root /a; } location /.well-known/ferricorn/ { proxy_pass http://app; }",
        "location /.well-known/ { proxy_pass http://app/x/; }",
        "location /.well-known/ { proxy_pass http://$backend; }",
        "location /.well-known/ { proxy_pass http://myself:8000; }",
        "location /.well-known/ { proxy_pass http://unix:/var/run/web.sock; }",
        "location /.well-known/ { try_files $uri @app; }",
        "location /.well-known/ { try_files $uri $uri/index.html; }",
        "location /.well-known/ { root /a; error_page 404 = @app; }",
        "error_page 404 = @app; location /.well-known/ { root /a; }",
        "error_page 404 = @app;",
        "location /.well-known/ { rewrite ^ /api/jobs last; }",
        "location /.well-known/ { return 301 https://b.example$request_uri; }",
        "location /.well-known/ { return https://b.example; }",
        "location /.well-known/ { if ($x) { proxy_pass http://app; } }",
        "location /.well-known/ { limit_except GET { proxy_pass http://app; } }",
        "location /.well-known/ { location /.well-known/ferricorn/ { proxy_pass http://app; } }",
        "location /.well-known/ { content_by_lua_block { x } }",
        "location /.well-known/ { uwsgi_pass x; }",
        "location /.well-known/ { some_module_of_others on; }",
        "location ~ ferricorn { proxy_pass http://app; } location /.well-known/ { root /a; }",
        "location ~ x { proxy_pass http://other:9000; } location /.well-known/ { root /a; }",
        "location /.well-known/ { root /a; } rewrite ^/x /y;",
        "location /.well-known/ { root /a; } if ($x) { rewrite ^ /api; }",
        "location / { root /a; } if ($scheme = http) { return 301 https://$host$request_uri; }",
        "location { root /a; } return 301 https://b.example;",
    ];
    for places in table {
        assert_eq!(brief(&format!("{places} {API}")), None, "{places}");
    }
    // Nor of a server by which no request becomes a job, for sure.
    let table = [
        "location /.well-known/ { root /a; }",
        "location /other { proxy_pass http://app; }",
        "location /api { proxy_pass http://other; }",
        "location /api { proxy_pass http://app/; }",
        "location /api { proxy_pass app; }",
        "location /api { proxy_pass http://app; return 403; }",
        "location ~ ^/api { proxy_pass http://app; }",
        "location",
    ];
    for places in table {
        assert_eq!(brief(&format!("{places};")), None, "{places}");
    }
}

#[test]
fn routes_are_looked_for_where_they_may_come() {
    let places = "server { location / { root /a; } location /app/ { proxy_pass http://app; } \
                  location = /one { proxy_pass http://app; } }";
    let table: [(&[&str], usize); 9] = [
        (&["POST /app/reports"], 1),
        (&["/app/*/pdf"], 1),
        (&["/one*"], 1),
        (&["*"], 1),
        (&["POST /*"], 1),
        (&["POST /other/*", "PUT /app/x"], 1),
        (&["POST /other/*"], 0),
        (&["", " ", "POST /app/%2e", "POST /app//x", "POST /app/../x"], 0),
        (&[], 0),
    ];
    for (routes, count) in table {
        assert_eq!(found(places, routes).len(), count, "{routes:?}");
    }
    // Each server is another; one that leads all of it here says nothing of others.
    let several = format!("{places} server {{ location / {{ proxy_pass http://app; }} }} {places}");
    assert_eq!(found(&several, &["*"]).len(), 2);
    assert_eq!(found(&places.repeat(50), &["*"]).len(), SERVERS_MAX);
    // Files of servers alone are read as well.
    let tree =
        from_dump(&format!("# configuration file /n:\n{}", places.replace("app;", "x:80;"))).expect("read");
    for (below, count) in [("/jobs", 1), ("", 0), ("jobs", 0), ("/a%20b", 0), ("/a//b", 0), ("/a/../b", 0)] {
        assert_eq!(detours(&tree, &["0.0.0.0:80".to_owned()], &["*"], below).len(), count, "{below}");
    }
}
