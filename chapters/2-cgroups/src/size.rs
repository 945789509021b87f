//! `64m`: how people write bytes (docker's rules, go-units `RAMInBytes`).

/// Bytes from `64m`, `1.5g`, `512`, `10 MiB`, `4kb`: a number, then one of `b k m g t p` in either case,
/// with or without a `b` or `ib` after it. Every unit is a power of 1024.
///
/// # Errors
/// A sentence that names the text and shows one that would do.
pub fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("invalid size: '{text}' (a size is a number and a unit, as in 512k, 64m or 1.5g)");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim_start().to_ascii_lowercase());
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(bad()),
    };
    let factor = 1024u64.pow(power);
    // A whole number stays exact: a f64 would round one beyond 2^53.
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(bad);
    }
    match number.parse::<f64>() {
        Ok(n)
            if number.starts_with(|c: char| c.is_ascii_digit()) && n * (factor as f64) < u64::MAX as f64 =>
        {
            Ok((n * factor as f64) as u64)
        }
        _ => Err(bad()),
    }
}

/// Bytes for people: `12.5MiB`, as `docker stats` shows them (four significant digits).
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let places = if value >= 1000.0 {
        0
    } else if value >= 100.0 {
        1
    } else if value >= 10.0 {
        2
    } else {
        3
    };
    let number = format!("{value:.places$}");
    // `64.00` says no more than `64`.
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("32b", 32),
            ("4k", 4096),
            ("4KB", 4096),
            ("4 KiB", 4096),
            ("64m", 64 << 20),
            ("1.5g", 3 << 29),
            ("1T", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_and_quoted() {
        for text in
            ["", "m", "-1", ".5m", "1x", "64mm", "1e3", "0x10", "1..5k", "99999999999999999999", "20000p"]
        {
            let error = parse(text).unwrap_err();
            assert!(error.contains(&format!("'{text}'")), "{error}");
        }
    }

    #[test]
    fn for_people() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (64 << 20, "64MiB"),
            (13_107_200, "12.5MiB"),
            (1_288_490_188, "1.2GiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
