//! What it costs to understand and to compare projects: the language's own benchmark, run as a program that lies
//! beside this one, so that its limits stand in one place.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Scale;
use crate::figure::{Figure, Goal, Unit};
use crate::statistics::Sample;

const MEGABYTE: f64 = 1e6;

/// Every figure of the language, with its limit. What is measured is a few milliseconds each, so all rounds are run.
pub(crate) fn bench(_: Scale) -> Vec<Figure> {
    let mut command = Command::new(crate::program("mln-language"));
    command.arg("--json").env("MLNCTL", crate::program("mlnctl")).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("mln-language: {error}; try: make bench"));
    // That a limit is missed is told by its exit code, and by the table.
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<Figure> = text.lines().map(figure).collect();
    assert!(!figures.is_empty(), "mln-language: {}", String::from_utf8_lossy(&output.stderr));
    figures
}

fn figure(line: &str) -> Figure {
    let read = || {
        let value: Value = serde_json::from_str(line).ok()?;
        let (unit, scale) = match value["unit"].as_str()? {
            "ms" => (Unit::Seconds, 1e-3),
            "MB" => (Unit::Bytes, MEGABYTE),
            "×" => (Unit::Times, 1.0),
            _ => return None,
        };
        let samples = value["samples"].as_array()?.iter().map(|sample| Some(sample.as_f64()? * scale));
        let ours = Sample::of(samples.collect::<Option<Vec<f64>>>()?)?;
        let goal = Goal::AtMost(value["limit"].as_f64()? * scale);
        Some(Figure::alone("language", value["name"].as_str()?, unit, ours, goal))
    };
    read().unwrap_or_else(|| panic!("this is no figure of the language: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Verdict;

    #[test]
    fn a_line_of_the_language_is_a_figure_with_its_limit() {
        let line = r#"{"name":"ring","unit":"ms","samples":[4.0,2.0,3.0],"limit":10.0}"#;
        let found = figure(line);
        assert_eq!((found.what.as_str(), found.unit), ("ring", Unit::Seconds));
        assert!((found.ours.median() - 0.003).abs() < 1e-12);
        assert_eq!(found.verdict(), Verdict::Pass);
        let late = figure(r#"{"name":"growth","unit":"×","samples":[3.5],"limit":3.0}"#);
        assert_eq!((late.unit, late.verdict()), (Unit::Times, Verdict::Miss));
    }
}
