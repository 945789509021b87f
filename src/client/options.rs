//! What `run` and `create` say about a container.
//!
//! | module | what it holds |
//! |---|---|
//! | this one | the flags, and which streams they attach to |
//! | `document` | from the flags, the document that the API wants |
//! | [`limits`] | the flags that limit, which `update` has too |
//! | [`lists`] | variables, labels, and other pairs, from flags and files |
//! | [`values`] | one flag's value: `1.5` processors, `on-failure:3`, `nofile=10:20` |

mod document;
pub(super) mod limits;
pub(super) mod lists;
#[cfg(test)]
mod tests;
pub(super) mod values;

use anyhow::{Result, bail};
use limits::Limits;

/// The flags of a container.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Settings {
    /// Print this help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// A line for the container's /etc/hosts (name:address)
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Attach only to these of stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Give a capability
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// The control group to be made under
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Write the container's ID into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<std::path::PathBuf>,
    /// A device of the host (HOST[:CONTAINER[:rwm]])
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// A DNS server
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// A DNS option
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// A DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// The NIS domain name
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// The program to run instead of the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// A variable (NAME=value, or NAME to take it from here)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file of variables, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// A port that the container listens on
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// A further group of the user
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// The command that tells whether the container is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two checks
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,
    /// So many failures in a row make it unhealthy
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<i64>,
    /// Failures in this time from the start do not count
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,
    /// The longest that a check may take
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,
    /// Switch the image's health check off
    #[arg(long)]
    no_healthcheck: bool,
    /// The container's host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Run a small init as process 1, which forwards signals and reaps
    #[arg(long)]
    init: bool,
    /// Keep stdin open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// A fixed IPv4 address in its network
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// The IPC namespace (private, shareable, host, container:NAME)
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// A label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// A file of labels, one a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<String>,
    /// Where the log goes (json-file, none)
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// An option of the log driver
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// A mount (type=bind|volume|tmpfs,source=…,target=…,readonly)
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// The container's name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Its network (bridge, none, host, container:NAME, or a network's name)
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// A further name in its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Never kill it for lack of memory
    #[arg(long)]
    oom_kill_disable: bool,
    /// How willingly the kernel kills it for lack of memory (-1000 to 1000)
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    oom_score_adj: Option<i64>,
    /// The PID namespace (host, container:NAME)
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// The image's platform (os/arch), if it has several
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// All capabilities and devices, nothing masked
    #[arg(long)]
    privileged: bool,
    /// Publish a port ([IP:][HOSTPORT:]PORT[/PROTOCOL])
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<String>,
    /// Publish every exposed port on some port of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// When to pull the image (always, missing, never)
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"])]
    pub(crate) pull: String,
    /// Do not show the pull
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Make the root read-only
    #[arg(long)]
    read_only: bool,
    /// When to start it again (no, on-failure[:MAX], always, unless-stopped)
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// The OCI runtime
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// A security option (seccomp=FILE|unconfined, no-new-privileges, …)
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// The size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// The signal that `stop` sends
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How long `stop` waits before it kills, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// A kernel parameter of its namespaces
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,
    /// A directory in memory (PATH[:OPTIONS])
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// A resource limit (nofile=1024:2048)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// The user (name or number, [:group])
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// The user namespace (host)
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// The UTS namespace (host)
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// A directory or volume ([SOURCE:]TARGET[:OPTIONS])
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Take the volumes of another container
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    #[command(flatten)]
    limits: Limits,
    /// The image, and the command with its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]")]
    words: Vec<String>,
}

/// Which streams a client attaches to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    /// stdin
    pub(crate) stdin: bool,
    /// stdout
    pub(crate) stdout: bool,
    /// stderr
    pub(crate) stderr: bool,
}

impl Settings {
    /// The image, as it was typed.
    pub(crate) fn image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What to attach to: nothing when detached, what `-a` says, else all but an stdin that nobody asked to keep open.
    pub(crate) fn streams(&self, detached: bool) -> Result<Streams> {
        let mut streams = Streams::default();
        if detached {
            return Ok(streams);
        }
        if self.attach.is_empty() {
            return Ok(Streams { stdin: self.interactive, stdout: true, stderr: true });
        }
        for name in &self.attach {
            match name.to_lowercase().as_str() {
                "stdin" => streams.stdin = true,
                "stdout" => streams.stdout = true,
                "stderr" => streams.stderr = true,
                _ => bail!("invalid argument \"{name}\" for -a: valid streams are stdin, stdout and stderr"),
            }
        }
        Ok(streams)
    }
}
