//! The language of conditions: comparisons of what is known, `&&`, `||`, `!`, lists, globs. Nothing in it loops, and what it says is
//! checked when it is read. Not for: what is known ([`super::Facts`]).
//!
//! What asks for something that is not known comes to nothing: `age > 5s && queued > 0` does not hold without an age, nor does
//! its opposite.

mod check;
mod lexer;
mod names;
mod parser;

#[cfg(test)]
mod tests;

pub use names::{Name, names};

use super::Facts;
use crate::diagnosis::Cause;

/// What a condition, or a part of one, comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Holds or does not.
    Truth(bool),
    /// A number; seconds, bytes, a share.
    Number(f64),
    /// A text.
    Text(String),
}

/// Of what type something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Holds or does not.
    Truth,
    /// A number.
    Number,
    /// A text.
    Text,
}

impl Type {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truth => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
        }
    }
}

/// A mistake in a condition: where, in bytes, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub at: usize,
    pub text: String,
}

/// A condition that has been read and is without mistakes.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    node: Node,
}

#[derive(Clone, Debug)]
struct Node {
    /// Where it stands in the text.
    from: usize,
    to: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Value(Value),
    Name(&'static Name),
    Tag(Cause),
    Known(&'static Name),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Compare(Compare, Box<Node>, Box<Node>),
    Glob(Box<Node>, Vec<String>),
    In(Box<Node>, Vec<Value>),
    Sum(Sum, Box<Node>, Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Is,
    IsNot,
    Less,
    LessOrIs,
    More,
    MoreOrIs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    Plus,
    Minus,
    Times,
}

impl Condition {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let node = parser::parse(text)?;
        check::truth(&node)?;
        Ok(Self { text: text.to_owned(), node })
    }

    /// Returns it as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Tells whether it holds; none if what it asks for is not known.
    pub(super) fn holds(&self, facts: &Facts) -> Option<bool> {
        truth(&self.node, facts)
    }

    /// Returns its parts that stand between `&&`, each with what it comes to.
    pub(super) fn parts(&self, facts: &Facts) -> Vec<(String, Option<bool>)> {
        let mut parts = Vec::new();
        let mut open = vec![&self.node];
        while let Some(node) = open.pop() {
            match &node.what {
                What::And(left, right) => open.extend([&**right, &**left]),
                _ => {
                    let text = self.text.get(node.from..node.to).unwrap_or_default().trim().to_owned();
                    parts.push((text, truth(node, facts)));
                }
            }
        }
        parts
    }
}

fn truth(node: &Node, facts: &Facts) -> Option<bool> {
    if let Some(Value::Truth(truth)) = value(node, facts) { Some(truth) } else { None }
}

fn value(node: &Node, facts: &Facts) -> Option<Value> {
    let held = |truth: bool| Some(Value::Truth(truth));
    match &node.what {
        What::Value(value) => Some(value.clone()),
        What::Name(name) => (name.get)(facts),
        What::Known(name) => held((name.get)(facts).is_some()),
        What::Tag(cause) => held(facts.also.contains(cause) || facts.cause == *cause),
        What::Not(inner) => held(!truth(inner, facts)?),
        // One that does not hold is enough, whatever the other is.
        What::And(left, right) => match (truth(left, facts), truth(right, facts)) {
            (Some(false), _) | (_, Some(false)) => held(false),
            (Some(true), Some(true)) => held(true),
            _ => None,
        },
        What::Or(left, right) => match (truth(left, facts), truth(right, facts)) {
            (Some(true), _) | (_, Some(true)) => held(true),
            (Some(false), Some(false)) => held(false),
            _ => None,
        },
        What::Compare(how, left, right) => held(compare(*how, &value(left, facts)?, &value(right, facts)?)?),
        What::Glob(left, patterns) => match value(left, facts)? {
            Value::Text(text) => held(patterns.iter().any(|pattern| fits(pattern, &text))),
            _ => None,
        },
        What::In(left, list) => held(list.contains(&value(left, facts)?)),
        What::Sum(how, left, right) => match (value(left, facts)?, value(right, facts)?) {
            (Value::Number(left), Value::Number(right)) => Some(Value::Number(match how {
                Sum::Plus => left + right,
                Sum::Minus => left - right,
                Sum::Times => left * right,
            })),
            _ => None,
        },
    }
}

fn compare(how: Compare, left: &Value, right: &Value) -> Option<bool> {
    Some(match (how, left, right) {
        (Compare::Is, left, right) => left == right,
        (Compare::IsNot, left, right) => left != right,
        (Compare::Less, Value::Number(left), Value::Number(right)) => left < right,
        (Compare::LessOrIs, Value::Number(left), Value::Number(right)) => left <= right,
        (Compare::More, Value::Number(left), Value::Number(right)) => left > right,
        (Compare::MoreOrIs, Value::Number(left), Value::Number(right)) => left >= right,
        _ => return None,
    })
}

/// Tells whether a text fits a pattern, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}
