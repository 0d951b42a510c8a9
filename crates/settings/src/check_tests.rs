//! Values and what they become, per kind. What is not here: reading them from a command line.

use super::*;

fn texts(texts: &[&str]) -> Value {
    Value::List(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn object(text: &str) -> Value {
    Value::Object(text.to_owned())
}

#[test]
fn values_are_brought_into_shape() {
    let int = Value::Int;
    let table = [
        ("workers", Value::from("0x10"), int(16)),
        ("workers", Value::from("0o17"), int(15)),
        ("workers", Value::Bool(true), int(1)),
        ("timeout", int(0), int(0)),
        ("umask", Value::from("0o22"), int(18)),
        ("http2_max_frame_size", int(16384), int(16384)),
        ("daemon", Value::from(" True "), Value::Bool(true)),
        ("daemon", Value::None, Value::None),
        ("pidfile", Value::from(" /run/x.pid "), Value::from("/run/x.pid")),
        ("accesslog", Value::None, Value::None),
        ("bind", Value::from(" :80 "), texts(&[":80"])),
        ("bind", texts(&[" :80", ":81"]), texts(&[":80", ":81"])),
        ("bind", Value::None, texts(&[])),
        ("raw_env", Value::from(""), texts(&[])),
        ("forwarded_allow_ips", Value::from("10.0.0.0/8, ::1,*"), texts(&["10.0.0.0/8", "::1", "*"])),
        ("forwarded_allow_ips", texts(&["10.0.0.0/8"]), texts(&["10.0.0.0/8"])),
        ("forwarded_allow_ips", Value::from(""), texts(&[])),
        ("forwarder_headers", Value::from("A, B"), texts(&["A", "B"])),
        ("header_map", Value::from(" DROP"), Value::from("drop")),
        ("header_map", Value::None, Value::from("drop")),
        ("proxy_protocol", Value::Bool(true), Value::from("auto")),
        ("proxy_protocol", Value::from("none"), Value::from("off")),
        ("proxy_protocol", Value::from("V2"), Value::from("v2")),
        ("http2_cleartext", Value::Bool(true), Value::from("prior-knowledge")),
        ("http_protocols", Value::from("H2, h1"), texts(&["h2", "h1"])),
        ("http_protocols", Value::from(" "), texts(&["h1"])),
        ("worker_class", Value::from("gthread"), Value::from("gthread")),
        ("worker_class", object("MyWorker"), object("MyWorker")),
        ("user", Value::from("www-data"), Value::from("www-data")),
        ("user", Value::from("33"), int(33)),
        ("statsd_host", Value::from("localhost"), Value::from("localhost")),
        ("logconfig_dict", object("{'version': 1}"), object("{'version': 1}")),
        ("on_exit", object("on_exit"), object("on_exit")),
        ("on_exit", Value::from("pkg.mod.fn"), Value::from("pkg.mod.fn")),
        ("outbound_timeout", Value::from(" Auto"), Value::from("auto")),
        ("outbound_timeout", Value::None, Value::from("off")),
        ("outbound_timeout", Value::Bool(false), Value::from("off")),
        ("outbound_timeout", Value::from("0.0"), Value::from("off")),
        ("outbound_timeout", int(5), Value::from("5")),
        ("db_statement_timeout", object("2.5"), Value::from("2.5")),
        ("ssl_version", Value::from("TLSv1"), Value::from("TLSv1")),
    ];
    for (name, value, wanted) in table {
        let in_shape = check(name, value.clone()).expect(name);
        assert_eq!(in_shape, wanted, "{name} = {value:?}");
        assert_eq!(check(name, in_shape), Ok(wanted), "{name}: a value in shape stays");
    }
}

#[test]
fn bad_values_are_named_with_the_reason() {
    let table = [
        ("timeout", Value::from("abc"), "invalid literal for int() with base 0: 'abc'"),
        ("timeout", Value::Int(-1), "Value must be positive: -1"),
        ("timeout", object("30.5"), "not a whole number: 30.5"),
        ("timeout", Value::None, "not a whole number: None"),
        ("http2_max_concurrent_streams", Value::Int(0), "Value must be at least 1: 0"),
        ("http2_max_frame_size", Value::Int(1), "Value must be at least 16384: 1"),
        ("http2_initial_window_size", Value::Int(1 << 31), "Value must be at most 2147483647: 2147483648"),
        ("daemon", Value::from("yes"), "Invalid boolean: yes"),
        ("daemon", Value::Int(1), "Invalid type for casting: 1"),
        ("pidfile", Value::Int(5), "Not a string: 5"),
        ("bind", Value::Int(8000), "Not a list of strings: 8000"),
        ("forwarded_allow_ips", Value::from("10.0.0.1/8"), "10.0.0.1/8 has host bits set"),
        ("header_map", Value::from("x"), "Invalid header_map: 'x' (must be one of: drop, refuse, dangerous)"),
        ("http_protocols", Value::from("h3"), "Invalid protocol 'h3'. Valid protocols: h1, h2"),
        ("http_protocols", Value::from("h1,h1"), "Duplicate protocols specified"),
        ("secure_scheme_headers", Value::from("x"), "Value is not a dictionary: x"),
        ("secure_scheme_headers", object("f"), "Value is not a dictionary: f"),
        ("on_exit", Value::Int(3), "Value is not callable: 3"),
        (
            "on_exit",
            Value::from("f"),
            "Value 'f' is not import string. Format: module[.submodules...].object",
        ),
        ("statsd_host", Value::from("h:x"), "Value must be one of ('host:port', 'unix://PATH')"),
        ("outbound_timeout", Value::Bool(true), "Not `auto`, `off` or a number of seconds: True"),
        ("outbound_timeout", Value::from("soon"), "Not `auto`, `off` or a number of seconds: soon"),
        ("outbound_timeout", Value::Int(-1), "Not `auto`, `off` or a number of seconds: -1"),
        ("user", texts(&[]), "Not a name or number: []"),
        ("wrokers", Value::Int(2), "unknown setting 'wrokers': did you mean 'workers'?"),
        ("zzz", Value::Int(2), "unknown setting 'zzz'"),
    ];
    for (name, value, reason) in table {
        let error = check(name, value.clone()).expect_err(name);
        assert_eq!(error.reason, reason, "{name} = {value:?}");
        let headline = format!("Invalid value for {name}: {}\n", value.shown());
        assert!(error.message().starts_with(&headline), "{}", error.message());
    }
}

#[test]
fn a_bad_value_that_may_hold_a_password_is_not_repeated() {
    let error =
        check("reflex_database", Value::Object("[b'mysql://u:geheim@db']".into())).expect_err("no texts");
    assert_eq!((error.value.as_str(), error.reason.as_str()), ("***", "Not a list of strings"));
}
