//! What comes back: a status, and a body that is whole or comes in pieces.

use crate::engine::failure::Failure;
use hyper::{
    Response, StatusCode,
    body::{Body as HttpBody, Bytes, Frame, SizeHint},
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Whole(Option<Bytes>),
    /// Pieces, as they come. The sender learns by an error that nobody reads any more.
    Pieces(mpsc::Receiver<Bytes>),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Body::Pieces(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|b| Ok(Frame::data(b)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Body::Pieces(_) => SizeHint::default(),
        }
    }
}

/// What a handler gives.
pub(crate) type Answer = Result<Response<Body>, Failure>;

/// A document.
pub(crate) fn json(value: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, value)
}

/// A document, with a status.
pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(with_type(status, "application/json", Body::Whole(Some(bytes.into()))))
}

/// Nothing but a status.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(Body::Whole(None));
    *response.status_mut() = status;
    Ok(response)
}

/// Done, nothing to say.
pub(crate) fn done() -> Answer {
    empty(StatusCode::NO_CONTENT)
}

/// Words.
pub(crate) fn text(words: &'static str) -> Answer {
    Ok(with_type(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        Body::Whole(Some(Bytes::from_static(words.as_bytes()))),
    ))
}

/// Pieces of this type; the head is sent at once.
pub(crate) fn pieces(content_type: &'static str, pieces: mpsc::Receiver<Bytes>) -> Answer {
    Ok(with_type(StatusCode::OK, content_type, Body::Pieces(pieces)))
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A failure, as every client of docker's reads it.
pub(crate) fn failed(failure: &Failure) -> Response<Body> {
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::NOT_MODIFIED {
        let mut response = Response::new(Body::Whole(None));
        *response.status_mut() = status;
        return response;
    }
    let mut bytes = serde_json::json!({"message": failure.message}).to_string().into_bytes();
    bytes.push(b'\n');
    with_type(status, "application/json", Body::Whole(Some(bytes.into())))
}
