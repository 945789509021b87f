//! How a layer is compressed.

use oci_spec::image::MediaType;
use std::io::{self, BufRead, BufReader};

/// How a layer's blob is compressed, by its own first bytes: media types are often wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
    /// A plain tar.
    None,
}

impl Compression {
    /// By the first four bytes.
    pub fn of(first: &[u8]) -> Compression {
        match first {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may come first (zstd:chunked).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// The media type of a layer so compressed.
    pub fn media_type(self) -> MediaType {
        match self {
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
            Compression::None => MediaType::ImageLayer,
        }
    }

    /// A stream so compressed, inflated while it is read. An error if there is no memory for it.
    pub fn inflate<'a>(self, from: impl BufRead + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
        Ok(match self {
            // Several members may follow each other (RFC 1952, section 2.2): they are one stream.
            Compression::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(from))),
            Compression::Zstd => Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(from)?)),
            Compression::None => Box::new(from),
        })
    }
}
