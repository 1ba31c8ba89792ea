//! A map of bounded size from which the entry that was touched the longest ago goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Entries in the order of their last touch.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    entries: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    touches: u64,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    /// An empty map of at most `most` entries, at least one.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            entries: HashMap::new(),
            order: BTreeMap::new(),
            touches: 0,
        }
    }

    /// The value of `key`, untouched.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Sets the value of `key`, which is now the newest.
    pub fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.touches += 1;
        self.order.insert(self.touches, key);
        self.entries.insert(key, (self.touches, value));
        while self.entries.len() > self.most {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.entries.remove(&oldest);
        }
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (touch, value) = self.entries.remove(key)?;
        self.order.remove(&touch);
        Some(value)
    }

    /// Number of entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert_eq!(self.entries.len(), self.order.len());
        self.entries.len()
    }
}

impl<K: Copy + Eq + Hash, V: Default> Recent<K, V> {
    /// The value of `key`, untouched if it is there and else made.
    pub fn entry(&mut self, key: K) -> &mut V {
        if !self.entries.contains_key(&key) {
            self.insert(key, V::default());
        }
        &mut self.entries.entry(key).or_default().1
    }

    /// The value of `key`, made where there is none; it is now the newest.
    pub fn touch(&mut self, key: K) -> &mut V {
        let value = self.remove(&key).unwrap_or_default();
        self.insert(key, value);
        &mut self.entries.entry(key).or_default().1
    }
}
