//! What a store must hold, whoever else writes into it.

use super::*;
use oci_spec::image::ImageIndex;
use serde_json::json;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

/// An image of one file, its layer stored as `pack` compresses it.
fn image(store: &Store, content: &str, pack: impl Fn(&[u8]) -> Vec<u8>) -> Descriptor {
    let mut packer = crate::pack::Packer::new(Vec::new());
    packer.file(Path::new("file"), 0o644, owner(), 0, content.as_bytes()).unwrap();
    let tar = packer.finish().unwrap();
    let layer = store.put(MediaType::ImageLayer, &pack(&tar)).unwrap();
    let config = json!({
        "architecture": oci_spec::image::Arch::default(), "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest(&tar).unwrap()] },
    });
    store.write_image(&config, vec![layer]).unwrap()
}

fn owner() -> (u32, u32) {
    (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn a_new_store_is_a_layout() {
    let (_dir, store) = store();
    let read = |name: &str| fs::read_to_string(store.root().join(name)).unwrap();
    assert_eq!(read("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: ImageIndex = serde_json::from_str(&read("index.json")).unwrap();
    assert!(index.manifests().is_empty());
    // One of a version that we do not know is not touched.
    fs::write(store.root().join("oci-layout"), r#"{"imageLayoutVersion":"9.0.0"}"#).unwrap();
    assert!(Store::open(store.root()).unwrap_err().to_string().contains("9.0.0"));
}

#[test]
fn content_is_what_its_digest_says_or_is_refused() {
    let (_dir, store) = store();
    let good = store.put(MediaType::ImageConfig, b"{}").unwrap();
    assert!(store.has(&good));
    assert_eq!(store.read(&good).unwrap(), b"{}");
    // On the way in.
    let mut ingest = store.ingest().unwrap();
    ingest.write_all(b"[]").unwrap();
    assert!(matches!(ingest.commit(MediaType::ImageConfig, Some(&good)), Err(Error::Mismatch { .. })));
    // And on the way out: somebody has changed the blob.
    fs::write(store.blob_path(good.digest()), b"[]").unwrap();
    assert!(matches!(store.read(&good), Err(Error::Mismatch { .. })));
    fs::write(store.blob_path(good.digest()), b"longer").unwrap();
    assert!(!store.has(&good));
    assert!(matches!(store.read(&good), Err(Error::Mismatch { .. })));
}

#[test]
fn sha512_is_as_good() {
    let (_dir, store) = store();
    let digest = hash(&oci_spec::image::DigestAlgorithm::Sha512, &mut &b"data"[..]).unwrap();
    let wanted = Descriptor::new(MediaType::ImageLayer, 4, digest);
    let mut ingest = store.ingest().unwrap();
    ingest.write_all(b"data").unwrap();
    ingest.commit(MediaType::ImageLayer, Some(&wanted)).unwrap();
    assert_eq!(store.read(&wanted).unwrap(), b"data");
    assert!(store.root().join("blobs/sha512").is_dir());
}

#[test]
fn a_digest_is_never_a_path() {
    // CVE-2024-3727: most do not even parse; what parses and is not registered is refused.
    for bad in ["sha256:../../etc/passwd", "../..:x", "sha256:", "sha256:ABC", "a/b:c", "sha256:0/0"] {
        assert!(bad.parse::<Digest>().is_err(), "{bad}");
    }
    let (_dir, store) = store();
    let odd: Digest = "other:abc".parse().unwrap();
    assert!(matches!(store.open_blob(&odd), Err(Error::Algorithm(_))));
    assert!(!store.has(&Descriptor::new(MediaType::ImageLayer, 0, odd)));
}

#[test]
fn huge_documents_are_not_read() {
    let (_dir, store) = store();
    let big = store.put(MediaType::ImageManifest, &vec![b' '; MAX_DOCUMENT as usize + 1]).unwrap();
    assert!(matches!(store.read(&big), Err(Error::Limit { .. })));
    // A descriptor that understates it does not help.
    let understated = Descriptor::new(MediaType::ImageManifest, 10, big.digest().clone());
    assert!(matches!(store.read(&understated), Err(Error::Limit { .. } | Error::Mismatch { .. })));
}

#[test]
fn layers_unpack_however_they_are_compressed() {
    let (_dir, store) = store();
    let zstd = |tar: &[u8]| zstd::stream::encode_all(tar, 1).unwrap();
    let two_members = |tar: &[u8]| [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    type Pack<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let packs: [Pack; 4] = [&<[u8]>::to_vec, &gzip, &zstd, &two_members];
    for (n, pack) in packs.iter().enumerate() {
        let image = store.image(&image(&store, &format!("content {n}"), pack)).unwrap();
        let dirs = store.unpack(&image).unwrap();
        assert_eq!(fs::read_to_string(dirs[0].join("file")).unwrap(), format!("content {n}"));
    }
}

#[test]
fn a_layer_that_is_not_the_one_in_the_config_is_not_unpacked() {
    let (_dir, store) = store();
    let good = store.image(&image(&store, "good", gzip)).unwrap();
    let evil = store.image(&image(&store, "evil", gzip)).unwrap();
    let mixed = store.write_image(&good.raw_config, evil.manifest.layers().clone()).unwrap();
    let error = store.unpack(&store.image(&mixed).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    assert!(!store.is_unpacked(&good.chain_ids()[0]));
    assert_eq!(fs::read_dir(store.root().join(".tmp")).unwrap().count(), 0);
}

#[test]
fn of_an_index_this_machines_image_is_taken() {
    let (_dir, store) = store();
    let mine = image(&store, "mine", gzip);
    let entry = |manifest: &Descriptor, os: &str, arch: &str| {
        json!({ "mediaType": manifest.media_type(), "digest": manifest.digest(), "size": manifest.size(),
                "platform": { "os": os, "architecture": arch } })
    };
    let here = oci_spec::image::Arch::default().to_string();
    let missing = Descriptor::new(MediaType::ImageManifest, 7, digest(b"not here").unwrap());
    let index = |entries: Vec<serde_json::Value>| {
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": entries });
        store.put(MediaType::ImageIndex, index.to_string().as_bytes()).unwrap()
    };
    let others = [entry(&missing, "linux", "s390x"), entry(&missing, "unknown", "unknown")];
    let inner = index([&others[..], &[entry(&mine, "linux", &here)]].concat());
    let outer = index(vec![
        json!({ "mediaType": MediaType::ImageIndex, "digest": inner.digest(), "size": inner.size() }),
    ]);
    assert_eq!(store.image(&outer).unwrap().descriptor.digest(), mine.digest());
    // It can be named although the other platforms' images are not here, and then all of it stays.
    store.tag("multi", &outer).unwrap();
    store.collect_older(&[], std::time::Duration::ZERO).unwrap();
    assert_eq!(store.image(&outer).unwrap().id(), store.image(&mine).unwrap().id());

    let error = store.image(&index(others.to_vec())).unwrap_err().to_string();
    assert!(error.contains("linux/s390x") && error.contains(&format!("linux/{here}")), "{error}");
}

#[test]
fn names_move_and_unnamed_images_stay() {
    let (_dir, store) = store();
    let (a, b) = (image(&store, "a", gzip), image(&store, "b", gzip));
    store.tag("x", &a).unwrap();
    store.tag("y", &a).unwrap();
    store.tag("x", &b).unwrap();
    let names = |d: &Descriptor| -> Vec<Option<String>> {
        store.list().unwrap().into_iter().filter(|(_, o)| o.digest() == d.digest()).map(|(n, _)| n).collect()
    };
    assert_eq!(names(&a), [Some("y".into())]);
    assert_eq!(names(&b), [Some("x".into())]);
    store.tag("y", &b).unwrap();
    assert_eq!(names(&a), [None], "no name is left, and the image is");
    assert_eq!(store.untag("nobody").unwrap(), None);
    assert_eq!(store.untag("y").unwrap().unwrap().digest(), b.digest());
    assert_eq!(names(&b), [Some("x".into())]);
    store.remove(a.digest()).unwrap();
    assert_eq!(names(&a), []);
}

#[test]
fn an_upper_directory_becomes_a_layer_as_it_is() {
    let (dir, store) = store();
    let upper = dir.path().join("upper");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("file"), "adopted").unwrap();
    let (layer, diff_id) = crate::diff::commit(&store, &upper).unwrap();
    let manifest = store.write_on(None, Some((layer, diff_id.clone())), json!({}), |_| ()).unwrap();
    assert!(store.adopt(&upper, &diff_id, None).unwrap());
    assert!(!upper.exists());
    let dirs = store.unpack(&store.image(&manifest).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(dirs[0].join("file")).unwrap(), "adopted");
}
