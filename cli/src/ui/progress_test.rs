//! Progress, with the time as an argument.

use mln_protocol::id::Name;

use super::*;

fn step(vm: &str, step: Step, state: StepState) -> Progress {
    Progress {
        project: None,
        vm: Some(Name::parse(vm).expect("a valid name")),
        host: Some(Name::parse("oslo").expect("a valid name")),
        step,
        state,
        detail: String::new(),
    }
}

#[test]
fn a_pipe_gets_a_line_at_the_begin_and_the_end_of_a_step() {
    let mut board = Board::default();
    let begun = step("router1", Step::Build, StepState::Begun);
    let detail = Progress { detail: "half done".to_owned(), ..begun.clone() };
    let lines = [
        board.plain_note(&begun, 0),
        board.plain_note(&detail, 500),
        board.plain_note(&step("router1", Step::Build, StepState::Done), 1_250),
        board.plain_note(&step("r2", Step::Start, StepState::Unchanged), 1_300),
        board.plain_note(&step("r3", Step::Start, StepState::Failed), 1_400),
    ];
    assert_eq!(
        lines.map(|line| line.unwrap_or_default()),
        [
            "- router1 on oslo          building",
            "",
            "✔ router1 on oslo          built (1.2 s)",
            "✔ r2 on oslo               already up",
            "✘ r3 on oslo               starting failed",
        ]
    );
    assert_eq!(board.summary(2_000).as_deref(), Some("2 done, 1 failed in 2.0 s"));
}

#[test]
fn a_terminal_keeps_what_ended_and_moves_what_did_not() {
    let mut board = Board::default();
    assert_eq!(board.note(&step("a", Step::Start, StepState::Begun), 0), None);
    assert_eq!(board.note(&step("b", Step::Start, StepState::Begun), 100), None);
    assert_eq!(
        board.note(&step("a", Step::Start, StepState::Done), 900).as_deref(),
        Some("✔ a on oslo                started (0.9 s)")
    );
    assert_eq!(board.live(1_100, 80), ["⠙ b on oslo                starting (1.0 s)"]);
    assert_eq!(board.live(1_200, 80), ["⠹ b on oslo                starting (1.1 s)"]);
    assert_eq!(board.live(1_200, 10), ["⠹ b on os…"]);
}

/// What was lost stood in a line that the spinner took away.
#[test]
fn what_a_takeover_loses_stays_to_be_read() {
    let begun = step("a", Step::TakeOver, StepState::Begun);
    let begun = Progress { detail: "what was written since is lost".to_owned(), ..begun };
    let done = step("a", Step::TakeOver, StepState::Done);
    let mut board = Board::default();
    assert_eq!(board.note(&begun, 0), None);
    let kept = "✔ a on oslo                taken over: what was written since is lost (0.9 s)";
    assert_eq!(board.note(&done, 900).as_deref(), Some(kept));
    // A pipe has the line from before, and gets it once.
    let mut board = Board::default();
    let first = board.plain_note(&begun, 0).unwrap_or_default();
    assert!(first.ends_with("taking over: what was written since is lost"), "{first}");
    assert_eq!(
        board.plain_note(&done, 900).as_deref(),
        Some("✔ a on oslo                taken over (0.9 s)")
    );
    // Where it comes to nothing, nothing was lost.
    let mut board = Board::default();
    board.note(&begun, 0);
    let failed = board.note(&step("a", Step::TakeOver, StepState::Failed), 900).unwrap_or_default();
    assert!(!failed.contains("lost"), "{failed}");
}

#[test]
fn many_vms_do_not_fill_the_screen() {
    let mut board = Board::default();
    for number in 0..50 {
        board.note(&step(&format!("n{number}"), Step::Start, StepState::Begun), 0);
    }
    let live = board.live(0, 80);
    assert_eq!(live.len(), LIVE_LINES_MAX + 1);
    assert_eq!(live.last().map(String::as_str), Some("  and 40 more"));
}

#[test]
fn redrawing_goes_back_over_the_live_lines_only() {
    let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(redraw(0, &[], &lines(&["a"])), "a\n");
    assert_eq!(redraw(2, &lines(&["✔ a"]), &lines(&["b"])), "\u{1b}[2A\u{1b}[J✔ a\nb\n");
    assert_eq!(redraw(0, &[], &[]), "");
}
