//! The instructions: ranges of numbers become a binary search, conditions on arguments a few
//! comparisons of 32 bits each, which is all that classic BPF has.

use super::action;
use crate::{Result, error::invalid};
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Op, LinuxSyscall};

/// The kernel's `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Insn {
    pub(super) code: u16,
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) k: u32,
}

pub(super) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(super) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(super) const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub(super) const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(super) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(super) const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// BPF_MAXINSNS.
pub(super) const LONGEST: usize = 4096;

impl Insn {
    pub(super) fn load(offset: u32) -> Insn {
        Insn { code: LOAD, yes: 0, no: 0, k: offset }
    }

    pub(super) fn ret(action: u32) -> Insn {
        Insn { code: RETURN, yes: 0, no: 0, k: action }
    }

    fn jump(over: usize) -> Insn {
        Insn { code: JUMP, yes: 0, no: 0, k: over as u32 }
    }

    fn test(code: u16, k: u32, yes: u8, no: u8) -> Insn {
        Insn { code, yes, no, k }
    }
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This, whatever its arguments.
    Return(u32),
    /// The instructions that look at its arguments; they end in a return.
    Look(Vec<Insn>),
}

/// The numbers from `start` up to the next range's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) verdict: Verdict,
}

/// Adds a range behind the others. Of several with the same start the last one counts; neighbours of one mind are one.
pub(super) fn add(ranges: &mut Vec<Range>, start: u32, verdict: Verdict) {
    if ranges.last().is_some_and(|last| last.start == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| last.verdict != verdict) {
        ranges.push(Range { start, verdict });
    }
}

/// What a 64-bit x86 kernel adds to a number for the x32 ABI.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// "If the architecture is this one: load the number and search; else go on behind." The numbers of
/// `x32`, if there are any, are searched first; what lies between the bit and the first of them
/// is an x86_64 number once the bit is off.
pub(super) fn for_arch(audit: u32, ranges: &[Range], x32: &[Range]) -> Vec<Insn> {
    let mut inner = vec![Insn::load(NUMBER)];
    if let Some(first) = x32.first() {
        let special = search(x32);
        let mut part = at_least_or_over(first.start, special.len());
        part.extend(special);
        part.push(Insn { code: AND, yes: 0, no: 0, k: !X32_BIT });
        inner.extend(at_least_or_over(X32_BIT, part.len()));
        inner.extend(part);
    }
    inner.extend(search(ranges));
    let mut code = vec![Insn::test(EQUAL, audit, 1, 0), Insn::jump(inner.len())];
    code.extend(inner);
    code
}

/// "If the number is at least this, go on; else jump over so much."
fn at_least_or_over(start: u32, over: usize) -> Vec<Insn> {
    match u8::try_from(over) {
        Ok(over) => vec![Insn::test(AT_LEAST, start, 0, over)],
        Err(_) => vec![Insn::test(AT_LEAST, start, 1, 0), Insn::jump(over)],
    }
}

/// A binary search for the number, which is in the accumulator.
fn search(ranges: &[Range]) -> Vec<Insn> {
    let mut code = Vec::with_capacity(4 * ranges.len());
    backwards(ranges, &mut code);
    code.reverse();
    code
}

/// The same, its last instruction first: so it is known how far each jump has to go when it is written. A test's
/// offset has 8 bits only; a longer one needs an unconditional jump, which has 32.
fn backwards(ranges: &[Range], code: &mut Vec<Insn>) {
    if let [Range { verdict, .. }] = ranges {
        return match verdict {
            Verdict::Return(action) => code.push(Insn::ret(*action)),
            Verdict::Look(look) => code.extend(look.iter().rev()),
        };
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    backwards(high, code);
    let behind = code.len();
    backwards(low, code);
    let over = code.len() - behind;
    match u8::try_from(over) {
        Ok(over) => code.push(Insn::test(AT_LEAST, high[0].start, over, 0)),
        Err(_) => code.extend([Insn::jump(over), Insn::test(AT_LEAST, high[0].start, 0, 1)]),
    }
}

impl Verdict {
    /// Of the rules that name one call, in order.
    pub(super) fn of<'a>(rules: impl Iterator<Item = &'a LinuxSyscall>, default: u32) -> Result<Verdict> {
        let mut code = Vec::new();
        for rule in rules {
            let action = action(rule.action(), rule.errno_ret())?;
            let args = rule.args().as_deref().unwrap_or_default();
            if args.is_empty() {
                if code.is_empty() {
                    return Ok(Verdict::Return(action));
                }
                code.push(Insn::ret(action));
                return Ok(Verdict::Look(code));
            }
            for all in alternatives(args) {
                code.extend(conditions(&all, action)?);
            }
        }
        code.push(Insn::ret(default));
        Ok(Verdict::Look(code))
    }
}

/// All conditions must hold. Two about the same argument are alternatives instead: that is how
/// runc has always read them, and profiles in the wild rely on it.
fn alternatives(args: &[LinuxSeccompArg]) -> Vec<Vec<LinuxSeccompArg>> {
    let twice = args.iter().any(|a| args.iter().filter(|b| a.index() == b.index()).count() > 1);
    if twice { args.iter().map(|a| vec![*a]).collect() } else { vec![args.to_vec()] }
}

/// "If all hold, return the action; else go on behind." Built from the end, so that each test knows
/// how far it is to the way out.
fn conditions(args: &[LinuxSeccompArg], action: u32) -> Result<Vec<Insn>> {
    let mut code = vec![Insn::ret(action)];
    for arg in args.iter().rev() {
        if arg.index() > 5 {
            return invalid(format!("linux.seccomp: a system call has no argument {}", arg.index()));
        }
        let mut test = condition(arg, code.len())?;
        test.extend(code);
        code = test;
    }
    Ok(code)
}

/// One condition: falls through if it holds, else jumps over the `rest` that follows it.
fn condition(arg: &LinuxSeccompArg, rest: usize) -> Result<Vec<Insn>> {
    let at = ARGS + 8 * arg.index() as u32;
    // Both architectures that we know are little-endian: the low half comes first.
    let (low, high) = (Insn::load(at), Insn::load(at + 4));
    let halves = |v: u64| (v as u32, (v >> 32) as u32);
    let (l, h) = halves(arg.value());
    let Ok(out) = u8::try_from(rest) else { return invalid("linux.seccomp: a rule is too long") };
    let test = Insn::test;
    Ok(match arg.op() {
        Op::ScmpCmpEq => vec![high, test(EQUAL, h, 0, out + 2), low, test(EQUAL, l, 0, out)],
        Op::ScmpCmpNe => vec![high, test(EQUAL, h, 0, 2), low, test(EQUAL, l, out, 0)],
        Op::ScmpCmpMaskedEq => {
            let (l2, h2) = halves(arg.value_two().unwrap_or(0));
            let mask = |k| Insn { code: AND, yes: 0, no: 0, k };
            vec![high, mask(h), test(EQUAL, h2, 0, out + 3), low, mask(l), test(EQUAL, l2, 0, out)]
        }
        // The high halves decide unless they are equal. "Less" is "not at least".
        Op::ScmpCmpGt => ordered(high, low, h, (GREATER, l), true, out),
        Op::ScmpCmpGe => ordered(high, low, h, (AT_LEAST, l), true, out),
        Op::ScmpCmpLe => ordered(high, low, h, (GREATER, l), false, out),
        Op::ScmpCmpLt => ordered(high, low, h, (AT_LEAST, l), false, out),
    })
}

/// A comparison of 64 bits, and whether it is to hold or to fail.
fn ordered(high: Insn, low: Insn, h: u32, (code, l): (u16, u32), holds: bool, out: u8) -> Vec<Insn> {
    let (above, below, yes, no) = if holds { (3, out + 2, 0, out) } else { (out + 3, 2, out, 0) };
    vec![
        high,
        Insn::test(GREATER, h, above, 0),
        Insn::test(EQUAL, h, 0, below),
        low,
        Insn::test(code, l, yes, no),
    ]
}
