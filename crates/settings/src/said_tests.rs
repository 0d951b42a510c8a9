//! Who wins, and what the environment says. What is not here: the flags themselves.

use super::*;
use crate::args::parse_args;
use crate::surroundings::environment;
use crate::words::split_words;

/// Surroundings with these variables, in `/srv/app`, as user 1000.
fn with<T>(variables: &[(&str, &str)], test: impl FnOnce(&Surroundings<'_>) -> T) -> T {
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let exists =
        |path: &Path| ["/srv/app", "/srv", "/run/user/1000"].iter().any(|known| path == Path::new(known));
    test(&Surroundings {
        variable: &variable,
        directory: Path::new("/srv/app"),
        exists: &exists,
        user: 1000,
        group: 100,
    })
}

fn file(values: &[(&str, i64)]) -> Said {
    let mut said = Said::default();
    for (name, number) in values {
        said.say(name, Value::Int(*number), Source::File).expect(name);
    }
    said
}

fn line(text: &str, source: Source) -> Said {
    parse_args(&split_words(text).expect(text), source).expect(text).said
}

#[test]
fn the_command_line_wins_over_its_variable_over_the_file() {
    let said = with(&[("WEB_CONCURRENCY", "9")], |surroundings| {
        let layers = [
            line("--workers 4", Source::CommandLine),
            line("--workers 3 --timeout 7", Source::CmdArgs),
            file(&[("workers", 2), ("timeout", 5), ("keepalive", 9)]),
            environment(surroundings).expect("sound variables"),
        ];
        let reversed = merge(layers.iter().rev().cloned(), surroundings).expect("sound values");
        let said = merge(layers, surroundings).expect("sound values");
        assert_eq!(said, reversed, "the order of the layers plays no part");
        said
    });
    let table = [
        ("workers", 4, Source::CommandLine),
        ("timeout", 7, Source::CmdArgs),
        ("keepalive", 9, Source::File),
        ("user", 1000, Source::Default),
        ("threads", 1, Source::Default),
    ];
    for (name, number, source) in table {
        assert_eq!((said.value(name), said.source(name)), (Value::Int(number), source), "{name}");
    }
}

#[test]
fn a_list_replaces_the_list_of_a_lower_source() {
    with(&[("PORT", "5000")], |surroundings| {
        let base = environment(surroundings).expect("sound variables");
        assert_eq!(base.value("bind"), Value::List(vec!["0.0.0.0:5000".to_owned()]));
        let said = merge([base, line("-b :1 -b :2", Source::CommandLine)], surroundings).expect("sound");
        assert_eq!(said.value("bind"), Value::List(vec![":1".to_owned(), ":2".to_owned()]));
    });
}

#[test]
fn the_environment_changes_defaults() {
    let text = |text: &str| Value::from(text);
    let texts = |text: &str| Value::List(text.split_whitespace().map(str::to_owned).collect());
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, Value);
    let table: [Row<'_>; 7] = [
        (&[], "bind", texts("127.0.0.1:8000")),
        (&[("WEB_CONCURRENCY", " 3 ")], "workers", Value::Int(3)),
        (&[("FORWARDED_ALLOW_IPS", "*")], "forwarded_allow_ips", texts("*")),
        (&[], "chdir", text("/srv/app")),
        (&[("HOME", "/home/me")], "control_socket", text("/home/me/.gunicorn/gunicorn.ctl")),
        (&[("XDG_RUNTIME_DIR", "/run/user/1000")], "control_socket", text("/run/user/1000/gunicorn.ctl")),
        (&[("XDG_RUNTIME_DIR", "/gone"), ("HOME", "/")], "control_socket", text("/.gunicorn/gunicorn.ctl")),
    ];
    for (variables, name, value) in table {
        let said = with(variables, |surroundings| {
            merge([environment(surroundings).expect("sound variables")], surroundings).expect("sound values")
        });
        assert_eq!(said.value(name), value, "{variables:?}");
    }
}

#[test]
fn bad_values_are_errors_even_if_overruled() {
    let table = [
        ("WEB_CONCURRENCY", "many", "WEB_CONCURRENCY is not a whole number: 'many'"),
        ("WEB_CONCURRENCY", "-1", "Value must be positive: -1"),
        ("FORWARDED_ALLOW_IPS", "proxy", "'proxy' does not appear to be an IPv4 or IPv6 network"),
    ];
    for (name, value, reason) in table {
        let error = with(&[(name, value)], |surroundings| environment(surroundings).expect_err(value));
        assert_eq!((error.reason.as_str(), error.origin), (reason, Some(Source::Environment)));
    }
    let layers = [file(&[("workers", -2)]), line("-w 3", Source::CommandLine)];
    let error = with(&[], |surroundings| merge(layers, surroundings).expect_err("a negative number"));
    assert_eq!(
        error.message(),
        "Invalid value for workers: -2\n\n\nError: Value must be positive: -2 (configuration file)\n"
    );
}

#[test]
fn directories_must_exist_and_become_absolute() {
    let table = [
        ("/srv", Ok("/srv")),
        ("..", Ok("/srv")),
        ("./../app/.", Ok("/srv/app")),
        ("/nope", Err("can't chdir to '/nope'")),
        ("app", Err("can't chdir to 'app'")),
    ];
    for (text, wanted) in table {
        let merged = with(&[], |surroundings| {
            merge([line(&format!("--chdir {text}"), Source::CommandLine)], surroundings)
        });
        let chdir = merged.map(|said| said.value("chdir")).map_err(|error| error.reason);
        assert_eq!(chdir, wanted.map(Value::from).map_err(str::to_owned), "{text}");
    }
    let extra = with(&[], |surroundings| {
        merge([line("--reload-extra-file gone.html", Source::CommandLine)], surroundings)
    });
    assert_eq!(extra.map_err(|error| error.reason), Err("there is no file 'gone.html'".to_owned()));
    let pattern = with(&[], |surroundings| {
        merge([line("--reload-extra-file '*.html'", Source::CommandLine)], surroundings)
    });
    assert!(pattern.is_ok());
}

#[test]
fn unknown_names_are_refused() {
    let error = Said::default().say("wrokers", Value::Int(2), Source::File).expect_err("no such setting");
    assert_eq!(error.reason, "unknown setting 'wrokers': did you mean 'workers'?");
}
