//! `--format '{{.State.Status}}'`: the part of Go's text/template that people use with docker.
//!
//! Fields, `index`, `json`, `range`, `with`, `if`, variables, pipes, comparisons, and the functions
//! that docker adds, over a JSON document.
//!
//! | module | what it explains |
//! |---|---|
//! | this one | the tree that a template is |
//! | `parse` | from text to the tree |
//! | `render` | walking it, with a document in hand |
//! | `functions` | `json`, `join`, `printf` and the others; how Go prints a value |

mod functions;
mod parse;
mod render;

pub(crate) use parse::parse;

use serde_json::Value;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template(Vec<Node>);

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Pipe),
    Set(String, Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range { key: Option<String>, item: Option<String>, over: Pipe, each: Vec<Node>, none: Vec<Node> },
}

/// `a | b x | c`: each call gets the value before it as its last argument.
type Pipe = Vec<Vec<Term>>;

#[derive(Clone, Debug)]
enum Term {
    Literal(Value),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`; `$` is the whole document.
    Variable(String, Vec<String>),
    Group(Pipe, Vec<String>),
    Function(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fill(template: &str) -> String {
        let document = json!({
            "Id": "0123456789abcdef",
            "Name": "/web",
            "State": {"Status": "running", "Pid": 42, "OOMKilled": false},
            "Config": {"Cmd": ["sh", "-c", "true"], "Labels": {"a": "1", "b": "2"}, "Volumes": null},
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/udp": null},
        });
        match parse(template).and_then(|t| t.render(&document)) {
            Ok(text) => text,
            Err(why) => format!("! {why:#}"),
        }
    }

    #[test]
    fn what_people_write() {
        let cases = [
            ("{{.State.Status}} {{.State.Pid}}", "running 42"),
            ("{{.ID}}", "0123456789abcdef"),
            ("{{json .State}}", r#"{"OOMKilled":false,"Pid":42,"Status":"running"}"#),
            ("{{.Config.Cmd}} {{.Config.Labels}}", "[sh -c true] map[a:1 b:2]"),
            ("{{index .Config.Cmd 1}}", "-c"),
            (r#"{{index .Config.Labels "b"}}"#, "2"),
            (r#"{{join .Config.Cmd " "}}"#, "sh -c true"),
            ("{{range .Config.Cmd}}<{{.}}>{{end}}", "<sh><-c><true>"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
            (r#"{{(index (index .Ports "80/tcp") 0).HostPort}}"#, "8080"),
            (
                "{{range $p, $c := .Ports}}{{$p}}{{with $c}} -> {{(index . 0).HostPort}}{{end}} {{end}}",
                "80/tcp -> 8080 90/udp ",
            ),
            ("{{if .State.OOMKilled}}oom{{else if eq .State.Pid 42}}fine{{else}}?{{end}}", "fine"),
            ("{{.Name | upper | printf \"%-6s|\"}}", "/WEB  |"),
            ("{{len .Config.Cmd}} {{not .State.OOMKilled}} {{ne 1 2}}", "3 true true"),
            ("a {{- .State.Pid -}} b", "a42b"),
            ("{{.Config.Volumes}}", "<no value>"),
            ("{{truncate .Id 4}}{{println}}", "0123\n"),
            ("{{range .Config.Volumes}}x{{else}}none{{end}}", "none"),
            ("{{$x := .State}}{{$x.Pid}}", "42"),
        ];
        for (template, text) in cases {
            assert_eq!(fill(template), text, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (template, why) in [
            ("{{.Nothing}}", "no entry for key \"Nothing\""),
            ("{{.State", "unclosed action"),
            ("{{if .State}}", "{{end}} is missing"),
            ("{{nope .}}", "function \"nope\" not defined"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{(.State}}", "unclosed left paren"),
            ("{{index .Config.Cmd 9}}", "index out of range"),
            ("{{eq}}", "wrong number of args"),
        ] {
            assert!(fill(template).contains(why), "{template}: {}", fill(template));
        }
    }
}
