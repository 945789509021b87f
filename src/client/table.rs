//! Lists, as docker prints them: columns, `--format`, `--quiet`.

use super::template;
use anyhow::Result;
use serde_json::{Map, Value};
use std::io::Write;

/// A list to print: what each row has, under the names that `--format` knows them by.
#[derive(Debug, Default)]
pub(crate) struct List {
    rows: Vec<Map<String, Value>>,
}

impl List {
    /// Adds a row of names and values.
    pub(crate) fn row<const N: usize>(&mut self, fields: [(&str, String); N]) {
        self.rows
            .push(fields.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect());
    }

    /// Prints the list as `format` says; without one, as a table of `columns` (the field and its heading).
    pub(crate) fn print(&self, format: Option<&str>, columns: &[(&str, &str)]) -> Result<()> {
        std::io::stdout().write_all(self.text(format, columns)?.as_bytes())?;
        Ok(())
    }

    /// The same as a text.
    pub(crate) fn text(&self, format: Option<&str>, columns: &[(&str, &str)]) -> Result<String> {
        // The shell leaves \t and \n as they are typed; docker reads them so.
        let format = format.map(|f| f.replace("\\t", "\t").replace("\\n", "\n"));
        let table = match format.as_deref() {
            None | Some("table") => {
                columns.iter().map(|(field, _)| format!("{{{{.{field}}}}}")).collect::<Vec<_>>().join("\t")
            }
            Some("json") => return self.each("{{json .}}"),
            Some(other) => match other.strip_prefix("table ") {
                Some(template) => template.to_owned(),
                None => return self.each(other),
            },
        };
        let headings = self.headings(columns);
        let template = template::parse(&table)?;
        let mut lines = vec![template.render(&Value::Object(headings))?];
        for row in &self.rows {
            lines.push(template.render(&Value::Object(row.clone()))?);
        }
        Ok(align(&lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect::<Vec<_>>()))
    }

    fn each(&self, format: &str) -> Result<String> {
        let template = template::parse(format)?;
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&template.render(&Value::Object(row.clone()))?);
            text.push('\n');
        }
        Ok(text)
    }

    /// Each field's heading: the column's, or its own name in capitals, cut where a new word begins.
    fn headings(&self, columns: &[(&str, &str)]) -> Map<String, Value> {
        let fields = self.rows.iter().flat_map(|row| row.keys().map(String::as_str));
        let heading = |field: &str| {
            let known = columns.iter().chain(EXTRA).find(|(name, _)| *name == field);
            known.map_or_else(|| field.to_uppercase(), |(_, heading)| (*heading).to_owned())
        };
        fields
            .chain(columns.iter().map(|(f, _)| *f))
            .chain(EXTRA.iter().map(|(f, _)| *f))
            .map(|f| (f.to_owned(), Value::String(heading(f))))
            .collect()
    }
}

/// Headings of fields that are in no table unless asked for.
const EXTRA: &[(&str, &str)] = &[
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("RunningFor", "CREATED"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Digest", "DIGEST"),
];

/// Pads cells so that columns stand under each other: at least 10 wide, 3 spaces between.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    align_to(rows, 10)
}

/// The same with columns at least so wide.
pub(crate) fn align_to(rows: &[Vec<String>], least: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        // The last cell of a row is in no column: nothing stands to its right.
        let cells =
            rows.iter().filter(|row| column + 1 < row.len()).map(|row| row[column].chars().count() + 3);
        cells.max().unwrap_or(0).max(least)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

/// The first `length` characters, the last of them an ellipsis if there were more.
pub(crate) fn shorten(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

/// An ID as lists show it: 12 characters, without its algorithm.
pub(crate) fn short_id(id: &str) -> String {
    id.split_once(':').map_or(id, |(_, hex)| hex).chars().take(12).collect()
}

/// Indents a JSON document by four spaces, keeping its order, as `docker inspect` shows it.
pub(crate) fn indent(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut letters = json.chars().filter(|c| !matches!(c, '\n' | '\r')).peekable();
    let newline = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("    ", depth));
    };
    while let Some(c) = letters.next() {
        if quoted {
            text.push(c);
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            ' ' | '\t' => {}
            '{' | '[' => {
                text.push(c);
                while letters.next_if(|c| c.is_whitespace()).is_some() {}
                if letters.peek().is_some_and(|c| matches!(c, '}' | ']')) {
                    text.extend(letters.next());
                } else {
                    depth += 1;
                    newline(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                newline(&mut text, depth);
            }
            ':' => text.push_str(": "),
            _ => {
                quoted = c == '"';
                text.push(c);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        let mut list = List::default();
        list.row([("ID", "0123456789ab".into()), ("Image", "base".into()), ("Names", "web".into())]);
        list.row([
            ("ID", "ba9876543210".into()),
            ("Image", "registry:5000/long".into()),
            ("Names", "db".into()),
        ]);
        list
    }
    const COLUMNS: &[(&str, &str)] = &[("ID", "CONTAINER ID"), ("Image", "IMAGE"), ("Names", "NAMES")];

    #[test]
    fn columns_stand_under_each_other() {
        insta::assert_snapshot!(list().text(None, COLUMNS).unwrap(), @r"
        CONTAINER ID   IMAGE                NAMES
        0123456789ab   base                 web
        ba9876543210   registry:5000/long   db
        ");
    }

    #[test]
    fn a_format_chooses_what_is_shown() {
        assert_eq!(
            list().text(Some("{{.Names}}:{{.Image}}"), COLUMNS).unwrap(),
            "web:base\ndb:registry:5000/long\n"
        );
        assert_eq!(
            list().text(Some("table {{.Names}}\\t{{.ID}}"), COLUMNS).unwrap(),
            "NAMES     CONTAINER ID\nweb       0123456789ab\ndb        ba9876543210\n"
        );
        assert_eq!(
            list().text(Some("json"), COLUMNS).unwrap().lines().next().unwrap(),
            r#"{"ID":"0123456789ab","Image":"base","Names":"web"}"#
        );
    }

    #[test]
    fn an_empty_table_has_its_heading() {
        assert_eq!(List::default().text(Some("table {{.Names}}"), COLUMNS).unwrap(), "NAMES\n");
    }

    #[test]
    fn json_is_indented_as_docker_does() {
        insta::assert_snapshot!(indent(r#"[{"Id":"a,b{\"}","Cmd":["sh","-c"],"None":{},"Empty":[ ],"N":1}]"#), @r#"
        [
            {
                "Id": "a,b{\"}",
                "Cmd": [
                    "sh",
                    "-c"
                ],
                "None": {},
                "Empty": [],
                "N": 1
            }
        ]
        "#);
    }

    #[test]
    fn long_commands_are_cut() {
        assert_eq!(shorten("\"sh -c 'sleep 100000'\"", 20), "\"sh -c 'sleep 10000…");
        assert_eq!(shorten("short", 20), "short");
    }
}
