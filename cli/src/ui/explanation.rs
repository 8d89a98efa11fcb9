//! What codes mean, for people.

use mln_protocol::lang::Code;

use super::text::wrapped;

/// How wide the text is, in characters.
const COLUMNS: usize = 80;

/// Returns codes with their titles, one on each line.
pub fn list(codes: &[Code]) -> String {
    codes.iter().map(|code| format!("{code}  {}\n", code.title())).collect()
}

/// Returns what a code means, with its example.
pub fn describe(code: Code) -> String {
    let explanation = code.explanation();
    let title = format!("{}[{code}]: {}", code.severity().word(), code.title());
    let mut text = format!("{title}\n\n{}", wrapped(explanation.paragraph, COLUMNS));
    let line: String =
        explanation.variables.iter().map(|variable| format!(", with --var {variable}")).collect();
    text += &section(&format!("Wrong{line}"), explanation.wrong);
    text += &section(&format!("Right{line}"), explanation.right);
    for (name, inside) in explanation.beside {
        text += &section(&format!("{name} beside it"), inside);
    }
    text
}

fn section(heading: &str, example: &str) -> String {
    let lines: String = example.lines().map(|line| format!("    {line}\n")).collect();
    format!("\n{heading}:\n\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_has_the_title_the_paragraph_and_both_examples() {
        let text = describe(Code::VariableUnused);
        assert!(text.starts_with("warning[W0306]: a variable of the command line is not used\n\n"), "{text}");
        let wrong = text.find("\nWrong, with --var size=2:\n\n    global {").expect("the wrong example");
        let right = text.find("\nRight, with --var size=2:\n\n    global {").expect("the right example");
        assert!(wrong < right, "{text}");
        let text = describe(Code::IncludeUnread);
        assert!(text.ends_with("\nhosts.inc beside it:\n\n    host web { memory 96M }\n"), "{text}");
    }
}
