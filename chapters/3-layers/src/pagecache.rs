//! Which bytes of a file are in memory: the page cache, seen with mincore(2).
//!
//! Two containers of one image open the same inode of the same lower layer, so the kernel has its pages
//! once, however many containers run. That is half of what "images share layers" means; `du` shows the other
//! half, on disk.

use crate::{Result, error::Doing};
use nix::errno::Errno;
use std::{fs::File, os::fd::AsRawFd, path::Path};

/// How much of a file is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Bytes in the page cache (whole pages, cut at the file's end).
    pub bytes: u64,
    /// The file's size.
    pub size: u64,
}

/// How much of the file at `path` is in the page cache. The caller must own the file or be root: to others
/// the kernel says that everything is there (mincore(2)). Through an overlay this sees the pages of the
/// layer's own file, which is the point.
pub fn resident(path: &Path) -> Result<Resident> {
    let doing = || format!("ask what of {} is in memory", path.display());
    let file = File::open(path).doing(doing)?;
    let size = file.metadata().doing(doing)?.len();
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    if length == 0 {
        return Ok(Resident { bytes: 0, size });
    }
    // SAFETY: a mapping that is only asked about, never read: a file that shrinks meanwhile cannot fault.
    let pages = unsafe {
        libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if pages == libc::MAP_FAILED {
        return Err(Errno::last()).doing(doing);
    }
    // SAFETY: sysconf(3) takes a number and gives one.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let mut present = vec![0u8; length.div_ceil(page)];
    // SAFETY: `present` has a byte for each page of the mapping, which is ours until it is unmapped below.
    let result = unsafe { libc::mincore(pages, length, present.as_mut_ptr()) };
    let result = Errno::result(result).map(drop);
    // SAFETY: the mapping made above, whole; nothing refers to it.
    unsafe { libc::munmap(pages, length) };
    result.doing(doing)?;
    let bytes = present.iter().enumerate().filter(|(_, p)| **p & 1 == 1);
    let bytes = bytes.map(|(n, _)| page.min(length - n * page) as u64).sum();
    Ok(Resident { bytes, size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_was_just_written_is_in_memory() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        assert_eq!(resident(file.path()).unwrap(), Resident { bytes: 10_000, size: 10_000 });
    }

    #[test]
    fn a_hole_that_nobody_read_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        assert_eq!(resident(file.path()).unwrap(), Resident { bytes: 0, size: 1 << 20 });
    }
}
