//! Where the loader looks for a library (ld.so(8)): the object's own paths, the cache, the default directories.

use super::elf::Elf;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// Looked in last. Not every system has all of them.
const DEFAULT: &[&str] = &["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"];
/// glibc's cache in its present form begins so, at the beginning of the file or behind the old form.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";

/// The loader's knowledge of this host.
pub(super) struct Loader {
    /// From a library's name to its files: there may be one for each kind of processor.
    cache: HashMap<String, Vec<PathBuf>>,
}

impl Loader {
    /// Reads `/etc/ld.so.cache`; musl and some others have none.
    pub(super) fn of_the_host() -> Loader {
        Loader {
            cache: fs::read("/etc/ld.so.cache").ok().and_then(|bytes| parse(&bytes)).unwrap_or_default(),
        }
    }

    /// The file of the library `name`, as `elf`, which is `file`, would have it loaded.
    pub(super) fn find(&self, name: &str, elf: &Elf, file: &Path) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(name.into());
        }
        // RUNPATH puts RPATH out of force.
        let own = elf
            .runpath
            .as_ref()
            .or(elf.rpath.as_ref())
            .map(|list| directories(list, elf, file))
            .unwrap_or_default();
        let own = own.into_iter().map(|dir| dir.join(name));
        let cached = self.cache.get(name).into_iter().flatten().cloned();
        let multiarch = ["/lib", "/usr/lib"].iter().flat_map(|dir| {
            let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
            [Path::new(dir).join(triplet).join(name)]
        });
        // musl's own list of directories, and next to the loader itself, where systems without a cache have all libraries.
        let beside = elf.interpreter.as_deref().and_then(|i| Some(Path::new(i).parent()?.join(name)));
        let default = DEFAULT.iter().map(|dir| Path::new(dir).join(name));
        let beside_file = file.parent().map(|dir| dir.join(name));
        own.chain(cached)
            .chain(default)
            .chain(multiarch)
            .chain(beside)
            .chain(beside_file)
            .find(|path| fits(path, elf))
    }
}

/// Whether it is a library of the same kind of processor as the object that wants it.
fn fits(path: &Path, wanted: &Elf) -> bool {
    let elf = fs::read(path).ok().and_then(|bytes| Elf::parse(&bytes));
    elf.is_some_and(|elf| elf.wide == wanted.wide && elf.machine == wanted.machine)
}

/// The directories of an RPATH or RUNPATH, with the place of the object itself for `$ORIGIN`.
fn directories(list: &str, elf: &Elf, file: &Path) -> Vec<PathBuf> {
    let real = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let origin = real.parent().unwrap_or(Path::new("/")).display().to_string();
    let lib = if elf.wide { "lib64" } else { "lib" };
    list.split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| {
            let dir = dir.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
            PathBuf::from(dir.replace("${LIB}", lib).replace("$LIB", lib))
        })
        .collect()
}

/// Reads glibc's cache: a header of 48 bytes, then entries of 24 (flags, name, path, OS version, hardware
/// capabilities), then the strings; places of strings count from the header.
fn parse(bytes: &[u8]) -> Option<HashMap<String, Vec<PathBuf>>> {
    let start = bytes.windows(MAGIC.len()).position(|w| w == MAGIC)?;
    let cache = &bytes[start..];
    let number = |at: usize| Some(u32::from_ne_bytes(cache.get(at..at + 4)?.try_into().ok()?));
    let text = |at: u32| {
        let rest = cache.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        String::from_utf8(rest[..end].to_vec()).ok()
    };
    let count = usize::try_from(number(MAGIC.len())?).ok()?;
    let mut all = HashMap::<String, Vec<PathBuf>>::new();
    for entry in cache.get(48..)?.chunks_exact(24).take(count).enumerate() {
        let at = 48 + entry.0 * 24;
        // A library for newer processors only would make an image for newer processors only.
        let plain = number(at + 16)? == 0 && number(at + 20)? == 0;
        if plain {
            all.entry(text(number(at + 4)?)?).or_default().push(text(number(at + 8)?)?.into());
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(&str, &str, u32)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut file = MAGIC.to_vec();
        file.extend(u32::try_from(entries.len()).unwrap().to_ne_bytes());
        file.resize(48, 0);
        let begin = 48 + 24 * entries.len();
        for (name, path, hwcap) in entries {
            let mut put = |text: &str| {
                let at = begin + strings.len();
                strings.extend(text.as_bytes());
                strings.push(0);
                u32::try_from(at).unwrap()
            };
            for field in [0x0303, put(name), put(path), 0, *hwcap, 0] {
                file.extend(field.to_ne_bytes());
            }
        }
        file.extend(strings);
        file
    }

    #[test]
    fn the_cache_is_read_and_newer_processors_left_out() {
        let entries = [
            ("libz.so.1", "/lib/libz.so.1", 0),
            ("libz.so.1", "/lib/v3/libz.so.1", 2),
            ("libc.so.6", "/lib/libc.so.6", 0),
        ];
        let new = cache(&entries);
        let behind_old_form = [b"ld.so-1.7.0\0 something old ".to_vec(), new.clone()].concat();
        for bytes in [new, behind_old_form] {
            let all = parse(&bytes).unwrap();
            assert_eq!(all["libz.so.1"], [PathBuf::from("/lib/libz.so.1")]);
            assert_eq!(all.len(), 2);
        }
        assert!(parse(b"something else").is_none());
    }

    #[test]
    fn origin_is_where_the_object_is() {
        let elf = Elf { wide: true, ..Elf::default() };
        assert_eq!(
            directories("$ORIGIN/../lib::${ORIGIN}/$LIB:/opt", &elf, Path::new("/nowhere/bin/x")),
            ["/nowhere/bin/../lib", "/nowhere/bin/lib64", "/opt"].map(PathBuf::from)
        );
    }
}
