//! Limits asked for on a stage, and what was written there.

use super::Case;
use crate::{
    bundle::Bundle,
    run::{self, Ended},
    stage::Stage,
    verdict::Verdict,
};
use anyhow::Result;
use serde_json::Value;

/// `cgroups limit OPTIONS -- true`, in the stage's group.
pub(super) fn limit(case: &Case, stage: &Stage, options: &[String]) -> Result<Ended> {
    let mut command = case.command();
    command.args(["limit", "--quiet", "--path", &format!("/{}", stage.group)]);
    command.args(options).args(["--", "true"]);
    stage.around(&mut command)?;
    run::start(&mut command)?.end()
}

/// `cgroups run` of a bundle with these limits in the stage's group: how it goes on after they are written (the group is
/// none) is of no interest.
pub(super) fn run_with(case: &Case, stage: &Stage, bundle: &mut Bundle, resources: &Value) -> Result<Ended> {
    bundle.config["linux"]["resources"] = resources.clone();
    bundle.config["linux"]["cgroupsPath"] = format!("/{}", stage.group).into();
    // In front of a stage an ordinary user is root (of a user namespace with one id), and no longer who they are elsewhere.
    for which in ["uidMappings", "gidMappings"] {
        if let Some(first) = bundle.config["linux"].get_mut(which).and_then(|map| map.get_mut(0)) {
            first["hostID"] = 0.into();
        }
    }
    bundle.write()?;
    let mut command = case.command();
    command.arg("--root").arg(case.dir.join("state"));
    command.arg("run").arg("--bundle").arg(&bundle.dir).arg(&stage.group);
    stage.around(&mut command)?;
    run::start(&mut command)?.end()
}

/// What must be in the files of the group; an empty text is "not written".
pub(super) struct Expected<'a> {
    /// What was asked for, to be told.
    pub(super) asked: String,
    /// The controller's tree.
    pub(super) tree: &'a str,
    /// Each file and its text.
    pub(super) files: Vec<(&'a str, String)>,
}

impl Expected<'_> {
    /// The first file that says something else, as a verdict.
    pub(super) fn compare(
        &self,
        stage: &Stage,
        ended: &Ended,
        perhaps: impl Fn(&str, &str, &str) -> &'static str,
    ) -> Option<Verdict> {
        for (file, text) in &self.files {
            let seen = stage.text(self.tree, file);
            if seen == *text {
                continue;
            }
            let version = if self.tree == "unified" { "version 2" } else { "version 1" };
            let what = |text: &str| {
                if text.is_empty() { "is not written".to_owned() } else { format!("is given '{text}'") }
            };
            let hint =
                if ended.untouched() { "the function is still empty" } else { perhaps(file, text, &seen) };
            let said = if seen.is_empty() { format!(" ({})", ended.tell()) } else { String::new() };
            return Some(Verdict::failed(
                format!("for {}, on {version}, {file} {}", self.asked, what(text)),
                format!("{file} {}{said}", what(&seen)),
                hint,
            ));
        }
        None
    }
}
