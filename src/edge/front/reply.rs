//! What one request asks, done at once or handed to who can wait.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;

use super::guest::{Guest, Waits};
use super::{Front, MAX_REQUESTS, READ};
use crate::base::ids::MountId;
use crate::edge::connection::Conn;
use crate::edge::gate::State;
use crate::edge::names::STREAMS;
use crate::edge::route::Route;
use crate::edge::serve::{Served, Settled};
use crate::edge::upgrade::ends_with_answer;
use crate::telemetry::log_limit;
use crate::wire::head::{self, Method, Request, Version};
use crate::wire::sniff::{Sniff, sniff};

/// Requests of one guest that are answered in one turn: who sends more in one piece goes on in a task, and keeps nobody
/// else waiting here.
const PIPELINED: u32 = 8;

/// What becomes of a guest that was answered.
pub(super) enum Next {
    Keep(Guest),
    Gone,
}

impl Front {
    /// Does what the bytes ask. Gives the guest back where it may ask again.
    pub(super) fn reply(&mut self, mut guest: Guest, heard: &[u8], now: Instant) -> Option<Guest> {
        if guest.waits == Waits::Farewell {
            self.bid_farewell(guest, heard);
            return None;
        }
        // As much as is read at once: there may be more, of which the readiness queue says nothing again.
        let goes_on = heard.len() >= READ;
        let mut rest = heard;
        let last = guest.answered.saturating_add(PIPELINED);
        while !rest.is_empty() {
            if guest.answered >= last {
                self.hand(guest, rest, State::Head);
                return None;
            }
            let whole = match sniff(rest) {
                Sniff::Http => head::parse_into(rest, &mut self.request).ok().flatten(),
                _ => None,
            };
            let Some(after) = whole.and_then(|used| rest.get(used..)) else {
                self.hand(guest, rest, State::Head);
                return None;
            };
            let before = std::mem::replace(&mut rest, after);
            match self.reply_to_one(guest, before, after, goes_on, now) {
                Next::Keep(kept) => guest = kept,
                Next::Gone => return None,
            }
        }
        if goes_on {
            self.hand(guest, &[], State::Head);
            return None;
        }
        guest.waits = Waits::Next;
        guest.since = now;
        Some(guest)
    }

    /// `before` begins with the request, `after` is what follows it; `goes_on`: there may be more to read.
    fn reply_to_one(
        &mut self,
        guest: Guest,
        before: &[u8],
        after: &[u8],
        goes_on: bool,
        now: Instant,
    ) -> Next {
        let request = std::mem::replace(
            &mut self.request,
            Request::new(Method::Get, String::new(), Version::Http11),
        );
        let keep = self.may_keep(&guest, &request, !after.is_empty());
        let edge = Arc::clone(&self.edge);
        let buffer = std::mem::take(&mut self.answer);
        // Closing over bytes that were not read would take the answer back.
        let all_read = after.is_empty() && !goes_on && !request.has_body();
        let next = match self.route_of(&request) {
            Route::Listen(mount) => {
                let settled = edge.settle(&request, &mount, guest.client.ip(), keep, buffer, now);
                match settled {
                    Settled::Answer { bytes, keep } => {
                        edge.control.telemetry.connections.add_request();
                        let next = if all_read {
                            self.outbox.put(guest, &bytes, keep);
                            Next::Gone
                        } else {
                            self.send(guest, &bytes, keep, false)
                        };
                        self.answer = bytes;
                        next
                    }
                    Settled::Serve(served) => {
                        edge.control.telemetry.connections.add_request();
                        return self.serve(guest, request, mount, served);
                    }
                    Settled::Later(buffer) => {
                        self.answer = buffer;
                        self.hand(guest, before, State::Waiting);
                        Next::Gone
                    }
                }
            }
            route => match edge.at_once(&request, &route, guest.link(), keep) {
                Some(bytes) => {
                    edge.control.telemetry.connections.add_request();
                    let keep = keep && !matches!(route, Route::Refused { .. });
                    let next = self.send(guest, &bytes, keep, !keep && all_read);
                    self.answer = bytes;
                    next
                }
                None => {
                    self.hand(guest, before, State::Answer);
                    Next::Gone
                }
            },
        };
        self.request = request;
        next
    }

    /// [`Edge::route`](crate::edge::Edge::route), which is not asked again about the path that came last.
    fn route_of(&mut self, request: &Request) -> Route {
        let path = request.path();
        if let Some((known, mount)) = &self.known
            && request.method == Method::Get
            && known == path
        {
            return Route::listen(request, mount);
        }
        let route = self.edge.route(request);
        // What another name than the mount's own stands for may change.
        if let Route::Listen(mount) = &route
            && request.method == Method::Get
            && mount.path() == path
            && !path.starts_with(STREAMS)
        {
            self.known = Some((path.to_owned(), mount.clone()));
        }
        route
    }

    /// `follows`: more was said already, which is answered also where the guest will say no more.
    fn may_keep(&self, guest: &Guest, request: &Request, follows: bool) -> bool {
        request.keep_alive()
            && !ends_with_answer(request)
            && !request.has_body()
            && (follows || !guest.hung_up)
            && guest.answered + 1 < MAX_REQUESTS
            && self.guests.idle() + self.outbox.len() < self.edge.idle_room()
    }

    /// One send; what a socket does not take of it at once is left to a task. `last` says that all was read which
    /// the guest sent, and that the connection ends with this.
    pub(super) fn send(&mut self, mut guest: Guest, bytes: &[u8], keep: bool, last: bool) -> Next {
        let sent = loop {
            match send(&mut guest.stream, bytes, last) {
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break 0,
                Err(_) => return Next::Gone,
            }
        };
        guest.answered += 1;
        let unsent = bytes.get(sent..).unwrap_or_default();
        if unsent.is_empty() && keep {
            return Next::Keep(guest);
        }
        if !unsent.is_empty() || !last {
            let unsent = unsent.to_vec();
            self.begin(guest, &[], State::Answer, async move |conn: Conn| {
                conn.answer(&unsent).await;
            });
        }
        Next::Gone
    }

    /// A listener who is served here: by the fan-out where the mount plays, else by a task that waits for it.
    fn serve(&mut self, guest: Guest, request: Request, mount: MountId, served: Served) -> Next {
        let edge = Arc::clone(&self.edge);
        let accepted = guest.since;
        if let Some(playing) = edge.playing(&mount) {
            let opened = edge.open(&request, &mount, &playing, &served, accepted);
            match opened {
                Ok(opened) => match guest.into_socket(self.poll.registry()) {
                    Ok(socket) => edge.seat(socket, None, opened),
                    Err(error) => log_limit::unusable(&error),
                },
                Err(bytes) => {
                    self.send(guest, &bytes, false, !request.has_body());
                }
            }
            self.request = request;
            return Next::Gone;
        }
        self.begin(guest, &[], State::Waiting, async move |conn| {
            edge.serve(conn, &request, &mount, served).await;
        });
        Next::Gone
    }
}

/// One send. The `last` bytes before the close leave together with it: the system holds them back until then, and a
/// packet less goes out and is acknowledged for each answer.
#[cfg(target_os = "linux")]
pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8], last: bool) -> io::Result<usize> {
    use rustix::net::SendFlags;
    let flags = if last {
        SendFlags::NOSIGNAL | SendFlags::MORE
    } else {
        SendFlags::NOSIGNAL
    };
    Ok(rustix::net::send(stream, bytes, flags)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8], _last: bool) -> io::Result<usize> {
    io::Write::write(stream, bytes)
}
