//! What no driver makes: the bounds of a specification.

use super::{MEMORY_MIN, Spec, VmmError};

/// The largest guest: more is a mistake in a unit.
const MEMORY_MAX: u64 = 1 << 40;

/// Whether a machine can be made like this at all.
pub(super) fn check(spec: &Spec) -> Result<(), VmmError> {
    let wrong = |what: &str| Err(VmmError::Spec(what.to_owned()));
    if spec.memory_bytes < MEMORY_MIN || spec.memory_bytes > MEMORY_MAX {
        return wrong("its memory is less than 128 MiB or more than 1 TiB");
    }
    if !spec.memory_bytes.is_multiple_of(1 << 20) {
        return wrong("its memory is no whole number of MiB");
    }
    if spec.vcpus == 0 || spec.vcpus > 64 {
        return wrong("it has from 1 to 64 processors");
    }
    let mark = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !spec.mark.as_deref().is_none_or(|it| !it.is_empty() && it.bytes().all(mark)) {
        return wrong("its mark has letters, digits and - only");
    }
    let plain = |name: &str| {
        !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !spec.cgroup.as_deref().is_none_or(plain) {
        return wrong("the name of its cgroup has letters, digits, - and _ only");
    }
    Ok(())
}
