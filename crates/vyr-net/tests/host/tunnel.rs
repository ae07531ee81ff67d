//! Two hosts with a tunnel between them, by either backend: B knows where A is, A learns where B is.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use vyr_net::{
    Backend, Kernel, Keys, Link, LinkKind, Observation, Op, Peer, STATE_VERSION, State, Userspace,
    ops,
};
use vyr_plan::intent::Key;
use zeroize::Zeroizing;

use vyr_space::{Namespace, Plane};

pub(crate) const PRIVATE: [[u8; 32]; 2] = [[0x4a; 32], [0x4b; 32]];
const PORT: u16 = 51820;
const NEAR: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const INSIDE: [&str; 2] = ["10.9.0.1", "10.9.0.2"];

/// The keys of both.
pub(crate) struct Pair;

impl Keys for Pair {
    fn private_key(&self, link: &str) -> Option<Zeroizing<[u8; 32]>> {
        Some(Zeroizing::new(PRIVATE[usize::from(link.ends_with('b'))]))
    }

    fn preshared_key(&self, _link: &str, _peer: &Key) -> Option<Zeroizing<[u8; 32]>> {
        Some(Zeroizing::new([0x4c; 32]))
    }
}

/// The public key of a private one, by `wg`.
pub(crate) fn public(space: &Namespace, private: &[u8; 32]) -> Key {
    let text = Base64::encode_string(private);
    let line = format!("echo {text} | wg pubkey");
    let said = space.run("sh", &["-c", &line], "").expect("wg is there");
    said.trim().parse().expect("a key")
}

/// Two hosts.
pub(crate) struct Two {
    pub(crate) spaces: [Namespace; 2],
    pub(crate) links: [String; 2],
    pub(crate) keys: [Key; 2],
    in_kernel: bool,
    _planes: Vec<Plane>,
}

impl Two {
    /// `tag` is the test's own: sockets of all data planes are in one directory.
    pub(crate) fn new(tag: &str, in_kernel: bool) -> Self {
        let spaces = [(); 2].map(|()| Namespace::make().expect("it was made before"));
        spaces[0].line("ip link add wan type veth peer name far");
        spaces[0].line(&format!("ip link set far netns {} name wan", spaces[1].id()));
        for (space, near) in spaces.iter().zip(NEAR) {
            space.line(&format!("ip address add {near}/24 dev wan"));
            space.line("ip link set wan up");
            space.line("ip link set lo up");
        }
        // Other runs of this test on the same machine have other numbers.
        let number = std::process::id() % 100_000;
        let links = ["a", "b"].map(|side| format!("vyr-{tag}{number}{side}"));
        let all = spaces.iter().zip(&links);
        let planes = match in_kernel {
            true => Vec::new(),
            false => all.map(|(space, link)| Plane::start(space, link)).collect(),
        };
        let keys = [0, 1].map(|at: usize| public(&spaces[at], &PRIVATE[at]));
        Self { spaces, links, keys, in_kernel, _planes: planes }
    }

    fn with<T: Send>(&self, at: usize, work: impl FnOnce(&mut dyn Backend) -> T + Send) -> T {
        self.spaces[at].inside(|| match self.in_kernel {
            true => work(&mut Kernel::default()),
            false => work(&mut Userspace::default()),
        })
    }

    pub(crate) fn read(&self, at: usize) -> Observation {
        self.with(at, |backend| backend.read()).unwrap_or_else(|e| panic!("{e:?}"))
    }

    pub(crate) fn apply(&self, at: usize, steps: &[Op]) {
        let done = self.with(at, |backend| backend.apply(steps, &Pair));
        done.unwrap_or_else(|e| panic!("{e:?}"));
    }

    /// From whatever it is; the steps that were taken.
    pub(crate) fn becomes(&self, at: usize, wanted: &State) -> Vec<Op> {
        let steps = ops(&self.read(at).state_for(wanted), wanted);
        self.apply(at, &steps);
        let seen = self.read(at).state_for(wanted);
        assert_eq!(seen, *wanted);
        assert_eq!(seen.digest().expect("integers"), wanted.digest().expect("integers"));
        assert_eq!(ops(&seen, wanted), []);
        self.seen_by_wg(at, wanted);
        steps
    }

    /// What `wg` says is what was wanted.
    fn seen_by_wg(&self, at: usize, wanted: &State) {
        let Some(link) = wanted.links.first() else {
            return assert_eq!(self.spaces[at].line("wg show interfaces").trim(), "");
        };
        let dump = self.spaces[at].line(&format!("wg show {} dump", link.name));
        let mut lines = dump.lines();
        let own: Vec<&str> = lines.next().expect("itself").split('\t').collect();
        let key = link.public_key.map_or("(none)".into(), |key| key.to_string());
        assert_eq!(own[1..3], [key, link.listen_port.to_string()]);
        let mut seen: Vec<Peer> = lines
            .map(|line| {
                let words: Vec<&str> = line.split('\t').collect();
                let public_key: Key = words[0].parse().expect("a key");
                let declared = link.peer(&public_key).and_then(|peer| peer.endpoint);
                let mut allowed_ips: Vec<ipnet::IpNet> = words[3]
                    .split(',')
                    .filter(|text| *text != "(none)")
                    .map(|text| text.parse().expect("a prefix"))
                    .collect();
                allowed_ips.sort();
                Peer {
                    public_key,
                    allowed_ips,
                    endpoint: declared.map(|_| words[2].parse().expect("an endpoint")),
                    keepalive_s: words[7].parse().ok(),
                    has_preshared: words[1] != "(none)",
                }
            })
            .collect();
        seen.sort_by_key(|peer| peer.public_key);
        assert_eq!(seen, link.peers);
    }

    /// A host with the other one and some strangers as its peers.
    pub(crate) fn host(&self, at: usize, strangers: u16) -> State {
        let other = 1 - at;
        let peer = |public_key, allowed: String| Peer {
            public_key,
            allowed_ips: vec![allowed.parse().expect("a prefix")],
            endpoint: None,
            keepalive_s: None,
            has_preshared: false,
        };
        let mut peers = vec![peer(self.keys[other], format!("{}/32", INSIDE[other]))];
        if at == 1 {
            peers[0].endpoint = Some(format!("{}:{PORT}", NEAR[0]).parse().expect("one"));
            peers[0].keepalive_s = Some(25);
        }
        let strangers = (0..strangers)
            .map(|n| peer(stranger(n), format!("10.9.{}.{}/32", n / 256 + 1, n % 256)));
        peers.extend(strangers);
        let mut state = State {
            version: STATE_VERSION,
            links: vec![Link {
                name: self.links[at].clone(),
                kind: LinkKind::Wireguard,
                mtu: 1380,
                up: true,
                listen_port: PORT,
                fwmark: 0,
                public_key: Some(self.keys[at]),
                addresses: vec![format!("{}/24", INSIDE[at]).parse().expect("one")],
                routes: vec!["10.9.0.0/16".parse().expect("one")],
                peers,
            }],
            firewall: None,
        };
        state.normalise();
        state.check().expect("a host can be so");
        state
    }

    /// B asks A a hundred times a second until `work` is done, and a second more; how many it
    /// asked, and how many answers it got.
    pub(crate) fn asked_during(&self, work: impl FnOnce() + Send) -> (u64, u64) {
        let end = AtomicBool::new(false);
        let answers = AtomicU64::new(0);
        let socket = |at: usize| {
            self.spaces[at].inside(|| {
                let socket = UdpSocket::bind((INSIDE[at], 0)).expect("its own address");
                socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a time");
                socket
            })
        };
        let (server, client) = (socket(0), socket(1));
        let to = server.local_addr().expect("bound");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; 16];
                while !end.load(Ordering::Relaxed) {
                    if let Ok((n, from)) = server.recv_from(&mut bytes) {
                        let _ = server.send_to(&bytes[..n], from);
                    }
                }
            });
            let heard = |within: Duration| {
                let mut bytes = [0; 16];
                let deadline = Instant::now() + within;
                while let Some(left) = deadline.checked_duration_since(Instant::now()) {
                    let left = left.max(Duration::from_millis(1));
                    client.set_read_timeout(Some(left)).expect("a time");
                    if client.recv_from(&mut bytes).is_ok() {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            let ask = |n: u64| {
                client.send_to(&n.to_be_bytes(), to).expect("it is sent");
                heard(Duration::from_millis(10));
            };
            // The tunnel is up when the first is answered.
            let deadline = Instant::now() + Duration::from_secs(20);
            while answers.load(Ordering::Relaxed) == 0 {
                assert!(Instant::now() < deadline, "the tunnel does not come up");
                ask(0);
            }
            heard(Duration::from_millis(500));
            answers.store(0, Ordering::Relaxed);

            let worker = scope.spawn(work);
            let mut asked = 0;
            let mut until = None;
            while until.is_none_or(|until| Instant::now() < until) {
                asked += 1;
                ask(asked);
                if until.is_none() && worker.is_finished() {
                    until = Some(Instant::now() + Duration::from_secs(1));
                }
            }
            // What is still on its way.
            let deadline = Instant::now() + Duration::from_secs(2);
            while answers.load(Ordering::Relaxed) < asked && Instant::now() < deadline {
                heard(Duration::from_millis(20));
            }
            end.store(true, Ordering::Relaxed);
            (asked, answers.load(Ordering::Relaxed))
        })
    }
}

/// Somebody whom nobody meets.
pub(crate) fn stranger(n: u16) -> Key {
    let mut bytes = [0x64; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    Key::from_bytes(bytes)
}

/// Both ways in which a secret could be shown.
pub(crate) fn shows(text: &str, secret: &[u8; 32]) -> bool {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{secret:?}");
    text.contains(&hex)
        || text.contains(&Base64::encode_string(secret))
        || text.contains(list.trim_matches(['[', ']']))
}
