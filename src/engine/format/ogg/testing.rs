//! Ogg streams made to order, by the `ogg` crate, so that pages are not only checked against our own reading.

use ::ogg::writing::{PacketWriteEndInfo, PacketWriter};

/// The identification packet of a stereo Opus stream.
pub fn opus_head() -> Vec<u8> {
    b"OpusHead\x01\x02\x38\x01\x80\xBB\0\0\0\0\0".to_vec()
}

/// The comment packet of an Opus stream.
pub fn opus_tags(comments: &[&str]) -> Vec<u8> {
    let mut packet = b"OpusTags\x01\0\0\0v".to_vec();
    packet.extend((comments.len() as u32).to_le_bytes());
    for comment in comments {
        packet.extend((comment.len() as u32).to_le_bytes());
        packet.extend(comment.as_bytes());
    }
    packet
}

/// One logical stream: each packet with its granule on pages of its own, the last not marked as such.
pub fn pages(serial: u32, packets: &[(&[u8], u64)]) -> Vec<u8> {
    let packets: Vec<_> = packets
        .iter()
        .map(|(bytes, granule)| (serial, *bytes, *granule, false))
        .collect();
    multiplexed(&packets)
}

/// Packets of several logical streams (serial, bytes, granule, last), each on pages of its own.
pub fn multiplexed(packets: &[(u32, &[u8], u64, bool)]) -> Vec<u8> {
    let mut writer = PacketWriter::new(Vec::new());
    for (serial, bytes, granule, last) in packets {
        let end = if *last {
            PacketWriteEndInfo::EndStream
        } else {
            PacketWriteEndInfo::EndPage
        };
        writer
            .write_packet(bytes.to_vec(), *serial, end, *granule)
            .expect("writing to memory");
    }
    writer.into_inner()
}
