//! The operator's side: a site with one router and fifty devices, its plans, and who is in town.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vyr_space::Site;

use crate::computer::{Computer, Parts};
use crate::emulated::kernel;

/// The router's link.
pub(crate) const LINK: &str = "vyr-r";
/// The router's own addresses: towards its clients, and on the network behind it.
const ROUTER: &str = "192.168.77.5";
const INSIDE: &str = "192.168.78.1";
/// A host behind it.
pub(crate) const PRINTER: &str = "192.168.78.9";
/// The client, outside the tunnel.
const CLIENT: &str = "192.168.77.9";

/// How many devices there are; the first is Ana's, the others are nobody's.
const DEVICES: usize = 50;

/// A wait for a packet or a link. Not a figure of speed.
const HANG: Duration = Duration::from_secs(240);

/// Where the site is in a machine, and the options of who applies one of its plans there.
pub(crate) const APPLY: [&str; 6] = ["--site", "/site", "--machine", "nas", "--backend", "kernel"];

/// A directory with the site, keys and images.
pub(crate) struct Office {
    directory: TempDir,
    /// The public keys of the devices.
    keys: Vec<String>,
}

impl Office {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut office = Self { directory, keys: Vec::new() };
        for key in ["op", "backup"] {
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(office.path(key));
            assert!(made.status().is_ok_and(|status| status.success()), "ssh-keygen is there");
        }
        let private = wg("genkey", "");
        office.private("ana.key", private.as_bytes());
        office.keys.push(wg("pubkey", &private));
        office.keys.extend((1..DEVICES).map(|_| stranger()));
        office
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        kernel::path(&self.path(name)).to_owned()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A file that only its owner reads.
    pub(crate) fn private(&self, name: &str, content: &[u8]) {
        let mode = fs::Permissions::from_mode(0o600);
        let path = self.path(name);
        fs::write(&path, content).and_then(|()| fs::set_permissions(&path, mode)).expect("written");
    }

    /// What `vyr` prints here, which must end well.
    #[track_caller]
    fn vyr(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vyr"));
        command.arg("--data-dir").arg(self.path("data")).args(arguments).stdin(Stdio::null());
        let output = command.env_remove("SSH_AUTH_SOCK").output().expect("vyr starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
    }

    /// Declares the site; the router's link has this public key.
    pub(crate) fn declare(&self, router_key: &str) {
        let public =
            |key: &str| String::from_utf8(self.read(key)).expect("UTF-8").trim().to_owned();
        let site = Site {
            name: "r",
            server: ROUTER,
            operators: "192.168.77.0/24",
            lan: "192.168.78.0/24",
            public_key: router_key,
            recovery: &[&public("backup.pub")],
        };
        let site = site.to_string();
        fs::create_dir_all(self.path("site/plans")).expect("a directory");
        fs::write(self.path("site/site.toml"), site).expect("written");
        let signer =
            format!("ana@office namespaces=\"vyr-plan,vyr-bundle\" {}\n", public("op.pub"));
        fs::write(self.path("site/operators.allowed_signers"), signer).expect("written");
    }

    /// Gives a device another key, as if it had been made anew.
    pub(crate) fn change(&mut self, device: usize) {
        self.keys[device] = stranger();
    }

    /// One more device: another address in the firewall.
    pub(crate) fn add(&mut self) {
        self.keys.push(stranger());
    }

    /// A signed plan of the devices as they are.
    pub(crate) fn plan(&self) -> String {
        let mut lines = String::new();
        for (number, key) in self.keys.iter().enumerate() {
            lines += &format!(
                "  {{ id = \"c{number}\", owner = \"Ana\", interface = \"r\", profile = \"split\", \
                 public_key = \"{key}\", state = \"active\" }},\n"
            );
        }
        let text = format!("version = 1\nclients = [\n{lines}]\n");
        fs::write(self.path("site/clients.toml"), text).expect("written");
        let (site, key) = (self.text("site"), self.text("op"));
        self.vyr(&["lock", "--site", &site]);
        self.vyr(&["plan", "sign", "--site", &site, "--key", &key])
    }

    /// Notes what is applied: the next plan replaces it.
    pub(crate) fn applied(&self, plan: &str) {
        fs::write(self.path("site/plans/applied.network"), format!("{plan}\n")).expect("written");
    }

    /// Puts the site into a machine.
    pub(crate) fn send(&self, to: &Computer) {
        to.shell("umask 077; rm -rf /site; mkdir -p /site/plans");
        for below in ["", "plans/"] {
            let entries = fs::read_dir(self.path("site").join(below)).expect("the site").flatten();
            for entry in entries.filter(|entry| entry.path().is_file()) {
                let content = fs::read(entry.path()).expect("ours");
                to.write(&format!("/site/{below}{}", kernel::name(&entry.path())), &content);
            }
        }
    }

    /// A machine in the router's place, and one more byte that tells its cards from others'.
    pub(crate) fn router(
        &self,
        name: &str,
        mac: u8,
        image: &Path,
        disk: Option<&Path>,
    ) -> Computer {
        let cable = |at: u8| {
            let end = |of: &str| self.path(&format!("{of}{at}"));
            (mac + at, end("router"), end("town"))
        };
        let cables = [cable(0), cable(1)];
        let parts = Parts { name, initramfs: image, disk, cables: &cables };
        let router = Computer::start(self.directory.path(), &parts);
        router.name_interfaces();
        router.shell(&format!(
            "ip address add {ROUTER}/24 dev lan0; ip link set lan0 up
             ip address add {INSIDE}/24 dev lan1; ip link set lan1 up
             echo 1 > /proc/sys/net/ipv4/ip_forward"
        ));
        router
    }

    /// The town: a client, and a printer behind the router.
    pub(crate) fn town(&self, image: &Path) -> Computer {
        let cable = |at: u8| {
            let end = |of: &str| self.path(&format!("{of}{at}"));
            (0x30 + at, end("town"), end("router"))
        };
        let cables = [cable(0), cable(1)];
        let parts = Parts { name: "town", initramfs: image, disk: None, cables: &cables };
        let town = Computer::start(self.directory.path(), &parts);
        town.name_interfaces();
        town.shell(&format!(
            "ip address add {CLIENT}/24 dev lan0; ip link set lan0 up
             ip netns add printer; ip link set lan1 netns printer
             ip -n printer link set lo up; ip -n printer link set lan1 up
             ip -n printer address add {PRINTER}/24 dev lan1
             ip -n printer route add default via {INSIDE}
             ip link add ana type wireguard"
        ));
        town
    }

    /// Writes Ana's configuration, once, and gives it to her device.
    pub(crate) fn connect(&self, town: &Computer) {
        let (site, key, out) = (self.text("site"), self.text("ana.key"), self.text("ana"));
        self.vyr(&["client", "export", "c0", "--site", &site, "--key", &key, "--out", &out]);
        let text = String::from_utf8(self.client_file()).expect("UTF-8");
        let is_for_wg = |line: &&str| {
            let name = line.split('=').next().unwrap_or_default().trim();
            !["Address", "DNS", "MTU"].contains(&name)
        };
        let stripped: Vec<&str> = text.lines().filter(is_for_wg).collect();
        town.write("/ana.conf", (stripped.join("\n") + "\n").as_bytes());
        let address = text.lines().find_map(|line| line.strip_prefix("Address = "));
        let mut addresses = address.expect("an address").split(',').map(str::trim);
        let address = addresses.find(|of| of.contains('.')).expect("an IPv4 address");
        town.shell(&format!("ip address add {address} dev ana"));
        raise(town);
    }

    /// The configuration of Ana's device, as it was written.
    pub(crate) fn client_file(&self) -> Vec<u8> {
        let mut found = vec![self.path("ana")];
        while let Some(path) = found.pop() {
            match path.is_dir() {
                true => {
                    found.extend(fs::read_dir(path).expect("ours").flatten().map(|of| of.path()))
                }
                false => return fs::read(path).expect("ours"),
            }
        }
        panic!("none was written")
    }
}

/// Brings Ana's tunnel up from her file: sessions of before are forgotten, as they are by `wg-quick`.
pub(crate) fn raise(town: &Computer) {
    town.shell(
        "ip link set ana down; wg setconf ana /ana.conf; ip link set ana up
         ip route replace 192.168.78.0/24 dev ana",
    );
}

/// Sends packets until one goes through the tunnel, through the router, and back.
pub(crate) fn until_forwarded(town: &Computer) {
    let begun = Instant::now();
    let ping = ["ping", "-n", "-c", "1", "-W", "1", PRINTER];
    while town.run(&ping, b"").code != Some(0) {
        assert!(
            begun.elapsed() < HANG,
            "no packet comes back: {}",
            town.shell("wg show ana | cat")
        );
    }
}

/// The digest of a host, as `vyr drift` found it, which must be as its plan says.
pub(crate) fn found(host: &Computer) -> String {
    let text = host.vyr(&["drift", "--json", "--machine", "nas", "--backend", "kernel"]);
    let body: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(body["wanted"], body["found"], "it is as its plan says");
    body["found"].as_str().expect("a digest").to_owned()
}

/// What `wg` makes of some input.
fn wg(command: &str, input: &str) -> String {
    let mut child = Command::new("wg");
    let child = child.arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("wg is there");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "wg {command}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// A public key, of which nobody has the private half.
fn stranger() -> String {
    wg("pubkey", &wg("genkey", ""))
}
