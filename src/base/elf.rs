//! What a program says that it needs (elf(5)): the loader, by `PT_INTERP`, and libraries, by `DT_NEEDED`.

/// `p_type`s of program headers.
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
/// `d_tag`s of the dynamic section.
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// What is of interest in an ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// 64-bit; a library must be as its program is.
    pub(super) wide: bool,
    /// The processor (`e_machine`); likewise.
    pub(super) machine: u16,
    /// The loader that the kernel starts in its stead.
    pub(super) interpreter: Option<String>,
    /// Names of libraries.
    pub(super) needed: Vec<String>,
    /// Directories to look in, for this object and those that it loads (old).
    pub(super) rpath: Option<String>,
    /// Directories to look in, for this object alone.
    pub(super) runpath: Option<String>,
}

/// The bytes of a file, of either width and byte order. Every read may be beyond the end.
struct Bytes<'a> {
    bytes: &'a [u8],
    wide: bool,
    big: bool,
}

/// A program header: a piece of the file, and the address where it is to be in memory.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

impl Elf {
    /// Reads a file; `None` if it is not ELF, or cut short.
    pub(super) fn parse(bytes: &[u8]) -> Option<Elf> {
        let ident = bytes.get(..16).filter(|ident| ident.starts_with(b"\x7fELF"))?;
        let file = Bytes { bytes, wide: ident[4] == 2, big: ident[5] == 2 };
        let segments = file.segments()?;
        let mut elf =
            Elf { wide: file.wide, machine: u16::try_from(file.number(18, 2)?).ok()?, ..Elf::default() };
        for segment in &segments {
            match segment.kind {
                PT_INTERP => elf.interpreter = file.text(segment.offset),
                PT_DYNAMIC => file.dynamic(segment, &segments, &mut elf)?,
                _ => {}
            }
        }
        Some(elf)
    }
}

impl Bytes<'_> {
    /// The number of `size` bytes at `offset`.
    fn number(&self, offset: u64, size: usize) -> Option<u64> {
        let at = usize::try_from(offset).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(size)?)?;
        let fold = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if self.big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
    }

    /// The string at `offset`, up to its zero.
    fn text(&self, offset: u64) -> Option<String> {
        let bytes = self.bytes.get(usize::try_from(offset).ok()?..)?;
        let end = bytes.iter().position(|b| *b == 0)?;
        String::from_utf8(bytes[..end].to_vec()).ok()
    }

    fn segments(&self) -> Option<Vec<Segment>> {
        // Fields of Elf64_Ehdr and Elf64_Phdr, and where the 32-bit ones differ.
        let (table, entry, count) = if self.wide {
            (self.number(32, 8)?, self.number(54, 2)?, self.number(56, 2)?)
        } else {
            (self.number(28, 4)?, self.number(42, 2)?, self.number(44, 2)?)
        };
        (0..count)
            .map(|n| {
                let at = table.checked_add(n.checked_mul(entry)?)?;
                let field = |wide: u64, narrow: u64| {
                    let (offset, size) = if self.wide { (wide, 8) } else { (narrow, 4) };
                    self.number(at.checked_add(offset)?, size)
                };
                Some(Segment {
                    kind: self.number(at, 4)?,
                    offset: field(8, 4)?,
                    address: field(16, 8)?,
                    size: field(32, 16)?,
                })
            })
            .collect()
    }

    /// Reads the dynamic section: pairs of a tag and a value, the values of texts being offsets in the
    /// string table, whose own address is one of the values.
    fn dynamic(&self, section: &Segment, segments: &[Segment], elf: &mut Elf) -> Option<()> {
        let word: u64 = if self.wide { 8 } else { 4 };
        let size = usize::try_from(word).ok()?;
        let mut pairs = Vec::new();
        for n in 0..section.size / (2 * word) {
            let at = section.offset.checked_add(n * 2 * word)?;
            match (self.number(at, size)?, self.number(at + word, size)?) {
                (0, _) => break,
                pair => pairs.push(pair),
            }
        }
        // A static program may have a dynamic section (to move itself in memory) and no strings.
        let Some((_, address)) = pairs.iter().find(|(tag, _)| *tag == DT_STRTAB).copied() else {
            return Some(());
        };
        let loaded = |s: &&Segment| {
            s.kind == PT_LOAD && (s.address..s.address.saturating_add(s.size)).contains(&address)
        };
        let segment = segments.iter().find(loaded)?;
        let strings = segment.offset.checked_add(address - segment.address)?;
        let text = |offset: u64| self.text(strings.checked_add(offset)?);
        for (tag, value) in pairs {
            match tag {
                DT_NEEDED => elf.needed.push(text(value)?),
                DT_RPATH => elf.rpath = text(value),
                DT_RUNPATH => elf.runpath = text(value),
                _ => {}
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program made here: an interpreter, one library, a run path; 32-bit big-endian or 64-bit little-endian.
    fn program(wide: bool, big: bool) -> Vec<u8> {
        let number = |value: u64, size: usize| {
            let bytes = value.to_be_bytes()[8 - size..].to_vec();
            if big { bytes } else { bytes.into_iter().rev().collect::<Vec<_>>() }
        };
        let strings = b"\0libc.so.6\0$ORIGIN/../lib\0";
        let (word, header, entry) = if wide { (8, 64, 56) } else { (4, 52, 32) };
        let interp_at = header + 3 * entry;
        let strings_at = interp_at + 8;
        let dynamic_at = strings_at + strings.len() as u64;
        let mut dynamic = Vec::new();
        for (tag, value) in [(DT_NEEDED, 1), (DT_RUNPATH, 11), (DT_STRTAB, 0x1000 + strings_at), (0, 0)] {
            dynamic.extend([number(tag, word), number(value, word)].concat());
        }
        let mut file = b"\x7fELF".to_vec();
        file.extend([if wide { 2 } else { 1 }, if big { 2 } else { 1 }, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend([number(3, 2), number(62, 2), number(1, 4), number(0, word)].concat());
        file.extend([number(header, word), number(0, word), number(0, 4), number(header, 2)].concat());
        file.extend([number(entry, 2), number(3, 2), number(0, 2), number(0, 2), number(0, 2)].concat());
        let total = dynamic_at + dynamic.len() as u64;
        for (kind, offset, size) in
            [(PT_LOAD, 0, total), (PT_INTERP, interp_at, 8), (PT_DYNAMIC, dynamic_at, dynamic.len() as u64)]
        {
            let address = 0x1000 + offset;
            let [kind, flags] = [number(kind, 4), number(0, 4)];
            let [offset, address, size] = [number(offset, word), number(address, word), number(size, word)];
            let fields = match wide {
                true => {
                    vec![kind, flags, offset, address.clone(), address, size.clone(), size, number(0, word)]
                }
                false => {
                    vec![kind, offset, address.clone(), address, size.clone(), size, flags, number(0, word)]
                }
            };
            file.extend(fields.concat());
        }
        file.extend(b"/ld.so\0\0");
        file.extend(strings);
        file.extend(dynamic);
        file
    }

    #[test]
    fn both_widths_and_byte_orders() {
        for (wide, big) in [(true, false), (false, true), (true, true), (false, false)] {
            let elf = Elf::parse(&program(wide, big)).unwrap();
            assert_eq!(elf.interpreter.as_deref(), Some("/ld.so"));
            assert_eq!(elf.needed, ["libc.so.6"]);
            assert_eq!(elf.runpath.as_deref(), Some("$ORIGIN/../lib"));
            assert_eq!((elf.wide, elf.machine), (wide, 62));
        }
    }

    #[test]
    fn a_file_cut_short_is_refused_wherever_it_is_cut() {
        let whole = program(true, false);
        // The last pair only says that there are no more.
        for length in 0..whole.len() - 16 {
            assert_eq!(Elf::parse(&whole[..length]), None, "cut at {length}");
        }
        assert_eq!(Elf::parse(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn this_program_needs_what_ldd_says() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = Elf::parse(&own).unwrap();
        // A test program may be static (musl); a dynamic one has a loader.
        assert_eq!(elf.needed.is_empty(), elf.interpreter.is_none());
    }
}
