//! Every transcript of the book is run, in a fresh state, and compared with what the page shows.
//!
//! The blocks of a page are one session, typed into one shell, as a reader would. As root a session has a world of its own
//! (see `book::world`), so ports, sockets and names are those of the book. Each block is a test with its own needs; the session is run once, for the first of them.

use book::{
    transcript::{self, Block, Kind},
    world::World,
};
use kit::{Case, Need};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// No command of the book takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Printed when a command has ended. The commands of the book do not print it.
const END: &str = "~~the-end~~";

/// What a page's blocks came to, by their line; filled by whoever needs one first.
type Outcomes = Arc<Mutex<Option<BTreeMap<usize, Result<(), String>>>>>;

fn main() {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("en");
    let mut pages: Vec<PathBuf> = fs::read_dir(&text)
        .expect("the text")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    pages.sort();
    let (mut cases, mut wrong) = (Vec::new(), Vec::new());
    for page in pages {
        let name = page.file_stem().expect("a name").to_string_lossy().into_owned();
        let blocks = transcript::blocks(&fs::read_to_string(&page).expect("a page"));
        let blocks = blocks.unwrap_or_else(|e| {
            wrong.push(format!("{name}.md: {e}"));
            Vec::new()
        });
        for session in sessions(blocks) {
            let session = Arc::new(session);
            let outcomes = Outcomes::default();
            for block in session.iter().filter(|block| matches!(block.kind, Kind::Run | Kind::Setup)) {
                let (session, outcomes, line) = (Arc::clone(&session), Arc::clone(&outcomes), block.line);
                // Told by its name, so that the virtual machine of tests/vm/run.sh can run these alone.
                let version = if block.needs.iter().any(|need| need == "v2") { "_on_v2" } else { "" };
                let title: &'static str = format!("{name}.md:{line}{version}").leak();
                let name = name.clone();
                cases.push(Case::new(title, &needs(block), move || {
                    let mut outcomes = outcomes.lock().expect("no panic while it is held");
                    let outcome = outcomes.get_or_insert_with(|| run(&name, &session)).get(&line).cloned();
                    drop(outcomes);
                    let missed = || Err(format!("{name}.md:{line} was not reached: see the one before it"));
                    if let Err(why) = outcome.unwrap_or_else(missed) {
                        panic!("{why}");
                    }
                }));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    kit::run(cases);
}

fn sessions(blocks: Vec<Block>) -> Vec<Vec<Block>> {
    let mut sessions: Vec<Vec<Block>> = Vec::new();
    for block in blocks {
        match sessions.last_mut() {
            Some(session) if !block.fresh => session.push(block),
            _ => sessions.push(vec![block]),
        }
    }
    sessions
}

/// What a block needs. All of them show `unshare` or an engine, and an ordinary user's needs user namespaces.
fn needs(block: &Block) -> Vec<Need> {
    let need = |word: &String| match word.as_str() {
        "root" => Need::Root,
        "user" => Need::OrdinaryUser,
        "v1" => Need::CgroupV1,
        "v2" => Need::CgroupV2,
        with => Need::Program(with.trim_start_matches("with ").to_owned().leak()),
    };
    let own = block.needs.iter().map(need);
    own.chain([Need::UserNamespaces, Need::Program("busybox"), Need::Program("curl")]).collect()
}

/// Types a session, block by block, until one fails in a way that spoils those after it.
fn run(page: &str, session: &[Block]) -> BTreeMap<usize, Result<(), String>> {
    let mut outcomes = BTreeMap::new();
    let world = World::new(&built(), kit::is_root()).expect("a world");
    let mut terminals: BTreeMap<usize, Terminal> = BTreeMap::new();
    'blocks: for block in session {
        if let Kind::File(name) = &block.kind {
            let text = block.steps[0].answer.join("\n") + "\n";
            fs::write(world.path().join("work").join(name), text).expect("a file of the page");
            continue;
        }
        if !matches!(block.kind, Kind::Run | Kind::Setup) {
            continue;
        }
        if kit::missing(&needs(block)).is_some() {
            continue;
        }
        let first = terminals.get(&1).map(|terminal| terminal.shell.id());
        let terminal = terminals.entry(block.terminal).or_insert_with(|| Terminal::open(&world, first));
        let mut outcome = Ok(());
        for step in &block.steps {
            let expected = (block.kind == Kind::Run).then_some(&step.answer[..]);
            match terminal.type_in(&step.command, expected) {
                Ok(answer) if expected.is_none_or(|page| transcript::matches(page, &told(page, &answer))) => {
                }
                Ok(answer) => {
                    let why = format!(
                        "\n{page}.md:{}: $ {}\n--- the page shows\n{}\n--- the machine answers\n{answer}",
                        step.line,
                        step.command,
                        step.answer.join("\n")
                    );
                    outcome = outcome.and(Err(why));
                }
                Err(why) => {
                    let why = format!("\n{page}.md:{}: $ {}\n{why}", step.line, step.command);
                    outcomes.insert(block.line, Err(why));
                    break 'blocks;
                }
            }
        }
        outcomes.insert(block.line, outcome);
    }
    if let Some(first) = terminals.get_mut(&1) {
        // Groups outlive the processes in them: the engines take theirs away themselves.
        for engine in ["teu", "docker", "podman"].iter().filter(|e| world.used(e)) {
            let _ = first.type_in(&format!("{engine} ps -aq | xargs -r {engine} rm -f"), None);
        }
    }
    drop(terminals);
    world.end();
    outcomes
}

/// An ordinary user is warned at each run that the container has no way out. The set-up page shows the
/// warning and says that the other pages leave it out.
fn told(page: &[String], answer: &str) -> String {
    const WARNING: &str = "WARNING: An ordinary user's container has only a loopback device";
    let shown = page.iter().any(|line| line.starts_with(WARNING));
    answer.split_inclusive('\n').filter(|line| shown || !line.starts_with(WARNING)).collect()
}

/// Where the programs were built: beside the directory of this test.
fn built() -> PathBuf {
    let exe = std::env::current_exe().expect("this program");
    exe.ancestors().nth(2).expect("target/debug").to_owned()
}

/// A shell, fed line by line.
struct Terminal {
    shell: Child,
    input: Option<std::process::ChildStdin>,
    output: mpsc::Receiver<String>,
    /// What has been read and not been looked at.
    pending: String,
}

impl Terminal {
    /// Opens the first terminal of a session, or another one beside the first.
    fn open(world: &World, first: Option<u32>) -> Terminal {
        let shell = ["bash", "--norc", "--noprofile"];
        let mut command = match first {
            None => world.command(&shell),
            Some(first) => world.join(first, &shell).expect("the first terminal's world"),
        };
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut stdout = shell.stdout.take().expect("a pipe");
        let (send, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                if send.send(String::from_utf8_lossy(&buffer[..n]).into_owned()).is_err() {
                    break;
                }
            }
        });
        let mut terminal = Terminal { input: shell.stdin.take(), shell, output, pending: String::new() };
        terminal.send("exec 2>&1\n");
        terminal
    }

    fn send(&mut self, text: &str) {
        let input = self.input.as_mut().expect("the shell's input");
        // A shell that is gone is noticed when its answer is read.
        let _ = input.write_all(text.as_bytes());
    }

    /// Types a command and returns its answer. What goes on in the background may answer a little later.
    fn type_in(&mut self, command: &str, expected: Option<&[String]>) -> Result<String, String> {
        if command == "exit" {
            // The shell inside reads ahead: the next line must come only when it is gone.
            let before = self.shells();
            self.send("exit\n");
            let start = Instant::now();
            while self.shells() >= before && start.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(10));
            }
        } else {
            self.send(&format!("{command}\n"));
        }
        // The exit status is the reader's to look at.
        self.send(&format!("s=$?; echo {END}; (exit $s)\n"));
        let mut answer = self.read_until(|text| text.contains(END))?;
        let at = answer.find(END).expect("it is there");
        let after = answer.split_off(at);
        self.pending = after[END.len()..].trim_start_matches('\n').to_owned();
        if let Some(expected) = expected.filter(|page| command.ends_with('&') && !page.is_empty()) {
            self.pending.insert_str(0, &answer);
            answer = self.read_until(|text| transcript::matches(expected, text))?;
        }
        Ok(answer)
    }

    fn read_until(&mut self, enough: impl Fn(&str) -> bool) -> Result<String, String> {
        let end = Instant::now() + PATIENCE;
        while !enough(&self.pending) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(text) => self.pending.push_str(&text),
                Err(error) => return Err(format!("it does not end ({error}); so far:\n{}", self.pending)),
            }
        }
        Ok(std::mem::take(&mut self.pending))
    }

    /// How many processes descend from the shell.
    fn shells(&self) -> usize {
        let mut todo = vec![self.shell.id().to_string()];
        let mut count = 0;
        while let Some(pid) = todo.pop() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            count += 1;
            todo.extend(children.split_whitespace().map(str::to_owned));
        }
        count
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The end of its input ends the shell; what does not end by that is ended, and with it root's whole session.
        self.input = None;
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
