//! The three indexes that travel with the bytes: sections, titles, time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::format::Section;
use crate::wire::icy;

/// A section begins at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionMark {
    /// First byte of the section (for Ogg: of its header pages).
    pub offset: u64,
    /// The decoder's setup.
    pub section: Arc<Section>,
}

/// A title is in effect from the first metadata slot at or after an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TitleMark {
    /// From here.
    pub offset: u64,
    /// The text, cleaned.
    pub text: Arc<str>,
    /// The same as an ICY metadata block, encoded once for all listeners.
    pub block: Bytes,
}

/// A place where a listener may start, with its time. At least one every 250 ms of media where the format
/// has edges that often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeMark {
    /// A frame edge.
    pub offset: u64,
    /// Media time since the epoch began, in microseconds.
    pub media_micros: u64,
    /// The origin's clock when the byte came in, in milliseconds since 1970.
    pub wall_millis: u64,
}

/// All three, oldest first.
#[derive(Debug, Default, Clone)]
pub struct Indexes {
    /// Decoder setups.
    pub sections: VecDeque<SectionMark>,
    /// Titles.
    pub titles: VecDeque<TitleMark>,
    /// Edges with their times.
    pub times: VecDeque<TimeMark>,
}

/// Most titles that one ring remembers: a source that sends hundreds a second must not fill the memory.
const MAX_TITLES: usize = 1024;

impl Indexes {
    /// Adds a title.
    pub fn add_title(&mut self, offset: u64, text: &str) {
        let text: Arc<str> = icy::clean_title(text).into();
        let block = icy::encode_title(&text, None);
        self.titles.push_back(TitleMark {
            offset,
            text,
            block,
        });
        if self.titles.len() > MAX_TITLES {
            self.titles.pop_front();
        }
    }

    /// The title in effect at a metadata slot at `offset`.
    pub fn title_at(&self, offset: u64) -> Option<&TitleMark> {
        self.titles.iter().rev().find(|mark| mark.offset <= offset)
    }

    /// The section that the byte at `offset` belongs to.
    pub fn section_at(&self, offset: u64) -> Option<&SectionMark> {
        self.sections
            .iter()
            .rev()
            .find(|mark| mark.offset <= offset)
    }

    /// Forgets what lies wholly before `start`, keeping what is still in effect there.
    pub fn forget_before(&mut self, start: u64) {
        while self
            .sections
            .get(1)
            .is_some_and(|second| second.offset <= start)
        {
            self.sections.pop_front();
        }
        while self
            .titles
            .get(1)
            .is_some_and(|second| second.offset <= start)
        {
            self.titles.pop_front();
        }
        while self.times.front().is_some_and(|mark| mark.offset < start) {
            self.times.pop_front();
        }
    }
}
