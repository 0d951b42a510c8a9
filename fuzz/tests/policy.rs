//! No text panics the reader of policies; every mistake has a place in it; what is read decides about anything without panic.

use bolero::check;
use ferricorn_core::policy::{Facts, Ledger, Mode, Policy};

/// A policy with a condition, and an action, made of random text.
fn with(condition: &str, action: &str) -> String {
    let quoted = |text: &str| text.replace(['\'', '\n', '\r'], " ");
    format!("[[rule]]\nname = \"a\"\nwhen = '{}'\ndo = ['{}']\n", quoted(condition), quoted(action))
}

fn try_out(text: &str) {
    match Policy::parse(text) {
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let lines = text.matches('\n').count() + 1;
            assert!(mistakes.iter().all(|mistake| (1..=lines).contains(&mistake.line) && mistake.column > 0));
        }
        Ok(policy) => {
            let (facts, ledger) = (Facts::default(), Ledger::default());
            let policy = policy.in_mode(Mode::Act);
            drop(policy.decide(&facts, &ledger, 1e9));
            drop(policy.explain(&facts, &ledger, 1e9));
        }
    }
}

#[test]
fn any_text() {
    check!().with_type::<String>().for_each(|text| try_out(text));
}

#[test]
fn any_condition() {
    check!().with_type::<(String, String)>().for_each(|(condition, action)| {
        try_out(&with(condition, "recycle"));
        try_out(&with("true", action));
    });
}

#[test]
fn any_order_of_words() {
    const WORDS: [&str; 26] = [
        "age", "cause", "route", "orphan", "5s", "60%", "1", "\"db.*\"", "tag(", "known(", ")", "(", "[", "]", ",", "&&", "||", "!",
        "==", "<", "~", "in", "+", "-", "*", "true",
    ];
    check!().with_type::<Vec<u8>>().for_each(|bytes| {
        let words: Vec<&str> = bytes.iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).collect();
        try_out(&with(&words.join(" "), "recycle"));
    });
}
