//! Device rules as a program for the kernel (bpf(2)): compiled here into a few instructions, loaded, and attached
//! to a cgroup v2 directory. A side room of [`crate::devices`].

use crate::{Result, devices::Rule, error::Doing};
use nix::errno::Errno;
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

/// An eBPF instruction (Documentation/bpf/standardization/instruction-set.rst).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Source register in the high half, destination in the low half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn i(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: src << 4 | dst, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_UNLESS_EQUAL_REGISTER: u8 = 0x5d;
const JUMP_IF_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// Compiles the rules: the last one that matches decides, so they are asked from the last to the first.
///
/// The kernel passes `struct bpf_cgroup_dev_ctx { access_type, major, minor }` in r1, where the access is in the high
/// half of the first field (1 mknod, 2 read, 4 write) and the kind in the low one (1 block, 2 character).
fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        i(LOAD_WORD, 2, 1, 0, 0), // r2 = kind
        i(MOVE, 3, 2, 0, 0),      // r3 = access
        i(AND, 2, 0, 0, 0xffff),
        i(SHIFT_RIGHT, 3, 0, 0, 16),
        i(LOAD_WORD, 4, 1, 4, 0), // r4 = major
        i(LOAD_WORD, 5, 1, 8, 0), // r5 = minor
    ];
    for rule in rules.iter().rev() {
        let mut tests = Vec::new();
        match rule.kind {
            'b' => tests.push(i(JUMP_UNLESS_EQUAL, 2, 0, 0, 1)),
            'c' => tests.push(i(JUMP_UNLESS_EQUAL, 2, 0, 0, 2)),
            _ => {}
        }
        let bit = |(letter, bit): (char, i32)| if rule.access.contains(letter) { bit } else { 0 };
        let mask: i32 = [('m', 1), ('r', 2), ('w', 4)].map(bit).iter().sum();
        if mask != 7 {
            tests.push(i(MOVE, 0, 3, 0, 0));
            tests.push(i(AND, 0, 0, 0, mask));
            // An allowing rule must cover all of what is wanted; a denying one any of it.
            tests.push(if rule.allow {
                i(JUMP_UNLESS_EQUAL_REGISTER, 0, 3, 0, 0)
            } else {
                i(JUMP_IF_EQUAL, 0, 0, 0, 0)
            });
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number {
                tests.push(i(JUMP_UNLESS_EQUAL, register, 0, 0, number as i32));
            }
        }
        let certain = tests.is_empty();
        // A test that fails jumps over what is left of this rule, with its two last instructions.
        let length = tests.len();
        for (at, test) in tests.iter_mut().enumerate() {
            if matches!(test.code, JUMP_UNLESS_EQUAL | JUMP_UNLESS_EQUAL_REGISTER | JUMP_IF_EQUAL) {
                test.offset = (length - at - 1 + 2) as i16;
            }
        }
        program.append(&mut tests);
        program.extend([i(MOVE_NUMBER, 0, 0, 0, rule.allow.into()), i(EXIT, 0, 0, 0, 0)]);
        if certain {
            // Nothing before a rule for everything can matter, and the verifier refuses code that is never reached.
            return program;
        }
    }
    program.extend([i(MOVE_NUMBER, 0, 0, 0, 1), i(EXIT, 0, 0, 0, 0)]);
    program
}

/// The fields of `union bpf_attr` for each command that is used here.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_GET_FD_BY_ID: u32 = 13;
const PROG_QUERY: u32 = 16;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE_ATTACH: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

fn bpf<T>(command: u32, attributes: &mut T) -> nix::Result<i64> {
    // SAFETY: each attribute type is a C struct laid out as bpf(2) wants it for its command; the size goes along, so that
    // the kernel reads and writes no more than that; the addresses in it are of memory that the callers hold.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size_of::<T>()) };
    Errno::result(result)
}

/// A descriptor that a bpf command returned.
fn descriptor(result: nix::Result<i64>) -> nix::Result<OwnedFd> {
    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
    result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches the rules to the group, in the place of those attached before.
pub(crate) fn attach(group: &Path, rules: &[Rule]) -> Result<()> {
    let directory = File::open(group).doing(|| format!("opening {}", group.display()))?;
    let program = load(&compile(rules)).doing(|| "loading the device program (bpf(2))".into())?;
    let old = attached(directory.as_fd());
    let mut attach = Attach {
        target: directory.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE_ATTACH,
        // Programs of groups above stay in force: a device must pass all of them.
        flags: if old.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI },
        replaced: old.as_ref().map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    bpf(PROG_ATTACH, &mut attach)
        .doing(|| format!("attaching the device program to {}", group.display()))
        .map(|_| ())
}

fn load(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let mut load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        ..Load::default()
    };
    descriptor(bpf(PROG_LOAD, &mut load))
}

/// The program that is attached to this very group, if there is one.
fn attached(directory: BorrowedFd) -> Option<OwnedFd> {
    let mut ids = [0u32; 16];
    let mut query = Query {
        target: directory.as_raw_fd() as u32,
        kind: CGROUP_DEVICE_ATTACH,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query).ok()?;
    let id = *ids.get(..query.count as usize)?.first()?;
    descriptor(bpf(PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() })).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::complete;

    fn rules(json: &str) -> Vec<Rule> {
        complete(&serde_json::from_str::<Vec<_>>(json).unwrap())
    }

    const DOCKER: &str = r#"[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
        {"allow":false,"type":"b","major":8,"access":"w"}]"#;

    /// What the kernel would do with a program: enough of the machine for the ten instructions that are used.
    fn run(program: &[Instruction], access: u64, kind: u64, major: u64, minor: u64) -> bool {
        let mut r = [0u64; 11];
        let context = [access << 16 | kind, major, minor];
        let mut at = 0usize;
        loop {
            let n = program[at];
            let (dst, src) = ((n.registers & 15) as usize, (n.registers >> 4) as usize);
            at += 1;
            let jump = match n.code {
                LOAD_WORD => {
                    r[dst] = context[n.offset as usize / 4];
                    false
                }
                MOVE => {
                    r[dst] = r[src];
                    false
                }
                MOVE_NUMBER => {
                    r[dst] = n.immediate as u64;
                    false
                }
                AND => {
                    r[dst] &= n.immediate as u64;
                    false
                }
                SHIFT_RIGHT => {
                    r[dst] >>= n.immediate;
                    false
                }
                JUMP_UNLESS_EQUAL => r[dst] != n.immediate as u64,
                JUMP_UNLESS_EQUAL_REGISTER => r[dst] != r[src],
                JUMP_IF_EQUAL => r[dst] == n.immediate as u64,
                EXIT => return r[0] != 0,
                other => panic!("{other:#x}"),
            };
            if jump {
                at += n.offset as usize;
            }
        }
    }

    #[test]
    fn the_program_decides_as_the_rules_say() {
        let program = compile(&rules(DOCKER));
        let (mknod, read, write, block, character) = (1, 2, 4, 1, 2);
        let ask = |access, kind, major, minor| run(&program, access, kind, major, minor);
        assert!(ask(read | write, character, 1, 3), "/dev/null is a default device");
        assert!(ask(read | write, character, 136, 7), "so is every pseudo-terminal");
        assert!(ask(read | write, character, 10, 229), "allowed by a rule");
        assert!(ask(mknod, character, 10, 229), "a node may be made of everything");
        assert!(!ask(mknod | read, character, 4, 1), "but not made and read");
        assert!(!ask(read, block, 8, 0), "denied by the first rule");
        assert!(!ask(write, block, 8, 0));
        assert!(ask(mknod, block, 8, 0));
        let free = compile(&rules(r#"[{"allow":false,"type":"b","major":8,"access":"w"}]"#));
        assert!(!run(&free, write | read, block, 8, 1), "any of what is denied denies");
        assert!(run(&free, read, block, 8, 1), "what no rule names stays free");
    }
}
