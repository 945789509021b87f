//! What may be typed: the command line of runc and crun, to the letter, so that whoever calls those can call this.

use crate::{exec::Exec, limit::Limit, update::Update};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::{ffi::OsString, path::PathBuf};

/// An OCI runtime, and control groups by hand.
#[derive(Parser)]
#[command(name = "cgroups", version = VERSION, subcommand_required = true, disable_version_flag = true)]
pub(crate) struct Cli {
    /// Print the version, that of the specification, and what is built in
    #[arg(id = "version", short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    _version: Option<bool>,
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// dockerd reads these lines (`NAME version X`, `spec: Y`), and scripts the last one, which is crun's.
const VERSION: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\nspec: 1.2.0\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF"
);

/// Options that every command takes, before or after its name.
#[derive(Args)]
pub(crate) struct Global {
    /// Where the state of containers is kept
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Also write errors to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How errors are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Write the steps of a start to the log too
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Read linux.cgroupsPath as systemd's slice:prefix:name
    #[arg(long, global = true)]
    pub(crate) systemd_cgroup: bool,
    /// `spec`: for an ordinary user. Otherwise accepted for runc's sake: what the user may do is asked of the kernel
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) rootless: Option<String>,
    /// Accepted for runc's sake: this runtime cannot checkpoint
    #[arg(long, global = true, hide = true)]
    pub(crate) criu: Option<String>,
    /// Accepted for crun's sake
    #[arg(long, global = true, hide = true)]
    pub(crate) cgroup_manager: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the container of a bundle, all but its program
    Create(Create),
    /// Start the program of a created container
    Start(Id),
    /// Print a container's state as JSON
    State(Id),
    /// Send a signal to a container's first process
    Kill(Kill),
    /// Remove what is left of a stopped container
    Delete(Delete),
    /// Create and start a container, and wait for its end
    Run(Run),
    /// Run another process in a container
    Exec(Box<Exec>),
    /// List the processes of a container
    Ps {
        /// table or json
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// The container's ID
        id: String,
        /// Options for ps(1)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// List containers
    List {
        /// table or json
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Only their IDs
        #[arg(short, long)]
        quiet: bool,
    },
    /// Write a config.json to start from
    Spec {
        /// Where to write it
        #[arg(short, long, default_value = ".")]
        bundle: PathBuf,
    },
    /// Hold all processes of a container
    Pause(Id),
    /// Let them go on
    Resume(Id),
    /// Change a container's limits
    Update(Box<Update>),
    /// Watch a container: what it uses, and when it runs out of memory
    Events {
        /// Print what it uses once, and end
        #[arg(long)]
        stats: bool,
        /// How often (5s, 500ms)
        #[arg(long, default_value = "5s", value_parser = duration)]
        interval: std::time::Duration,
        /// The container's ID
        id: String,
    },
    /// Print what this runtime can do as JSON
    Features,
    /// Not supported: a running container cannot be written to disk
    Checkpoint {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        rest: Vec<String>,
    },
    /// Not supported either
    Restore {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        rest: Vec<String>,
    },
    /// Run a command in a control group of its own
    Limit(Box<Limit>),
    /// Show what groups use
    Stats {
        /// A group's path (/teu/web) or a container's ID; the caller's own group by default
        groups: Vec<String>,
        /// As `events --stats` prints it
        #[arg(long)]
        json: bool,
    },
    /// Show a group's limits: each file and its value
    Show {
        /// A group's path (/teu/web) or a container's ID; the caller's own group by default
        group: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// The bundle's directory
    #[arg(short, long, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// The configuration's file, as crun has it; a relative name begins at the bundle
    #[arg(short = 'f', long, value_name = "FILE", default_value = "config.json")]
    pub(crate) config: PathBuf,
    /// The unix socket to which the master side of the terminal is sent
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// The unix socket to which a descriptor of the process (pidfd_open(2)) is sent
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Where to write the process ID
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Change the root by MS_MOVE and chroot, for a root on ramfs
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// How many descriptors from 3 on the container inherits
    #[arg(long, default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// The container's ID
    pub(crate) id: String,
}

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Tell each step as it is done: how long it took, the system call, what it did, the book's section
    #[arg(long)]
    pub(crate) explain: bool,
    /// Leave the stopped container behind
    #[arg(long)]
    pub(crate) keep: bool,
    /// Accepted for runc's sake: who is whose child is left as it is
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
}

#[derive(Args)]
pub(crate) struct Id {
    /// The container's ID
    pub(crate) id: String,
}

#[derive(Args)]
pub(crate) struct Delete {
    /// Kill it first if it still runs; nothing to remove is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    /// The ID is a regular expression: all containers whose IDs it matches
    #[arg(long)]
    pub(crate) regex: bool,
    /// The container's ID
    pub(crate) id: String,
}

#[derive(Args)]
pub(crate) struct Kill {
    /// To every process of the container
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The container's ID
    pub(crate) id: String,
    /// A name (KILL, SIGTERM, RTMIN+3) or a number
    #[arg(default_value = "TERM", allow_hyphen_values = true)]
    pub(crate) signal: String,
}

/// Reads the command line. A wrong one, and `--help`, end the process here.
pub(crate) fn parse() -> Cli {
    read(&std::env::args_os().collect::<Vec<_>>()).unwrap_or_else(|error| error.exit())
}

fn read(words: &[OsString]) -> Result<Cli, clap::Error> {
    let is = |name: &str| words.iter().skip(1).any(|w| w == name);
    // To build the description of all 21 commands, with their help, takes a twentieth of a container's whole start. So the
    // six that an engine asks for each container are tried alone first, and whatever is not plainly one of them
    // is read again with everything.
    let quick = match () {
        () if is("create") => quick("create", words, Command::Create),
        () if is("run") => quick("run", words, Command::Run),
        () if is("start") => quick("start", words, Command::Start),
        () if is("state") => quick("state", words, Command::State),
        () if is("kill") => quick("kill", words, Command::Kill),
        () if is("delete") => quick("delete", words, Command::Delete),
        () => None,
    };
    quick.map_or_else(|| Cli::try_parse_from(words), Ok)
}

/// One command's own options, with its name as the first word. (Who asks for help is no engine.)
#[derive(Parser)]
#[command(disable_help_flag = true)]
struct Only<T: Args> {
    #[command(flatten)]
    global: Global,
    name: String,
    #[command(flatten)]
    options: T,
}

fn quick<T: Args>(name: &str, words: &[OsString], make: fn(T) -> Command) -> Option<Cli> {
    let Only { global, name: found, options } = Only::<T>::try_parse_from(words).ok()?;
    (found == name).then(|| Cli { _version: None, global, command: make(options) })
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// A size, or -1 for no limit.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = cgroups::size::parse(text)?;
    i64::try_from(bytes).map_err(|_| format!("invalid size: '{text}' is more than memory can be"))
}

/// `5s`, `500ms`, `1m`; a bare number is seconds.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = match &text[split..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("'{text}' is no duration such as 5s, 500ms or 1m")),
    };
    let number: f64 = text[..split].parse().map_err(|_| format!("'{text}' is no duration such as 5s"))?;
    match std::time::Duration::try_from_secs_f64(number * unit) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("'{text}' must be more than nothing, and less than forever")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The shorter way understands the same, and leaves alone what is not its own.
    #[test]
    fn the_quick_way_is_the_same_way() {
        let read = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            read(&words)
        };
        let Ok(Cli { global, command: Command::Run(run), .. }) =
            read("cgroups --root run run --bundle /b --debug run")
        else {
            panic!("run")
        };
        assert_eq!((global.root, global.debug), (Some("run".into()), true));
        assert_eq!((run.create.id.as_str(), run.create.bundle), ("run", "/b".into()));
        assert!(matches!(read("cgroups exec web run"), Ok(Cli { command: Command::Exec(_), .. })));
        assert!(matches!(read("cgroups ps start"), Ok(Cli { command: Command::Ps { .. }, .. })));
        for wrong in ["cgroups start", "cgroups start a b", "cgroups kill --no-such a", "cgroups run --help"]
        {
            let error = read(wrong).err().expect(wrong).to_string();
            assert!(error.contains("Usage: cgroups "), "{error}");
        }
    }

    /// As conmon, containerd's shim, and people type it.
    #[test]
    fn lines_that_must_be_understood() {
        for line in [
            "--log-format=json --log /x create --bundle /b --pid-file /p web",
            "create web --bundle /b --console-socket /s --no-pivot --no-new-keyring --preserve-fds 2",
            "--systemd-cgroup --root /r run -d -b /b web",
            "run web --bundle /b --detach",
            "--cgroup-manager cgroupfs run --config config.json --detach web",
            "exec --pid-file /p --process /f --detach web",
            "exec -it web sh -c ls",
            "exec --cwd / --env A=B --user 1:2 --cap CAP_KILL web sh --login",
            "kill --all web 9",
            "kill web SIGRTMIN+3 --all",
            "delete web --force",
            "delete --force --regex web-.*",
            "ps --format json web",
            "ps web -ef",
            "update --resources - web",
            "update --memory 64m --memory-swap -1 --cpu-quota -1 --pids-limit -1 web",
            "events --stats web",
            "list -q -f json",
            "--rootless=true state web",
            "limit --memory 64m --cpus 0.5 --cpuset-cpus 0 --pids 32 -- sh -c true",
            "limit -m 64m sh --login",
        ] {
            let words = std::iter::once("cgroups").chain(line.split(' '));
            // `-i` is docker's; here standard input always goes along.
            let words: Vec<OsString> =
                words.map(|w| if w == "-it" { "-t".into() } else { w.into() }).collect();
            if let Err(error) = Cli::try_parse_from(&words).and(read(&words)) {
                panic!("{line}: {error}");
            }
        }
    }
}
