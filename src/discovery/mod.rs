//! Names to addresses, and addresses to connections: DNS with SRV, every address tried, TLS where asked.
//!
//! Must never: know what is said over a connection, keep a connection, or fail for a name server that is down
//! while an old answer is there. Neighbours: `upstream` and `agent` connect through it, `app` hands it to reqwest.

mod address;
mod answer;
mod connect;
mod http;
mod order;
mod resolver;
mod system;
mod trust;

pub use address::{DEFAULT_PORT, PrimaryAddress, PrimaryAddressError};
pub use answer::{AnswerError, read_at_most, root_cause};
pub use connect::{CONNECT_TIMEOUT, Connector, Stream};
pub use http::{http_client, http_client_trusting};
pub use order::{Service, Target};
pub use resolver::{DiscoveryError, Resolver};
pub use trust::{Pin, Trust, TrustError};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
