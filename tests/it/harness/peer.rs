//! One raw connection: bytes out, heads and bodies in, every wait with a deadline.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::BytesMut;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{PATIENCE, find};

/// See the module.
pub struct Peer {
    stream: TcpStream,
    unread: BytesMut,
    /// What [`Peer::push`] could not send yet.
    unsent: BytesMut,
}

/// An answer's head.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status line, as it came.
    pub line: String,
    /// 100 to 999.
    pub status: u16,
    /// The fields, in order, as they came.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The first field of this name, whatever the case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let line = lines.next().unwrap_or_default().to_owned();
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {text:?}"));
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Self {
            line,
            status,
            fields,
        }
    }
}

impl Peer {
    /// A connection to a port of 127.0.0.1.
    pub async fn connect(port: u16) -> Self {
        Self::connect_from(IpAddr::V4(Ipv4Addr::LOCALHOST), port).await
    }

    /// The same from another loopback address.
    pub async fn connect_from(from: IpAddr, port: u16) -> Self {
        Self::try_connect(from, port)
            .await
            .unwrap_or_else(|error| panic!("no connection from {from} to port {port}: {error}"))
    }

    /// The same, where a refusal is part of the scene.
    pub async fn try_connect(from: IpAddr, port: u16) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = timeout(PATIENCE, socket.connect(to))
            .await
            .expect("connect")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: BytesMut::new(),
            unsent: BytesMut::new(),
        })
    }

    /// A connection to any address.
    pub async fn connect_to(to: SocketAddr) -> Self {
        let connecting = timeout(PATIENCE, TcpStream::connect(to)).await;
        let stream = connecting.unwrap_or_else(|_| panic!("no connection to {to}"));
        let stream = stream.unwrap_or_else(|error| panic!("no connection to {to}: {error}"));
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: BytesMut::new(),
            unsent: BytesMut::new(),
        }
    }

    /// The next bytes as they come; none at the end.
    pub async fn some(&mut self) -> Vec<u8> {
        if self.unread.is_empty() {
            let _ = self.stream.read_buf(&mut self.unread).await;
        }
        self.unread.split().to_vec()
    }

    /// A connection whose receive buffer is as small as the system allows: the other side feels it at once.
    pub async fn connect_narrow(port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = timeout(PATIENCE, socket.connect(to))
            .await
            .expect("connect")
            .unwrap();
        Self {
            stream,
            unread: BytesMut::new(),
            unsent: BytesMut::new(),
        }
    }

    /// Sends all.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).await.expect("send");
    }

    /// Sends all, or says that the other side closed.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let sending = self.stream.write_all(bytes);
        timeout(PATIENCE, sending).await.expect("send: no progress")
    }

    /// Sends as much as is taken at once; the rest follows by [`Peer::go_on`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        self.go_on();
    }

    /// Sends more of what was pushed.
    pub fn go_on(&mut self) {
        while !self.unsent.is_empty()
            && let Ok(count @ 1..) = self.stream.try_write(&self.unsent)
        {
            let _ = self.unsent.split_to(count);
        }
    }

    /// No more will be sent.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads more; 0 at the end. A reset counts as an end: what came before it is kept.
    async fn fill(&mut self) -> usize {
        let reading = self.stream.read_buf(&mut self.unread);
        let read = timeout(PATIENCE, reading).await;
        let read = read.unwrap_or_else(|_| panic!("nothing came; unread: {:?}", self.shown()));
        read.unwrap_or(0)
    }

    fn shown(&self) -> String {
        let upto = self.unread.len().min(300);
        String::from_utf8_lossy(&self.unread[..upto]).into_owned()
    }

    /// The next head.
    pub async fn head(&mut self) -> Head {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                let text = self.unread.split_to(at + 4);
                return Head::parse(&String::from_utf8_lossy(&text));
            }
            assert!(
                self.fill().await > 0,
                "closed before a head: {:?}",
                self.shown()
            );
        }
    }

    /// The next `count` bytes.
    pub async fn exact(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            let so_far = self.unread.len();
            assert!(
                self.fill().await > 0,
                "closed after {so_far} of {count} bytes"
            );
        }
        self.unread.split_to(count).to_vec()
    }

    /// Everything to the end of the stream.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await > 0 {}
        self.unread.split().to_vec()
    }

    /// The same for one who waits for nothing in particular: no deadline.
    pub async fn ended(&mut self) -> Vec<u8> {
        while let Ok(1..) = self.stream.read_buf(&mut self.unread).await {}
        self.unread.split().to_vec()
    }

    /// What has come and not been taken yet, with what is there right now.
    pub fn pending(&mut self) -> Vec<u8> {
        let mut part = [0_u8; 4096];
        while let Ok(count @ 1..) = self.stream.try_read(&mut part) {
            self.unread.extend_from_slice(&part[..count]);
        }
        self.unread.split().to_vec()
    }

    /// The answer to `request` of which the length is told or the end closes.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> (Head, String) {
        self.send(request).await;
        let head = self.head().await;
        let chunked = head
            .get("transfer-encoding")
            .is_some_and(|coding| coding == "chunked");
        let body = match head.get("content-length") {
            Some(length) => self.exact(length.parse().unwrap()).await,
            None if chunked => self.chunks().await,
            None => self.rest().await,
        };
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// A body in chunks.
    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.exact(1).await);
            }
            let digits = String::from_utf8(line).unwrap();
            let length = usize::from_str_radix(digits.trim_end(), 16).expect("a chunk's length");
            body.extend(self.exact(length).await);
            assert_eq!(self.exact(2).await, b"\r\n");
            if length == 0 {
                return body;
            }
        }
    }

    /// Cuts the connection with a reset, as a crash does.
    pub fn reset(self) {
        #[allow(deprecated)]
        let _ = self.stream.set_linger(Some(std::time::Duration::ZERO));
    }
}

/// One request on a connection of its own.
pub async fn ask(port: u16, request: impl AsRef<[u8]>) -> (Head, String) {
    Peer::connect(port).await.ask(request).await
}

/// `GET path HTTP/1.1` on a connection of its own, for answers that end.
pub async fn get(port: u16, path: &str) -> (Head, String) {
    ask(
        port,
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
    .await
}
