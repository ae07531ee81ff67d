//! A loop with a checkpoint, for those who want to see what it costs: `objdump -d` shows that the
//! loop compares two words and calls nothing. `tests/fast_path.rs` holds it to that.

use std::hint::black_box;

/// A sum that yields when it is asked to; how often it was.
#[inline(never)]
fn guided_sum(numbers: &[u64]) -> (u64, u64) {
    let (mut sum, mut yields) = (0, 0);
    for number in numbers {
        sum ^= black_box(*number);
        if morpheus::checkpoint() {
            yields += 1;
        }
    }
    (sum, yields)
}

/// The same with a system call in each turn, which is what a safe point must not cost.
#[inline(never)]
fn polite_sum(numbers: &[u64]) -> (u64, u64) {
    let (mut sum, mut yields) = (0, 0);
    for number in numbers {
        sum ^= black_box(*number);
        morpheus::yield_now();
        yields += 1;
    }
    (sum, yields)
}

fn main() {
    let numbers: Vec<u64> = (0..1_000_000).collect();
    println!("guided: {:?}", guided_sum(black_box(&numbers)));
    println!("polite: {:?}", polite_sum(black_box(&numbers)));
}
