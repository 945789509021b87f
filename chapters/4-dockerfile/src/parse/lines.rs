//! Logical lines: an instruction may go on over many lines of the file.

/// The lines of a file, and where we are in it.
pub(super) struct Lines<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    escape: char,
}

/// An instruction's whole line.
pub(super) struct Logical {
    /// Of its first line, from 1.
    pub(super) number: usize,
    /// Without the escapes and line ends.
    pub(super) text: String,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str, escape: char) -> Lines<'a> {
        Lines { lines: text.lines().enumerate(), escape }
    }

    /// The next line as it is: for heredocs, in which nothing has a meaning.
    pub(super) fn next_raw(&mut self) -> Option<&'a str> {
        self.lines.next().map(|(_, line)| line)
    }

    /// The next instruction. Blank lines and comments between and *inside* instructions are none of it: a
    /// comment in the middle of a long RUN does not end it (and a blank line, for history's sake, neither).
    pub(super) fn next_logical(&mut self) -> Option<Logical> {
        let mut logical: Option<Logical> = None;
        while let Some((index, line)) = self.lines.next() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let logical = logical.get_or_insert_with(|| Logical { number: index + 1, text: String::new() });
            // Only the first line loses its indent: in the others it may be part of a word's separation.
            let line = if logical.text.is_empty() { line.trim_start() } else { line };
            match self.continued(line) {
                Some(part) => logical.text.push_str(part),
                None => {
                    logical.text.push_str(line);
                    break;
                }
            }
        }
        let mut logical = logical?;
        logical.text.truncate(logical.text.trim_end().len());
        // A lone escape at the end of the file.
        if logical.text.is_empty() { self.next_logical() } else { Some(logical) }
    }

    /// The line without its last escape character if that continues it: spaces may follow it, and an
    /// escaped escape does not count.
    fn continued<'l>(&self, line: &'l str) -> Option<&'l str> {
        let part = line.trim_end_matches([' ', '\t', '\r']).strip_suffix(self.escape)?;
        (!part.ends_with(self.escape)).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str, escape: char) -> Vec<(usize, String)> {
        let mut lines = Lines::new(text, escape);
        std::iter::from_fn(|| lines.next_logical().map(|l| (l.number, l.text))).collect()
    }

    #[test]
    fn joins_continued_lines_and_drops_comments_inside() {
        let text = "\n# top\n  RUN a \\\n  # why\n\n   b \\ \t\n\tc\nUSER x\n";
        assert_eq!(logical(text, '\\'), [(3, "RUN a    b \tc".to_owned()), (8, "USER x".to_owned())]);
    }

    #[test]
    fn an_escaped_escape_does_not_continue() {
        assert_eq!(logical("RUN a\\\\\nUSER x", '\\').len(), 2);
    }

    #[test]
    fn another_escape_character() {
        assert_eq!(logical("COPY a `\n c:\\", '`'), [(1, "COPY a  c:\\".to_owned())]);
    }

    #[test]
    fn a_lone_escape_at_the_end_is_nothing() {
        assert_eq!(logical("USER x\n\\\n", '\\'), [(1, "USER x".to_owned())]);
        assert_eq!(logical("\\", '\\'), []);
    }
}
