//! What a framer costs: bytes a second through each of them, pushed in blocks of the size that a socket gives.
//!
//! `cargo bench --bench framers`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relayctl::engine::format::{Detector, Framer, LARGEST_HEADER, Piece};

/// Bytes of one push.
const BLOCK: usize = 16 * 1024;
/// Bytes of one run, at least.
const RUN: usize = 4 * 1024 * 1024;

/// Repeats a file until it is long enough.
fn long(file: &[u8]) -> Vec<u8> {
    file.repeat(RUN.div_ceil(file.len()))
}

/// Pushes everything through a new framer; returns the bytes and pieces that came out.
fn run(mut framer: Detector, input: &[u8], block: usize) -> (usize, usize) {
    let (mut bytes_out, mut pieces) = (0, 0);
    for part in input.chunks(block) {
        framer.push(part, &mut |piece| {
            if let Piece::Media { bytes, .. } = black_box(piece) {
                bytes_out += bytes.len();
                pieces += 1;
            }
        });
    }
    (bytes_out, pieces)
}

fn framers(criterion: &mut Criterion) {
    let files: [(&str, &str, &[u8]); 6] = [
        (
            "mp3",
            "audio/mpeg",
            include_bytes!("../tests/fixtures/tone.mp3"),
        ),
        (
            "aac",
            "audio/aac",
            include_bytes!("../tests/fixtures/tone.aac"),
        ),
        (
            "vorbis",
            "audio/ogg",
            include_bytes!("../tests/fixtures/vorbis.ogg"),
        ),
        (
            "opus",
            "audio/ogg",
            include_bytes!("../tests/fixtures/opus.ogg"),
        ),
        (
            "flac",
            "audio/ogg",
            include_bytes!("../tests/fixtures/flac.ogg"),
        ),
        (
            "opaque",
            "audio/webm",
            include_bytes!("../tests/fixtures/tone.mp3"),
        ),
    ];
    let mut group = criterion.benchmark_group("framers");
    for (name, content_type, file) in files {
        let input = long(file);
        group.throughput(Throughput::Bytes(input.len() as u64));
        for block in [1_400, BLOCK] {
            group.bench_with_input(BenchmarkId::new(name, block), &input, |bencher, input| {
                bencher.iter(|| {
                    let Some(framer) = Detector::new(content_type, LARGEST_HEADER) else {
                        unreachable!("{content_type} has a framer");
                    };
                    let (bytes, pieces) = run(framer, input, block);
                    assert!(
                        bytes == input.len() && pieces > 0,
                        "{name}: {bytes} of {}",
                        input.len()
                    );
                });
            });
        }
    }
    // The slow way: nothing but junk, with false sync words in it.
    let noise: Vec<u8> = (0..RUN as u32)
        .map(|i| {
            if i % 97 == 0 {
                0xFF
            } else {
                (i.wrapping_mul(2_654_435_761) >> 24) as u8
            }
        })
        .collect();
    group.throughput(Throughput::Bytes(noise.len() as u64));
    for (name, content_type) in [("mp3 junk", "audio/mpeg"), ("ogg junk", "audio/ogg")] {
        group.bench_with_input(BenchmarkId::new(name, BLOCK), &noise, |bencher, input| {
            bencher.iter(|| {
                let framer = Detector::new(content_type, LARGEST_HEADER);
                framer.map(|framer| run(framer, input, BLOCK))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, framers);
criterion_main!(benches);
