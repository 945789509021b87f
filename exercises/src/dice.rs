//! Values that are new in every run, so that no answer can be written down beforehand; and the same again for the same
//! seed, so that a failure can be repeated.

use anyhow::{Context, Result};
use std::{cell::Cell, fs, io::Read, ops::Range};

/// A source of values: SplitMix64 (Steele, Lea and Flood, 2014). It has to be repeatable, not unguessable: the seed is not
/// told to what is checked.
#[derive(Clone, Debug)]
pub struct Dice(Cell<u64>);

impl Dice {
    /// The values of this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(Cell::new(seed))
    }

    /// A seed from the kernel.
    pub fn seed() -> Result<u64> {
        let mut bytes = [0; 8];
        fs::File::open("/dev/urandom")
            .and_then(|mut f| f.read_exact(&mut bytes))
            .context("read /dev/urandom")?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of the range, which must not be empty.
    pub fn number(&self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Eight small letters.
    pub fn word(&self) -> String {
        (0..8).map(|_| char::from(b'a' + self.number(0..26) as u8)).collect()
    }

    /// This many bytes.
    pub fn bytes(&self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_values() {
        let (a, b) = (Dice::new(7), Dice::new(7));
        assert_eq!((a.word(), a.number(3..9), a.bytes(5)), (b.word(), b.number(3..9), b.bytes(5)));
        assert_ne!(a.word(), Dice::new(8).word());
    }
}
