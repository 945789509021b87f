//! Heredocs: documents in the lines that follow an instruction, as in a shell.
//!
//! ```text
//! RUN <<EOF                 a script for the shell
//! COPY <<-"EOF" /etc/motd   a file; quoted: nothing in it is expanded; `-`: without leading tabs
//! ```

use super::lines::Lines;
use crate::tree::Heredoc;

/// Reads the documents that the words of an instruction announce, in their order.
pub(super) fn read(rest: &str, lines: &mut Lines, escape: char) -> Result<Vec<Heredoc>, String> {
    if !rest.contains("<<") {
        return Ok(Vec::new());
    }
    super::words::split(rest, escape)
        .iter()
        .filter_map(|word| announced(word))
        .map(|h| fill(h, lines))
        .collect()
}

/// `<<NAME`, `<<-NAME`, `<<"NAME"`, `0<<NAME`, still without its content.
fn announced(word: &str) -> Option<Heredoc> {
    let (chomp, name) = {
        let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        word.strip_prefix('-').map_or((false, word), |name| (true, name))
    };
    let bare: String = name.chars().filter(|c| !['"', '\''].contains(c)).collect();
    // `<<<` is another thing, of the shell's.
    if bare.is_empty() || name.contains('<') {
        return None;
    }
    Some(Heredoc { expand: bare == name, name: bare, content: String::new(), chomp })
}

/// Takes lines until the one that is the name.
fn fill(mut heredoc: Heredoc, lines: &mut Lines) -> Result<Heredoc, String> {
    while let Some(line) = lines.next_raw() {
        let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
        if line == heredoc.name {
            return Ok(heredoc);
        }
        heredoc.content.push_str(line);
        heredoc.content.push('\n');
    }
    Err(format!("unterminated heredoc: no line is {:?}", heredoc.name))
}
