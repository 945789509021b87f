//! Tars read and written, honest and not.

use super::{write::record, *};
use proptest::prelude::*;

fn roundtrip(entry: &Entry, data: &[u8]) -> (Entry, Vec<u8>) {
    let mut tar = Vec::new();
    write_header(&mut tar, entry).unwrap();
    tar.extend(data);
    write_padding(&mut tar, data.len() as u64).unwrap();
    write_end(&mut tar).unwrap();
    let mut reader = Reader::new(tar.as_slice());
    let back = reader.next().unwrap().unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert!(reader.next().unwrap().is_none());
    (back, bytes)
}

#[test]
fn an_owner_that_was_left_empty_is_root() {
    let mut header = Header::new_gnu();
    header.set_path("x").unwrap();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    let entry =
        Reader::new([header.as_bytes().as_slice(), &[0; 1024]].concat().as_slice()).next().unwrap().unwrap();
    assert_eq!((entry.uid, entry.gid), (0, 0));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        path in "[a-z/é]{1,300}[a-z]", uid: u32, gid: u32, mode in 0u32..0o10000,
        seconds in -5_000_000_000i64..20_000_000_000, nanoseconds in 0u32..1_000_000_000,
        data in prop::collection::vec(any::<u8>(), 0..2000),
        xattrs in prop::collection::btree_map("user\\.[a-z]{1,8}", prop::collection::vec(any::<u8>(), 0..40), 0..3),
    ) {
        let mut entry = Entry::new(OsStr::new(&path), Kind::File, mode);
        (entry.uid, entry.gid, entry.mtime) = (uid, gid, (seconds, nanoseconds));
        entry.size = data.len() as u64;
        entry.xattrs = xattrs.into_iter().map(|(k, v)| (k.into(), v)).collect();
        let (back, bytes) = roundtrip(&entry, &data);
        prop_assert_eq!(back, entry);
        prop_assert_eq!(bytes, data);
    }

    #[test]
    fn noise_is_refused_without_panic(noise in prop::collection::vec(any::<u8>(), 512..3000)) {
        let mut reader = Reader::new(noise.as_slice());
        while let Ok(Some(_)) = reader.next() {}
    }
}

#[test]
fn a_huge_pax_header_is_not_read_into_memory() {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(1 << 40);
    header.set_cksum();
    let mut reader = Reader::new(header.as_bytes().as_slice());
    assert!(matches!(reader.next(), Err(Error::Limit { .. })));
}

#[test]
fn a_uid_beyond_32_bits_does_not_become_root() {
    let mut tar = Vec::new();
    let body = record(b"uid", b"4294967296");
    let mut pax = Header::new_ustar();
    pax.set_entry_type(EntryType::XHeader);
    pax.set_size(body.len() as u64);
    pax.set_cksum();
    tar.extend(pax.as_bytes());
    tar.extend(&body);
    write_padding(&mut tar, body.len() as u64).unwrap();
    write_header(&mut tar, &Entry::new(OsStr::new("f"), Kind::File, 0o644)).unwrap();
    let error = Reader::new(tar.as_slice()).next().unwrap_err();
    assert!(error.to_string().contains("uid beyond 32 bits"), "{error}");
}
