//! Which daemon: where it listens, and how it is started when it does not.

use crate::paths;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::net::UnixStream;

/// How long a daemon that was just started may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the daemon listens.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    socket: PathBuf,
    /// Nobody named it: then it is ours to start.
    ours: bool,
}

impl Host {
    /// `--host`, else `TEU_HOST`, else `DOCKER_HOST`, else the place where our own daemon listens.
    pub(crate) fn choose(flag: Option<&str>) -> Result<Host> {
        let variable = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let named =
            flag.map(str::to_owned).or_else(|| variable("TEU_HOST")).or_else(|| variable("DOCKER_HOST"));
        let ours = named.is_none();
        let host = named.unwrap_or_else(paths::host);
        match host.strip_prefix("unix://") {
            Some(path) if !path.is_empty() => Ok(Host { socket: path.into(), ours }),
            _ => bail!("the host '{host}' is not of the form unix://PATH, the only kind that teu speaks to"),
        }
    }

    /// As a user would write it.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Connects, starting the daemon first if it is ours and does not run.
    pub(crate) async fn connect(&self) -> Result<UnixStream> {
        match UnixStream::connect(&self.socket).await {
            Ok(stream) => Ok(stream),
            Err(why) if self.ours && absent(&why) => self.start().await,
            Err(why) if absent(&why) => bail!(
                "Cannot connect to the daemon at {}. Is it running? Start it with: teu daemon --host {}",
                self.url(),
                self.url()
            ),
            Err(why) if why.kind() == ErrorKind::PermissionDenied => {
                bail!(
                    "permission denied while connecting to the daemon at {}: it is another user's",
                    self.url()
                )
            }
            Err(why) => Err(why).with_context(|| format!("cannot connect to the daemon at {}", self.url())),
        }
    }

    /// Starts the daemon and waits until it answers.
    async fn start(&self) -> Result<UnixStream> {
        let data_root = paths::data_root();
        fs::create_dir_all(&data_root)
            .with_context(|| format!("cannot make the daemon's directory {}", data_root.display()))?;
        let log_path = data_root.join("daemon.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.with_context(|| format!("cannot open the daemon's log {}", log_path.display()))?;
        let begin = log.metadata()?.len();

        let mut command =
            Command::new(std::env::current_exe().context("cannot find this program's own file")?);
        command.arg("daemon").current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: setsid(2) is async-signal-safe and allocates nothing.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from)) };
        let mut child = command.spawn().context("cannot start the daemon")?;

        // A socket cannot be waited for: inotify tells when its name appears, which is before anybody
        // listens. So connecting is tried, at intervals that grow from 1 ms to 50 ms.
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(why) if !absent(&why) => {
                    return Err(why)
                        .with_context(|| format!("cannot connect to the daemon at {}", self.url()));
                }
                Err(_) => {}
            }
            // It may have ended because another client's daemon was quicker: that one gets a second.
            let ended = child.try_wait()?;
            if let Some(status) = ended
                && began.elapsed() > Duration::from_secs(1)
            {
                bail!("the daemon ended ({status}) before it answered{}", last_lines(&log_path, begin));
            }
            if began.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                bail!("the daemon did not answer within {seconds} s{}", last_lines(&log_path, begin));
            }
        }
    }
}

/// Nobody listens there.
fn absent(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// What the daemon wrote into its log since `begin`, at most ten lines.
fn last_lines(log: &Path, begin: u64) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(usize::try_from(begin).unwrap_or(0)..).unwrap_or_default())
        .into_owned();
    let lines: Vec<_> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(10)..];
    match tail {
        [] => format!("; its log {} says nothing", log.display()),
        tail => format!("; its log {} ends with:\n  {}", log.display(), tail.join("\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets() {
        assert_eq!(Host::choose(Some("unix:///run/x.sock")).unwrap().url(), "unix:///run/x.sock");
        for wrong in ["tcp://127.0.0.1:2375", "unix://", "/run/x.sock"] {
            let why = Host::choose(Some(wrong)).unwrap_err().to_string();
            assert!(why.contains("unix://PATH"), "{why}");
        }
    }

    #[test]
    fn the_end_of_the_log_is_what_this_start_wrote() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "old\nnew\n").unwrap();
        assert!(last_lines(file.path(), 4).ends_with("ends with:\n  new"));
        assert!(last_lines(file.path(), 8).ends_with("says nothing"));
    }
}
