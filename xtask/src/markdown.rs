//! Markdown tables, as far as the committed documents use them.

/// One row of a table: its line, counted from 1, and its cells without white space around.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) line: usize,
    pub(crate) cells: Vec<String>,
}

/// The rows of every table in `text` whose first header cell is `first_header`.
pub(crate) fn rows(text: &str, first_header: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut header: Option<Vec<String>> = None;
    for (line, content) in (1..).zip(text.lines()) {
        let Some(cells) = cells(content) else {
            header = None;
            continue;
        };
        match &header {
            None => header = Some(cells),
            Some(header) if header.first().is_some_and(|cell| cell == first_header) => {
                if !cells.iter().all(|cell| is_rule(cell)) {
                    rows.push(Row { line, cells });
                }
            }
            Some(_) => {}
        }
    }
    rows
}

/// The texts between backticks in a cell.
pub(crate) fn code_spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// `None` for a line that is no row of a table. A cell holds `|` as `\|`.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for c in inner.chars() {
        match (c, escaped) {
            ('|', false) => cells.push(String::new()),
            ('\\', false) => {}
            (c, _) => {
                if let Some(cell) = cells.last_mut() {
                    if escaped && c != '|' {
                        cell.push('\\');
                    }
                    cell.push(c);
                }
            }
        }
        escaped = c == '\\' && !escaped;
    }
    Some(cells.iter().map(|cell| cell.trim().to_owned()).collect())
}

fn is_rule(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_with_the_header_are_read_and_rules_are_not_rows() {
        let text =
            "| id | what |\n| --- | :-: |\n| K1 | a \\| b |\n\n| x | y |\n|-|-|\n| K2 | c |\n";
        let rows = rows(text, "id");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].line, 3);
        assert_eq!(rows[0].cells, ["K1", "a | b"]);
    }

    #[test]
    fn code_spans_are_what_stands_between_backticks() {
        assert_eq!(code_spans("see `a::b` and `c`").collect::<Vec<_>>(), ["a::b", "c"]);
    }
}
