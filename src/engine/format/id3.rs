//! ID3v2 tags: how long one is, so that it can be skipped (id3.org, ID3v2.4.0 structure, section 3.1).

/// The first bytes of a tag.
pub const MARK: &[u8] = b"ID3";
/// Bytes of a tag's header.
pub const HEADER_LEN: usize = 10;
/// A longer tag is taken for junk: a wrong size must not swallow a stream for hours.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Length of the whole tag that starts at `at`, with header and footer. `None` if there is no tag, if it is
/// longer than 16 MiB, or if fewer than [`HEADER_LEN`] bytes are given.
pub fn tag_len(at: &[u8]) -> Option<u64> {
    let [b'I', b'D', b'3', major, minor, flags, sizes @ ..] = at else {
        return None;
    };
    let size = sizes.get(..4)?;
    if *major == 0xFF || *minor == 0xFF || size.iter().any(|byte| *byte >= 0x80) {
        return None;
    }
    let body = size
        .iter()
        .fold(0u64, |sum, byte| (sum << 7) | u64::from(*byte));
    let footer = if flags & 0x10 != 0 {
        HEADER_LEN as u64
    } else {
        0
    };
    let whole = HEADER_LEN as u64 + body + footer;
    (whole <= LIMIT).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_seven_bits_a_byte() {
        assert_eq!(
            tag_len(b"ID3\x03\x00\x00\x00\x00\x02\x01rest"),
            Some(10 + 257)
        );
        assert_eq!(tag_len(b"ID3\x04\x00\x10\x00\x00\x00\x05"), Some(25));
        assert_eq!(tag_len(b"ID3\x04\x00\x00\x00\x00\x00\x80"), None);
        assert_eq!(tag_len(b"ID3\xff\x00\x00\x00\x00\x00\x05"), None);
        assert_eq!(tag_len(b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f"), None);
        assert_eq!(tag_len(b"ID3\x04\x00\x00\x00\x00\x00"), None);
        assert_eq!(tag_len(b"TAG\x04\x00\x00\x00\x00\x00\x00"), None);
    }
}
