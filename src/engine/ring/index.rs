//! The three indexes that travel with the bytes: sections, titles, time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::format::Section;
use crate::wire::icy;
use crate::wire::title::Title;

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
    /// The title, cleaned.
    pub title: Arc<Title>,
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
    /// Bytes of the sections' header pages.
    headers: usize,
}

/// Most titles that one ring remembers: a source that sends hundreds a second must not fill the memory.
const MAX_TITLES: usize = 1024;

/// Most sections that one ring remembers, and most bytes of their header pages: a source's chains are in the ring's own
/// bound, what a parent says of them beside the audio is not.
const MAX_SECTIONS: usize = 4096;
/// See [`MAX_SECTIONS`]; a section of a source has at most 16 MiB of them.
const MAX_HEADERS: usize = 32 << 20;

/// Most edges that one ring remembers: 18 hours of one every 250 ms.
const MAX_TIMES: usize = 1 << 18;

impl Indexes {
    /// Adds a title.
    pub fn add_title(&mut self, offset: u64, title: Title) {
        let block = icy::encode_title(&title.text, title.url.as_deref());
        self.titles.push_back(TitleMark {
            offset,
            title: Arc::new(title),
            block,
        });
        if self.titles.len() > MAX_TITLES {
            self.titles.pop_front();
        }
    }

    /// Adds a section; at one offset the last one holds. The oldest goes where there are too many.
    pub fn add_section(&mut self, mark: SectionMark) {
        if self.sections.back() == Some(&mark) {
            return;
        }
        if self
            .sections
            .back()
            .is_some_and(|last| last.offset == mark.offset)
            && let Some(last) = self.sections.pop_back()
        {
            self.headers = self.headers.saturating_sub(last.section.header.len());
        }
        self.headers = self.headers.saturating_add(mark.section.header.len());
        self.sections.push_back(mark);
        let too_many = |i: &Self| i.sections.len() > MAX_SECTIONS || i.headers > MAX_HEADERS;
        while self.sections.len() > 1 && too_many(self) {
            self.forget_section();
        }
    }

    fn forget_section(&mut self) {
        if let Some(first) = self.sections.pop_front() {
            self.headers = self.headers.saturating_sub(first.section.header.len());
        }
    }

    /// Adds an edge beyond the last one.
    pub fn add_time(&mut self, mark: TimeMark) {
        if self
            .times
            .back()
            .is_none_or(|last| last.offset < mark.offset)
        {
            self.times.push_back(mark);
        }
        if self.times.len() > MAX_TIMES {
            self.times.pop_front();
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
            self.forget_section();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::{Codec, Params};

    fn section(offset: u64, header: usize) -> SectionMark {
        let section = Section {
            params: Params {
                codec: Codec::Opaque,
                sample_rate: 0,
                channels: 0,
                profile: 0,
            },
            bitrate: 0,
            header: Bytes::from(vec![(offset % 251) as u8; header]),
        };
        SectionMark {
            offset,
            section: Arc::new(section),
        }
    }

    #[test]
    fn sections_are_bounded_by_number_and_by_bytes_and_the_newest_stays() {
        let mut indexes = Indexes::default();
        for offset in 0..2 * MAX_SECTIONS as u64 {
            indexes.add_section(section(offset, 16));
        }
        assert_eq!(indexes.sections.len(), MAX_SECTIONS);
        assert_eq!(indexes.headers, 16 * MAX_SECTIONS);
        for offset in 10_000..10_100 {
            indexes.add_section(section(offset, 1 << 20));
        }
        assert_eq!(indexes.sections.len(), 32);
        assert_eq!(indexes.headers, MAX_HEADERS);
        // One alone is kept, however long.
        indexes.add_section(section(20_000, MAX_HEADERS + 1));
        assert_eq!(indexes.sections.len(), 1);
        indexes.add_section(section(20_001, 1));
        assert_eq!((indexes.sections.len(), indexes.headers), (1, 1));
    }

    #[test]
    fn at_one_offset_the_last_section_holds() {
        let mut indexes = Indexes::default();
        for length in 1..1_000 {
            indexes.add_section(section(7, length));
        }
        assert_eq!((indexes.sections.len(), indexes.headers), (1, 999));
        indexes.add_section(section(9, 1));
        indexes.forget_before(9);
        assert_eq!((indexes.sections.len(), indexes.headers), (1, 1));
    }

    #[test]
    fn edges_are_bounded() {
        let mut indexes = Indexes::default();
        for offset in 0..MAX_TIMES as u64 + 10 {
            indexes.add_time(TimeMark {
                offset,
                media_micros: 0,
                wall_millis: 0,
            });
        }
        assert_eq!(indexes.times.len(), MAX_TIMES);
        assert_eq!(indexes.times.front().map(|mark| mark.offset), Some(10));
    }
}
