//! Chance that can be repeated.

use std::fs::File;

/// The seed of `VYR_SEED`, or another each time; it is printed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("VYR_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        let mut source = File::open("/dev/urandom").expect("random bytes");
        std::io::Read::read_exact(&mut source, &mut bytes).expect("random bytes");
        u64::from_le_bytes(bytes)
    });
    println!("VYR_SEED={seed}");
    seed
}

/// Random numbers, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
