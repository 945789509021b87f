//! A crew of processes, each a judge with a sandbox of its own, so that answers are judged side by side: much of a check is
//! waiting for what the kernel does. They are processes and not threads, since a judge's namespaces are its process's.

use crate::{
    batch::{Batch, Job},
    course::{self, Exercise},
    judge::{Bodies, Judge, Judged},
    verdict::Verdict,
};
use anyhow::{Context, Result, bail};
use nix::unistd::dup2_stdout;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufRead, BufReader, Write, stderr, stdin, stdout},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

/// The command of the lab by which it starts a member of the crew.
pub const COMMAND: &str = "crew";

/// A verdict, and how long it took.
pub type Found = (Judged, Duration);

/// Judges these answers, which are in the batch; without one, each is built as a reader's is. What has been found of the
/// answer at a place in the list is told at once, in any order.
pub fn judge(
    jobs: &[Job],
    batch: Option<&Batch>,
    seed: Option<u64>,
    mut told: impl FnMut(usize, Found),
) -> Result<()> {
    // One more than there are processors: one is always waiting.
    let members = thread::available_parallelism().map_or(1, usize::from) + 1;
    let next = AtomicUsize::new(0);
    let (tell, hear) = channel();
    thread::scope(|threads| {
        for _ in 0..members.min(jobs.len()) {
            let (tell, next) = (tell.clone(), &next);
            threads.spawn(move || {
                let work = || -> Result<()> {
                    let mut member = Member::start(seed)?;
                    while let n = next.fetch_add(1, Ordering::Relaxed)
                        && let Some(job) = jobs.get(n)
                    {
                        let found = member.ask(batch, n, job);
                        let found =
                            found.with_context(|| format!("judge an answer to {}", job.exercise.id))?;
                        let _ = tell.send(Ok((n, found))); // nobody listens after an error
                    }
                    member.end()
                };
                if let Err(error) = work() {
                    next.store(jobs.len(), Ordering::Relaxed);
                    let _ = tell.send(Err(error)); // as above
                }
            });
        }
        drop(tell);
        hear.iter()
            .try_for_each(|found| found.map(|(n, found)| told(n, found)))
            .inspect_err(|_| next.store(jobs.len(), Ordering::Relaxed))
    })
}

/// One process, and a directory for the program that it judges.
struct Member {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    dir: tempfile::TempDir,
}

impl Member {
    fn start(seed: Option<u64>) -> Result<Member> {
        let mut command = Command::new("/proc/self/exe");
        // (By that name it is this program also when another one has been built in its place.)
        command.arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.args(seed.iter().flat_map(|seed| ["--seed".to_owned(), seed.to_string()]));
        let mut child = command.spawn().context("start a process that judges")?;
        let to = child.stdin.take().context("its standard input is a pipe")?;
        let from = BufReader::new(child.stdout.take().context("its standard output is a pipe")?);
        let dir = tempfile::tempdir().context("make a directory for the program")?;
        Ok(Member { child, to, from, dir })
    }

    fn ask(&mut self, batch: Option<&Batch>, n: usize, job: &Job) -> Result<Found> {
        let began = Instant::now();
        let mut question = json!({ "exercise": job.exercise.id });
        match batch.map(|b| b.program(n, job, self.dir.path())).transpose()?.flatten() {
            Some(program) => question["program"] = json!(program),
            None => question["bodies"] = job.bodies.iter().map(|(_, body)| body.as_str()).collect(),
        }
        writeln!(self.to, "{question}")?;
        let mut answer = String::new();
        self.from.read_line(&mut answer)?;
        if answer.is_empty() {
            bail!("the process that judged it ended with {}", self.child.wait()?);
        }
        let answer: Value = serde_json::from_str(&answer).context("what the process that judges says")?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        let seed = answer["seed"].as_str().and_then(|s| s.parse().ok());
        let verdict = Verdict::from_json(&answer).context("a verdict has something missing")?;
        let judged =
            Judged { verdict, seed: seed.context("a verdict has no seed")?, building: Duration::ZERO };
        Ok((judged, began.elapsed()))
    }

    /// It ends with its input.
    fn end(self) -> Result<()> {
        let Member { mut child, to, .. } = self;
        drop(to);
        let status = child.wait().context("wait for a process that judged")?;
        if status.success() { Ok(()) } else { bail!("a process that judged ended with {status}") }
    }
}

/// What a member does: it judges what it is asked, a line each, until there is no more.
pub fn work(seed: Option<u64>) -> Result<()> {
    // Verdicts go where nothing else does and nothing that is checked can: this descriptor is closed on exec.
    let mut verdicts =
        File::from(stdout().as_fd().try_clone_to_owned().context("keep the way for verdicts")?);
    dup2_stdout(stderr()).context("keep other words from it")?;
    let judge = Judge::of_crew(seed)?;
    for line in stdin().lines() {
        let answer = match answer(&judge, &line.context("hear what is asked")?) {
            Ok(judged) => {
                let mut answer = judged.verdict.to_json();
                answer["seed"] = json!(judged.seed.to_string());
                answer
            }
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        writeln!(verdicts, "{answer}").context("tell a verdict")?;
    }
    Ok(())
}

fn answer(judge: &Judge, question: &str) -> Result<Judged> {
    let question: Value = serde_json::from_str(question)?;
    let exercise: &Exercise = course::find(question["exercise"].as_str().context("no exercise")?)?;
    if let Some(program) = question["program"].as_str().map(PathBuf::from) {
        return judge.judge_built(exercise, Path::new(&program));
    }
    let bodies = question["bodies"].as_array().context("neither a program nor bodies")?;
    let bodies = bodies.iter().filter_map(|b| b.as_str().map(str::to_owned));
    let bodies: Bodies = exercise.items.iter().copied().zip(bodies).collect();
    judge.judge(exercise, &bodies)
}
