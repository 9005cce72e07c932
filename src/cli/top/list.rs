//! The table of the screen: which rows there are, and which of them are seen.
//!
//! A broker may have 100,000 topics. Their rows are made and sorted when there is another look or another order,
//! and only those that there is room for are drawn, so that no key waits for all.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table, TableState};

use super::table::{self, Since};
use super::{By, View};

/// So much of a name is seen, whatever other columns there are.
const NAME_WIDTH_MIN: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct List {
    /// All rows of the last look, in the order that `sorted_by` is.
    sorted: Vec<table::Row>,
    sorted_by: Option<(View, By)>,
    /// Indices into them: those with the filter in their first column.
    found: Vec<usize>,
    filter: Option<String>,
    /// Indices into `found`: the row that is marked, and the first that is seen.
    selected: usize,
    top: usize,
}

impl List {
    /// Has the rows made anew: there is another look.
    pub(super) fn forget(&mut self) {
        self.sorted_by = None;
    }

    /// Marks another row. One beyond the last is the last.
    pub(super) fn select(&mut self, row: usize) {
        self.selected = row;
    }

    /// Marks the row so many further down or up.
    pub(super) fn move_by(&mut self, rows: isize) {
        let last = self.found.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(rows).min(last);
    }

    /// Makes what is not as it was wanted.
    pub(super) fn update(&mut self, since: &Since<'_>, view: View, by: By, filter: &str) {
        if self.sorted_by != Some((view, by)) {
            self.sorted = since.rows(view, by);
            self.sorted_by = Some((view, by));
            self.filter = None;
        }
        if self.filter.as_deref() != Some(filter) {
            let rows = self.sorted.iter().enumerate();
            let found = rows.filter(|(_, row)| row[0].contains(filter));
            self.found = found.map(|(at, _)| at).collect();
            self.filter = Some(filter.to_owned());
        }
    }

    /// The rows that there is room for, the marked one among them, and which of them that is.
    fn window(&mut self, height: usize) -> (Vec<&table::Row>, usize) {
        let height = height.max(1);
        let count = self.found.len();
        self.selected = self.selected.min(count.saturating_sub(1));
        let first = (self.selected + 1).saturating_sub(height);
        self.top = self
            .top
            .min(count.saturating_sub(height))
            .clamp(first, self.selected);
        let seen = self.found.iter().skip(self.top).take(height);
        let rows = seen.map(|at| &self.sorted[*at]).collect();
        (rows, self.selected - self.top)
    }

    /// As many columns as there is room for, from the left.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, view: View, by: By) {
        let height = usize::from(area.height.saturating_sub(1));
        let (rows, selected) = self.window(height);
        let widths = widths(usize::from(area.width), view.columns(), &rows);
        let aligned = |text: String, is_text: bool, width: usize| {
            let line = Line::from(text);
            if is_text || width == 0 {
                line
            } else {
                line.right_aligned()
            }
        };
        let is_text = |at: usize| at == 0 || rows.first().is_some_and(|row| row[at].is_text());
        let names = view.columns().iter().enumerate().take(widths.len());
        let header = names.map(|(at, name)| {
            let arrow = match (at == by.column, by.is_reversed) {
                (false, _) => "",
                (true, false) => "▼",
                (true, true) => "▲",
            };
            aligned(format!("{name}{arrow}"), is_text(at), widths[at])
        });
        let header = Row::new(header).style(Modifier::UNDERLINED);
        let body = rows.iter().map(|row| {
            let cells = row.iter().enumerate().take(widths.len()).map(|(at, cell)| {
                let line = aligned(cell.short(), cell.is_text(), widths[at]);
                if view.columns()[at].starts_with("DROP") && cell.is_above_zero() {
                    Cell::from(line.yellow())
                } else {
                    Cell::from(line)
                }
            });
            Row::new(cells)
        });
        let constraints = widths
            .iter()
            .map(|width| Constraint::Length(u16::try_from(*width).unwrap_or(u16::MAX)));
        let table = Table::new(body, constraints)
            .header(header)
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut place = TableState::default().with_selected(selected);
        frame.render_stateful_widget(table, area, &mut place);
    }
}

/// How wide the columns are that there is room for, from the left. The first gets what the others leave
/// it, and is cut if that is less than it is wide.
fn widths(room: usize, columns: &[&str], rows: &[&table::Row]) -> Vec<usize> {
    let widths = columns.iter().enumerate().map(|(at, name)| {
        let cells = rows.iter().map(|row| row[at].short().chars().count());
        // The arrow of the column by which it is sorted.
        let least = name.chars().count() + 1;
        cells.max().unwrap_or_default().max(least)
    });
    let mut widths: Vec<_> = widths.collect();
    let others: usize = widths.iter().skip(1).map(|width| width + 1).sum();
    if let Some(first) = widths.first_mut() {
        *first = room
            .saturating_sub(others)
            .clamp(NAME_WIDTH_MIN.min(*first), *first);
    }
    let mut taken = 0;
    let fits = widths.iter().take_while(|width| {
        taken += **width;
        let fits = taken <= room;
        taken += 1;
        fits
    });
    let fitting = fits.count();
    widths.truncate(fitting);
    widths
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::look::{Look, Meters};
    use super::*;

    fn look(topics: usize) -> Look {
        let topics = (0..topics).map(|at| format!("\"{at:06}\":{{}}"));
        let topics: Vec<_> = topics.collect();
        let stats = format!(r#"{{"topics":{{{}}},"totals":{{}}}}"#, topics.join(","));
        Look {
            at: Instant::now(),
            stats: serde_json::from_str(&stats).expect("stats"),
            connections: Vec::new(),
            meters: Meters::default(),
        }
    }

    fn by(column: usize, is_reversed: bool) -> By {
        By {
            column,
            is_reversed,
        }
    }

    fn seen(list: &mut List, height: usize) -> (Vec<String>, usize) {
        let (rows, selected) = list.window(height);
        let names = rows.iter().map(|row| row[0].short());
        (names.collect(), selected)
    }

    #[test]
    fn keys_move_among_many_topics_and_make_none_of_them_anew() {
        let look = look(100_000);
        let since = Since::new(None, &look);
        let mut list = List::default();
        list.update(&since, View::Topics, by(0, false), "");
        let made = list.sorted.as_ptr();
        assert_eq!(
            seen(&mut list, 2),
            (vec!["000000".into(), "000001".into()], 0)
        );
        list.move_by(2);
        assert_eq!(
            seen(&mut list, 2),
            (vec!["000001".into(), "000002".into()], 1)
        );
        list.move_by(-1);
        assert_eq!(
            seen(&mut list, 2),
            (vec!["000001".into(), "000002".into()], 0)
        );
        list.select(usize::MAX);
        assert_eq!(
            seen(&mut list, 2),
            (vec!["099998".into(), "099999".into()], 1)
        );
        list.move_by(isize::MIN);
        assert_eq!(seen(&mut list, 1), (vec!["000000".into()], 0));
        list.update(&since, View::Topics, by(0, false), "0007");
        list.select(usize::MAX);
        assert_eq!(
            seen(&mut list, 2),
            (vec!["080007".into(), "090007".into()], 1)
        );
        assert_eq!(list.sorted.as_ptr(), made);
        list.update(&since, View::Topics, by(0, true), "");
        list.select(0);
        assert_eq!(seen(&mut list, 1), (vec!["099999".into()], 0));
    }

    #[test]
    fn another_look_may_have_fewer_rows_than_were_passed() {
        let (many, few, none) = (look(10), look(3), look(0));
        let mut list = List::default();
        let update = |list: &mut List, look: &Look| {
            list.forget();
            list.update(&Since::new(None, look), View::Topics, by(0, false), "");
        };
        update(&mut list, &many);
        list.select(8);
        assert_eq!(seen(&mut list, 4).1, 3);
        update(&mut list, &few);
        let all = ["000000", "000001", "000002"].map(String::from).to_vec();
        assert_eq!(seen(&mut list, 4), (all, 2));
        update(&mut list, &none);
        assert_eq!(seen(&mut list, 0), (Vec::new(), 0));
        list.move_by(1);
        assert_eq!(seen(&mut list, 4), (Vec::new(), 0));
    }
}
