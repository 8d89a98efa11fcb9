//! Tables that keep to a width.

use super::text::{fitted, printable};

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    align: Align,
    shrink: Shrink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// Whether a column gives way where a table is too wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shrink {
    Never,
    Yes,
}

/// How a table's lines are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Columns stand below each other, two blanks apart.
    Aligned,
    /// One blank between two fields: as MLN had it, and as scripts cut it.
    Single,
}

/// The least that is left of a column that gives way.
const SHRUNK_COLUMNS_MIN: usize = 6;

/// A column of names: never cut, since half a name is another name.
pub fn name(title: &'static str) -> Column {
    Column { title, align: Align::Left, shrink: Shrink::Never }
}

/// A column of numbers.
pub fn number(title: &'static str) -> Column {
    Column { title, align: Align::Right, shrink: Shrink::Never }
}

/// A column of text that may be cut.
pub fn text(title: &'static str) -> Column {
    Column { title, align: Align::Left, shrink: Shrink::Yes }
}

/// Returns the lines of a table with its titles.
pub fn with_titles(columns: &[Column], rows: Vec<Vec<String>>, columns_max: usize) -> String {
    let titles = columns.iter().map(|column| column.title.to_owned()).collect();
    let all = std::iter::once(titles).chain(rows).collect();
    without_titles(columns, all, Spacing::Aligned, columns_max)
}

/// Returns the lines of a table.
pub fn without_titles(
    columns: &[Column],
    mut rows: Vec<Vec<String>>,
    spacing: Spacing,
    columns_max: usize,
) -> String {
    for cell in rows.iter_mut().flatten() {
        *cell = printable(cell);
    }
    match spacing {
        Spacing::Aligned => {
            let widths = fit(columns, natural_widths(columns, &rows), 2, columns_max);
            rows.iter().map(|row| aligned_line(columns, row, &widths)).collect()
        }
        Spacing::Single => rows
            .iter()
            .map(|row| {
                let widths = row.iter().map(|cell| cell.chars().count()).collect();
                let widths = fit(columns, widths, 1, columns_max);
                let cells: Vec<String> =
                    row.iter().zip(widths).map(|(cell, width)| fitted(cell, width)).collect();
                cells.join(" ").trim_end().to_owned() + "\n"
            })
            .collect(),
    }
}

fn natural_widths(columns: &[Column], rows: &[Vec<String>]) -> Vec<usize> {
    (0..columns.len())
        .map(|at| {
            rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect()
}

/// Takes from the columns that give way, last one first, what there is too much.
fn fit(columns: &[Column], mut widths: Vec<usize>, gap: usize, columns_max: usize) -> Vec<usize> {
    let total: usize = widths.iter().sum::<usize>() + gap * widths.len().saturating_sub(1);
    let mut excess = total.saturating_sub(columns_max);
    for (column, width) in columns.iter().zip(&mut widths).rev() {
        if column.shrink == Shrink::Yes {
            let given = excess.min(width.saturating_sub(SHRUNK_COLUMNS_MIN));
            *width -= given;
            excess -= given;
        }
    }
    widths
}

fn aligned_line(columns: &[Column], row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = columns
        .iter()
        .zip(row)
        .zip(widths)
        .map(|((column, cell), &width)| {
            let cell = fitted(cell, width);
            match column.align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            }
        })
        .collect();
    cells.join("  ").trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_gives_way_and_names_do_not() {
        let columns = [name("Server"), number("#vms"), text("Groups")];
        let row = |name: &str, vms: &str, groups: &str| vec![name.into(), vms.into(), groups.into()];
        let rows = vec![row("oslo", "3", "students,teachers"), row("a-long-name", "12", "")];
        assert_eq!(
            with_titles(&columns, rows.clone(), 80),
            "Server       #vms  Groups\n\
             oslo            3  students,teachers\n\
             a-long-name    12\n"
        );
        let narrow = with_titles(&columns, rows.clone(), 28);
        assert_eq!(narrow, "Server       #vms  Groups\noslo            3  students…\na-long-name    12\n");
        let too_narrow = with_titles(&columns, rows, 10);
        assert!(too_narrow.contains("a-long-name") && too_narrow.contains("stude…"), "{too_narrow}");
    }

    #[test]
    fn single_spacing_is_for_scripts() {
        let columns = [name(""), name(""), text("")];
        let rows = vec![
            vec!["ring".into(), "up".into(), "x\u{1b}".into()],
            vec!["a".into(), "down".into(), String::new()],
        ];
        assert_eq!(without_titles(&columns, rows, Spacing::Single, 80), "ring up x\\u{1b}\na down\n");
    }
}
