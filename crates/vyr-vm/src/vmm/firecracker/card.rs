//! The network card. Firecracker opens a TAP by name, so ours is closed before: the device has to
//! stay, to be here, and to belong to the VMM's user, or another one would be made in its place.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use super::super::VmmError;

/// `IFF_PERSIST` of linux/if_tun.h.
const PERSISTS: u32 = 0x0800;

/// A TAP that nobody has open.
#[derive(Debug)]
pub(super) struct Card {
    name: String,
    mac: [u8; 6],
}

impl Card {
    /// Closes the descriptor.
    pub(super) fn of(
        tap: OwnedFd,
        mac: [u8; 6],
        user: Option<(u32, u32)>,
    ) -> Result<Self, VmmError> {
        let path = format!("/proc/self/fdinfo/{}", tap.as_raw_fd());
        let text = fs::read_to_string(&path).map_err(VmmError::file("read", path))?;
        let name = text.lines().find_map(|line| line.strip_prefix("iff:"));
        let name = name.map(str::trim).filter(|it| !it.is_empty() && !it.contains('/'));
        let wrong = |why: &str| VmmError::Spec(format!("its card {why}"));
        let name = name.ok_or_else(|| wrong("is no TAP"))?.to_owned();
        let about = |file: &str| {
            let path = Path::new("/sys/class/net").join(&name).join(file);
            let text = fs::read_to_string(path);
            text.map_err(|_| wrong("is in another network namespace than this process"))
        };
        let flags = about("tun_flags")?;
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
        if flags.map_err(|_| wrong("has flags that are no number"))? & PERSISTS == 0 {
            return Err(wrong("ends with its descriptor, and Firecracker opens a name"));
        }
        // `-1` is nobody's: whoever has the right may open it, and the VMM has none.
        let owner = about("owner")?;
        match user {
            Some((uid, _)) if owner.trim() != uid.to_string() => {
                Err(wrong("does not belong to the VMM's user"))
            }
            _ => Ok(Self { name, mac }),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// As it is written.
    pub(super) fn mac(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tap_is_no_card() {
        let file = fs::File::open("/dev/null").expect("a file");
        let error = Card::of(file.into(), [2, 0, 0, 0, 0, 1], None).expect_err("no TAP");
        assert!(error.to_string().contains("is no TAP"), "{error}");
    }
}
