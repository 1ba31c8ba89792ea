//! Texts that many sessions share: a thousand listeners have a dozen players between them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longest text kept, in bytes.
pub const MAX_TEXT: usize = 256;

/// Different texts that are shared at once; one that comes beyond them belongs to its session alone.
pub const MAX_SHARED: usize = 65_536;

/// Below this the table keeps its room.
const SMALL: usize = 1024;

/// The table, and how many sessions have each. A text leaves it with the last of them.
#[derive(Debug, Default)]
pub(super) struct Texts(Mutex<HashMap<Arc<str>, u32>>);

impl Texts {
    /// `text`, cut at [`MAX_TEXT`] on a character's edge.
    pub fn share(&self, text: &str) -> Arc<str> {
        let text = cut(text);
        let mut shared = self.lock();
        if let Some((known, _)) = shared.get_key_value(text) {
            let known = Arc::clone(known);
            if let Some(count) = shared.get_mut(text) {
                *count += 1;
            }
            return known;
        }
        let new: Arc<str> = text.into();
        if shared.len() < MAX_SHARED {
            shared.insert(Arc::clone(&new), 1);
        }
        new
    }

    /// The session that holds `text` is over.
    pub fn release(&self, text: &Arc<str>) {
        let mut shared = self.lock();
        let is_shared = shared
            .get_key_value(text)
            .is_some_and(|(known, _)| Arc::ptr_eq(known, text));
        let Some(count) = shared.get_mut(text).filter(|_| is_shared) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        shared.remove(text);
        if shared.capacity() > SMALL && shared.len() * 4 < shared.capacity() {
            shared.shrink_to(SMALL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_while_somebody_has_it() {
        let texts = Texts::default();
        let (one, two) = (texts.share("VLC/3"), texts.share("VLC/3"));
        assert!(Arc::ptr_eq(&one, &two));
        texts.release(&one);
        drop(one);
        assert_eq!(texts.lock().len(), 1);
        texts.release(&two);
        assert_eq!((texts.lock().len(), &*two), (0, "VLC/3"));
        assert_eq!(texts.share(&"é".repeat(200)).len(), MAX_TEXT);
    }

    #[test]
    fn bounded_and_the_room_comes_back() {
        let texts = Texts::default();
        let held: Vec<Arc<str>> = (0..=MAX_SHARED)
            .map(|n| texts.share(&n.to_string()))
            .collect();
        assert_eq!(texts.lock().len(), MAX_SHARED);
        let beyond = texts.share(&MAX_SHARED.to_string());
        assert!(!Arc::ptr_eq(&beyond, &held[MAX_SHARED]));
        texts.release(&beyond);
        for text in held {
            texts.release(&text);
        }
        let shared = texts.lock();
        assert!(shared.is_empty() && shared.capacity() <= 2 * SMALL);
    }
}
