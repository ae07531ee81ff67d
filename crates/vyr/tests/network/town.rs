//! A town to rebuild a router in: an old one, a blank host, a client and a host behind the router,
//! each a namespace on one of two switches. WireGuard is the real `wireguard-go`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vyr_space::{Namespace, Plane, Site, not_run};

use crate::apply::{can, until};

/// The router's own addresses: towards its clients, and on the network behind it.
pub(crate) const ROUTER: &str = "192.168.77.5";
const INSIDE: &str = "192.168.78.1";
/// A host behind it.
pub(crate) const PRINTER: &str = "192.168.78.9";
/// The client, outside the tunnel.
const CLIENT: &str = "192.168.77.9";

/// Whether a town can be made here; says so if not.
pub(crate) fn can_build(test: &str) -> bool {
    if !can(test) {
        return false;
    }
    let space = Namespace::make().expect("it was made before");
    let made = space.run("ip", &["link", "add", "br0", "type", "bridge"], "").is_ok();
    if !made {
        not_run(test, "the kernel makes no bridges");
    }
    made
}

/// Two switches and who is plugged into them.
pub(crate) struct Town {
    directory: TempDir,
    switch: Namespace,
    pub(crate) client: Namespace,
    pub(crate) printer: Namespace,
    /// The router's link, and the client's.
    pub(crate) link: String,
    client_link: String,
    _plane: Plane,
    plugs: AtomicU32,
}

impl Town {
    /// Without a router yet. `tag` tells towns of one process apart.
    pub(crate) fn new(tag: &str) -> Self {
        let make = || Namespace::make().expect("it was made before");
        let (switch, client, printer) = (make(), make(), make());
        switch.ip("link add br0 type bridge\nlink add br1 type bridge\nlink set br0 up\nlink set br1 up\n");
        let name = format!("{tag}{}", std::process::id() % 10_000);
        let (link, client_link) = (format!("vyr-{name}"), format!("c{name}"));
        let plane = Plane::start(&client, &client_link);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let plugs = AtomicU32::new(0);
        let town =
            Self { directory, switch, client, printer, link, client_link, _plane: plane, plugs };
        town.plug(&town.client, 0, "lan0", CLIENT);
        town.plug(&town.printer, 1, "lan0", PRINTER);
        town.printer.ip(&format!("route add default via {INSIDE}\n"));
        town.write(&name);
        town
    }

    fn plug(&self, space: &Namespace, switch: u32, name: &str, address: &str) {
        let plug = self.plugs.fetch_add(1, Ordering::Relaxed);
        self.switch.ip(&format!(
            "link add p{plug} type veth peer name far{plug}\n\
             link set far{plug} netns {} name {name}\n\
             link set p{plug} master br{switch}\nlink set p{plug} up\n",
            space.id()
        ));
        space.ip(&format!(
            "link set lo up\naddress add {address}/24 dev {name}\nlink set {name} up\n"
        ));
    }

    /// A host that could be the router: its place on both switches, and nothing of ours.
    pub(crate) fn host(&self, own: &str) -> Namespace {
        let space = Namespace::make().expect("it was made before");
        self.plug(&space, 0, "lan0", own);
        self.plug(&space, 1, "lan1", INSIDE);
        space.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root may"));
        space
    }

    /// Switches a host off. When this returns it answers nobody any more.
    pub(crate) fn burn(&self, space: Namespace, plane: Plane) {
        let plugs = || {
            let links = self.switch.run("ip", &["-o", "link", "show", "type", "veth"], "");
            links.expect("ip is there").lines().count()
        };
        let before = plugs();
        self.end_timers();
        drop((plane, space));
        // A namespace ends some time after the last of its processes.
        until("the end of a namespace", || plugs() == before - 2);
    }

    /// Ends the processes that would take a change back: they are on the host that is switched off.
    fn end_timers(&self) {
        let own = self.directory.path().to_str().expect("UTF-8");
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let words = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let pid = entry.file_name().to_string_lossy().parse().ok();
            let is_ours = words.contains("__confirm-timer") && words.contains(own);
            if let Some(pid) = pid.and_then(Pid::from_raw).filter(|_| is_ours) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str) {
        fs::create_dir_all(self.path("site")).expect("a directory");
        // One who opens bundles has an SSH key, the other an age key.
        let ssh = ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"];
        for key in ["op", "stranger", "backup"] {
            let file = self.text(key);
            let made = Command::new("ssh-keygen").args(ssh).arg(&file).status();
            assert!(made.is_ok_and(|status| status.success()), "ssh-keygen is there");
        }
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let secret = identity.to_string();
        let secret = age::secrecy::ExposeSecret::expose_secret(&secret).to_owned();
        self.private("backup.age", &format!("# made for a test\n{secret}\n"));
        let backup = fs::read_to_string(self.path("backup.pub")).expect("a key");
        let own = self.router_key();
        let site = Site {
            name,
            server: ROUTER,
            operators: "192.168.77.0/24",
            lan: "192.168.78.0/24",
            public_key: &own,
            recovery: &[&recipient, backup.trim()],
        };
        let site = site.to_string();
        fs::write(self.path("site/site.toml"), site).expect("written");
        let signer = |who: &str, key: &str, what: &str| {
            let public = fs::read_to_string(self.path(&format!("{key}.pub"))).expect("a key");
            format!("{who} namespaces=\"{what}\" {public}")
        };
        let line = signer("ana@office", "op", "vyr-plan,vyr-bundle");
        fs::write(self.path("site/operators.allowed_signers"), line).expect("written");
        fs::write(self.path("strangers"), signer("eve", "stranger", "vyr-plan,vyr-bundle"))
            .expect("written");
        fs::write(self.path("plans-only"), signer("ana@office", "op", "vyr-plan"))
            .expect("written");
        let both =
            signer("ana@office", "op", "vyr-plan") + &signer("eve", "stranger", "vyr-bundle");
        fs::write(self.path("both"), both).expect("written");
        let private = self.client.run("wg", &["genkey"], "").expect("wg is there");
        self.private("ana.key", &private);
    }

    /// A file that only its owner reads.
    fn private(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(name), mode).expect("ours");
    }

    /// The public key of the router's link, made in the data directory `old`.
    fn router_key(&self) -> String {
        self.vyr(&self.client, "old", &["server", "key", &self.link])
    }

    /// Lists this many clients, of which the first is Ana's.
    pub(crate) fn clients(&self, clients: usize) {
        let name = &self.link["vyr-".len()..];
        let private = fs::read_to_string(self.path("ana.key")).expect("a key");
        let public = self.client.run("wg", &["pubkey"], &private).expect("wg is there");
        let mut lines = String::new();
        for number in 0..clients {
            let key = match number {
                0 => public.trim().to_owned(),
                // Any point will do: nobody has the private half.
                _ => {
                    let seed = self.client.run("wg", &["genkey"], "").expect("wg is there");
                    self.client
                        .run("wg", &["pubkey"], &seed)
                        .expect("wg is there")
                        .trim()
                        .to_owned()
                }
            };
            lines += &format!(
                "  {{ id = \"c{number}\", owner = \"Ana\", interface = \"{name}\", profile = \"split\", \
                 public_key = \"{key}\", state = \"active\" }},\n"
            );
        }
        let text = format!("version = 1\nclients = [\n{lines}]\n");
        fs::write(self.path("site/clients.toml"), text).expect("written");
    }

    /// A signed plan with this many clients.
    pub(crate) fn plan(&self, clients: usize) -> String {
        self.clients(clients);
        self.signed()
    }

    /// A signed plan of the site as it is.
    pub(crate) fn signed(&self) -> String {
        let (site, key) = (self.text("site"), self.text("op"));
        self.vyr(&self.client, "old", &["lock", "--site", &site]);
        self.vyr(&self.client, "old", &["plan", "sign", "--site", &site, "--key", &key])
    }

    /// The command, in the name of a host with this data directory.
    pub(crate) fn command(&self, data: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vyr"));
        command.arg("--data-dir").arg(self.path(data)).args(arguments);
        command.stdin(Stdio::null()).env("USER", "ana").env_remove("SUDO_USER");
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    pub(crate) fn output(&self, space: &Namespace, data: &str, arguments: &[&str]) -> Output {
        space.inside(|| self.command(data, arguments).output().expect("vyr starts"))
    }

    /// Runs it; the first line of what it printed.
    #[track_caller]
    pub(crate) fn vyr(&self, space: &Namespace, data: &str, arguments: &[&str]) -> String {
        let output = self.output(space, data, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
    }

    /// Runs what must fail; its exit code and what it said.
    #[track_caller]
    pub(crate) fn fails(
        &self,
        space: &Namespace,
        data: &str,
        arguments: &[&str],
    ) -> (Option<i32>, String) {
        let output = self.output(space, data, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Applies a plan and confirms it.
    #[track_caller]
    pub(crate) fn apply(&self, space: &Namespace, data: &str, plan: &str) {
        let site = self.text("site");
        let more = ["--machine", "nas", "--backend", "userspace", "--no-confirm"];
        self.vyr(space, data, &[&["apply", plan, "--site", &site][..], &more].concat());
    }

    /// Writes Ana's configuration and gives it to her device.
    pub(crate) fn connect(&self) {
        let (site, key, out) = (self.text("site"), self.text("ana.key"), self.text("ana"));
        let export = ["client", "export", "c0", "--site", &site, "--key", &key, "--out", &out];
        self.vyr(&self.client, "old", &export);
        let text = String::from_utf8(self.client_file()).expect("UTF-8");
        let quick = |line: &&str| {
            let name = line.split('=').next().unwrap_or_default().trim();
            !["Address", "DNS", "MTU"].contains(&name)
        };
        let stripped: Vec<&str> = text.lines().filter(quick).collect();
        self.private("ana.setconf", &(stripped.join("\n") + "\n"));
        let address = text.lines().find_map(|line| line.strip_prefix("Address = "));
        let address = address.expect("an address").split(',').map(str::trim);
        let address = address.clone().find(|of| of.contains('.')).expect("an IPv4 address");
        self.client.ip(&format!("address add {address} dev {}\n", self.client_link));
        self.raise();
    }

    /// The configuration of Ana's device.
    pub(crate) fn client_file(&self) -> Vec<u8> {
        let file = files(&self.path("ana")).pop().expect("one was written");
        fs::read(file).expect("ours")
    }

    /// Takes Ana's tunnel down.
    pub(crate) fn lower(&self) {
        self.client.ip(&format!("link set {} down\n", self.client_link));
    }

    /// Brings it up from its file: sessions of before are forgotten, as they are by `wg-quick`.
    pub(crate) fn raise(&self) {
        let link = &self.client_link;
        let set = ["setconf", link, &self.text("ana.setconf")];
        self.client.run("wg", &set, "").expect("set");
        self.client.ip(&format!("link set {link} up\nroute add 192.168.78.0/24 dev {link}\n"));
    }

    /// Whether one packet goes through the tunnel, through the router, and back.
    pub(crate) fn forwards(&self) -> bool {
        self.client.run("ping", &["-c", "1", "-W", "1", PRINTER], "").is_ok()
    }

    /// What a host has of ours, as others see it.
    pub(crate) fn seen(&self, space: &Namespace) -> String {
        let ip = |arguments: &[&str]| space.run("ip", arguments, "").expect("ip is there");
        let peers = space.run("wg", &["show", &self.link, "allowed-ips"], "").unwrap_or_default();
        let mut peers: Vec<&str> = peers.lines().collect();
        peers.sort_unstable();
        let routes = ip(&["route", "show", "proto", "86"]);
        let table = space.run("nft", &["-s", "list", "ruleset"], "").expect("nft is there");
        format!("{}\n{routes}{table}", peers.join("\n"))
    }
}

/// All files below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => all.extend(files(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all
}
