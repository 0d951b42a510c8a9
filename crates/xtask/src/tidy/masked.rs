//! Rust source with its comments and literals blanked, line by line in place: enough to look for a keyword.
//! Not for: parsing.

/// Returns the code alone: every character of a comment, string or character literal becomes a blank, line ends stay.
pub(super) fn code(source: &str) -> String {
    let mut rest = source;
    let mut code = String::with_capacity(source.len());
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let hidden = if is_word(before) { quoted_after_word(rest) } else { hidden(rest) };
        if hidden > 0 {
            code.extend(rest[..hidden].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[hidden..];
            before = ' ';
        } else {
            code.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// After a letter only a plain string can begin (`b"…"` has its prefix behind it), never a prefix.
fn quoted_after_word(rest: &str) -> usize {
    if rest.starts_with('"') { string(rest) } else { 0 }
}

/// Length of the comment or literal that begins here; 0 if none does.
fn hidden(rest: &str) -> usize {
    match rest.as_bytes() {
        [b'/', b'/', ..] => rest.find('\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => string(rest),
        [b'r', b'"' | b'#', ..] => raw_string(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] => raw_string(rest, 2),
        [b'\'', ..] => character(rest),
        _ => 0,
    }
}

fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r#name` is an identifier, not a string: its length is 0 here.
fn raw_string(rest: &str, prefix: usize) -> usize {
    let hashes = rest[prefix..].bytes().take_while(|byte| *byte == b'#').count();
    if rest.as_bytes().get(prefix + hashes) != Some(&b'"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let open = prefix + hashes + 1;
    rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len())
}

/// A character literal; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |at| at + 4),
        Some((at, character)) => {
            let end = at + character.len_utf8();
            if rest[end..].starts_with('\'') { end + 1 } else { 0 }
        }
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn comments_and_literals_are_blank_and_code_stays() {
        let table = [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* unsafe */ y */ b", "a                        b"),
            (r#"f("unsafe \" {") + 1"#, r#"f(             ) + 1"#),
            (r##"f(r#"unsafe " {"#)"##, r##"f(               )"##),
            (r#"f(b"unsafe", br"\", c"x")"#, r#"f(b        ,      , c   )"#),
            ("let c = '\"'; unsafe", "let c =    ; unsafe"),
            (r"let c = '\''; let d = '\u{41}'; x", "let c =     ; let d =         ; x"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("let r#type = 1; for r in x {}", "let r#type = 1; for r in x {}"),
            ("\"two\nlines\" x", "    \n       x"),
            ("é 'é' x", "é     x"),
            ("\"never closed", "             "),
        ];
        for (source, expected) in table {
            assert_eq!(code(source), expected, "{source}");
        }
    }
}
