//! Reads a condition into a tree, by the strength with which its signs bind. Not for: whether the types fit (`check`).

use super::lexer::{Spot, Token, words};
use super::names::{Name, named};
use super::{Compare, Node, Sum, Value, What, Wrong};
use crate::diagnosis::Cause;

/// Most brackets and signs within each other.
const DEPTH_MAX: usize = 32;
/// Most items of a list.
const ITEMS_MAX: usize = 64;

/// How strongly a sign binds what is left and right of it; none for what stands between nothing.
fn strength(token: &Token) -> Option<u8> {
    Some(match token {
        Token::Sign("||") => 1,
        Token::Sign("&&") => 2,
        Token::Sign("==" | "!=" | "<" | "<=" | ">" | ">=" | "~") => 4,
        Token::Word(word) if word == "in" => 4,
        Token::Sign("+" | "-") => 5,
        Token::Sign("*") => 6,
        _ => return None,
    })
}

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Node, Wrong> {
    let mut parser = Parser { spots: words(text)?, at: 0, end: text.len() };
    let node = parser.expression(0, 0)?;
    match parser.spots.get(parser.at) {
        None => Ok(node),
        Some(spot) => Err(Wrong {
            at: spot.from,
            text: "a condition ends before this: `&&` or `||` is missing".to_owned(),
        }),
    }
}

struct Parser {
    spots: Vec<Spot>,
    at: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.spots.get(self.at).map(|spot| &spot.token)
    }

    /// Where the next word begins, and where the last one has ended.
    fn here(&self) -> usize {
        self.spots.get(self.at).map_or(self.end, |spot| spot.from)
    }

    fn before(&self) -> usize {
        self.at.checked_sub(1).and_then(|at| self.spots.get(at)).map_or(0, |spot| spot.to)
    }

    fn take(&mut self, sign: &'static str) -> bool {
        let there = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Wrong> {
        if self.take(sign) { Ok(()) } else { Err(self.wrong(format!("`{sign}` is missing here"))) }
    }

    fn wrong(&self, text: String) -> Wrong {
        Wrong { at: self.here(), text }
    }

    fn expression(&mut self, least: u8, depth: usize) -> Result<Node, Wrong> {
        if depth > DEPTH_MAX {
            return Err(self.wrong(format!("more than {DEPTH_MAX} brackets within each other")));
        }
        let from = self.here();
        let mut left = self.first(depth)?;
        while let Some(token) = self.peek().cloned()
            && let Some(binds) = strength(&token)
            && binds > least
        {
            self.at += 1;
            let what = match &token {
                Token::Word(_) => What::In(Box::new(left), self.list()?),
                Token::Sign("~") => What::Glob(Box::new(left), self.patterns()?),
                Token::Sign(sign) => {
                    let right = Box::new(self.expression(binds, depth + 1)?);
                    of_sign(sign, Box::new(left), right)
                }
                _ => return Err(self.wrong("this is no sign".to_owned())),
            };
            left = Node { from, to: self.before(), what };
        }
        Ok(left)
    }

    fn first(&mut self, depth: usize) -> Result<Node, Wrong> {
        let from = self.here();
        let Some(token) = self.peek().cloned() else {
            return Err(self.wrong("something is missing at the end".to_owned()));
        };
        self.at += 1;
        let what = match token {
            Token::Number(number) => What::Value(Value::Number(number)),
            Token::Text(text) => What::Value(Value::Text(text)),
            Token::Word(word) => self.word(&word, from)?,
            Token::Sign("!") => What::Not(Box::new(self.expression(3, depth + 1)?)),
            Token::Sign("-") => {
                let zero = Node { from, to: from, what: What::Value(Value::Number(0.0)) };
                What::Sum(Sum::Minus, Box::new(zero), Box::new(self.expression(6, depth + 1)?))
            }
            Token::Sign("(") => {
                let inner = self.expression(0, depth + 1)?;
                self.expect(")")?;
                inner.what
            }
            Token::Sign(sign) => {
                return Err(Wrong { at: from, text: format!("`{sign}` needs something before it") });
            }
        };
        Ok(Node { from, to: self.before(), what })
    }

    fn word(&mut self, word: &str, at: usize) -> Result<What, Wrong> {
        Ok(match word {
            "true" => What::Value(Value::Truth(true)),
            "false" => What::Value(Value::Truth(false)),
            "tag" => {
                self.expect("(")?;
                let place = self.here();
                let Value::Text(code) = self.item()? else {
                    return Err(Wrong {
                        at: place,
                        text: "tag() takes the code of a cause, in quotes".to_owned(),
                    });
                };
                self.expect(")")?;
                let cause = Cause::of(&code);
                What::Tag(
                    cause.ok_or_else(|| Wrong { at: place, text: format!("there is no cause `{code}`") })?,
                )
            }
            "known" => {
                self.expect("(")?;
                let place = self.here();
                let Some(Token::Word(word)) = self.peek().cloned() else {
                    return Err(Wrong { at: place, text: "known() takes a name".to_owned() });
                };
                self.at += 1;
                self.expect(")")?;
                What::Known(found(&word, place)?)
            }
            word => What::Name(found(word, at)?),
        })
    }

    fn list(&mut self) -> Result<Vec<Value>, Wrong> {
        self.expect("[")?;
        let mut items = Vec::new();
        while !self.take("]") {
            if items.len() >= ITEMS_MAX {
                return Err(self.wrong(format!("a list has at most {ITEMS_MAX} items")));
            }
            items.push(self.item()?);
            if !self.take(",") && self.peek() != Some(&Token::Sign("]")) {
                return Err(self.wrong("`,` or `]` is missing here".to_owned()));
            }
        }
        Ok(items)
    }

    fn item(&mut self) -> Result<Value, Wrong> {
        let value = match self.peek() {
            Some(Token::Number(number)) => Value::Number(*number),
            Some(Token::Text(text)) => Value::Text(text.clone()),
            _ => return Err(self.wrong("a number, or a text in quotes, is missing here".to_owned())),
        };
        self.at += 1;
        Ok(value)
    }

    /// `"db.*"`, or several: `"db.*|pool.*"`.
    fn patterns(&mut self) -> Result<Vec<String>, Wrong> {
        let place = self.here();
        match self.item()? {
            Value::Text(text) => Ok(text.split('|').take(ITEMS_MAX).map(str::to_owned).collect()),
            _ => Err(Wrong { at: place, text: "`~` takes a pattern in quotes, such as \"db.*\"".to_owned() }),
        }
    }
}

fn found(word: &str, at: usize) -> Result<&'static Name, Wrong> {
    named(word).map_err(|near| {
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Wrong { at, text: format!("there is nothing called `{word}`{hint}") }
    })
}

fn of_sign(sign: &str, left: Box<Node>, right: Box<Node>) -> What {
    match sign {
        "&&" => What::And(left, right),
        "||" => What::Or(left, right),
        "+" => What::Sum(Sum::Plus, left, right),
        "-" => What::Sum(Sum::Minus, left, right),
        "*" => What::Sum(Sum::Times, left, right),
        "==" => What::Compare(Compare::Is, left, right),
        "!=" => What::Compare(Compare::IsNot, left, right),
        "<" => What::Compare(Compare::Less, left, right),
        "<=" => What::Compare(Compare::LessOrIs, left, right),
        ">" => What::Compare(Compare::More, left, right),
        _ => What::Compare(Compare::MoreOrIs, left, right),
    }
}
