//! Uploads: a blob on its way in, written beside and visible only when its digest is right
//! (distribution-spec, "Pushing blobs").

use super::{
    Outcome, Registry,
    answer::{self, Code, refusal},
    http::{Answer, Connection, Request},
};
use layers::store::Ingest;
use oci_spec::image::{Descriptor, Digest, MediaType};
use std::{
    collections::HashMap,
    io::{Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// No blob is larger.
const LIMIT: u64 = 64 << 30;
/// How many uploads may be open, and for how long without a word.
const SESSIONS: usize = 256;
const IDLE: Duration = Duration::from_secs(3600);

/// The uploads that are open, by their names.
#[derive(Default)]
pub(super) struct Uploads<'a> {
    sessions: Mutex<HashMap<String, Arc<Mutex<Session<'a>>>>>,
}

/// One of them.
struct Session<'a> {
    /// `None` once it is finished.
    ingest: Option<Ingest<'a>>,
    size: u64,
    touched: Instant,
}

impl<'a> Uploads<'a> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Mutex<Session<'a>>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<Arc<Mutex<Session<'a>>>, Answer> {
        let unknown =
            || refusal(404, Code::UploadUnknown, "blob upload unknown to registry; begin a new one");
        self.lock().get(id).cloned().ok_or_else(unknown)
    }

    fn open(&self, ingest: Ingest<'a>) -> Result<String, Answer> {
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS {
            // Whoever has not come back for an hour does not come any more.
            sessions.retain(|_, session| session.try_lock().map_or(true, |s| s.touched.elapsed() < IDLE));
        }
        if sessions.len() >= SESSIONS {
            return Err(
                refusal(429, Code::TooManyRequests, "too many uploads are open").header("retry-after", 10)
            );
        }
        let id =
            random().map_err(|_| refusal(500, Code::Unknown, "there is no randomness to name an upload"))?;
        let session = Session { ingest: Some(ingest), size: 0, touched: Instant::now() };
        sessions.insert(id.clone(), Arc::new(Mutex::new(session)));
        Ok(id)
    }
}

impl Session<'_> {
    /// Writes what the client sends behind what is there.
    fn receive(&mut self, body: &mut Connection) -> Result<(), Answer> {
        let gone = || refusal(404, Code::UploadUnknown, "blob upload unknown to registry; begin a new one");
        let ingest = self.ingest.as_mut().ok_or_else(gone)?;
        let mut block = vec![0; 128 << 10];
        loop {
            let count =
                body.read(&mut block).map_err(|e| refusal(400, Code::UploadInvalid, &e.to_string()))?;
            if count == 0 {
                break;
            }
            self.size += count as u64;
            if self.size > LIMIT {
                self.ingest = None;
                return Err(refusal(413, Code::SizeInvalid, "the blob is larger than this registry takes"));
            }
            if let Err(error) = ingest.write_all(&block[..count]) {
                tracing::error!("an upload cannot be written: {error}");
                self.ingest = None; // How much was written, no one knows.
                return Err(refusal(
                    500,
                    Code::Unknown,
                    "the registry cannot write its store; its log says why",
                ));
            }
        }
        self.touched = Instant::now();
        Ok(())
    }
}

impl Registry<'_> {
    /// `POST /v2/<name>/blobs/uploads/`: opens an upload; or takes a blob that is there already (`mount`), or
    /// one that comes whole with this very request (`digest`).
    pub(super) fn begin(&self, name: &str, request: &Request, body: &mut Connection) -> Outcome {
        if let Some(digest) = request.query("mount") {
            let digest = answer::digest(digest)?;
            if self.store.blob_path(&digest).is_file() {
                return Ok(created(name, &digest));
            }
        }
        let ingest = self.store.ingest().map_err(answer::broken)?;
        if let Some(digest) = request.query("digest") {
            let digest = answer::digest(digest)?;
            let mut session = Session { ingest: Some(ingest), size: 0, touched: Instant::now() };
            session.receive(body)?;
            return commit(name, &digest, &mut session);
        }
        let id = self.uploads.open(ingest)?;
        Ok(accepted(202, name, &id, 0))
    }

    /// `PATCH /v2/<name>/blobs/uploads/<id>`: a chunk, which must begin where the last one ended.
    pub(super) fn append(&self, name: &str, id: &str, request: &Request, body: &mut Connection) -> Outcome {
        let session = self.uploads.find(id)?;
        let mut session = held(&session)?;
        check_range(name, id, &session, request)?;
        self.receive(id, &mut session, body)?;
        Ok(accepted(202, name, id, session.size))
    }

    /// `PUT /v2/<name>/blobs/uploads/<id>?digest=…`: perhaps a last chunk, and the digest that all must have.
    pub(super) fn finish(&self, name: &str, id: &str, request: &Request, body: &mut Connection) -> Outcome {
        let session = self.uploads.find(id)?;
        let mut session = held(&session)?;
        let missing = || refusal(400, Code::DigestInvalid, "a digest must close the upload");
        let digest = answer::digest(request.query("digest").ok_or_else(missing)?)?;
        if request.length != Some(0) {
            check_range(name, id, &session, request)?;
            self.receive(id, &mut session, body)?;
        }
        self.uploads.lock().remove(id);
        commit(name, &digest, &mut session)
    }

    fn receive(&self, id: &str, session: &mut Session, body: &mut Connection) -> Result<(), Answer> {
        let received = session.receive(body);
        if session.ingest.is_none() {
            self.uploads.lock().remove(id);
        }
        received
    }

    /// `GET /v2/<name>/blobs/uploads/<id>`: how much is there.
    pub(super) fn progress(&self, name: &str, id: &str) -> Outcome {
        let session = self.uploads.find(id)?;
        let session = held(&session)?;
        Ok(accepted(204, name, id, session.size))
    }

    /// `DELETE /v2/<name>/blobs/uploads/<id>`
    pub(super) fn cancel(&self, id: &str) -> Outcome {
        self.uploads.find(id)?;
        self.uploads.lock().remove(id);
        Ok(Answer::new(204))
    }
}

/// One request at a time may write to an upload.
fn held<'s, 'a>(session: &'s Mutex<Session<'a>>) -> Result<MutexGuard<'s, Session<'a>>, Answer> {
    session
        .try_lock()
        .map_err(|_| refusal(409, Code::UploadInvalid, "another request is writing to this upload"))
}

/// `Content-Range: 0-499`, if it is given, must begin at the end of what is there.
fn check_range(name: &str, id: &str, session: &Session, request: &Request) -> Result<(), Answer> {
    let Some(range) = request.header("content-range") else { return Ok(()) };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = range.trim().trim_start_matches("bytes ").split('/').next().unwrap_or_default();
    let parsed = range.split_once('-').and_then(|(from, to)| Some((number(from)?, number(to)?)));
    let refused = |status, why| {
        let at = accepted(status, name, id, session.size).headers;
        let mut answer = refusal(status, Code::UploadInvalid, why);
        answer.headers.extend(at);
        answer
    };
    let Some((from, to)) = parsed else { return Err(refused(400, "a content-range is <first>-<last>")) };
    if from != session.size {
        return Err(refused(416, "the chunk does not begin where the last one ended"));
    }
    let length = to.checked_sub(from).map(|length| length + 1);
    if length.is_none() || request.length.is_some_and(|sent| Some(sent) != length) {
        return Err(refused(416, "the chunk is not as long as its content-range"));
    }
    Ok(())
}

/// Makes the blob visible, if its digest is right.
fn commit(name: &str, digest: &Digest, session: &mut Session) -> Outcome {
    let gone = || refusal(404, Code::UploadUnknown, "blob upload unknown to registry; begin a new one");
    let ingest = session.ingest.take().ok_or_else(gone)?;
    let kind = MediaType::Other("application/octet-stream".into());
    let expected = Descriptor::new(kind.clone(), session.size, digest.clone());
    ingest.commit(kind, Some(&expected)).map_err(|error| {
        tracing::info!("{error}");
        refusal(400, Code::DigestInvalid, "provided digest did not match uploaded content")
    })?;
    Ok(created(name, digest))
}

/// The blob is there.
fn created(name: &str, digest: &Digest) -> Answer {
    Answer::new(201)
        .header("location", format!("/v2/{name}/blobs/{digest}"))
        .header("docker-content-digest", digest)
}

/// The upload goes on.
fn accepted(status: u16, name: &str, id: &str, size: u64) -> Answer {
    Answer::new(status)
        .header("location", format!("/v2/{name}/blobs/uploads/{id}"))
        .header("docker-upload-uuid", id)
        .header("range", format!("0-{}", size.saturating_sub(1)))
}

/// A name that no other client can guess.
fn random() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
