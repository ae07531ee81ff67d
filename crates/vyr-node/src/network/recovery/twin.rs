//! Whether the node that is to be replaced is still there.
//!
//! It has the same keys, so two of them would take each other's packets: WireGuard sends to whoever
//! was heard last. It is asked where operators reach it. An address on a network of this host is
//! asked of the neighbours, which works behind any firewall, and also when it is this host's own by
//! now. Any other is tried with a new TCP connection: one that is refused was refused by somebody.
//!
//! Not found: a node behind a router that answers nothing to us. An endpoint's UDP port is not
//! asked, because WireGuard answers nobody it does not know, and is silent as a dead one is.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use vyr_net::{NetError, whereabouts, who_has};
use vyr_plan::plan::Machine;

use super::RecoveryError;

/// How long one address is asked. All are asked at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Fails if a machine answers at one of its management addresses; else what could not be asked.
pub(super) fn is_gone(machine: &Machine) -> Result<Vec<String>, RecoveryError> {
    let port = machine.management_port;
    let asked = std::thread::scope(|scope| {
        let ask = |address: &IpAddr| {
            let address = *address;
            (address, scope.spawn(move || ask(address, port)))
        };
        let asking: Vec<_> = machine.management.iter().map(ask).collect();
        let answer = |(address, thread): (IpAddr, std::thread::ScopedJoinHandle<'_, _>)| {
            (address, thread.join().expect("asking does not panic"))
        };
        asking.into_iter().map(answer).collect::<Vec<_>>()
    });
    let mut unasked = Vec::new();
    if machine.management.is_empty() {
        unasked.push(format!("{} has no management address to ask at", machine.name));
    }
    for (address, answer) in asked {
        match answer {
            Ok(None) => {}
            Ok(Some(how)) => {
                let machine = machine.name.to_string();
                return Err(RecoveryError::Alive { machine, address, how });
            }
            Err(e) => unasked.push(format!("{address}: {e}")),
        }
    }
    Ok(unasked)
}

/// What an address does to be found; none: nothing.
fn ask(address: IpAddr, port: u16) -> Result<Option<String>, NetError> {
    let place = whereabouts(address)?;
    for link in &place.links {
        if let Some(hardware) = who_has(address, link, PATIENCE)? {
            return Ok(Some(format!("{hardware} on {} has it", link.name)));
        }
    }
    if place.own || !place.links.is_empty() {
        return Ok(None);
    }
    match TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE) {
        Ok(_) => Ok(Some(format!("it took a connection to port {port}"))),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            Ok(Some(format!("it refused a connection to port {port}")))
        }
        Err(_) => Ok(None),
    }
}
