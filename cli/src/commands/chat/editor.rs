//! The input line: text, cursor, and what was typed before. Pure; driven by the terminal's keys.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use crate::output::display_width;

/// A line being edited.
#[derive(Debug, Default)]
pub(super) struct Editor {
    text: String,
    /// A byte position in `text`, at a grapheme's boundary.
    cursor: usize,
    /// Lines that were entered, the oldest first.
    history: Vec<String>,
    /// Which of `history` is shown, while one is.
    recalled: Option<usize>,
}

impl Editor {
    /// What is typed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Types or pastes; line ends become blanks, other control characters vanish.
    pub(super) fn insert(&mut self, text: &str) {
        let flat: String = text
            .replace("\r\n", "\n")
            .chars()
            .map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c })
            .filter(|c| !c.is_control())
            .collect();
        self.text.insert_str(self.cursor, &flat);
        self.cursor += flat.len();
    }

    /// Takes the line.
    pub(super) fn enter(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        self.cursor = 0;
        self.recalled = None;
        if !text.trim().is_empty() && self.history.last() != Some(&text) {
            self.history.push(text.clone());
        }
        text
    }

    /// One grapheme to the left.
    pub(super) fn left(&mut self) {
        self.cursor = self.before();
    }

    /// One grapheme to the right.
    pub(super) fn right(&mut self) {
        self.cursor = self.after();
    }

    /// To the start of the word.
    pub(super) fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    /// To the end of the word.
    pub(super) fn word_right(&mut self) {
        let words = self.text[self.cursor..].unicode_word_indices();
        let end = words.map(|(at, word)| self.cursor + at + word.len()).next();
        self.cursor = end.unwrap_or(self.text.len());
    }

    /// To the start of the line.
    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    /// To the end of the line.
    pub(super) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// Deletes to the left.
    pub(super) fn backspace(&mut self) {
        self.delete_from(self.before());
    }

    /// Deletes to the right.
    pub(super) fn delete(&mut self) {
        let end = self.after();
        self.text.replace_range(self.cursor..end, "");
    }

    /// Deletes the word to the left.
    pub(super) fn delete_word(&mut self) {
        self.delete_from(self.word_start());
    }

    /// Deletes everything to the left.
    pub(super) fn delete_to_start(&mut self) {
        self.delete_from(0);
    }

    /// Deletes everything to the right.
    pub(super) fn delete_to_end(&mut self) {
        self.text.truncate(self.cursor);
    }

    /// Shows the line entered before.
    pub(super) fn previous(&mut self) {
        match self.recalled {
            None if self.history.is_empty() => {}
            None => self.recall(self.history.len() - 1),
            Some(0) => {}
            Some(index) => self.recall(index - 1),
        }
    }

    /// Shows the line entered after; after the last, an empty one.
    pub(super) fn next(&mut self) {
        match self.recalled {
            None => {}
            Some(index) if index + 1 < self.history.len() => self.recall(index + 1),
            Some(_) => {
                self.recalled = None;
                self.text.clear();
                self.cursor = 0;
            }
        }
    }

    /// The part that fits into so many columns, and the cursor's column in it.
    pub(super) fn view(&self, columns: usize) -> (&str, usize) {
        // One column is left for the cursor behind the text.
        let room = columns.saturating_sub(1);
        let before = &self.text[..self.cursor];
        let mut start = 0;
        let mut width = display_width(before);
        for grapheme in before.graphemes(true) {
            if width <= room {
                break;
            }
            width -= display_width(grapheme);
            start += grapheme.len();
        }
        let mut end = start;
        let mut shown = 0;
        for grapheme in self.text[start..].graphemes(true) {
            shown += display_width(grapheme);
            if shown > room {
                break;
            }
            end += grapheme.len();
        }
        (&self.text[start..end], width)
    }

    fn recall(&mut self, index: usize) {
        self.recalled = Some(index);
        self.text.clone_from(&self.history[index]);
        self.cursor = self.text.len();
    }

    fn delete_from(&mut self, start: usize) {
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    fn before(&self) -> usize {
        let mut cursor = GraphemeCursor::new(self.cursor, self.text.len(), true);
        cursor.prev_boundary(&self.text, 0).ok().flatten().unwrap_or(0)
    }

    fn after(&self) -> usize {
        let mut cursor = GraphemeCursor::new(self.cursor, self.text.len(), true);
        cursor.next_boundary(&self.text, 0).ok().flatten().unwrap_or(self.text.len())
    }

    fn word_start(&self) -> usize {
        let words = self.text[..self.cursor].unicode_word_indices();
        words.map(|(at, _)| at).next_back().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Editor {
        let mut editor = Editor::default();
        editor.insert(text);
        editor
    }

    #[test]
    fn a_family_is_one_step() {
        let mut editor = typed("a👨‍👩‍👧é");
        editor.left();
        editor.left();
        editor.insert("|");
        assert_eq!(editor.text(), "a|👨‍👩‍👧é");
        editor.right();
        editor.backspace();
        assert_eq!(editor.text(), "a|é");
        editor.delete();
        assert_eq!(editor.text(), "a|");
    }

    #[test]
    fn words_and_ends() {
        let mut editor = typed("one two  three");
        editor.word_left();
        editor.delete_word();
        assert_eq!(editor.text(), "one three");
        editor.home();
        editor.word_right();
        editor.delete_to_end();
        assert_eq!(editor.text(), "one");
        editor.delete_to_start();
        assert_eq!(editor.text(), "");
        editor.backspace();
        editor.delete();
        editor.left();
        editor.right();
        assert_eq!(editor.text(), "");
    }

    #[test]
    fn pasted_lines_become_one() {
        assert_eq!(typed("a\r\nb\tc\u{1b}[2J").text(), "a b c[2J");
    }

    #[test]
    fn history_goes_back_and_forth() {
        let mut editor = typed("one");
        assert_eq!(editor.enter(), "one");
        editor.insert("two");
        editor.enter();
        editor.previous();
        editor.previous();
        editor.previous();
        assert_eq!(editor.text(), "one");
        editor.next();
        assert_eq!(editor.text(), "two");
        editor.next();
        assert_eq!(editor.text(), "");
    }

    #[test]
    fn the_view_follows_the_cursor_by_columns() {
        let mut editor = typed("日本語abc");
        assert_eq!(editor.view(20), ("日本語abc", 9));
        assert_eq!(editor.view(6), ("語abc", 5));
        editor.home();
        assert_eq!(editor.view(6), ("日本", 0));
        assert_eq!(editor.view(1), ("", 0));
        assert_eq!(editor.view(0), ("", 0));
    }
}
