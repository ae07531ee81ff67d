//! A guest as small as it can be: an IP stack on a TAP, that answers, asks and lies.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, Medium, TunTapInterface, TxToken, wait};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint};

/// Says again what it hears here.
pub(crate) const ECHO: u16 = 80;
/// Is there for who should not reach it.
pub(crate) const HIDDEN: u16 = 81;

enum Command {
    Connect(SocketAddrV6),
    Asked(Sender<State>),
    Hidden(Sender<State>),
    Send(Vec<u8>),
}

/// The guest; it ends, and its TAP with it, when this is dropped.
pub(crate) struct Guest {
    pub(crate) address: Ipv6Addr,
    pub(crate) mac: [u8; 6],
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Guest {
    pub(crate) fn start(tap: OwnedFd, mac: [u8; 6], address: Ipv6Addr, gateway: Ipv6Addr) -> Self {
        let (commands, orders) = channel();
        // The library's device closes it.
        let tap = tap.into_raw_fd();
        let live = move || Stack::new(tap, mac, address, gateway).live(&orders);
        let thread = Some(thread::spawn(live));
        Self { address, mac, commands: Some(commands), thread }
    }

    fn tell(&self, command: Command) {
        self.commands.as_ref().expect("it lives").send(command).expect("it lives");
    }

    fn ask(&self, question: impl FnOnce(Sender<State>) -> Command) -> State {
        let (tell, told) = channel();
        self.tell(question(tell));
        told.recv().expect("it lives")
    }

    /// Begins to connect to somebody.
    pub(crate) fn connect(&self, to: SocketAddrV6) {
        self.tell(Command::Connect(to));
    }

    /// How far that is.
    pub(crate) fn asked(&self) -> State {
        self.ask(Command::Asked)
    }

    /// How far somebody has come who connects to [`HIDDEN`].
    pub(crate) fn hidden(&self) -> State {
        self.ask(Command::Hidden)
    }

    /// Sends a frame as it is.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        self.tell(Command::Send(frame));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.thread.take().expect("once").join();
    }
}

struct Stack {
    tap: RawFd,
    device: TunTapInterface,
    interface: Interface,
    sockets: SocketSet<'static>,
    echoes: Vec<SocketHandle>,
    hidden: SocketHandle,
    asking: SocketHandle,
}

fn socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; 8192]);
    Socket::new(buffer(), buffer())
}

fn port(port: u16) -> IpListenEndpoint {
    IpListenEndpoint { addr: None, port }
}

impl Stack {
    fn new(tap: RawFd, mac: [u8; 6], address: Ipv6Addr, gateway: Ipv6Addr) -> Self {
        let mut device = TunTapInterface::from_fd(tap, Medium::Ethernet, 1514).expect("a TAP");
        let mut config = Config::new(EthernetAddress(mac).into());
        config.random_seed = u64::from(mac[5]);
        let mut interface = Interface::new(config, &mut device, Instant::now());
        let [a, b, c, d, e, f] = mac.map(u16::from);
        // As Linux makes it.
        let own =
            Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f);
        interface.update_ip_addrs(|all| {
            // Nobody but the host is on this wire.
            for (address, bits) in [(own, 64), (address, 128)] {
                all.push(IpCidr::new(IpAddress::Ipv6(address), bits)).expect("room");
            }
        });
        interface.routes_mut().add_default_ipv6_route(gateway).expect("room");
        let mut sockets = SocketSet::new(Vec::new());
        let echoes = (0..4).map(|_| sockets.add(socket())).collect();
        let (hidden, asking) = (sockets.add(socket()), sockets.add(socket()));
        Self { tap, device, interface, sockets, echoes, hidden, asking }
    }

    fn live(mut self, orders: &Receiver<Command>) {
        self.sockets.get_mut::<Socket<'_>>(self.hidden).listen(port(HIDDEN)).expect("a port");
        let mut source = 50_000;
        loop {
            match orders.try_recv() {
                Ok(Command::Connect(to)) => {
                    source += 1;
                    self.sockets.remove(self.asking);
                    self.asking = self.sockets.add(socket());
                    let asking = self.sockets.get_mut::<Socket<'_>>(self.asking);
                    let to = IpEndpoint::new(IpAddress::Ipv6(*to.ip()), to.port());
                    asking.connect(self.interface.context(), to, source).expect("a route");
                }
                // After what came before is on its way.
                Ok(Command::Asked(tell)) => self.say(self.asking, &tell),
                Ok(Command::Hidden(tell)) => self.say(self.hidden, &tell),
                Ok(Command::Send(frame)) => {
                    let token = self.device.transmit(Instant::now()).expect("room");
                    token.consume(frame.len(), |room| room.copy_from_slice(&frame));
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            self.poll();
            let _ = wait(self.tap, Some(Duration::from_millis(1)));
        }
    }

    fn say(&mut self, of: SocketHandle, tell: &Sender<State>) {
        self.poll();
        let _ = tell.send(self.sockets.get::<Socket<'_>>(of).state());
    }

    fn poll(&mut self) {
        // Before anything is read: who is called first answers.
        for echo in &self.echoes {
            let echo = self.sockets.get_mut::<Socket<'_>>(*echo);
            if !echo.is_open() {
                echo.listen(port(ECHO)).expect("a port");
            }
        }
        self.interface.poll(Instant::now(), &mut self.device, &mut self.sockets);
        for echo in &self.echoes {
            let echo = self.sockets.get_mut::<Socket<'_>>(*echo);
            if echo.can_recv() && echo.can_send() {
                let heard = echo.recv(|bytes| (bytes.len(), bytes.to_vec())).expect("it can");
                echo.send_slice(&heard).expect("it can");
            }
            if echo.state() == State::CloseWait {
                echo.close();
            }
        }
        self.interface.poll(Instant::now(), &mut self.device, &mut self.sockets);
    }
}
