//! SQL statements without their values: what was asked is seen, what it was asked about is not. Literals become `$1`, `$2`,
//! comments and superfluous space are left out, lists of values are shortened, so that the same statement with other
//! values is the same text.
//!
//! It reads the dialects of PostgreSQL, MySQL and SQLite as far as their literals differ, and errs on the side of hiding.
//! Not for: understanding statements.

use crate::locals::cut;

/// Most bytes of a statement that are kept.
pub const STATEMENT_MAX: usize = 2000;
/// Most bytes of a statement that are looked at.
const READ_MAX: usize = 64 << 10;
/// Most brackets within brackets whose kind is remembered.
const DEPTH_MAX: usize = 64;

/// Returns a statement without its values.
pub fn normalized(sql: &str) -> String {
    let sql = cut(sql, READ_MAX);
    let mut writer = Writer { next: 1 + highest_parameter(sql), ..Writer::default() };
    let mut reader = Reader { rest: sql };
    while let Some(token) = reader.token(&writer) {
        writer.take(token);
        if writer.text.len() > STATEMENT_MAX {
            break;
        }
    }
    writer.finish()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Space,
    /// A value.
    Literal,
    /// A name, a keyword, a number of a parameter.
    Word(&'a str),
    /// Anything else.
    Mark(char),
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn token(&mut self, before: &Writer) -> Option<Token<'a>> {
        let first = self.rest.chars().next()?;
        let rest = self.rest;
        let (token, length) = if first.is_whitespace() {
            (Token::Space, rest.len() - rest.trim_start().len())
        } else if rest.starts_with("--") || first == '#' && !rest[1..].starts_with(['>', '-']) {
            // PostgreSQL has the operators #> and #-, MySQL the comment.
            (Token::Space, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (Token::Space, comment(rest))
        } else if let Some(length) = prefixed_string(rest) {
            (Token::Literal, length)
        } else if first == '"' {
            let length = quoted(rest, '"', Backslash::Either);
            (
                if before.wants_value(&rest[..length], &rest[length..]) {
                    Token::Literal
                } else {
                    Token::Word(&rest[..length])
                },
                length,
            )
        } else if first == '`' {
            let length = quoted(rest, '`', Backslash::Plain);
            (Token::Word(&rest[..length]), length)
        } else if let Some(length) = dollar_quoted(rest) {
            (Token::Literal, length)
        } else if first.is_ascii_digit()
            || first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            (Token::Literal, number(rest))
        } else if is_word(first) || matches!(first, '$' | ':' | '%' | '@') {
            let length = word(rest);
            (
                if length == 0 { Token::Mark(first) } else { Token::Word(&rest[..length]) },
                length.max(first.len_utf8()),
            )
        } else {
            (Token::Mark(first), first.len_utf8())
        };
        self.rest = &rest[length..];
        Some(token)
    }
}

/// `'...'`, or one with a letter before it that says how it is written: `E'...'`, `x'...'`, `U&'...'`.
fn prefixed_string(rest: &str) -> Option<usize> {
    let prefix = rest.find('\'').filter(|at| *at <= 2)?;
    let backslash = match &rest[..prefix] {
        "" | "N" | "n" => Backslash::Either,
        "E" | "e" => Backslash::Hides,
        "B" | "b" | "X" | "x" | "U&" | "u&" => Backslash::Plain,
        _ => return None,
    };
    Some(prefix + quoted(&rest[prefix..], '\'', backslash))
}

/// What a backslash does within a quoted text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backslash {
    /// Nothing.
    Plain,
    /// It hides the next character.
    Hides,
    /// It hides the next one in MySQL, and does nothing in PostgreSQL.
    Either,
}

/// Returns the length of a quoted text with its quotes; all of the rest where the second is missing, or where the dialects
/// differ on which it is.
fn quoted(rest: &str, quote: char, backslash: Backslash) -> usize {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == '\\' && backslash != Backslash::Plain {
            let hidden = characters.next().map(|(_, hidden)| hidden);
            if hidden == Some(quote) && backslash == Backslash::Either {
                return rest.len();
            }
        } else if character == quote {
            if characters.peek().is_some_and(|(_, next)| *next == quote) {
                characters.next();
            } else {
                return at + character.len_utf8();
            }
        }
    }
    rest.len()
}

/// `$$...$$`, `$tag$...$tag$`
fn dollar_quoted(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('$')?;
    let tag = inner.find('$')?;
    let is_tag = inner[..tag].chars().all(is_word) && !inner.starts_with(|c: char| c.is_ascii_digit());
    let quote = &rest[..tag + 2];
    is_tag.then(|| rest[quote.len()..].find(quote).map_or(rest.len(), |end| end + 2 * quote.len()))
}

/// PostgreSQL's comments lie within each other.
fn comment(rest: &str) -> usize {
    let mut depth = 0;
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn number(rest: &str) -> usize {
    let mut length = 0;
    let mut before = ' ';
    for character in rest.chars() {
        let signed = matches!(character, '+' | '-') && matches!(before, 'e' | 'E') && !rest.starts_with("0x");
        if !(character.is_ascii_alphanumeric() || matches!(character, '.' | '_') || signed) {
            break;
        }
        length += 1;
        before = character;
    }
    length
}

/// A name, or a placeholder: `$1`, `:name`, `%s`, `%(name)s`, `@name`. 0 if it is neither.
fn word(rest: &str) -> usize {
    let sign = usize::from(rest.starts_with(['$', ':', '%', '@']));
    if rest.starts_with("::") {
        return 0;
    }
    if rest.starts_with("%(") {
        return rest.find(")s").filter(|end| rest[2..*end].chars().all(is_word)).map_or(0, |end| end + 2);
    }
    let end =
        rest[sign..].find(|character| !is_word(character) && character != '$').unwrap_or(rest.len() - sign);
    if sign == 1 && end == 0 { 0 } else { sign + end }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Who writes values as `$n` begins after the highest that is there.
fn highest_parameter(sql: &str) -> u32 {
    let numbers = sql.split('$').skip(1).map(|part| {
        let end = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
        part[..end.min(4)].parse().unwrap_or(0)
    });
    numbers.max().unwrap_or(0)
}

#[derive(Default)]
struct Writer {
    text: String,
    /// Number of the next value.
    next: u32,
    space: bool,
    /// The last word in lower case, or the last mark.
    last: String,
    /// Of each open bracket, whether it holds values: behind IN and VALUES.
    values: Vec<bool>,
    /// `VALUES` was said, and nothing but lists since.
    in_values: bool,
    /// Where the list of values that is being written has its second value; it is cut there.
    list: List,
}

#[derive(Default)]
struct List {
    /// Length of the text after the first value of the list; none if what is written is no list of values.
    first: Option<usize>,
    many: bool,
}

impl Writer {
    /// Tells whether a text in double quotes is a value, as in MySQL, and not a name.
    fn wants_value(&self, quoted: &str, after: &str) -> bool {
        let inner = quoted.trim_matches('"');
        let named =
            inner.chars().all(|character| is_word(character) || matches!(character, ' ' | '-' | '$' | '.'));
        let dotted = self.last == "." || after.trim_start().starts_with('.');
        let compared =
            matches!(self.last.as_str(), "=" | "<" | ">" | "like" | "ilike" | "between" | "and" | "regexp");
        let listed = self.values.last().copied().unwrap_or(false);
        !named || !quoted.ends_with('"') || quoted.len() < 2 || !dotted && (compared || listed)
    }

    fn take(&mut self, token: Token<'_>) {
        match token {
            Token::Space => self.space = true,
            Token::Literal => self.literal(),
            Token::Word(word) => self.word(word),
            Token::Mark(mark) => self.mark(mark),
        }
    }

    fn write(&mut self, text: &str) {
        if std::mem::take(&mut self.space) && !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(text);
    }

    fn literal(&mut self) {
        let number = self.next;
        self.next += 1;
        let begins = self.last == "(";
        self.write(&format!("${number}"));
        match &mut self.list {
            List { first: first @ None, .. } if begins => *first = Some(self.text.len()),
            List { first: Some(_), many } if self.last == "," => *many = true,
            _ => {}
        }
        self.last = "$".to_owned();
    }

    fn word(&mut self, word: &str) {
        self.list = List::default();
        self.write(word);
        self.last = word.to_ascii_lowercase();
        self.in_values = self.last == "values";
    }

    fn mark(&mut self, mark: char) {
        match mark {
            '(' => {
                let values = self.in_values || self.last == "in";
                if self.values.len() < DEPTH_MAX {
                    self.values.push(values);
                }
                self.list = List::default();
            }
            ')' => {
                self.close();
                self.list = List::default();
            }
            ',' => {}
            _ => self.list = List::default(),
        }
        if !matches!(mark, '(' | ')' | ',') {
            self.in_values = false;
        }
        self.write(mark.encode_utf8(&mut [0; 4]));
        self.last = mark.to_string();
    }

    /// Ends a list: of many values only the first is shown, and the numbers of the others are free again.
    fn close(&mut self) {
        self.values.pop();
        if let List { first: Some(first), many: true } = self.list {
            let shown: u32 =
                self.text[..first].rsplit('$').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            self.text.truncate(first);
            self.text.push_str(", ...");
            self.next = shown + 1;
            self.space = false;
        }
    }

    fn finish(self) -> String {
        let text = self.text.trim_end_matches([';', ' ']);
        if text.len() <= STATEMENT_MAX {
            text.to_owned()
        } else {
            format!("{} ...", cut(text, STATEMENT_MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_left_out() {
        let table = [
            ("select 1", "select $1"),
            ("SELECT * FROM t1 WHERE a = 'x' AND b=-2.5e3;", "SELECT * FROM t1 WHERE a = $1 AND b=-$2"),
            ("select  a,\n\tb -- why\nfrom t /* note */ where c", "select a, b from t where c"),
            ("select 'it''s', E'a\\'b', E'\\n', x'ff', U&'d'", "select $1, $2, $3, $4, $5"),
            // One value and a half in PostgreSQL, one in MySQL.
            ("select 'a\\', 'b', c from t", "select $1"),
            ("select $$a 'b'$$, $t$x$t$", "select $1, $2"),
            ("select * from t where id in (1, 2, 3)", "select * from t where id in ($1, ...)"),
            ("select f(1, 'a', b)", "select f($1, $2, b)"),
            (
                "insert into t (a, b) values (1,'x'), (2,'y')",
                "insert into t (a, b) values ($1, ...), ($2, ...)",
            ),
            (
                r#"SELECT "u"."id" FROM "u" WHERE "u"."n" = 5"#,
                r#"SELECT "u"."id" FROM "u" WHERE "u"."n" = $1"#,
            ),
            (
                r#"select "a b" from t where m = "me@x" and n = "john""#,
                r#"select "a b" from t where m = $1 and n = $2"#,
            ),
            (r#"select * from t where n in ("a", "b")"#, "select * from t where n in ($1, ...)"),
            ("update t set a = $1, b = 2 where c = %s", "update t set a = $1, b = $2 where c = %s"),
            ("select %(name)s, :id, @v, x::int", "select %(name)s, :id, @v, x::int"),
            ("select `a`.`b` from `t` limit 0x1F", "select `a`.`b` from `t` limit $1"),
            ("select j#>'{a}' from t # note", "select j#>$1 from t"),
            ("select 'never ends", "select $1"),
            ("select /* never ends", "select"),
            ("select date '2020-01-01'", "select date $1"),
            ("", ""),
        ];
        for (sql, expected) in table {
            assert_eq!(normalized(sql), expected, "{sql}");
        }
    }

    #[test]
    fn the_same_statement_is_the_same_text() {
        let of =
            |values: &str| normalized(&format!("select a from t where b in ({values}) and c = '{values}'"));
        assert_eq!(of("1,2"), of("7, 8, 9, 10"));
        assert_ne!(of("1,2"), of("1"));
    }

    #[test]
    fn long_statements_are_cut() {
        let long = format!("select {}", "column_name, ".repeat(10_000));
        let text = normalized(&long);
        assert!(text.len() <= STATEMENT_MAX + 4 && text.ends_with(" ..."), "{}", text.len());
        assert!(normalized(&"ä".repeat(STATEMENT_MAX)).ends_with(" ..."));
    }

    proptest! {
        #[test]
        fn any_text_is_taken(sql in "(\\PC|['\"$/*\\\\;:%@#`(),. \n]|--|in|values){0,200}") {
            let text = normalized(&sql);
            prop_assert!(text.len() <= STATEMENT_MAX + 4);
        }

        #[test]
        fn no_value_is_seen(
            secret in "SECRET[a-zA-Z '\"\\\\$*/-]{0,20}",
            number in 100_000_u32..,
            shape in 0_usize..8,
        ) {
            let text = secret.replace('\\', "\\\\").replace('\'', "''");
            let sql = match shape {
                0 => format!("select * from t where a = '{text}' and b = {number} and c = 'z'"),
                1 => format!("insert into t values ('{text}', {number}), ('{text}', 7)"),
                2 => format!("select 1 /* {} */, {number}", secret.replace("*/", "").replace("/*", "").replace(['*', '/'], "")),
                3 => format!("select f('{text}'), $x${}$x$, {number}", secret.replace('$', "")),
                4 => format!("select {number} -- {secret}"),
                5 => format!("update t set a='{text}',b={number} where c=E'{text}'"),
                6 => format!("select * from t where a in ('{text}', {number})"),
                _ => format!("select * from t where a = \"{}\" or b = {number}", secret.replace(['"', '\\'], "")),
            };
            let shown = normalized(&sql);
            prop_assert!(!shown.contains("SECRET"), "{} -> {}", sql, shown);
            prop_assert!(!shown.contains(&number.to_string()), "{} -> {}", sql, shown);
        }
    }
}
