//! SQL without its values: what may be kept of a statement, and what makes two of them the same. A scanner of tokens, not a
//! parser: what it does not know stays as it is, and what it cannot be sure of is left out.
//!
//! Not for: statements that are to be run.

#[cfg(test)]
#[path = "sql_tests.rs"]
mod tests;

/// Most bytes that are kept of a statement.
pub const TEXT_MAX: usize = 2000;
/// Most bytes of a statement that are looked at.
const SCANNED_MAX: usize = 64 << 10;
/// Most parameters that PostgreSQL has in a statement.
const PARAMETERS_MAX: u32 = 0xffff;
/// Stands for what is left out.
const REST: &str = "...";

/// Whose rules of quoting apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL: `"x"` is a name, comments nest, `$1` is a parameter.
    Postgres,
    /// MySQL and MariaDB: `"x"` is a text, a backslash escapes, `#` begins a comment, `?` is a parameter.
    Mysql,
}

/// Returns a statement of PostgreSQL with parameters in place of its values, without its comments, in one line.
pub fn normalized(text: &str) -> String {
    normalized_as(text, Dialect::Postgres)
}

/// Returns a statement with parameters in place of its values, without its comments, in one line of at most [`TEXT_MAX`] bytes.
/// Lists of values are shortened to their first, so that their length makes no other statement.
pub fn normalized_as(text: &str, dialect: Dialect) -> String {
    let text = &text[..boundary(text, SCANNED_MAX)];
    let mut scanner = Scanner { text, at: 0, dialect };
    let mut tokens = Vec::new();
    while let Some(token) = scanner.next() {
        let ends = token.kind == Kind::Rest;
        tokens.push(token);
        if ends {
            break;
        }
    }
    let tokens = shortened(&shortened(&signed(&tokens), element), row);
    written(&tokens, dialect)
}

/// Returns a statement of a database that is not known, as above: what one of them takes for a value is one.
pub fn normalized_of_any(text: &str) -> String {
    if is_of_mysql(text) {
        return normalized_as(text, Dialect::Mysql);
    }
    // Whether this ends the value depends on whose it is.
    let sure = text.find("\\'").map_or(text, |at| &text[..at]);
    normalized(sure)
}

/// Tells whether a statement quotes as MySQL does: names in backticks, or values in double quotes.
fn is_of_mysql(text: &str) -> bool {
    let text = &text[..boundary(text, SCANNED_MAX)];
    let mut scanner = Scanner { text, at: 0, dialect: Dialect::Postgres };
    let tokens: Vec<Token<'_>> = std::iter::from_fn(|| scanner.next()).collect();
    let compares = |token: &Token<'_>| {
        ["=", "<", ">"].iter().any(|mark| token.is(mark))
            || ["like", "in", "between", "values", "regexp"]
                .iter()
                .any(|word| word.eq_ignore_ascii_case(token.text))
    };
    tokens.iter().enumerate().any(|(at, token)| {
        let before = tokens[..at].iter().rev().find(|token| !(token.is("(") || token.is(",")));
        let is_quoted = token.text.starts_with('"');
        let is_dotted = tokens.get(at + 1).is_some_and(|next| next.is("."));
        token.is("`") || is_quoted && !is_dotted && before.is_some_and(compares)
    })
}

/// Returns the first word of a statement in capitals: what it does. Empty if it begins with none.
pub fn verb(text: &str) -> String {
    let mut scanner = Scanner { text, at: 0, dialect: Dialect::Postgres };
    let first = std::iter::from_fn(|| scanner.next()).find(|token| token.text != "(");
    first
        .filter(|token| token.kind == Kind::Word)
        .map(|word| word.text.to_ascii_uppercase())
        .unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A keyword or a name.
    Word,
    /// A value.
    Literal,
    /// A value with its sign.
    Signed,
    /// `$1`.
    Parameter(u32),
    /// An operator, a bracket, a comma: one character.
    Mark,
    /// What stands for left out values, or for the end of a text that cannot be read for sure.
    Rest,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// White space or a comment stands before it.
    spaced: bool,
}

impl Token<'_> {
    fn is(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
}

impl<'a> Scanner<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let spaced = self.skip();
        let begin = self.at;
        let first = *self.bytes().get(begin)?;
        let (kind, end) = match first {
            b'\'' => self.string(begin, false),
            b'"' if self.dialect == Dialect::Mysql => self.string(begin, true),
            b'"' => self.name(begin, b'"'),
            b'`' if self.dialect == Dialect::Mysql => self.name(begin, b'`'),
            b'$' => self.dollar(begin),
            b'.' if self.byte(begin + 1).is_ascii_digit() => (Kind::Literal, self.number(begin)),
            b'.' if self.text[begin..].starts_with(REST) => (Kind::Rest, begin + REST.len()),
            b'0'..=b'9' => (Kind::Literal, self.number(begin)),
            _ if begins_word(first) => self.word(begin),
            _ => (Kind::Mark, begin + 1),
        };
        self.at = end;
        // Marks of left out values do not end the text.
        let kind = if kind == Kind::Rest && self.text[begin..end] == *REST { Kind::Mark } else { kind };
        Some(Token { kind, text: &self.text[begin..end], spaced })
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// 0 beyond the end.
    fn byte(&self, at: usize) -> u8 {
        self.bytes().get(at).copied().unwrap_or(0)
    }

    /// Skips white space and comments; tells whether there was any.
    fn skip(&mut self) -> bool {
        let begin = self.at;
        loop {
            let (byte, next) = (self.byte(self.at), self.byte(self.at + 1));
            let mysql = self.dialect == Dialect::Mysql;
            let is_line = byte == b'-' && next == b'-' && (!mysql || self.byte(self.at + 2) <= b' ');
            if self.at >= self.text.len() {
                break;
            } else if byte <= b' ' || byte == 0x7f {
                self.at += 1;
            } else if is_line || (mysql && byte == b'#') {
                let rest = &self.bytes()[self.at..];
                self.at += rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
            } else if byte == b'/' && next == b'*' {
                self.at = self.comment();
            } else {
                break;
            }
        }
        self.at > begin
    }

    /// The end of the comment that begins here.
    fn comment(&self) -> usize {
        let (mut at, mut depth) = (self.at + 2, 1);
        while at < self.text.len() {
            match (self.byte(at), self.byte(at + 1)) {
                (b'*', b'/') => (at, depth) = (at + 2, depth - 1),
                (b'/', b'*') if self.dialect == Dialect::Postgres => (at, depth) = (at + 2, depth + 1),
                _ => at += 1,
            }
            if depth == 0 {
                return at;
            }
        }
        self.text.len()
    }

    /// A text in quotes. Where a backslash stands before its end, and nothing says that it escapes, whether the text ends
    /// there depends on a setting of the server (`standard_conforming_strings`): nothing after it is kept.
    fn string(&self, begin: usize, escapes: bool) -> (Kind, usize) {
        let escapes = escapes || self.dialect == Dialect::Mysql;
        let quote = self.byte(begin);
        let mut at = begin + 1;
        while at < self.text.len() {
            match self.byte(at) {
                b'\\' if escapes => at += 2,
                b'\\' if self.byte(at + 1) == quote => return (Kind::Rest, self.text.len()),
                byte if byte == quote && self.byte(at + 1) == quote => at += 2,
                byte if byte == quote => return (Kind::Literal, at + 1),
                _ => at += 1,
            }
        }
        (Kind::Literal, self.text.len())
    }

    /// A name in quotes. One that has no end may be anything.
    fn name(&self, begin: usize, quote: u8) -> (Kind, usize) {
        let mut at = begin + 1;
        while at < self.text.len() {
            if self.byte(at) != quote {
                at += 1;
            } else if self.byte(at + 1) == quote {
                at += 2;
            } else {
                return (Kind::Word, at + 1);
            }
        }
        (Kind::Rest, self.text.len())
    }

    /// A parameter, a text between `$tag$`, or the mark alone.
    fn dollar(&self, begin: usize) -> (Kind, usize) {
        let rest = &self.text[begin + 1..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let follows = self.byte(begin + 1 + digits);
        if digits > 0 {
            let number = rest[..digits].parse().ok().filter(|number| *number <= PARAMETERS_MAX);
            return match number.filter(|_| !continues_word(follows)) {
                Some(number) => (Kind::Parameter(number), begin + 1 + digits),
                None => (Kind::Literal, self.number(begin + 1)),
            };
        }
        let tag = rest.bytes().take_while(|byte| *byte != b'$' && continues_word(*byte)).count();
        if self.dialect == Dialect::Mysql || rest.as_bytes().get(tag) != Some(&b'$') {
            return (Kind::Mark, begin + 1);
        }
        let tag = &self.text[begin..begin + tag + 2];
        let body = begin + tag.len();
        let end = self.text[body..].find(tag).map(|at| body + at + tag.len());
        (Kind::Literal, end.unwrap_or(self.text.len()))
    }

    /// The end of a number, with all that hangs on it: `1.5e-3`, `0xff`, `1_000`.
    fn number(&self, begin: usize) -> usize {
        let mut at = begin;
        loop {
            let byte = self.byte(at);
            let signed = matches!(byte, b'e' | b'E') && matches!(self.byte(at + 1), b'+' | b'-');
            if signed && self.byte(at + 2).is_ascii_digit() {
                at += 2;
            } else if (byte == b'.' && !self.text[at..].starts_with(REST)) || continues_word(byte) {
                at += 1;
            } else {
                return at;
            }
        }
    }

    /// A word, or a text with a word before its quote that says how it is written: `E'...'`, `U&'...'`.
    fn word(&self, begin: usize) -> (Kind, usize) {
        let rest = &self.bytes()[begin..];
        let length = rest.iter().take_while(|byte| continues_word(**byte)).count();
        let end = begin + length;
        let word = &self.text[begin..end];
        let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(word));
        match (self.byte(end), self.byte(end + 1)) {
            (b'\'', _) if is(&["e"]) => self.string(end, true),
            (b'\'', _) if is(&["b", "x", "n"]) => self.string(end, false),
            (b'&', b'\'') if is(&["u"]) => self.string(end + 1, false),
            (b'&', b'"') if is(&["u"]) && self.dialect == Dialect::Postgres => self.name(end + 1, b'"'),
            _ => (Kind::Word, end),
        }
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn continues_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// Makes one of a sign and its value where that cannot be the difference of two.
fn signed<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept: Vec<Token<'a>> = Vec::with_capacity(tokens.len());
    for token in tokens {
        if let [.., sign] = kept.as_slice()
            && sign.is("-")
            && token.kind == Kind::Literal
            && kept.iter().nth_back(1).is_none_or(|before| {
                before.kind == Kind::Mark && !matches!(before.text, ")" | "]" | "?" | REST)
            })
        {
            let sign = kept.len() - 1;
            kept[sign].kind = Kind::Signed;
        } else {
            kept.push(*token);
        }
    }
    kept
}

/// Leaves out all but the first of what stands between commas and is all alike.
fn shortened<'a>(tokens: &[Token<'a>], length: impl Fn(&[Token<'a>]) -> usize) -> Vec<Token<'a>> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let first = length(&tokens[at..]);
        kept.extend_from_slice(&tokens[at..at + first.max(1)]);
        at += first.max(1);
        let begin = at;
        while first > 0 && tokens.get(at).is_some_and(|token| token.is(",")) {
            let next = length(&tokens[at + 1..]);
            if next == 0 {
                break;
            }
            at += 1 + next;
        }
        if at > begin {
            kept.push(Token { kind: Kind::Mark, text: ",", spaced: false });
            kept.push(Token { kind: Kind::Mark, text: REST, spaced: true });
        }
    }
    kept
}

/// How many tokens a value takes, with its type: `1`, `'x'::text`.
fn element(tokens: &[Token<'_>]) -> usize {
    match tokens {
        [value, one, two, word, ..]
            if is_value(value) && one.is(":") && two.is(":") && word.kind == Kind::Word =>
        {
            4
        }
        [value, ..] if is_value(value) => 1,
        _ => 0,
    }
}

/// How many tokens a bracket with values alone takes: a row.
fn row(tokens: &[Token<'_>]) -> usize {
    if !tokens.first().is_some_and(|token| token.is("(")) {
        return 0;
    }
    let mut at = 1;
    loop {
        let value = element(&tokens[at..]);
        let value = if value == 0 && tokens.get(at).is_some_and(|token| token.is(REST)) { 1 } else { value };
        at += value;
        match tokens.get(at) {
            Some(token) if value > 0 && token.is(",") => at += 1,
            Some(token) if value > 0 && token.is(")") => return at + 1,
            _ => return 0,
        }
    }
}

fn is_value(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::Literal | Kind::Signed)
}

fn written(tokens: &[Token<'_>], dialect: Dialect) -> String {
    let known =
        tokens.iter().filter_map(|token| if let Kind::Parameter(n) = token.kind { Some(n) } else { None });
    let mut number = known.max().unwrap_or(0);
    let mut line = String::new();
    let mut after_value = false;
    for token in tokens {
        // Values must not become part of the words beside them: `date'...'`, `'...'and`.
        let is_value = is_value(token);
        let touches = is_value && line.bytes().next_back().is_some_and(continues_word);
        let touches = touches || (after_value && token.text.bytes().next().is_some_and(continues_word));
        after_value = is_value || matches!(token.kind, Kind::Parameter(_));
        if (token.spaced || touches || token.kind == Kind::Rest) && !line.is_empty() {
            line.push(' ');
        }
        match token.kind {
            Kind::Literal | Kind::Signed => {
                number = (number + 1).min(PARAMETERS_MAX);
                line.push_str(if token.kind == Kind::Signed { "-" } else { "" });
                match dialect {
                    Dialect::Postgres => line.push_str(&format!("${number}")),
                    Dialect::Mysql => line.push('?'),
                }
            }
            Kind::Rest => line.push_str(REST),
            // Names in quotes may hold anything.
            Kind::Word => line.extend(token.text.chars().map(|c| if c.is_control() { ' ' } else { c })),
            Kind::Parameter(_) | Kind::Mark => line.push_str(token.text),
        }
        if line.len() > TEXT_MAX {
            line.truncate(boundary(&line, TEXT_MAX - REST.len()));
            line.push_str(REST);
            break;
        }
    }
    line
}

/// The last end of a character that is not beyond a byte.
fn boundary(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
