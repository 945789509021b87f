//! A limit, on its way from `config.json` to the kernel: "write this value into that file". What the OCI
//! fields mean is the whole of [`crate::v1`] and [`crate::v2`]; doing it is here.

use crate::{Result, error::Doing};
use nix::errno::Errno;
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// Stands for the first word that a file holds already.
pub(crate) const KEPT: &str = "<as it is> ";

/// One file of a group and what goes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The controller that the file belongs to.
    pub(crate) controller: String,
    /// The file's name.
    pub(crate) file: String,
    /// What is written.
    pub(crate) value: String,
    /// A file and value that serve where the first file does not exist.
    pub(crate) instead: Option<(String, String)>,
    /// Whether the setting may be left out where neither file exists.
    pub(crate) optional: bool,
}

impl Setting {
    pub(crate) fn new(controller: &str, file: impl Into<String>, value: impl ToString) -> Setting {
        Setting {
            controller: controller.into(),
            file: file.into(),
            value: value.to_string(),
            instead: None,
            optional: false,
        }
    }

    pub(crate) fn or(mut self, file: &str, value: impl ToString) -> Setting {
        self.instead = Some((file.into(), value.to_string()));
        self
    }

    pub(crate) fn optional(mut self) -> Setting {
        self.optional = true;
        self
    }

    /// Writes it.
    fn write(&self, directory: &Path, last: &mut Opened) -> Result<()> {
        let file = directory.join(&self.file);
        let value = match self.value.strip_prefix(KEPT) {
            Some(rest) => {
                let now = crate::tree::text(&file).unwrap_or_default();
                format!("{} {rest}", now.split_whitespace().next().unwrap_or("max"))
            }
            None => self.value.clone(),
        };
        match last.write(file, &value) {
            Err(e) if errno(&e) == Some(Errno::ENOENT) => {}
            other => return other,
        }
        match &self.instead {
            Some((file, value)) if directory.join(file).exists() => write(&directory.join(file), value),
            _ if self.optional => Ok(()),
            _ => Err(crate::Error::NoController {
                controller: self.controller.clone(),
                why: format!(
                    "this kernel offers no file {} in {}: it was built without it, or the block device's \
                     scheduler does not do it",
                    self.file,
                    directory.display()
                ),
            }),
        }
    }
}

/// Writes all settings; `directory` finds the group's directory for a controller.
///
/// Some pairs of limits hold each other (memory may not be above memory and swap together; a quota must
/// fit its period), so that which one must go first depends on whether they rise or fall. We need not know: what is
/// refused in the first pass gets its second chance when the others are in place.
pub(crate) fn apply<'a>(settings: &[Setting], directory: impl Fn(&str) -> Option<&'a Path>) -> Result<()> {
    let (mut again, mut last) = (Vec::new(), Opened::default());
    for setting in settings {
        let Some(directory) = directory(&setting.controller) else { continue };
        match setting.write(directory, &mut last) {
            Ok(()) => {}
            Err(e) if matches!(errno(&e), Some(Errno::EINVAL | Errno::ERANGE | Errno::EBUSY)) => {
                again.push((setting, directory))
            }
            Err(e) => return Err(e),
        }
    }
    again.into_iter().try_for_each(|(setting, directory)| {
        setting.write(directory, &mut last).map_err(|error| match errno(&error) {
            Some(errno @ (Errno::EINVAL | Errno::ERANGE)) => refused(setting, directory, errno),
            _ => error,
        })
    })
}

/// The kernel says no more than the errno; the usual reason is the group above.
fn refused(setting: &Setting, directory: &Path, errno: Errno) -> crate::Error {
    let Setting { file, value, .. } = setting;
    let above = directory.with_file_name(file);
    crate::Error::Limit(format!(
        "the kernel refuses '{value}' for {} ({errno:?}): a group can have no more than the one above it, so compare {}",
        directory.join(file).display(),
        above.display()
    ))
}

/// The file that was written last, still open: the rules for devices go one by one into the same.
#[derive(Default)]
struct Opened(Option<(PathBuf, File)>);

impl Opened {
    /// One `write(2)` for each value: the kernel takes it whole or not at all.
    fn write(&mut self, path: PathBuf, value: &str) -> Result<()> {
        let doing = || format!("writing '{value}' into {}", path.display());
        match &mut self.0 {
            Some((last, file)) if *last == path => file.write_all(value.as_bytes()).doing(doing),
            _ => {
                let mut file = OpenOptions::new().write(true).open(&path).doing(doing)?;
                let done = file.write_all(value.as_bytes()).doing(doing);
                self.0 = Some((path, file));
                done
            }
        }
    }
}

/// One value into one file that exists.
pub(crate) fn write(file: &Path, value: &str) -> Result<()> {
    Opened::default().write(file.to_owned(), value)
}

/// The errno inside an error, if it came from the kernel.
pub(crate) fn errno(error: &crate::Error) -> Option<Errno> {
    match error {
        crate::Error::Sys { errno, .. } => Some(*errno),
        _ => None,
    }
}
