//! Chance that can be repeated: `VYR_SEED` sets the seed, and each test prints the one it used.

/// SplitMix64, a small generator whose every seed is good.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let seed = std::env::var("VYR_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(7);
        println!("VYR_SEED={seed}");
        Self(seed)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Half of the bits are more than any bound here needs.
        usize::try_from((z ^ (z >> 31)) >> 32).expect("32 bits") % bound
    }

    /// The bytes with one change of the kinds that happen: a bit, a byte, a cut, a hole, a repeat.
    pub(crate) fn change(&mut self, sound: &[u8]) -> Vec<u8> {
        let mut bytes = sound.to_vec();
        let at = self.below(bytes.len());
        let length = 1 + self.below(64).min(bytes.len() - at - 1);
        match self.below(6) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = u8::try_from(self.below(256)).expect("a byte"),
            2 => bytes.truncate(at),
            3 => bytes[at..at + length].fill(0),
            4 => drop(bytes.drain(at..at + length)),
            _ => {
                let again = bytes[at..at + length].to_vec();
                bytes.splice(at..at, again);
            }
        }
        bytes
    }
}
