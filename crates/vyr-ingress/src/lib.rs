//! Carries TCP connections to ready backends: TLS by the server name in its hello, raw TCP by port.
//!
//! ```text
//! client --> listener --tls_passthrough--> hello: SNI --> route --> backend (ready, round robin)
//!                \-----tcp_raw---------------------------^    \--> PROXY v2 header first, if wanted
//! control socket: status, another configuration             bytes: splice, both ways, to their end
//! ```
//!
//! Invariants:
//! 1. TLS is never ended here: every byte of a client reaches the backend as it came, after the PROXY
//!    header if the route has one.
//! 2. Only ready backends are connected to; an unknown name reaches nobody unless a default is named.
//! 3. A configuration is used whole or not at all; connections that are open stay as they are, and no
//!    listener that stays refuses anybody meanwhile.
//! 4. An orderly end is passed on as one, after the last byte; anything else is a reset.
//! 5. Connections, descriptors, pipes, bytes before a verdict and every wait are bounded.
//!
//! Deliberately elsewhere: which services there are and which instances are ready (`vyr-service`, the
//! node), who may reach a backend (nftables), what the process gives up (`vyr-node`).

mod config;
mod connection;
mod control;
mod count;
mod flow;
mod hello;
mod listen;
mod proxy;
mod serve;
mod table;
mod worker;

pub use config::{
    Backend, CONFIG_BYTES_MAX, Config, ConfigError, Faults, LISTENERS_MAX, Listener, Mode,
    ROUTES_MAX, Route, Timeouts,
};
pub use control::{Beneath, ControlError, apply, cut, hand_over, missing, pid, status};
pub use hello::{HELLO_BYTES_MAX, HelloError, ServerName, Sniffer};
pub use listen::{ListenError, make as listen_at};
pub use proxy::header as proxy_header;
pub use serve::{Prepared, ServeError};
pub use vyr_base::hostname::{Hostname, HostnameError};
