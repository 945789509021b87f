//! `--chmod`: octal, or symbolic as for chmod(1).

/// A change of a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `0755`
    Octal(u32),
    /// `u=rwX,go-w`
    Symbolic(Vec<Clause>),
}

/// `u+rw`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Which of the bits it is about (`0o4700` for `u`, ...).
    who: u32,
    /// `+`, `-` or `=`.
    operator: char,
    /// `r`, `w`, `x`, `s` and `t`, for everybody.
    bits: u32,
    /// `X`: x for directories, and for what somebody may execute already.
    conditional: bool,
}

impl Mode {
    /// Reads it.
    pub(crate) fn parse(text: &str) -> Result<Mode, String> {
        let wrong = || {
            format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777, or symbolic like u=rwX,go=rX"
            )
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777);
            return mode.map(Mode::Octal).ok_or_else(wrong);
        }
        let clauses = text.split(',').map(|part| clauses(part).ok_or_else(wrong));
        Ok(Mode::Symbolic(clauses.collect::<Result<Vec<_>, _>>()?.concat()))
    }

    /// The permissions of a file that has `mode` (type included).
    pub(crate) fn apply(&self, mode: u32) -> u32 {
        let clauses = match self {
            Mode::Octal(mode) => return *mode,
            Mode::Symbolic(clauses) => clauses,
        };
        let is_dir = mode & libc::S_IFMT == libc::S_IFDIR;
        clauses.iter().fold(mode & 0o7777, |mode, clause| {
            let execute = if clause.conditional && (is_dir || mode & 0o111 != 0) { 0o111 } else { 0 };
            let bits = (clause.bits | execute) & clause.who;
            match clause.operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => mode & !(clause.who & 0o777) | bits,
            }
        })
    }
}

/// `ug+r-w`: one set of people, any number of operators.
fn clauses(part: &str) -> Option<Vec<Clause>> {
    let start = part.find(['+', '-', '='])?;
    let who = part[..start].chars().try_fold(0, |who, c| {
        Some(
            who | match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            },
        )
    })?;
    let who = if start == 0 { 0o7777 } else { who };
    let mut found: Vec<Clause> = Vec::new();
    for c in part[start..].chars() {
        if let '+' | '-' | '=' = c {
            found.push(Clause { who, operator: c, bits: 0, conditional: false });
            continue;
        }
        let clause = found.last_mut()?;
        clause.bits |= match c {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            's' => 0o6000,
            't' => {
                clause.who |= 0o1000;
                0o1000
            }
            'X' => {
                clause.conditional = true;
                0
            }
            _ => return None,
        };
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let file = libc::S_IFREG;
        let directory = libc::S_IFDIR;
        for (text, mode, expected) in [
            ("755", file | 0o600, 0o755),
            ("04755", file, 0o4755),
            ("0", file | 0o777, 0),
            ("u+x", file | 0o644, 0o744),
            ("a-w", file | 0o666, 0o444),
            ("+x", file | 0o644, 0o755),
            ("go=", file | 0o777, 0o700),
            ("u=rwX,go=rX", file | 0o600, 0o644),
            ("u=rwX,go=rX", file | 0o700, 0o755),
            ("u=rwX,go=rX", directory | 0o700, 0o755),
            ("u+s", file | 0o755, 0o4755),
            ("g+s", file | 0o755, 0o2755),
            ("+t", directory | 0o777, 0o1777),
            ("u+r-w", file | 0o200, 0o400),
        ] {
            assert_eq!(Mode::parse(text).unwrap().apply(mode), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_mode() {
        for text in ["", "9", "10000", "u", "z+x", "u+z", "u+x,", "0x1ff"] {
            assert!(Mode::parse(text).is_err(), "{text}");
        }
    }
}
