//! `WORKDIR`: the directory in which commands run, and which relative paths start from. It is made.

use super::{Keyword, anything};
use crate::{
    Error, Result,
    stage::Stage,
    tree::{Form, Instruction},
};
use std::path::{Component, Path, PathBuf};

pub(super) static WORKDIR: Keyword =
    Keyword { name: "WORKDIR", form: Form::Text, flags: &[], heredocs: false, check: anything, apply };

fn apply(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let path = stage.expand(i.text_args())?;
    if path.is_empty() {
        let reason = "cannot normalize nothing: the path is empty after its variables".into();
        return Err(Error::Instruction { instruction: "WORKDIR", reason });
    }
    let path = absolute(&stage.config.config.working_dir, &path);
    let text = path.to_string_lossy().into_owned();
    stage.config.config.working_dir = text.clone();
    let created_by = format!("{} #(nop) WORKDIR {text}", stage.config.config.shell().join(" "));
    stage.commit(&created_by, &[], |stage| {
        stage.change(|_, change| {
            change.root()?.mkdir_all(&path, 0o755)?;
            Ok(())
        })
    })
}

/// A path as an absolute one, from the working directory; `..` is taken by its text, as docker does.
pub(crate) fn absolute(cwd: &str, path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new("/").join(cwd).join(path).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::absolute;
    use std::path::Path;

    #[test]
    fn relative_to_the_one_before() {
        for (cwd, path, expected) in [
            ("", "a", "/a"),
            ("/a", "b", "/a/b"),
            ("/a", "/b", "/b"),
            ("/a", "..", "/"),
            ("/a", "../../x", "/x"),
            ("a", ".", "/a"),
        ] {
            assert_eq!(absolute(cwd, path), Path::new(expected));
        }
    }
}
