//! Signals as docker takes them: by number and by name.

use super::failure::{Failure, Result};

/// The number of a signal, given as docker takes it: `9`, `KILL`, `SIGKILL`, `RTMIN+1`.
pub(crate) fn number(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let bad = || Failure::bad(format!("invalid signal: {text}"));
    let number = if let Ok(number) = name.parse::<i32>() {
        number
    } else if let Some(n) = name.strip_prefix("RTMIN") {
        34 + if n.is_empty() { 0 } else { n.parse::<i32>().map_err(|_| bad())? }
    } else if let Some(n) = name.strip_prefix("RTMAX") {
        64 + if n.is_empty() { 0 } else { n.parse::<i32>().map_err(|_| bad())? }
    } else {
        format!("SIG{name}").parse::<nix::sys::signal::Signal>().map_err(|_| bad())? as i32
    };
    if (1..=64).contains(&number) { Ok(number) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_name() {
        for (text, expected) in
            [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGHUP", 1), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(number(text).ok(), Some(expected), "{text}");
        }
        for bad in ["", "0", "65", "SIGNOT", "-1", "RTMIN+99"] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }
}
