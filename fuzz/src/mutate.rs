//! A seeded mutator for stable Rust: the same seed gives the same inputs.
//!
//! It knows nothing of coverage. What makes it find things is a corpus that reaches every branch
//! of interest, words that mean something to the target, and targets that repair what a mutation
//! always breaks (checksums, digests). `fuzz/libfuzzer` has the coverage-guided one.

/// Longest input that is made: a few times the longest of the corpora.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// Most changes to one input; more and nothing of the original is left to judge.
const CHANGES_MAX: u64 = 4;

/// Longest run of bytes that is copied, removed or repeated at once.
const RUN_BYTES_MAX: u64 = 256;

/// Bytes at which parsers turn.
const EDGES: &[u8] = b"\0\x01\x7f\x80\xff\"\\/{}[],:.-+ \t\r\n#%$=0129aAfFzZ";

/// A generator of numbers: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed and name.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, so that targets with the same seed do not walk in step.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, hash))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, or 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or_default()
    }

    /// An index of something with `len` places, or 0.
    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> Option<&'a T> {
        items.get(self.index(items.len())).copied()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// A new input: one of `corpus`, changed in one to four places.
pub fn mutate(random: &mut Random, corpus: &[&[u8]], words: &[&[u8]]) -> Vec<u8> {
    let mut input = random.pick(corpus).unwrap_or_default().to_vec();
    for _ in 0..=random.below(CHANGES_MAX) {
        change(random, &mut input, corpus, words);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, corpus: &[&[u8]], words: &[&[u8]]) {
    let at = random.index(input.len() + 1);
    match random.below(12) {
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.byte();
            }
        }
        3 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = EDGES[random.index(EDGES.len())];
            }
        }
        4 => input.insert(at, EDGES[random.index(EDGES.len())]),
        5 => {
            let end = run_end(random, input, at);
            input.drain(at..end);
        }
        6 => {
            let end = run_end(random, input, at);
            let run = input[at..end].to_vec();
            let to = random.index(input.len() + 1);
            input.splice(to..to, run);
        }
        7 | 8 => {
            let word = random.pick(words).unwrap_or_default();
            input.splice(at..at, word.iter().copied());
        }
        9 => {
            let word = random.pick(words).unwrap_or_default();
            replace_token(random, input, at, word);
        }
        10 => {
            // The head of this one, the tail of another.
            let other = random.pick(corpus).unwrap_or_default();
            let from = random.index(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => number(random, input, at),
    }
}

fn run_end(random: &mut Random, input: &[u8], at: usize) -> usize {
    let length = usize::try_from(1 + random.below(RUN_BYTES_MAX)).expect("small");
    (at + length).min(input.len())
}

/// Puts `word` in the place of the run of letters and digits at `at`.
fn replace_token(random: &mut Random, input: &mut Vec<u8>, at: usize, word: &[u8]) {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._+/".contains(byte);
    let start = input[..at].iter().rposition(|byte| !is_part(byte)).map_or(0, |n| n + 1);
    let end = input[at..].iter().position(|byte| !is_part(byte)).map_or(input.len(), |n| at + n);
    // Half of the time the quotes around it go as well.
    let quoted = start > 0 && input[start - 1] == b'"' && input.get(end) == Some(&b'"');
    let wider = usize::from(quoted && random.below(2) == 0);
    input.splice(start - wider..end + wider, word.iter().copied());
}

/// Changes the next decimal number to a neighbour or to a limit.
fn number(random: &mut Random, input: &mut Vec<u8>, at: usize) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) else {
        return;
    };
    let digits = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = String::from_utf8_lossy(&input[start..start + digits]).into_owned();
    let value = text.parse::<u64>().unwrap_or_default();
    let limits = ["0", "1", "-1", "9007199254740992", "18446744073709551616", "1.5", "1e9"];
    let new = match random.below(4) {
        0 => value.wrapping_add(1).to_string(),
        1 => value.wrapping_sub(1).to_string(),
        2 => format!("0{text}"),
        _ => limits[random.index(limits.len())].to_owned(),
    };
    input.splice(start..start + digits, new.into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let run = |seed, name: &str| -> Vec<Vec<u8>> {
            let mut random = Random::new(seed, name);
            (0..200).map(|_| mutate(&mut random, &[b"{\"a\":12}", b""], &[b"null"])).collect()
        };
        assert_eq!(run(1, "a"), run(1, "a"));
        assert_ne!(run(1, "a"), run(2, "a"));
        assert_ne!(run(1, "a"), run(1, "b"));
    }

    #[test]
    fn nothing_to_start_from_is_no_fault_and_inputs_are_bounded() {
        let mut random = Random::new(0, "");
        let long = vec![b'1'; INPUT_BYTES_MAX];
        for _ in 0..500 {
            assert!(mutate(&mut random, &[], &[]).len() <= INPUT_BYTES_MAX);
            assert!(mutate(&mut random, &[&long], &[&long]).len() <= INPUT_BYTES_MAX);
        }
    }
}
