//! A whole ingress between real clients and real backends.

mod change;
mod place;
mod proxied;
mod raw;
mod tls;
