//! What was changed in files, for people.

use mln_protocol::lang::{Fix, Rewritten, Sources};

use super::text::{fitted, printable};

/// How much of a text is shown, in characters.
const SHOWN_MAX: usize = 60;

/// Returns each change on a line, with its place in the old text.
pub fn describe(files: &[Rewritten], before: &Sources) -> String {
    files.iter().flat_map(|file| &file.changes).map(|change| describe_one(change, before)).collect()
}

fn describe_one(change: &Fix, before: &Sources) -> String {
    let at = before.position(change.span);
    let old = shown(before.slice(change.span));
    let new = shown(&change.replacement);
    let what = match (old.is_empty(), new.is_empty()) {
        (true, _) => format!("put in `{new}`"),
        (false, true) => format!("left out `{old}`"),
        (false, false) => format!("`{old}` is now `{new}`"),
    };
    format!("{}:{}:{}: {what}\n", printable(at.path), at.line, at.column)
}

/// Returns a text on one line, however its lines are indented.
fn shown(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    fitted(&printable(&words.join(" ")), SHOWN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::lang::{NoIncludes, SourceId, Span, parse, rewrite};

    #[test]
    fn each_change_is_told_with_its_place() {
        let (tree, _) = parse("p.mln", "ab\ncd\nef\n".to_owned(), &NoIncludes);
        let change = |start, end, replacement: &str| {
            let span = Span { source: SourceId::ROOT, start, end };
            Fix { span, replacement: replacement.to_owned() }
        };
        let files = rewrite(tree.sources(), [change(3, 5, "xy"), change(0, 0, "z "), change(6, 8, "")]);
        let told = describe(&files, tree.sources());
        assert_eq!(told, "p.mln:1:1: put in `z`\np.mln:2:1: `cd` is now `xy`\np.mln:3:1: left out `ef`\n");
    }
}
