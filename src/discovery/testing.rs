//! A name server on loopback, for the tests of this room and for those with real processes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

#[derive(Default)]
struct State {
    zone: HashMap<(String, RecordType), Vec<RData>>,
    /// Answers nothing but `SERVFAIL`.
    down: bool,
    /// How often each was asked for.
    asked: HashMap<(String, RecordType), usize>,
}

/// A name server for one zone, until it is dropped.
pub struct NameServer {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
    /// Where it answers, by UDP.
    pub address: SocketAddr,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// Each of the two programs that read this file uses a part of it.
#[allow(dead_code)]
impl NameServer {
    /// Answers at `address`; whoever asks may keep an answer for `ttl` seconds.
    pub async fn start(address: SocketAddr, ttl: u32) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..count]).unwrap();
                let answer = shared.lock().unwrap().answer(question, ttl);
                socket.send_to(&answer, peer).await.unwrap();
            }
        });
        Ok(Self {
            state,
            task,
            address,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// All records of one name (with its last dot) and kind.
    pub fn set(&self, name: &str, kind: RecordType, data: Vec<RData>) {
        self.state().zone.insert((name.to_owned(), kind), data);
    }

    /// All addresses of a name.
    pub fn set_addresses(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse::<IpAddr>().unwrap());
        let (four, six): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv4);
        let data = |address: IpAddr| match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        self.set(name, RecordType::A, four.into_iter().map(data).collect());
        self.set(name, RecordType::AAAA, six.into_iter().map(data).collect());
    }

    /// Knows nothing any more, and of no question.
    pub fn clear(&self) {
        let mut state = self.state();
        state.zone.clear();
        state.asked.clear();
    }

    /// Fails from now on, or no more.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.state().asked.values().sum()
    }

    /// Questions so far for one name (with its last dot) and kind.
    pub fn asked_for(&self, name: &str, kind: RecordType) -> usize {
        let key = (name.to_owned(), kind);
        self.state().asked.get(&key).copied().unwrap_or_default()
    }
}

impl State {
    fn answer(&mut self, mut message: Message, ttl: u32) -> Vec<u8> {
        let query = message.queries[0].clone();
        let key = (query.name().to_utf8().to_lowercase(), query.query_type());
        *self.asked.entry(key.clone()).or_default() += 1;
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        message.additionals.clear();
        message.edns = None;
        let known = self.zone.keys().any(|(name, _)| *name == key.0);
        message.metadata.response_code = match (self.down, known) {
            (true, _) => ResponseCode::ServFail,
            (false, true) => ResponseCode::NoError,
            (false, false) => ResponseCode::NXDomain,
        };
        if message.metadata.response_code == ResponseCode::NoError {
            for data in self.zone.get(&key).into_iter().flatten() {
                message.add_answer(Record::from_rdata(query.name().clone(), ttl, data.clone()));
            }
        }
        message.to_vec().unwrap()
    }
}
