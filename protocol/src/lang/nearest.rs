//! The word that somebody may have meant.

/// Returns the candidate that is nearest to a word, if one is near enough to be a slip of the fingers.
///
/// Ties go to the first candidate. Case alone does not make words differ much: `Memory` is near `memory`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters: Vec<char> = word.chars().take(LETTERS_MAX + 1).collect();
    if letters.is_empty() || letters.len() > LETTERS_MAX {
        return None;
    }
    let far = 1 + letters.len() / 3;
    let has = letter_set(&letters);
    let mut best = None;
    for candidate in candidates.into_iter().take(CANDIDATES_MAX) {
        let other: Vec<char> = candidate.chars().take(LETTERS_MAX + 1).collect();
        if candidate == word || other.len() > LETTERS_MAX || other.len().abs_diff(letters.len()) > far {
            continue;
        }
        if letters.len() == 1 && other.len() == 1 && !letters[0].eq_ignore_ascii_case(&other[0]) {
            continue;
        }
        let distance = if word.eq_ignore_ascii_case(candidate) {
            0
        } else if edits_at_least(has, letter_set(&other)) > far {
            continue;
        } else {
            edits(&letters, &other)
        };
        if distance <= far && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Returns the end of a sentence that says that a word is unknown: which of the candidates is near, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

/// Longer words are not compared.
const LETTERS_MAX: usize = 64;
/// No more candidates are compared.
const CANDIDATES_MAX: usize = 1_000;

/// Returns which letters there are, one bit for each; different ones may share a bit.
fn letter_set(letters: &[char]) -> u64 {
    letters.iter().fold(0, |set, &letter| set | 1 << (letter as u32 % 64))
}

/// Returns a lower bound of [`edits`]: an edit brings or takes away no more than one letter of each.
fn edits_at_least(a: u64, b: u64) -> usize {
    (a & !b).count_ones().max((b & !a).count_ones()) as usize
}

/// Returns how many letters must be put in, left out, replaced or swapped with their neighbour to turn `a` into
/// `b` (optimal string alignment).
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_fingers_find_their_word() {
        let words = ["memory", "network", "netmask", "users", "size"];
        let check = |word, expect| assert_eq!(nearest(word, words), expect, "{word}");
        check("memroy", Some("memory"));
        check("Memory", Some("memory"));
        check("netwrok", Some("network"));
        check("netmsk", Some("netmask"));
        check("user", Some("users"));
        check("xyzzy", None);
        check("", None);
        assert_eq!(nearest("A", ["B"]), None);
        assert_eq!(nearest("a", ["A"]), Some("A"));
    }

    #[test]
    fn the_quick_bound_never_exceeds_the_edits() {
        let words = ["memory", "memroy", "network", "netmask", "users", "size", "aab", "baa", "", "äöü", "x"];
        for a in words.map(|word| word.chars().collect::<Vec<_>>()) {
            for b in words.map(|word| word.chars().collect::<Vec<_>>()) {
                assert!(edits_at_least(letter_set(&a), letter_set(&b)) <= edits(&a, &b), "{a:?} {b:?}");
            }
        }
    }
}
