//! Whether a condition says something that can hold: the types of what it compares. Not for: reading it (`parser`).

use super::{Compare, Node, Type, Value, What, Wrong};
use crate::diagnosis::Cause;

/// Makes sure that a condition comes to true or false.
pub(super) fn truth(node: &Node) -> Result<(), Wrong> {
    expect(node, Type::Truth)
}

fn expect(node: &Node, wanted: Type) -> Result<(), Wrong> {
    let found = check(node)?;
    if found == wanted {
        return Ok(());
    }
    let text = format!("this is {}, and {} is wanted here", found.name(), wanted.name());
    Err(Wrong { at: node.from, text })
}

fn check(node: &Node) -> Result<Type, Wrong> {
    match &node.what {
        What::Value(value) => return Ok(of_value(value)),
        What::Name(name) => return Ok(name.of),
        What::Tag(_) | What::Known(_) => {}
        What::Not(inner) => expect(inner, Type::Truth)?,
        What::And(left, right) | What::Or(left, right) => {
            expect(left, Type::Truth)?;
            expect(right, Type::Truth)?;
        }
        What::Compare(Compare::Is | Compare::IsNot, left, right) => {
            expect(right, check(left)?)?;
            known_cause(left, right)?;
        }
        What::Compare(_, left, right) => {
            expect(left, Type::Number)?;
            expect(right, Type::Number)?;
        }
        What::Sum(_, left, right) => {
            expect(left, Type::Number)?;
            expect(right, Type::Number)?;
            return Ok(Type::Number);
        }
        What::Glob(left, patterns) => {
            expect(left, Type::Text)?;
            for pattern in patterns {
                is_about_causes(left).then(|| some_cause(pattern, node.from)).transpose()?;
            }
        }
        What::In(left, list) => {
            let wanted = check(left)?;
            for value in list {
                if of_value(value) != wanted {
                    let text =
                        format!("the list has {}, and {} is wanted", of_value(value).name(), wanted.name());
                    return Err(Wrong { at: node.from, text });
                }
                if let (true, Value::Text(code)) = (is_about_causes(left), value) {
                    some_cause(code, node.from)?;
                }
            }
        }
    }
    Ok(Type::Truth)
}

fn of_value(value: &Value) -> Type {
    match value {
        Value::Truth(_) => Type::Truth,
        Value::Number(_) => Type::Number,
        Value::Text(_) => Type::Text,
    }
}

fn is_about_causes(node: &Node) -> bool {
    matches!(node.what, What::Name(name) if matches!(name.name, "cause" | "because"))
}

fn known_cause(left: &Node, right: &Node) -> Result<(), Wrong> {
    match (&left.what, &right.what) {
        (What::Name(_), What::Value(Value::Text(code))) if is_about_causes(left) => {
            some_cause(code, right.from)
        }
        _ => Ok(()),
    }
}

/// A pattern that no cause fits is a typo.
fn some_cause(pattern: &str, at: usize) -> Result<(), Wrong> {
    if Cause::ALL.iter().any(|cause| super::fits(pattern, cause.code())) || pattern == Cause::Unknown.code() {
        return Ok(());
    }
    let near = super::names::nearest(pattern, Cause::ALL.iter().map(|cause| cause.code()));
    let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    Err(Wrong { at, text: format!("no cause is called `{pattern}`{hint}") })
}
