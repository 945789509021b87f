//! A blob is called by what is in it, and is there whole or not at all.

use super::{
    Answer, Case, Exercise, Wrong,
    tool::{Service, serve_in_order},
};
use crate::{
    image::{self, Layout, Tar},
    order::{Identity, Order, Step},
    verdict::Verdict,
    wire,
};
use anyhow::{Context, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::unix::fs::MetadataExt;

pub(super) const EXERCISE: Exercise = Exercise {
    id: "layers/store",
    title: "give a blob its name",
    section: "5.1",
    items: &["layers::store::Ingest::commit"],
    program: "registry",
    points: 20,
    task: "An `Ingest` is a blob on its way into the store: its bytes have been written to the file `path` (it is open as\n\
           `file`), counted in `size` and hashed in `hash`. Make it a blob: refuse it if `expected` is another digest or\n\
           another size (`compare` says so); the digest expected may be a sha512 one, which has not been computed on the way.\n\
           Then the file gets its name, `Store::blob_path`, whose directory may have to be made, and the blob is described:\n\
           media type, size, digest. The store's lock is held, shared, while a name changes.",
    invariants: &[
        "a name in blobs/ is the digest of the bytes that it names, whatever the one who sent them said",
        "nobody ever sees half a blob in blobs/, also if the power goes: data first (fsync), then the name, then its directory",
        "what is refused leaves nothing behind",
    ],
    predict: "two processes store the same blob at the same moment. Which of them must give way?",
    hints: [
        "What is the difference, for somebody who looks into blobs/, between copying a file there and renaming it there?",
        "std::mem::take gives the hash; `sha256_digest` makes a digest of it. For another algorithm: rewind the file, and \
         `hash` reads it again.",
        "known, compare; create_dir_all of the parent; file.sync_all; fs::rename under lock(LockShared); sync_dir of the \
         parent; Descriptor::new.",
    ],
    why: (
        "Why is the file synced before it is renamed, and the directory after?",
        "The kernel writes data and names to the disk in its own order. After a power cut there could be the name of a blob \
         with nothing in it. And until the directory is on the disk, a name that we have told of could be gone again.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "the digest is not verified",
            answer: Answer::Change("layers::store::Ingest::commit", "self.compare(expected, &digest)?;", ""),
            told: "took them",
        },
        Wrong {
            name: "it is visible before it is verified",
            answer: Answer::Body(
                "let mut digest = sha256_digest(std::mem::take(&mut self.hash))?;
                if let Some(e) = expected && *e.digest().algorithm() != DigestAlgorithm::Sha256 {
                    io::Seek::rewind(&mut &*self.file).doing(|| \"x\".into())?;
                    digest = hash(e.digest().algorithm(), &mut &*self.file)?;
                }
                let path = self.store.blob_path(&digest);
                fs::create_dir_all(path.parent().unwrap_or(self.store.root())).doing(|| \"x\".into())?;
                self.file.sync_all().and_then(|()| fs::rename(&self.path, &path)).doing(|| \"x\".into())?;
                if let Some(e) = expected { known(e.digest())?; self.compare(e, &digest)?; }
                Ok(Descriptor::new(media_type, self.size, digest))",
            ),
            told: "left behind",
        },
        Wrong {
            name: "written in place and not renamed",
            answer: Answer::Change(
                "layers::store::Ingest::commit",
                "fs::rename(&self.path",
                "fs::copy(&self.path",
            ),
            told: "written in place",
        },
        Wrong {
            name: "the file is not synced",
            answer: Answer::Change(
                "layers::store::Ingest::commit",
                "self.file.sync_all().doing(doing)?;",
                "",
            ),
            told: "not synced before",
        },
        Wrong {
            name: "the file is synced when it has its name",
            answer: Answer::Change(
                "layers::store::Ingest::commit",
                "self.file.sync_all().doing(doing)?;
        {
            // Against a collect that would take it for old: same name, same bytes, so replacing is no harm.
            let _lock = self.store.lock(FlockArg::LockShared)?;
            fs::rename(&self.path, &path).doing(doing)?;
        }",
                "{
            let _lock = self.store.lock(FlockArg::LockShared)?;
            fs::rename(&self.path, &path).doing(doing)?;
        }
        self.file.sync_all().doing(doing)?;",
            ),
            told: "synced only afterwards",
        },
        Wrong {
            name: "the directory is not synced",
            answer: Answer::Change("layers::store::Ingest::commit", "sync_dir(dir)?;", ""),
            told: "its directory is not synced",
        },
        Wrong {
            name: "sha512 is believed",
            answer: Answer::Change(
                "layers::store::Ingest::commit",
                "digest = hash(expected.digest().algorithm(), &mut &*self.file)?;",
                "digest = expected.digest().clone();",
            ),
            told: "took them",
        },
        Wrong {
            name: "the file is not rewound",
            answer: Answer::Change(
                "layers::store::Ingest::commit",
                "io::Seek::rewind(&mut &*self.file).doing(|| \"read a new blob again\".into())?;",
                "",
            ),
            told: "sha512",
        },
        Wrong {
            name: "the size is forgotten",
            answer: Answer::Change(
                "layers::store::Ingest::commit",
                "self.size, digest.clone()",
                "0, digest.clone()",
            ),
            told: "index.json",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    let layout = Layout::make(&case.dir.join("store"))?;
    let (service, order) = serve_in_order(case, &["serve", "--store", "store", "--listen", "127.0.0.1:0"])?;
    let service = match service {
        Ok(service) => service,
        Err(verdict) => return Ok(verdict),
    };
    let seen = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).context("watch the store")?;
    let all = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE;
    seen.add_watch(&layout.blobs(), all).context("watch the store")?;
    let verdict = uploads(case, &layout, &service, &seen);
    let ended = service.kill()?;
    if ended.untouched() {
        return Ok(Verdict::failed("a blob can be stored", ended.tell(), "the function is still empty"));
    }
    // A server that answers nothing has failed the learner's function, not the check.
    let verdict = verdict.unwrap_or_else(|error| {
        Verdict::failed(
            "the registry answers an upload",
            format!("{error:#}; {}", ended.tell()),
            "does the function panic?",
        )
    });
    Ok(match (verdict, order) {
        (Verdict::Passed, Some(order)) => synced(&layout, &order).unwrap_or(Verdict::Passed),
        (Verdict::Passed, None) => Verdict::NotChecked(
            "whether a blob is synced before it has its name: this kernel does not tell of system calls (seccomp_unotify(2))"
                .into(),
        ),
        (verdict, _) => verdict,
    })
}

fn uploads(case: &Case, layout: &Layout, service: &Service, seen: &Inotify) -> Result<Verdict> {
    let dice = &case.dice;
    let repository = dice.word();
    let random = || dice.bytes(dice.number(1..100_000) as usize);

    // Right ones, by both algorithms; the same one twice.
    let first = random();
    for (bytes, digest) in [
        (first.clone(), image::digest(&first)),
        (first.clone(), image::digest(&first)),
        (first.clone(), image::digest512(&first)),
        (Vec::new(), image::digest(b"")),
    ] {
        let status = upload(service, &repository, &bytes, &digest)?;
        let stored = std::fs::read(layout.path(&digest)).unwrap_or_default();
        if status != 201 || stored != bytes || !layout.path(&digest).is_file() {
            let there = layout.blob_names();
            return Ok(Verdict::failed(
                format!("{} bytes that are sent as {digest} are stored under this name", bytes.len()),
                format!("the registry answered {status}, and blobs has: {}", list(&there)),
                "is the digest computed of all the bytes, by the algorithm of the one that is expected?",
            ));
        }
    }
    let events = seen.read_events().unwrap_or_default();
    if let Some(event) = events.iter().find(|e| e.mask != AddWatchFlags::IN_MOVED_TO) {
        let name = event.name.clone().unwrap_or_default();
        return Ok(Verdict::failed(
            "a blob appears in blobs/sha256 in one step, whole",
            format!("the kernel saw {:?} of {} there: it was written in place", event.mask, name.display()),
            "write beside, then rename: rename(2) is the one step that nobody sees the middle of",
        ));
    }

    // Lies. Whatever is sent, and however, the store has no new name afterwards and nothing that is half done.
    let before = layout.blob_names();
    for digest in [image::digest(&random()), image::digest512(&random())] {
        let status = upload(service, &repository, &random(), &digest)?;
        if status < 400 {
            return Ok(Verdict::failed(
                "bytes that are not what their digest says are refused",
                format!("they were sent as {digest}, and the registry took them (it answered {status})"),
                "was `expected` compared with what was computed?",
            ));
        }
        let (after, left) = (layout.blob_names(), layout.left());
        if after != before || !left.is_empty() {
            let new: Vec<_> = after.into_iter().filter(|name| !before.contains(name)).chain(left).collect();
            return Ok(Verdict::failed(
                "what is refused leaves nothing in the store",
                format!("left behind: {}", list(&new)),
                "verify first; only then give it a name",
            ));
        }
    }

    // An upload that is going on is not seen.
    let open = wire::ask(service.address, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"")?;
    let session = open.get("location").context("the registry opens no upload")?.to_owned();
    wire::ask(service.address, "PATCH", &session, &[], &random())?;
    if layout.blob_names() != before {
        return Ok(Verdict::failed(
            "half of an upload is not seen in blobs",
            format!("blobs has: {}", list(&layout.blob_names())),
            "a blob gets its name last",
        ));
    }
    described(case, layout, service)
}

/// Data, name, directory: what reaches the disk in another order can be half there after a power cut.
fn synced(layout: &Layout, order: &Order) -> Option<Verdict> {
    let steps = order.steps();
    let failed = |seen: String, hint: &str| {
        let expected =
            "a blob's bytes are on the disk before its name, and its name before anybody is told of it";
        Some(Verdict::failed(expected, seen, hint))
    };
    let of = |file: Identity| move |step: &Step| *step == Step::SyncedAll || *step == Step::Synced(file);
    let mut blobs = 0;
    for (at, step) in steps.iter().enumerate() {
        let Step::Named(file, to) = step else { continue };
        // blobs/<algorithm>/<hash>, however the program says it.
        let mut up = to.iter().rev();
        let (Some(name), Some(algorithm), Some(below)) = (up.next(), up.next(), up.next()) else { continue };
        if below != "blobs" {
            continue;
        }
        blobs += 1;
        let name = format!("{}/{}", algorithm.display(), name.display());
        if !steps[..at].iter().any(of(*file)) {
            let after = steps[at..].iter().any(of(*file));
            let when = if after { "; it was synced only afterwards" } else { "" };
            return failed(
                format!("the file became blobs/{name}, and it was not synced before{when}"),
                "File::sync_all first: rename(2) promises nothing about the bytes",
            );
        }
        let dir = layout.blobs().with_file_name(algorithm);
        let dir = std::fs::metadata(dir).ok().map(|m| (m.dev(), m.ino()));
        if !steps[at..].iter().any(of(dir)) {
            return failed(
                format!("the file became blobs/{name}, and its directory is not synced after that"),
                "a name is an entry in a directory, and that has to reach the disk too: sync_dir",
            );
        }
    }
    match blobs {
        0 => failed("the kernel saw no rename into blobs".into(), "how does the file get its name?"),
        _ => None,
    }
}

/// What a commit says of a blob ends up in index.json, if the blob is a manifest.
fn described(case: &Case, layout: &Layout, service: &Service) -> Result<Verdict> {
    let (repository, tag) = (case.dice.word(), case.dice.word());
    let layer = Tar::new().file(&case.dice.word(), 0o644, case.dice.word().as_bytes()).end();
    let image::Documents { config, manifest } = image::documents(std::slice::from_ref(&layer));
    for blob in [layer.as_slice(), config.as_bytes()] {
        upload(service, &repository, blob, &image::digest(blob))?;
    }
    let path = format!("/v2/{repository}/manifests/{tag}");
    let kind = [("content-type", image::MANIFEST)];
    let status = wire::ask(service.address, "PUT", &path, &kind, manifest.as_bytes())?.status;
    let digest = image::digest(manifest.as_bytes());
    let names = layout.names()?;
    let entry = names.iter().map(|(_, entry)| entry).find(|entry| entry["digest"] == digest);
    let right =
        |entry: &serde_json::Value| entry["size"] == manifest.len() && entry["mediaType"] == image::MANIFEST;
    Ok(match entry {
        Some(entry) if status == 201 && right(entry) => Verdict::Passed,
        other => Verdict::failed(
            format!("a manifest of {} bytes is listed in index.json as {digest}", manifest.len()),
            format!(
                "the registry answered {status}; index.json has {}",
                other.map_or("no such line".into(), ToString::to_string)
            ),
            "the descriptor that commit returns is what the store goes on with",
        ),
    })
}

/// Uploads a blob in the usual two requests. Returns the last status.
fn upload(service: &Service, repository: &str, bytes: &[u8], digest: &str) -> Result<u16> {
    let open = wire::ask(service.address, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"")?;
    let session = open.get("location").context("the registry opens no upload")?;
    let octets = [("content-type", "application/octet-stream")];
    Ok(wire::ask(service.address, "PUT", &format!("{session}?digest={digest}"), &octets, bytes)?.status)
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}
