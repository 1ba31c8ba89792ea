//! A listener's connection: a socket from an address of its own, in clear text or with TLS.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::{IpAddr, ServerName};
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Protocol, Socket, Type};

/// Loopback addresses that listeners come from: 127.1.0.0 to 127.239.255.255, in turn.
const ADDRESSES: u32 = 239 << 16;

/// What the system says of a connect that goes on.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// See the module.
pub(super) struct Link {
    /// To be watched.
    pub socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Link {
    /// Begins to connect, from the loopback address of that number where one is given.
    ///
    /// # Errors
    /// As sockets do.
    pub fn connect(
        server: SocketAddr,
        from: Option<u32>,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(server),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        if let Some(number) = from {
            let address = u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number % ADDRESSES;
            socket.bind(&SocketAddr::from((Ipv4Addr::from(address), 0)).into())?;
        }
        match socket.connect(&server.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            Err(error) => return Err(error),
        }
        let session = |config: &Arc<ClientConfig>| {
            let name = ServerName::IpAddress(IpAddr::from(server.ip()));
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)
        };
        Ok(Self {
            socket: TcpStream::from_std(socket.into()),
            tls: tls.map(session).transpose()?.map(Box::new),
        })
    }

    /// True where one read that does not fill the buffer took all there is.
    pub fn reads_all(&self) -> bool {
        self.tls.is_none()
    }

    /// As a socket's.
    ///
    /// # Errors
    /// As a socket's, and where the other end speaks no TLS.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            flush(tls, &mut self.socket)?;
        }
    }

    /// As a socket's; TLS keeps what cannot be sent yet, for [`Link::flush`].
    ///
    /// # Errors
    /// As a socket's.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.write(bytes);
        };
        let count = tls.writer().write(bytes)?;
        flush(tls, &mut self.socket)?;
        Ok(count)
    }

    /// Sends what TLS kept.
    ///
    /// # Errors
    /// As a socket's.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => flush(tls, &mut self.socket),
            None => Ok(()),
        }
    }
}

fn flush(tls: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::NotConnected
                ) =>
            {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a listener trusts: the certificate in the file at `path` and nothing else.
///
/// # Errors
/// Where it is none.
pub(super) fn trusting(path: &str) -> anyhow::Result<Arc<ClientConfig>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(path)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
