//! Command lines and what they say. Not here: the comparison with Gunicorn itself, which tests/settings makes.

use super::*;
use crate::words::split_words;

fn parse(line: &str) -> Result<ParsedArgs, UsageError> {
    parse_args(&split_words(line).expect(line), Source::CommandLine)
}

#[test]
fn command_lines_say_what_argparse_reads_in_them() {
    let table = [
        ("-w 3", "workers", "3"),
        ("-w3", "workers", "3"),
        ("-w=3", "workers", "3"),
        ("--workers 3", "workers", "3"),
        ("--workers=3", "workers", "3"),
        ("--workers ' 3 '", "workers", "3"),
        ("--workers -3", "workers", "-3"),
        ("--workers 1_0", "workers", "10"),
        ("--workers 2 -w 5", "workers", "5"),
        ("--workers=", "workers", "error: argument -w/--workers: invalid int value: ''"),
        ("-w", "workers", "error: argument -w/--workers: expected one argument"),
        ("-w abc", "workers", "error: argument -w/--workers: invalid int value: 'abc'"),
        ("-wx", "workers", "error: argument -w/--workers: invalid int value: 'x'"),
        ("-w 0x10", "workers", "error: argument -w/--workers: invalid int value: '0x10'"),
        ("--workers=2=3", "workers", "error: argument -w/--workers: invalid int value: '2=3'"),
        ("-m 022", "umask", "18"),
        ("-m 0x12", "umask", "18"),
        ("-m x", "umask", "error: argument -m/--umask: invalid auto_int value: 'x'"),
        ("--control-socket-mode 0660", "control_socket_mode", "432"),
        ("--cert-reqs 0x1", "cert_reqs", "0x1"),
        ("--ssl-version TLSv1", "ssl_version", "TLSv1"),
        // Shortened flags.
        ("--thr 4", "threads", "4"),
        ("--thr=4", "threads", "4"),
        ("--limit-request-field_s 5", "limit_request_field_size", "5"),
        ("--limit-request-fields 5", "limit_request_fields", "5"),
        ("--paste x", "paste", "x"),
        ("--time 5", "timeout", "5"),
        ("--workerz 3", "workers", "error: unrecognized arguments: --workerz (did you mean --workers?)"),
        (
            "--worker 3",
            "workers",
            "error: ambiguous option: --worker could match --workers, --worker-class, --worker-connections, --worker-tmp-dir",
        ),
        ("--log-config=x", "logconfig", "x"),
        (
            "--log-conf=x",
            "logconfig",
            "error: ambiguous option: --log-conf=x could match --log-config, --log-config-json",
        ),
        // Flags without a value.
        ("-D", "daemon", "True"),
        ("--preload", "preload_app", "True"),
        ("--no-sendfile", "sendfile", "False"),
        ("--no-send", "sendfile", "False"),
        ("-Dw3", "workers", "3"),
        ("-Dw 3", "workers", "3"),
        ("-DR", "enable_stdio_inheritance", "True"),
        ("-Dx", "daemon", "error: argument -D/--daemon: ignored explicit argument 'x'"),
        ("--check-config=1", "check_config", "error: argument --check-config: ignored explicit argument '1'"),
        // Values that look like flags.
        ("--bind -x", "bind", "error: argument -b/--bind: expected one argument"),
        ("--bind=-x", "bind", "['-x']"),
        ("--bind -- x", "bind", "error: argument -b/--bind: expected one argument"),
        ("--error-logfile -", "errorlog", "-"),
        ("--log-file x", "errorlog", "x"),
        ("-e '-a b'", "raw_env", "['-a b']"),
        // Flags that may be repeated.
        ("-b :1 -b:2 --bind=:3", "bind", "[':1', ':2', ':3']"),
        ("-eA=1 -e=B=2 --env C=3", "raw_env", "['A=1', 'B=2', 'C=3']"),
        // A value that may be left out.
        ("--proxy-protocol", "proxy_protocol", "auto"),
        ("--proxy-protocol -D", "proxy_protocol", "auto"),
        ("--proxy-protocol=v2", "proxy_protocol", "v2"),
        ("--proxy-protocol v1", "proxy_protocol", "v1"),
        // The application.
        ("app:x", "default_proc_name", "app:x"),
        ("-w 3 app:x other", "default_proc_name", "app:x"),
        ("app:x -w 3", "workers", "3"),
        ("-D -- -app", "default_proc_name", "-app"),
        ("app:x -w 3 other", "workers", "error: unrecognized arguments: other"),
        ("--bogus", "workers", "error: unrecognized arguments: --bogus"),
        ("--bogus 3 -q", "workers", "error: unrecognized arguments: --bogus -q"),
        (
            "--graceful_timeout 5",
            "workers",
            "error: unrecognized arguments: --graceful_timeout (did you mean --graceful-timeout?)",
        ),
        (
            "--keepalive 5",
            "keepalive",
            "error: unrecognized arguments: --keepalive (did you mean --keep-alive?)",
        ),
        // Ours.
        ("--header-timeout 5", "header_timeout", "5"),
        ("--body-limit=1000", "body_limit", "1000"),
    ];
    for (line, name, wanted) in table {
        let got = match parse(line) {
            Ok(parsed) => parsed.said.value(name).shown(),
            Err(error) => format!("error: {}", error.message),
        };
        assert_eq!(got, wanted, "{line}");
    }
}

#[test]
fn the_first_word_names_the_application() {
    let table = [
        ("", None),
        ("-w 3", None),
        ("-w 3 app:x", Some("app:x")),
        ("app:x other -w 3", Some("app:x")),
        ("--proxy-protocol app:x", None),
        ("-- app:x", Some("app:x")),
        ("app:make(1) -D", Some("app:make(1)")),
    ];
    for (line, app) in table {
        assert_eq!(parse(line).expect(line).app.as_deref(), app, "{line}");
    }
    let variable = parse_args(&["app:x".to_owned()], Source::CmdArgs).expect("sound");
    assert_eq!(variable, ParsedArgs::default(), "the variable names no application");
}

#[test]
fn help_and_version_end_the_reading() {
    let table = [
        ("-h", Ok(Wanted::Help)),
        ("--help --bogus", Ok(Wanted::Help)),
        ("-v", Ok(Wanted::Version)),
        ("--vers", Ok(Wanted::Version)),
        ("-w 3 -Dv", Ok(Wanted::Version)),
        ("-w x -h", Err("argument -w/--workers: invalid int value: 'x'")),
        (
            "-h --worker 3",
            Err(
                "ambiguous option: --worker could match --workers, --worker-class, --worker-connections, --worker-tmp-dir",
            ),
        ),
    ];
    for (line, wanted) in table {
        let got = parse(line).map(|parsed| parsed.wanted.expect(line)).map_err(|error| error.message);
        assert_eq!(got, wanted.map_err(str::to_owned), "{line}");
    }
}

#[test]
fn an_error_shows_the_usage() {
    let error = parse("--bogus").expect_err("no such flag");
    let text = "usage: ferricorn [OPTIONS] [APP_MODULE]\nferricorn: error: unrecognized arguments: --bogus";
    assert_eq!(error.to_string(), text);
}
