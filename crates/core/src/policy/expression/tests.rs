//! What conditions come to.

use super::*;
use crate::diagnosis::Cause;
use proptest::prelude::*;

fn holds(text: &str) -> Option<bool> {
    let facts = Facts {
        cause: Cause::DbLock,
        also: vec![Cause::SyncForIo],
        confidence: 0.9,
        age_s: Some(31.0),
        deadline_s: Some(30.0),
        queued: 3,
        route: "GET /orders/{id}".into(),
        worker_memory: Some(100_000_000),
        ..Facts::default()
    };
    Condition::parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}")).holds(&facts)
}

#[test]
fn conditions_hold_or_do_not_or_are_not_known() {
    let table = [
        ("true", Some(true)),
        ("cause == \"db.lock\"", Some(true)),
        ("cause != 'db.lock'", Some(false)),
        ("cause ~ \"db.*\"", Some(true)),
        ("cause ~ \"pool.*|*.lock\"", Some(true)),
        ("route ~ \"GET /orders*\"", Some(true)),
        ("route ~ \"*/users/*\"", Some(false)),
        ("cause in [\"db.lock\", \"db.slow_query\"]", Some(true)),
        ("queued in [1, 2]", Some(false)),
        ("age >= deadline", Some(true)),
        ("age > 1m", Some(false)),
        ("age > 0.5min + 500ms", Some(true)),
        ("confidence >= 90%", Some(true)),
        ("worker_memory < 200MB && worker_memory == 100 * 1MB", Some(true)),
        ("tag(\"worker_class.sync_for_io\") && tag(\"db.lock\")", Some(true)),
        ("!(queued > 5) && !stock", Some(true)),
        ("queued > 1 || queued > 5 && false", Some(true)),
        ("(queued > 1 || queued > 5) && false", Some(false)),
        ("queued - 3 == -0", Some(true)),
        // Not known.
        ("host_cpu < 60%", None),
        ("!(host_cpu < 60%)", None),
        ("host_cpu < 60% || true", Some(true)),
        ("host_cpu < 60% && false", Some(false)),
        ("known(host_cpu)", Some(false)),
        ("known(age)", Some(true)),
        ("because == \"db.lock\"", None),
    ];
    for (text, expected) in table {
        assert_eq!(holds(text), expected, "{text}");
    }
}

#[test]
fn patterns_fit_whole_texts() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("db.*", "db.", true),
        ("db.*", "odb.lock", false),
        ("a*b*c", "aXbYc", true),
        ("a*b*c", "acb", false),
        ("ab*ab", "ab", false),
        ("ab", "ab", true),
        ("ab", "abc", false),
    ] {
        assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn limits_of_a_condition() {
    let deep = |count: usize| format!("{}true{}", "(".repeat(count), ")".repeat(count));
    assert!(Condition::parse(&deep(30)).is_ok());
    assert!(Condition::parse(&deep(40)).expect_err("too deep").text.contains("brackets"));
    assert!(Condition::parse(&" ".repeat(5000)).expect_err("too long").text.contains("4096"));
    let items = vec!["1"; 65].join(",");
    assert!(Condition::parse(&format!("queued in [{items}]")).expect_err("too many").text.contains("64"));
}

#[test]
fn every_name_is_in_the_documentation() {
    let page = include_str!("../../../../../docs/policy.md");
    for name in names() {
        assert!(
            page.contains(&format!("`{}`", name.name)),
            "docs/policy.md does not tell of {}: {}",
            name.name,
            name.means
        );
    }
    for kind in crate::policy::Kind::ALL {
        assert!(page.contains(&format!("`{kind}`")), "docs/policy.md does not tell of {kind}");
    }
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,60}") {
        let _ = Condition::parse(&text);
    }

    #[test]
    fn nor_any_order_of_words(words in prop::collection::vec(
        prop::sample::select(vec!["age", "cause", "&&", "||", "!", "(", ")", "[", "]", ",", "==", "~", "in", "5s", "\"db.*\"", "-", "*", "tag", "known", "true", "'"]), 0..24)) {
        let text = words.join(" ");
        if let Ok(condition) = Condition::parse(&text) {
            let _ = condition.holds(&Facts::default());
            prop_assert!(!condition.parts(&Facts::default()).is_empty());
        }
    }
}
