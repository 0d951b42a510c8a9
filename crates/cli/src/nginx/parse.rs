//! nginx's syntax: directives of words that end with a semicolon, or with a block in braces. Not for: what they mean.

/// Most directives, and most braces within each other, that are read.
const DIRECTIVES_MAX: usize = 200_000;
const DEPTH_MAX: usize = 64;

/// A directive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(super) name: String,
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Directive>>,
    /// Where it stands.
    pub(super) file: String,
    pub(super) line: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    End,
    Open,
    Close,
}

/// Reads the text of a file.
///
/// # Errors
/// Where it is no configuration, and why.
pub(super) fn parse(text: &str, file: &str) -> Result<Vec<Directive>, String> {
    let mut stack: Vec<(Directive, Vec<Directive>)> = Vec::new();
    let mut current: Vec<Directive> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut begun = 0;
    let mut count = 0;
    for (token, line) in tokens(text, file)? {
        if words.is_empty() {
            begun = line;
        }
        let begin = |words: &mut Vec<String>| {
            let mut words = std::mem::take(words).into_iter();
            let name = words.next().unwrap_or_default();
            Directive { name, words: words.collect(), block: None, file: file.to_owned(), line: begun }
        };
        match token {
            Token::Word(word) => words.push(word),
            Token::End => {
                if !words.is_empty() {
                    current.push(begin(&mut words));
                    count += 1;
                }
            }
            Token::Open => {
                stack.push((begin(&mut words), std::mem::take(&mut current)));
                count += 1;
            }
            Token::Close => {
                let (mut directive, outer) = stack
                    .pop()
                    .ok_or_else(|| format!("{file}:{line}: a brace closes what none has opened"))?;
                directive.block = Some(std::mem::replace(&mut current, outer));
                current.push(directive);
            }
        }
        if count > DIRECTIVES_MAX || stack.len() > DEPTH_MAX {
            return Err(format!("{file}:{line}: more of it than any server has"));
        }
    }
    match stack.last() {
        None => Ok(current),
        Some((directive, _)) => {
            Err(format!("{file}:{}: the brace of `{}` is not closed", directive.line, directive.name))
        }
    }
}

fn tokens(text: &str, file: &str) -> Result<Vec<(Token, u32)>, String> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    let mut line = 1;
    while let Some(character) = characters.next() {
        match character {
            '\n' => line += 1,
            character if character.is_whitespace() => {}
            '#' => while characters.next_if(|character| *character != '\n').is_some() {},
            ';' => tokens.push((Token::End, line)),
            '{' => tokens.push((Token::Open, line)),
            '}' => tokens.push((Token::Close, line)),
            '"' | '\'' => {
                let begun = line;
                let mut word = String::new();
                loop {
                    match characters.next() {
                        None => return Err(format!("{file}:{begun}: a quote is not closed")),
                        Some(quote) if quote == character => break,
                        Some('\\') => word.extend(characters.next()),
                        Some(other) => {
                            line += u32::from(other == '\n');
                            word.push(other);
                        }
                    }
                }
                tokens.push((Token::Word(word), begun));
            }
            first => {
                let mut word = String::from(first);
                while let Some(next) = characters.peek().copied() {
                    let in_variable = word.ends_with('$') && next == '{';
                    let ends = next.is_whitespace() || matches!(next, ';' | '{');
                    if ends && !in_variable {
                        break;
                    }
                    characters.next();
                    word.push(next);
                    if next == '\\' {
                        word.extend(characters.next());
                    }
                }
                tokens.push((Token::Word(word), line));
            }
        }
    }
    Ok(tokens)
}
