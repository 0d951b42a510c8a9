//! What is left of a statement without its values.

use super::*;
use proptest::prelude::*;

fn check(dialect: Dialect, table: &[(&str, &str)]) {
    for (text, expected) in table {
        let line = normalized_as(text, dialect);
        assert_eq!(&line, expected, "{text}");
        assert_eq!(normalized_as(&line, dialect), line, "again: {text}");
    }
}

#[test]
fn values_become_parameters() {
    check(
        Dialect::Postgres,
        &[
            ("", ""),
            (" \n\t", ""),
            ("select * from t where id = 42", "select * from t where id = $1"),
            ("SELECT 'it''s', x", "SELECT $1, x"),
            ("select 1.5e-3 + .5 - 0xFF * 1_000", "select $1 + $2 - $3 * $4"),
            ("a = -5 and b = a -5", "a = -$1 and b = a -$2"),
            ("select t1.c2, utf8, a$1 from t_3x", "select t1.c2, utf8, a$1 from t_3x"),
            ("where a = $2 and b = 'x' and c = $1", "where a = $2 and b = $3 and c = $1"),
            (r"where a = E'it\'s \\' and b = 1", "where a = $1 and b = $2"),
            (r#"U&'d\0061t' || U&"d\0061t" || B'01' || x'ff'"#, r#"$1 || U&"d\0061t" || $2 || $3"#),
            ("select $$it's 5$$, $f$ $$ 7 $f$", "select $1, ..."),
            ("select $a$b$ab$", "select $1"),
            (r#"select "user 5", "a""b" from "T""#, r#"select "user 5", "a""b" from "T""#),
            ("select date'2026-01-01', interval '1 day'", "select date $1, interval $2"),
            ("set x = 'a'and y=1or z", "set x = $1 and y=$2 z"),
            ("select '{\"a\": 1}'::jsonb #>> '{a}'", "select $1::jsonb #>> $2"),
            ("select $99999999, $ab, 5 $", "select $1, $ab, $2 $"),
            ("null is true", "null is true"),
            ("größe = 'ä' and Ω1 = 5", "größe = $1 and Ω1 = $2"),
        ],
    );
}

#[test]
fn comments_and_lines_go() {
    check(
        Dialect::Postgres,
        &[
            ("select 1 -- the 5 'th\n  from t", "select $1 from t"),
            ("/* a /* nested 'x */ 5 */select/**/a", "select a"),
            ("select a /*route='/users/5',traceparent='00-ab'*/", "select a"),
            ("select a /* no end 5", "select a"),
            ("select a --", "select a"),
            ("a -\u{0}- b", "a - - b"),
        ],
    );
}

#[test]
fn lists_of_values_are_shortened() {
    check(
        Dialect::Postgres,
        &[
            ("where id in (1, 2, 3)", "where id in ($1, ...)"),
            ("where id in (-1,'2'::int , 3)", "where id in (-$1, ...)"),
            ("where id in (1, $1, 3, 4)", "where id in ($2, $1, $3, ...)"),
            ("values (1, 'a'), (2, 'b'), (3, 'c')", "values ($1, ...), ..."),
            ("values (1), (2)", "values ($1), ..."),
            ("values (1, null), (2, null)", "values ($1, null), ($2, null)"),
            ("limit 10, 20 offset 5", "limit $1, ... offset $2"),
        ],
    );
}

#[test]
fn what_cannot_be_read_for_sure_is_left_out() {
    check(
        Dialect::Postgres,
        &[
            ("where a = 'cut o", "where a = $1"),
            (r"where a = 'it\'s 5' or b = 'secret'", "where a = ..."),
            ("where \"cut o", "where ..."),
            ("select $x$ cut", "select $1"),
            (r"where a = E'\", "where a = $1"),
        ],
    );
}

#[test]
fn mysql_has_its_own_quotes() {
    check(
        Dialect::Mysql,
        &[
            (r#"select "secret", `name 5`, 'it\'s' # 5"#, "select ?, `name 5`, ?"),
            ("select 5--3, _utf8'x', @a, 0x1f, $$ -- 9", "select ?--?, _utf8 ?, @a, ?, $$"),
            ("insert into t values (1, \"a\"), (2, 'b')", "insert into t values (?, ...), ..."),
            ("/*!40001 SQL_NO_CACHE */ select /* /* */ a", "select a"),
            ("where a = ? and b = -5", "where a = ? and b = -?"),
        ],
    );
}

#[test]
fn the_verb_is_the_first_word() {
    let table =
        [("select 1", "SELECT"), (" /* x */ (with a as (select 1) table a)", "WITH"), ("'x'", ""), ("", "")];
    for (text, verb) in table {
        assert_eq!(super::verb(text), verb, "{text}");
    }
}

#[test]
fn texts_have_a_limit() {
    let fits = "a".repeat(TEXT_MAX);
    assert_eq!(normalized(&fits), fits);
    let long = normalized(&"ä".repeat(TEXT_MAX));
    assert!(long.len() <= TEXT_MAX && long.len() > TEXT_MAX - 5 && long.ends_with("ä..."));
    // Where the text is cut, what is left is still safe.
    let huge = format!("select a where b = '{}' and c", "9".repeat(SCANNED_MAX));
    assert_eq!(normalized(&huge), "select a where b = $1");
}

/// Pieces of statements; those with a value say so.
fn piece() -> impl Strategy<Value = (String, bool)> {
    let word = prop::sample::select(vec![
        "select",
        "t1",
        "\"a 'b' 7\"",
        "from",
        "(",
        ")",
        ",",
        "=",
        "||",
        "::text",
        "$1",
        "and",
        "-",
        "*",
        ".",
        ";",
    ]);
    let secret = "[a-z0-9äß%(){};,.*+-]{0,8}";
    prop_oneof![
        word.prop_map(|word| (word.to_owned(), false)),
        secret.prop_map(|inner| (format!("'zq{inner}''zq'"), true)),
        secret.prop_map(|inner| (format!(r"E'zq{inner}\'zq\\'"), true)),
        secret.prop_map(|inner| (format!("$tag$zq'{inner}$$zq$tag$"), true)),
        secret.prop_map(|inner| (format!("/* zq {inner} /* ' */ zq */"), false)),
        secret.prop_map(|inner| (format!("-- zq{inner}'\n"), false)),
        (0u64..u64::MAX).prop_map(|number| (number.to_string(), true)),
        (0f64..1e9).prop_map(|number| (format!("{number:e}"), true)),
    ]
}

/// What is no name and no parameter of a line.
fn bare(line: &str) -> String {
    let mut scanner = Scanner { text: line, at: 0, dialect: Dialect::Postgres };
    let tokens = std::iter::from_fn(|| scanner.next());
    let bare = tokens.filter(|token| !matches!(token.kind, Kind::Word | Kind::Parameter(_)));
    bare.map(|token| token.text).collect()
}

proptest! {
    #[test]
    fn no_value_survives(pieces in prop::collection::vec(piece(), 0..20)) {
        let text: Vec<&str> = pieces.iter().map(|(text, _)| text.as_str()).collect();
        let line = normalized(&text.join(" "));
        prop_assert!(!line.contains("zq"), "{line}");
        // Names, and the parameters that took the place of values.
        let rest = bare(&line.replace("\"a 'b' 7\"", "name").replace("t1", "name"));
        prop_assert!(!rest.contains(|c: char| c.is_ascii_digit() || "'$\"".contains(c)), "{line}");
        if !pieces.iter().any(|(_, is_value)| *is_value) {
            prop_assert_eq!(line.replace("$1", "").contains('$'), false);
        }
    }

    #[test]
    fn any_text_becomes_one_short_line_that_stays(text in "\\PC{0,60}|[ -~\n]{0,60}|['\"$\\\\a1 .\n/*-]{0,40}") {
        for dialect in [Dialect::Postgres, Dialect::Mysql] {
            let line = normalized_as(&text, dialect);
            prop_assert!(line.len() <= TEXT_MAX && !line.contains('\n') && line.trim_matches(' ') == line);
            prop_assert_eq!(&normalized_as(&line, dialect), &line);
        }
        let rest = bare(&normalized(&text));
        prop_assert!(!rest.contains(|c: char| c.is_ascii_digit() || c == '\''), "{}", normalized(&text));
    }
}

#[test]
fn what_any_database_takes_for_a_value_is_left_out() {
    let table = [
        ("select * from t where name = \"bob\"", "select * from t where name = ?"),
        ("select `a` from t where b in (\"x\", \"y\")", "select `a` from t where b in (?, ...)"),
        (
            "SELECT \"t\".\"id\", \"n\" FROM \"t\" JOIN \"u\" ON (\"t\".\"id\" = \"u\".\"t_id\") WHERE \"t\".\"n\" = %s",
            "SELECT \"t\".\"id\", \"n\" FROM \"t\" JOIN \"u\" ON (\"t\".\"id\" = \"u\".\"t_id\") WHERE \"t\".\"n\" = %s",
        ),
        ("select 'it\\'s a secret', 2", "select $1"),
        ("insert into t values (\"a\")", "insert into t values (?)"),
    ];
    for (text, shown) in table {
        assert_eq!(normalized_of_any(text), shown, "{text}");
    }
}
