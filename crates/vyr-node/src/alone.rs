//! Waiting for who holds a file's lock, and not for ever.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Between two tries: the kernel has no wait for such a lock that ends.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Locks a file or a directory for this process alone, as long as it is open; false: somebody else
/// held it for longer than `patience`.
pub fn is_alone(file: &File, patience: Duration) -> io::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(LOOK_AGAIN),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_gets_it_when_it_is_given_up_and_not_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || File::open(directory.path()).expect("it is there");
        let (mine, other) = (open(), open());
        assert!(is_alone(&mine, Duration::ZERO).expect("a lock"));
        assert!(!is_alone(&other, Duration::ZERO).expect("a lock"));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| is_alone(&other, Duration::from_secs(60)));
            drop(mine);
            assert!(waits.join().expect("it ends").expect("a lock"));
        });
    }
}
