//! EBML elements (RFC 8794): an id, a size, and so many bytes.

/// Front of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// The id with its length marker.
    pub id: u32,
    /// Bytes of its body; `None` where it has no known end.
    pub size: Option<u64>,
    /// Bytes of id and size.
    pub front: usize,
}

/// Kind of the bytes at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    More,
    None,
    Element(Element),
}

impl Element {
    /// Bytes of all of it; `None` where it has no known end.
    pub fn whole(&self) -> Option<usize> {
        let size = usize::try_from(self.size?).ok()?;
        self.front.checked_add(size)
    }
}

/// Reads the front of an element.
pub fn read(at: &[u8]) -> Reading {
    let Some(first) = at.first() else {
        return Reading::More;
    };
    let id_len = first.leading_zeros() as usize + 1;
    if id_len > 4 {
        return Reading::None;
    }
    let Some(id) = at.get(..id_len) else {
        return Reading::More;
    };
    let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let rest = at.get(id_len..).unwrap_or_default();
    match (size(rest), rest.first()) {
        (Some((size, len)), _) => Reading::Element(Element {
            id,
            size,
            front: id_len + len,
        }),
        (None, Some(0)) => Reading::None,
        (None, _) => Reading::More,
    }
}

/// A size of one to eight bytes and how many these are; its value is `None` for the size that stands for an unknown one.
pub fn size(at: &[u8]) -> Option<(Option<u64>, usize)> {
    let first = *at.first()?;
    let len = first.leading_zeros() as usize + 1;
    let bytes = at.get(..len).filter(|_| len <= 8)?;
    let value = bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    let mask = (1_u64 << (7 * len)) - 1;
    let value = value & mask;
    Some(((value != mask).then_some(value), len))
}

/// The size of `len` bytes, one to eight, that stands for an unknown one.
pub fn unknown_size(len: usize) -> Vec<u8> {
    let len = len.clamp(1, 8);
    let mut bytes = vec![0xFF; len];
    if let Some(first) = bytes.first_mut() {
        *first = 0xFF >> (len - 1);
    }
    bytes
}

/// The elements within a body, whole ones only: id and body.
pub fn children(mut body: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let Reading::Element(element) = read(body) else {
            return None;
        };
        let whole = body.get(..element.whole()?)?;
        body = body.get(whole.len()..).unwrap_or_default();
        Some((element.id, whole.get(element.front..).unwrap_or_default()))
    })
}

/// An unsigned number of up to eight bytes.
pub fn number(body: &[u8]) -> u64 {
    let bytes = body.iter().take(8);
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}
