//! Values as they are written in a file.

use super::EditError;

/// Returns how a value is written so that it is read as it is: in quotation marks where it needs them.
pub(in crate::lang) fn written(value: &str) -> Result<String, EditError> {
    if value.contains('\n') {
        return Err(EditError::ValueLines);
    }
    Ok(quoted_where_needed(value))
}

/// Returns one line, in quotation marks where it would be read otherwise.
fn quoted_where_needed(value: &str) -> String {
    let is_special =
        |c: char| matches!(c, '"' | '\\' | '#' | ';' | '{' | '}' | '\t' | '\r' | '\x0b' | '\x0c');
    // One blank between words is kept; others would collapse.
    let has_blanks = value.starts_with(' ') || value.ends_with(' ') || value.contains("  ");
    if !value.is_empty() && !has_blanks && !value.contains(is_special) {
        return value.to_owned();
    }
    quoted(value)
}

/// Returns one word, in quotation marks where it would be read otherwise.
pub(in crate::lang) fn written_word(word: &str) -> String {
    if word.contains(' ') { quoted(word) } else { quoted_where_needed(word) }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns what a written word means, its variables left as they are.
pub(super) fn meant(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {}
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_they_would_be_read_otherwise() {
        let check = |value: &str, expect: &str| {
            let text = written(value).expect("one line");
            assert_eq!(text, expect);
            assert_eq!(meant(&text), value);
        };
        check("64M", "64M");
        check("two words", "two words");
        check("$6$salt$hash", "$6$salt$hash");
        check("", "\"\"");
        check("two  blanks", "\"two  blanks\"");
        check("a;b{c}#d", "\"a;b{c}#d\"");
        check("say \"hi\" \\", "\"say \\\"hi\\\" \\\\\"");
        assert_eq!(written("a\nb"), Err(EditError::ValueLines));
    }
}
