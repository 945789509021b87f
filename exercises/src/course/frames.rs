//! One connection, two streams: how the output of a container comes to whoever is attached to it.

use super::{Answer, Case, Exercise, Wrong};
use crate::{
    run::{self, Ended, Running},
    verdict::Verdict,
    wire,
};
use anyhow::{Context, Result};
use nix::{errno::Errno, libc};
use std::{
    fs::File,
    io::{BufReader, ErrorKind, Write},
    net::Shutdown,
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    thread::sleep,
    time::{Duration, Instant},
};

pub(super) const EXERCISE: Exercise = Exercise {
    id: "engine/frames",
    title: "take the output of a container apart",
    section: "6.2",
    items: &["teu::client::stream::Frames::feed", "teu::client::stream::Frames::end"],
    program: "teu",
    points: 15,
    task: "Without a terminal, the daemon sends a container's stdout and stderr over one connection, in frames: a header of\n\
           eight bytes, then the data. The header is the stream (0 and 1: stdout; 2: stderr; 3: an error of the daemon itself,\n\
           for stderr too), three zeros, and the length of the data, the highest byte first. `feed` gets the bytes of one read,\n\
           wherever the reads have cut the stream, and passes data on to `out` and `err`, flushed. What is in the middle is\n\
           kept in `head` (of the header), `stream` and `left` (of the data). A header that is none is ErrorKind::InvalidData.\n\
           `end` is called at the end of the connection: in the middle of a frame, that is ErrorKind::UnexpectedEof.",
    invariants: &[
        "what comes out does not depend on where the stream was cut",
        "data is passed on when it is there, not when its frame is whole: it may be a question that waits for an answer",
        "a stream that breaks off, or is not in frames, is an error, not a short output",
    ],
    predict: "a read(2) on the connection gives 20 bytes. What may be in them?",
    hints: [
        "A stream knows no messages: one read can give half a header, or three frames and a piece of the fourth.",
        "Two states: a header is being collected (left == 0), or data is being passed on. Each round of the loop takes from \
         `bytes` what the state can use, and nothing more.",
        "left == 0: append min(8 - head.len(), bytes.len()) bytes; at eight, [stream @ 0..=3, 0, 0, 0, a, b, c, d] and \
         u32::from_be_bytes, head.clear(). Else: min(left, bytes.len()) bytes to out or err, flush, left -= n.",
    ],
    why: (
        "Why are there no frames when the container has a terminal?",
        "A terminal has only one output: the container's stdout and stderr are the same device, and the kernel has mixed them \
         before the engine sees a byte. There is nothing to tell apart.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "the length is read from its lowest byte",
            answer: Answer::Change("teu::client::stream::Frames::feed", "from_be_bytes", "from_le_bytes"),
            told: "highest byte first",
        },
        Wrong {
            name: "each read begins a header",
            answer: Answer::Change(
                "teu::client::stream::Frames::feed",
                "self.head.extend_from_slice(&bytes[..n]);",
                "self.head = bytes[..n].to_vec();",
            ),
            told: "cut",
        },
        Wrong {
            name: "each read ends a frame",
            answer: Answer::Change("teu::client::stream::Frames::feed", "self.left -= n;", "self.left = 0;"),
            told: "cut",
        },
        Wrong {
            name: "all goes to stdout",
            answer: Answer::Change("teu::client::stream::Frames::feed", "2 | 3 => err", "9 => err"),
            told: "stderr",
        },
        Wrong {
            name: "an error of the daemon goes to stdout",
            answer: Answer::Change("teu::client::stream::Frames::feed", "2 | 3 => err", "2 => err"),
            told: "3: the daemon's own",
        },
        Wrong {
            name: "any eight bytes are a header",
            answer: Answer::Change(
                "teu::client::stream::Frames::feed",
                "[stream @ 0..=3, 0, 0, 0, a, b, c, d]",
                "[stream, _, _, _, a, b, c, d]",
            ),
            told: "is an error",
        },
        Wrong {
            name: "an end is an end",
            answer: Answer::Change(
                "teu::client::stream::Frames::end",
                "self.left == 0 && self.head.is_empty()",
                "true",
            ),
            told: "is an error",
        },
        Wrong {
            name: "the output is not flushed",
            answer: Answer::Change(
                "teu::client::stream::Frames::feed",
                "_ => out.write_all(piece).and_then(|()| out.flush())?,",
                "_ => out.write_all(piece)?,",
            ),
            told: "as soon as",
        },
    ],
};

/// What the daemon sends, in pieces, and what must come of it.
struct Scene {
    what: &'static str,
    pieces: Vec<Vec<u8>>,
    out: String,
    err: String,
    /// After the first piece, this much must have come out already.
    early: usize,
    /// Whether it ends as it should.
    whole: bool,
    hint: &'static str,
}

fn check(case: &Case) -> Result<Verdict> {
    for (n, scene) in scenes(case).into_iter().enumerate() {
        let path = case.dir.join(format!("{n}.sock"));
        let listener = UnixListener::bind(&path).context("listen on a socket")?;
        // A broken stream must be an error also where all else went well.
        let code = if scene.whole { case.dice.number(0..90) as i32 } else { 0 };
        let id = case.dice.word();
        let host = format!("unix://{}", path.display());
        let mut running = run::start(case.command().args(["--host", &host, "attach", "--no-stdin", &id]))?;
        let early = daemon(&listener, &mut running, &id, code, &scene)?;
        let ended = running.end()?;
        if let Some(verdict) = judge(&scene, &ended, code, early) {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Passed)
}

fn judge(scene: &Scene, ended: &Ended, code: i32, early: usize) -> Option<Verdict> {
    let Scene { what, hint, .. } = scene;
    if ended.untouched() {
        return Some(Verdict::failed("output is passed on", ended.tell(), "the function is still empty"));
    }
    let right = ended.stdout == scene.out && (!scene.whole || ended.stderr == scene.err);
    if !right {
        let told = |text: &str| text.chars().take(120).collect::<String>();
        let rest = if scene.whole {
            format!("stderr gets {:?}", told(&scene.err))
        } else {
            "and that is an error".to_owned()
        };
        let expected = format!("{what}: stdout gets {:?}, {rest}", told(&scene.out));
        let seen = format!(
            "stdout got {:?} ({} bytes), stderr {:?}",
            told(&ended.stdout),
            ended.stdout.len(),
            told(&ended.stderr)
        );
        return Some(Verdict::failed(expected, seen, *hint));
    }
    if early < scene.early {
        let expected = format!("{what}: {} bytes come out as soon as they are there", scene.early);
        return Some(Verdict::failed(expected, format!("{early} bytes had come out by then"), *hint));
    }
    let good = match (scene.whole, ended.code()) {
        (true, ended) => ended == Some(code),
        (false, ended) => ended.is_some_and(|code| code != 0 && code != 101 && code < 128),
    };
    let expected = if scene.whole {
        format!("{what}: it ends with the container's status, {code}")
    } else {
        format!("{what}: that is an error")
    };
    (!good).then(|| Verdict::failed(expected, ended.tell(), *hint))
}

fn scenes(case: &Case) -> Vec<Scene> {
    let word = || case.dice.word();
    let frame = |stream: u8, text: &str| {
        [&[stream, 0, 0, 0], (text.len() as u32).to_be_bytes().as_slice(), text.as_bytes()].concat()
    };
    let (a, b, c, long) = (word(), word(), word(), word().repeat(case.dice.number(33..60) as usize));
    let huge = word().repeat(9_000);
    let mixed =
        [frame(1, &a), frame(2, &b), frame(1, ""), frame(2, &long), frame(0, &c), frame(1, &b)].concat();
    let (out, err) = (format!("{a}{c}{b}"), format!("{b}{long}"));
    let all = |what, pieces: Vec<Vec<u8>>, hint| Scene {
        what,
        pieces,
        out: out.clone(),
        err: err.clone(),
        early: 0,
        whole: true,
        hint,
    };
    let broken = |what, wire: Vec<u8>, out: &str, hint| Scene {
        what,
        pieces: vec![wire],
        out: out.to_owned(),
        err: String::new(),
        early: 0,
        whole: false,
        hint,
    };
    let cuts = "a read ends anywhere: keep what is in the middle for the next one";
    let length =
        "the length is four bytes, the highest byte first (network byte order), and only so much is data";
    let at = case.dice.number(1..8) as usize;
    let random = {
        let (mut pieces, mut rest) = (Vec::new(), mixed.as_slice());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((case.dice.number(1..40) as usize).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = after;
        }
        pieces
    };
    vec![
        all("six frames in one read", vec![mixed.clone()], length),
        Scene {
            what: "frames of the stream 3: the daemon's own errors",
            out: b.clone(),
            err: a.clone(),
            ..all("", vec![[frame(3, &a), frame(1, &b)].concat()], "it is none of the container's output")
        },
        all("frames cut at random", random, cuts),
        Scene {
            what: "a frame of 72 000 bytes, which no single read gives",
            pieces: vec![frame(1, &huge)],
            out: huge.clone(),
            err: String::new(),
            ..all("", vec![], length)
        },
        Scene {
            what: "a header cut in two",
            pieces: vec![frame(2, &a)[..at].to_vec(), [&frame(2, &a)[at..], &frame(1, &c)].concat()],
            out: c.clone(),
            err: a.clone(),
            ..all("", vec![], cuts)
        },
        Scene {
            what: "frames cut after every byte",
            pieces: [frame(1, &a), frame(2, ""), frame(2, &b)]
                .concat()
                .chunks(1)
                .map(<[u8]>::to_vec)
                .collect(),
            out: a.clone(),
            err: b.clone(),
            ..all("", vec![], cuts)
        },
        Scene {
            what: "half of a frame, and the rest after a while",
            pieces: vec![frame(1, &format!("{a}{b}"))[..8 + a.len()].to_vec(), b.clone().into_bytes()],
            out: format!("{a}{b}"),
            err: String::new(),
            early: a.len(),
            ..all("", vec![], "pass on what is there, and flush: it may be a question without a newline")
        },
        broken(
            "text that is not in frames",
            format!("{a} {b} {c}\n").into_bytes(),
            "",
            "the first byte is 0 to 3, the next three are 0",
        ),
        broken("a frame of a stream 4", frame(4, &a), "", "there are the streams 0 to 3"),
        broken(
            "a header without the three zeros",
            [&[1, 0, 7, 0, 0, 0, 0, 8], a.as_bytes()].concat(),
            "",
            "there are three zeros",
        ),
        broken(
            "a frame, and then what is none",
            [frame(1, &a), b"what else".to_vec()].concat(),
            &a,
            "each header is looked at",
        ),
        broken(
            "a stream that breaks off in the data",
            frame(1, &a)[..12].to_vec(),
            &a[..4],
            "at the end, the last frame must be whole: `left` is 0",
        ),
        broken(
            "a stream that breaks off in a header",
            [frame(1, &a), frame(1, &b)[..at].to_vec()].concat(),
            &a,
            "at the end, no header is begun: `head` is empty",
        ),
    ]
}

/// Answers the client as a daemon would, request for request. Returns how much of the early output was seen.
fn daemon(
    listener: &UnixListener,
    running: &mut Running,
    id: &str,
    code: i32,
    scene: &Scene,
) -> Result<usize> {
    listener.set_nonblocking(true).context("wait for connections")?;
    loop {
        let next = running.watch(|_| match listener.accept() {
            Ok((stream, _)) => Some(stream),
            // Not yet; or never, which the limit of `watch` ends.
            Err(_) => None,
        })?;
        let Some(mut stream) = next else { return Ok(0) };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(crate::run::limit(Duration::from_secs(5))))?;
        // A client that ends in the middle has said why.
        let Ok(request) = wire::read(&mut BufReader::new(&stream)) else { continue };
        let path = request.path.split('?').next().unwrap_or_default();
        let body = if path.ends_with("/attach") {
            let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
                        Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
            return match stream
                .write_all(head.as_bytes())
                .and_then(|()| send(&mut stream, running.pid(), scene))
            {
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    Ok(0)
                }
                other => other.context("send frames"),
            };
        } else if path.ends_with("/wait") {
            format!("{{\"StatusCode\": {code}}}")
        } else {
            format!(
                "{{\"Id\": \"{id}\", \"State\": {{\"Running\": true}}, \"Config\": {{\"Tty\": false, \"OpenStdin\": false}}}}"
            )
        };
        let head =
            "HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nContent-Type: application/json\r\nConnection: close\r\n";
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        // As above.
        let _ = stream.write_all(answer.as_bytes());
    }
}

/// Sends the pieces, each when the one before has been read. Returns how much had come out after the first.
fn send(stream: &mut UnixStream, pid: i32, scene: &Scene) -> std::io::Result<usize> {
    let mut early = 0;
    for (n, piece) in scene.pieces.iter().enumerate() {
        stream.write_all(piece)?;
        if n + 1 < scene.pieces.len() {
            until(|| waiting(stream, libc::TIOCOUTQ) == 0);
        }
        if n == 0 && scene.early > 0 {
            // Of the pipe that is its stdout, the check holds the other end, and has not read from it yet.
            let pipe = File::open(format!("/proc/{pid}/fd/1"))?;
            until(|| waiting(&pipe, libc::FIONREAD) >= scene.early);
            early = waiting(&pipe, libc::FIONREAD);
        }
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(early)
}

/// Waits until it is so, or five seconds: the kernel tells how full a queue is, but not when that changes.
fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() && begun.elapsed() < Duration::from_secs(5) {
        sleep(Duration::from_micros(200));
    }
}

/// How many bytes wait in a socket or a pipe (unix(7), pipe(7)).
fn waiting(queue: &impl AsRawFd, which: libc::Ioctl) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one int, and `bytes` is one.
    let done = unsafe { libc::ioctl(queue.as_raw_fd(), which, &raw mut bytes) };
    Errno::result(done).map_or(0, |_| usize::try_from(bytes).unwrap_or(0))
}
