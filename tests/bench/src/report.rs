//! The table that people read, and the document that programs do; both are text, and printed by `main`.

use serde_json::{Value, json};

use crate::figure::{Figure, Goal, Unit, Verdict};
use crate::statistics::Sample;

/// What the table's columns are called.
const HEAD: [&str; 6] = ["Figure", "Ours (min–max)", "Theirs (min–max)", "Compared", "Goal", ""];

/// Returns the table.
pub(crate) fn table(machine: &str, figures: &[Figure]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(figures.iter().map(row));
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = format!("{machine}\n\n");
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn row(figure: &Figure) -> [String; HEAD.len()] {
    let theirs = figure.theirs.as_ref();
    let (compared, goal) = match figure.goal {
        Goal::TimesLess(goal) | Goal::TimesMore(goal) => (times(figure), format!("≥ {goal} ×")),
        Goal::TimesAtMost(goal) => (times(figure), format!("≤ {goal} ×")),
        Goal::MoreAtMost(goal) => {
            let more = figure.comparison();
            let text = |more: f64| {
                format!("{} {}", if more < 0.0 { "−" } else { "+" }, amount(more.abs(), figure.unit))
            };
            (more.map(text).unwrap_or_default(), format!("≤ + {}", amount(goal, figure.unit)))
        }
        Goal::AtMost(goal) => (String::new(), format!("≤ {}", amount(goal, figure.unit))),
        Goal::Known => (times(figure), String::new()),
    };
    [
        format!("{}: {}", figure.bench, figure.what),
        measured(&figure.ours, figure.unit),
        theirs.map_or_else(String::new, |(name, sample)| format!("{name} {}", measured(sample, figure.unit))),
        compared,
        goal,
        verdict(figure.verdict()).to_owned(),
    ]
}

fn times(figure: &Figure) -> String {
    figure.comparison().map_or_else(String::new, |ratio| format!("{} ×", rounded(ratio)))
}

fn measured(sample: &Sample, unit: Unit) -> String {
    let median = amount(sample.median(), unit);
    if sample.count() == 1 {
        return median;
    }
    format!("{median} ({}–{})", amount(sample.min(), unit), amount(sample.max(), unit))
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASS",
        Verdict::Miss => "MISS",
        Verdict::None => "",
    }
}

/// Returns an amount in the largest unit in which it is at least 1.
fn amount(value: f64, unit: Unit) -> String {
    let scale: &[(f64, &str)] = match unit {
        Unit::Seconds => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
        Unit::MegabitsPerSecond => &[(1.0, "Mbit/s")],
        Unit::Bytes => &[(1024.0 * 1024.0, "MiB"), (1024.0, "KiB"), (1.0, "B")],
        Unit::Core => &[(1e-2, "% of a core")],
        Unit::Times => &[(1.0, "×")],
    };
    let fits = scale.iter().find(|(size, _)| value.abs() >= *size);
    let (size, name) = fits.or(scale.last()).copied().unwrap_or((1.0, ""));
    format!("{} {name}", rounded(value / size))
}

/// Returns a number with three digits that count, and no more than that.
fn rounded(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// Returns everything, the single measurements' extremes included, in seconds, bytes, Mbit/s and cores.
pub(crate) fn document(machine: &str, figures: &[Figure]) -> Value {
    let sample = |sample: &Sample| json!({"median": sample.median(), "min": sample.min(), "max": sample.max(), "rounds": sample.count()});
    let figure = |figure: &Figure| {
        let (kind, goal) = match figure.goal {
            Goal::TimesLess(goal) => ("times_less", Some(goal)),
            Goal::TimesMore(goal) => ("times_more", Some(goal)),
            Goal::TimesAtMost(goal) => ("times_at_most", Some(goal)),
            Goal::MoreAtMost(goal) => ("more_at_most", Some(goal)),
            Goal::AtMost(goal) => ("at_most", Some(goal)),
            Goal::Known => ("known", None),
        };
        json!({
            "bench": figure.bench,
            "what": figure.what,
            "unit": match figure.unit {
                Unit::Seconds => "s",
                Unit::MegabitsPerSecond => "Mbit/s",
                Unit::Bytes => "B",
                Unit::Core => "core",
                Unit::Times => "times",
            },
            "ours": sample(&figure.ours),
            "theirs": figure.theirs.as_ref().map(|(_, theirs)| sample(theirs)),
            "alternative": figure.theirs.as_ref().map(|(name, _)| name),
            "goal_kind": kind,
            "goal": goal,
            "compared": figure.comparison(),
            "verdict": match figure.verdict() {
                Verdict::Pass => json!("pass"),
                Verdict::Miss => json!("miss"),
                Verdict::None => Value::Null,
            },
        })
    };
    json!({"machine": machine, "figures": figures.iter().map(figure).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        let ours = Sample::of([0.004, 0.005, 0.0061]).expect("three numbers");
        Figure::alone("build", "time per VM", Unit::Seconds, ours, Goal::TimesLess(20.0))
            .against("copy and mount", Sample::single(0.3))
    }

    #[test]
    fn a_row_says_what_against_what_and_whether_it_will_do() {
        let text = table("a machine", &[figure()]);
        let line = text.lines().last().expect("a row");
        assert_eq!(
            line,
            "build: time per VM  5.00 ms (4.00 ms–6.10 ms)  copy and mount 300 ms  60.0 ×    ≥ 20 ×  PASS"
        );
    }

    #[test]
    fn amounts_have_three_digits_and_a_unit_that_fits() {
        assert_eq!(amount(0.25, Unit::Seconds), "250 ms");
        assert_eq!(amount(1.534, Unit::Seconds), "1.53 s");
        assert_eq!(amount(0.000_000_4, Unit::Seconds), "0.40 µs");
        assert_eq!(amount(20_480.0, Unit::Bytes), "20.0 KiB");
        assert_eq!(amount(0.0012, Unit::Core), "0.12 % of a core");
        assert_eq!(amount(3495.4, Unit::MegabitsPerSecond), "3495 Mbit/s");
    }

    #[test]
    fn the_document_has_plain_numbers() {
        let document = document("a machine", &[figure()]);
        let figure = &document["figures"][0];
        assert_eq!(figure["ours"]["median"], 0.005);
        assert_eq!(figure["verdict"], "pass");
        assert_eq!(figure["alternative"], "copy and mount");
    }
}
