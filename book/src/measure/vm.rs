//! The same small program in a virtual machine with nothing else in it, and in a container.
//!
//! The program is busybox's shell. The machine is a kernel with it as the init; the processor is emulated, which
//! can be repeated where there is no `/dev/kvm`, and whose time is no guide for where there is.

use super::{
    Found, command,
    memory::kilobytes,
    peers::{said, succeeded, version},
    rounds::{Contestant, round, take_turns},
};
use crate::data::Row;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Instant,
};

const ROUNDS: usize = 5;
/// How much memory the machine has, in MiB.
const SIZE: usize = 128;
/// The seven namespaces of a container, and the change of the root.
const CONTAINER: &str = "unshare --pid --fork --kill-child --mount --net --uts --ipc --cgroup chroot root";

fn row(key: &str, name: &str, group: &str) -> Row {
    Row {
        key: key.into(),
        name: name.into(),
        group: group.into(),
        ours: group == CONTAINERS,
        ..Row::default()
    }
}

const MACHINES: &str = "virtual machine";
const CONTAINERS: &str = "container";

pub(super) fn time() -> Result<Found> {
    let with = vec![version("qemu-system-x86_64")?, guest(&newest_kernel()?)];
    let kernel = prepare("echo hello $(cut -d ' ' -f 1 /proc/uptime)")?;
    said("teu image base")?;
    let machine = move |_| {
        let mut machine = Started::new(&mut qemu(&kernel))?;
        let line = machine.line("hello ")?;
        Ok(vec![machine.took, line.parse::<f64>()? * 1e3])
    };
    let container = |line: &'static str| {
        move |_| {
            let mut container = Started::new(&mut command(line))?;
            container.line("hello")?;
            let took = container.took;
            container.child.wait()?;
            Ok(vec![took])
        }
    };
    let bare = Box::leak(format!("{CONTAINER} /bin/echo hello").into_boxed_str());
    let contestants = vec![
        Contestant {
            rows: vec![
                row("vm", "from qemu's start, emulated", MACHINES),
                row("guest", "by the guest's own clock", MACHINES),
            ],
            turn: Box::new(machine),
        },
        Contestant {
            rows: vec![row("teu", "teu run", CONTAINERS)],
            turn: Box::new(container("teu run --rm --network none base echo hello")),
        },
        Contestant { rows: vec![row("unshare", "unshare", CONTAINERS)], turn: Box::new(container(bare)) },
    ];
    let rows = take_turns(ROUNDS, |_| Ok(()), contestants)?;
    let title = "Time to the first line";
    Ok(Found { title, unit: "ms", with, rounds: Some(ROUNDS), rows })
}

pub(super) fn memory() -> Result<Found> {
    let with = vec![version("qemu-system-x86_64")?, guest(&newest_kernel()?)];
    let kernel = prepare("grep MemFree: /proc/meminfo; echo ready; read line")?;
    let mut machine = Started::new(&mut qemu(&kernel))?;
    let free: f64 = machine.line("MemFree:")?.trim_end_matches("kB").trim().parse()?;
    machine.line("ready")?;
    let pid = machine.child.id().to_string();
    let process = kilobytes(&pid, "Private_Dirty")? + kilobytes(&pid, "Private_Clean")?;
    let guest = (SIZE as f64 * 1024.0 - free) * 1.024;
    drop(machine);

    // A shell that waits for a line, as the machine's init does.
    let mut line: Command = command(CONTAINER);
    line.args(["/bin/sh", "-c", "echo ready; read line"]).stdin(Stdio::piped());
    let mut container = Started::new(&mut line)?;
    container.line("ready")?;
    let unshare = container.child.id();
    let pid = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"))?.trim().to_owned();
    let (resident, own) = (kilobytes(&pid, "Rss")?, kilobytes(&pid, "Private_Dirty")?);
    drop(container);

    let found = |row: Row, value| Row { value: round(value), ..row };
    let rows = vec![
        found(row("vm", "qemu's own pages", MACHINES), process),
        found(row("guest", "of its 128 MiB, taken by the guest", MACHINES), guest),
        found(row("resident", "all its pages, shared ones included", CONTAINERS), resident),
        found(row("own", "its own pages", CONTAINERS), own),
    ];
    let title = "Memory for one waiting shell";
    Ok(Found { title, unit: "kB", with, rounds: None, rows })
}

pub(super) fn disk() -> Result<Found> {
    let kernel = prepare("echo")?;
    let with = vec![guest(&kernel)];
    let size = |path: &Path| -> Result<f64> { Ok(fs::metadata(path)?.len() as f64 / 1e3) };
    let (kernel, program) = (size(&kernel)?, size(Path::new("root/bin/busybox"))?);
    let found = |row: Row, value| Row { value: round(value), ..row };
    let rows = vec![
        found(row("vm", "a kernel and the program", MACHINES), kernel + program),
        found(row("container", "the program", CONTAINERS), program),
    ];
    Ok(Found { title: "On disk, to run one program", unit: "kB", with, rounds: None, rows })
}

/// Makes a root with a busybox in it, and of the same an initial file system whose init does `script`. Returns a kernel.
fn prepare(script: &str) -> Result<PathBuf> {
    let busybox = kit::find_program("busybox").context("a busybox")?;
    fs::create_dir_all("root/bin")?;
    fs::create_dir_all("root/proc")?;
    fs::create_dir_all("root/dev")?;
    fs::copy(&busybox, "root/bin/busybox")?;
    if said("ldd root/bin/busybox").is_ok() {
        bail!("{} is not static (package busybox-static)", busybox.display());
    }
    for name in ["sh", "echo", "mount", "cut", "grep"] {
        std::os::unix::fs::symlink("busybox", format!("root/bin/{name}"))?;
    }
    said("mknod root/dev/console c 5 1")?;
    let init = format!(
        "#!/bin/sh\nexport PATH=/bin\nmount -t proc proc /proc\n{script}\nwhile :; do read line; done\n"
    );
    fs::write("root/init", init)?;
    said("chmod 755 root/init")?;
    let pack = "cd root && find . | cpio --quiet -o -H newc | gzip -1 > ../initrd";
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", pack]).output();
    succeeded(&shell, output)?;
    newest_kernel()
}

/// The newest kernel in /boot.
fn newest_kernel() -> Result<PathBuf> {
    let mut kernels = Vec::new();
    for entry in fs::read_dir("/boot").context("no kernel (package linux-image-amd64)")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(version) = name.strip_prefix("vmlinuz-") {
            let numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
            kernels.push((numbers.collect::<Vec<_>>(), path));
        }
    }
    kernels.sort();
    let newest = kernels.pop().context("there is no kernel in /boot (package linux-image-amd64)")?;
    Ok(newest.1)
}

/// Of which version the guest's kernel is: `vmlinuz-6.1.0-57-amd64` is 6.1.0.
fn guest(kernel: &Path) -> String {
    let name = kernel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("Linux {} as the guest", name.split('-').nth(1).unwrap_or_default())
}

fn qemu(kernel: &Path) -> Command {
    let mut qemu =
        command("qemu-system-x86_64 -accel tcg -cpu max -smp 1 -nodefaults -no-reboot -display none");
    qemu.args(["-serial", "stdio", "-initrd", "initrd", "-m", &SIZE.to_string(), "-kernel"]).arg(kernel);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on no_timer_check"]);
    qemu
}

/// Something that was started, and says lines. It ends when it is dropped.
struct Started {
    child: Child,
    lines: BufReader<ChildStdout>,
    began: Instant,
    /// How long it took to the line that was waited for last, in milliseconds.
    took: f64,
}

impl Started {
    fn new(command: &mut Command) -> Result<Started> {
        let began = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{command:?}"))?;
        let lines = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Started { child, lines, began, took: 0.0 })
    }

    /// Waits for a line that begins so, and returns what follows.
    fn line(&mut self, start: &str) -> Result<String> {
        let mut line = String::new();
        while self.lines.read_line(&mut line)? > 0 {
            self.took = self.began.elapsed().as_secs_f64() * 1e3;
            if let Some(rest) = line.trim().strip_prefix(start) {
                return Ok(rest.trim().to_owned());
            }
            line.clear();
        }
        bail!("it ended, and did not say `{start}`: {}", self.child.wait()?);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // A machine does not end by itself; a container may have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
