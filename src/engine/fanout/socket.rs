//! What every listener's socket has set, and why. The figures are measured (Linux 6.18).
//!
//! - `TCP_NODELAY`: a send carries all there is; its last segment shall not wait for an acknowledgement.
//! - `TCP_NOTSENT_LOWAT` at 48 KiB. Left alone, the kernel let the queue of a listener that never reads grow to
//!   4.2 MB (`tcp_wmem`), which is four minutes at 128 kbit/s: it would have been noticed long after the ring's
//!   window. With it our end holds 51 to 58 KB, and a listener that stops is noticed after some eight seconds. A burst
//!   of 64 KiB is still taken by the first send of a usual client, and what the rest of a long link's first flights
//!   needs is there. 64 KiB would be too much: where the client's window is tiny, segments are, and the 66 KB of the
//!   queue took 156 KB of memory; now they take 117 KB.
//! - `SO_SNDBUF` at 60 KiB (of which the kernel makes 120) bounds that memory whatever segments a client asks for: it
//!   takes one segment's page more than its bound, and 128 KiB shall hold the most. Alone it would not do: 145 KB.
//!   What a link can have under way within it, 8 Mbit/s at 100 ms, is many times a listener's need.
//! - No pacing (`SO_MAX_PACING_RATE`): at twice the stream's rate a send of 14 KiB took 418 ms instead of 114 over a
//!   link of 200 ms, and a burst 1.8 s instead of 0.6 s.
//!
//! A send after a pause is at most [`super::pace::DUE_BYTES`]: ten segments, with which any congestion control may
//! begin again after a pause. Over a link of 200 ms with `tcp_slow_start_after_idle` on, 14,336 bytes arrived after one
//! way (136 ms with cubic), 14,600 bytes after a way, a round trip's wait and another way (322 ms). So what a listener
//! waits for does not depend on that setting of the machine.

use std::net::TcpStream;

/// Bytes that may wait unsent in a socket.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 48 * 1024;

/// Half of the memory that a socket's queue may take.
const QUEUE: usize = 60 * 1024;

/// Sets it all.
///
/// # Errors
/// Where the socket would block the shard.
pub(super) fn prepare(socket: &TcpStream) -> std::io::Result<()> {
    // Refused by a socket that is closed already; its first send says so.
    let _ = socket.set_nodelay(true);
    let options = socket2::SockRef::from(socket);
    let _ = options.set_send_buffer_size(QUEUE);
    #[cfg(target_os = "linux")]
    let _ = options.set_tcp_notsent_lowat(UNSENT);
    socket.set_nonblocking(true)
}
