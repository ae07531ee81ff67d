//! CRC-32 (IEEE 802.3, reflected), so that a frame which was cut is not taken for a whole one.
//!
//! It detects accidents; against a hostile guest the bounds of each field hold.

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut value = byte;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[byte as usize] = value;
        byte += 1;
    }
    table
}

/// The checksum of the parts, one after the other.
pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(!0, |value, byte| TABLE[usize::from(value.to_le_bytes()[0] ^ byte)] ^ (value >> 8))
}

#[cfg(test)]
mod tests {
    /// The check value of the catalogue of parametrised CRC algorithms.
    #[test]
    fn the_check_value_is_that_of_the_catalogue() {
        assert_eq!(super::crc(&[b"1234", b"56789"]), 0xcbf4_3926);
    }
}
