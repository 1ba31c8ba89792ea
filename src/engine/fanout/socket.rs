//! What every listener's socket has set, and why. The figures are measured (Linux 6.18).
//!
//! - `TCP_NODELAY`: a send carries all there is; its last segment shall not wait for an acknowledgement.
//! - `TCP_NOTSENT_LOWAT` at the size of a burst. Left alone, the kernel let the queue of a listener that never
//!   reads grow to 4 MB (`tcp_wmem`), which is four minutes at 128 kbit/s: it would have been noticed long after the
//!   ring's window. With 64 KiB our end holds 67 KiB and it is noticed after eight seconds at most. A whole burst is
//!   still taken by the first send; with 16 or 32 KiB a newcomer over a long link needs further turns for it.
//! - `SO_SNDBUF` stays unset: it bounds what is under way as well as what waits, and would slow a fast listener on
//!   a long link, whom the kernel's own growth serves; set to 64 KiB our end held 145 KB.
//! - No pacing (`SO_MAX_PACING_RATE`): at twice the stream's rate a send of 14 KiB took 418 ms instead of 114 over a
//!   link of 200 ms, and a burst 1.8 s instead of 0.6 s.
//!
//! A send after a pause is at most [`super::pace::DUE_BYTES`]: ten segments, with which any congestion control may
//! begin again after a pause. Over a link of 200 ms with `tcp_slow_start_after_idle` on, 14,336 bytes arrived after one
//! way (136 ms with cubic), 14,600 bytes after a way, a round trip's wait and another way (322 ms). So what a listener
//! waits for does not depend on that setting of the machine.

use std::net::TcpStream;

/// Bytes that may wait unsent in a socket: a burst.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// Sets it all.
///
/// # Errors
/// Where the socket would block the shard.
pub(super) fn prepare(socket: &TcpStream) -> std::io::Result<()> {
    // Refused by a socket that is closed already; its first send says so.
    let _ = socket.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT);
    socket.set_nonblocking(true)
}
