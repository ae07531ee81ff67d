//! Two routers and an operator, each in a namespace; the routers have OpenSSH's own server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use vyr_space::{Namespace, Plane, not_run};

/// Where Debian and others put it: it wants to be started by its whole name.
const SSHD: &str = "/usr/sbin/sshd";

/// Not 22, so that a port that is not passed on is noticed.
const PORT: u16 = 2222;

/// Whether hosts can be asked here; says so if not.
pub(crate) fn can(test: &str) -> bool {
    let mut missing = Vec::new();
    for program in ["ssh", "ssh-agent", "ssh-add", "ssh-keygen"] {
        let asked = Command::new(program).arg("-?").stdin(Stdio::null()).output();
        if asked.is_err() {
            missing.push(format!("{program} is not installed"));
        }
    }
    if !Path::new(SSHD).exists() {
        missing.push(format!("{SSHD} is not installed"));
    }
    missing.iter().for_each(|reason| not_run(test, reason));
    missing.is_empty() && crate::apply::can(test)
}

/// A program that runs until nobody holds its stdin any more.
struct Kept(Child);

impl Kept {
    /// Starts a script that ends when it can read no line; waits for its first line that has
    /// `ready` in it.
    fn start(script: &str, ready: &str) -> (Self, String) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains(ready));
        let line = line.unwrap_or_else(|| panic!("no {ready}: {script}"));
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        (Self(child), line)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A router.
pub(crate) struct Router {
    /// Its name in the plan.
    pub(crate) name: &'static str,
    pub(crate) space: Namespace,
    pub(crate) link: String,
    pub(crate) address: &'static str,
    /// Its data directory.
    pub(crate) data: PathBuf,
    /// What carries its link.
    pub(crate) plane: Option<Plane>,
    _sshd: Kept,
}

impl Router {
    /// As `--node` takes it, without a plan.
    pub(crate) fn url(&self) -> String {
        format!("ssh://root@{}:{PORT}", self.address)
    }

    /// The host as others see it.
    pub(crate) fn seen(&self) -> String {
        let run = |program: &str, arguments: &[&str]| {
            self.space.run(program, arguments, "").expect("it answers")
        };
        let table = run("nft", &["-s", "list", "ruleset"]);
        // In whatever order they are there.
        let peers = run("wg", &["show", &self.link, "allowed-ips"]);
        let mut peers: Vec<&str> = peers.lines().collect();
        peers.sort_unstable();
        let peers = peers.join("\n");
        let addresses = run("ip", &["-o", "-4", "address", "show", "dev", &self.link]);
        format!("{table}{peers}{addresses}")
    }
}

/// All of them.
pub(crate) struct Far {
    directory: TempDir,
    pub(crate) operator: Namespace,
    pub(crate) routers: [Router; 2],
    agent: String,
    _agent: Kept,
}

fn keygen(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path);
    assert!(command.stdin(Stdio::null()).status().expect("it is there").success());
}

impl Far {
    pub(crate) fn new(tag: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        fs::create_dir_all(root.join("site")).expect("a directory");
        // It wants one that nobody else can write, wherever it keeps nothing.
        fs::create_dir_all("/run/sshd").expect("root may");
        keygen(&root.join("id"));
        let operator = Namespace::make().expect("made");
        let routers = [("north", "192.168.78", 'n'), ("south", "192.168.79", 's')];
        let routers = routers.map(|(name, net, letter)| {
            let link = format!("vyr-{tag}{letter}{}", std::process::id() % 10_000);
            Self::router(root, &operator, name, net, link)
        });
        let add = format!(
            "ssh-agent sh -c 'ssh-add {} 2>&1; echo $SSH_AUTH_SOCK; read _'",
            root.join("id").display()
        );
        let (kept, agent) = Kept::start(&add, "agent.");
        let far = Self { operator, routers, agent, _agent: kept, directory };
        far.write();
        far
    }

    fn router(
        root: &Path,
        operator: &Namespace,
        name: &'static str,
        net: &str,
        link: String,
    ) -> Router {
        let space = Namespace::make().expect("made");
        let address: &'static str = format!("{net}.2").leak();
        operator.ip(&format!(
            "link set lo up\nlink add {name} type veth peer name far\n\
             link set far netns {} name lan0\naddress add {net}.1/24 dev {name}\n\
             link set {name} up\n",
            space.id()
        ));
        space.ip(&format!("address add {address}/24 dev lan0\nlink set lan0 up\nlink set lo up\n"));
        let plane = Plane::start(&space, &link);
        let (host_key, config) = (root.join(format!("host-{name}")), root.join(name));
        let data = root.join(format!("data-{name}"));
        keygen(&host_key);
        let text = format!(
            "Port {PORT}\nListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n\
             SetEnv VYR_DATA_DIR={}\n",
            host_key.display(),
            root.join("id.pub").display(),
            data.display()
        );
        fs::write(&config, text).expect("written");
        let script =
            format!("{SSHD} -D -e -f {} 2>&1 & it=$!; read _; kill $it; wait", config.display());
        let (sshd, _) = space.inside(|| Kept::start(&script, "Server listening on"));
        Router { name, space, link, address, data, plane: Some(plane), _sshd: sshd }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn site(&self) -> String {
        self.path("site").to_str().expect("UTF-8").to_owned()
    }

    /// Which host keys are known: those of these routers, by these files.
    pub(crate) fn know(&self, keys: &[(&Router, &str)]) {
        let line = |(router, file): &(&Router, &str)| {
            let key = fs::read_to_string(self.path(&format!("{file}.pub"))).expect("a key");
            format!("[{}]:{PORT} {key}", router.address)
        };
        let lines: String = keys.iter().map(line).collect();
        fs::write(self.path("site/known_hosts"), lines).expect("written");
    }

    /// The right ones.
    pub(crate) fn know_all(&self) {
        let [north, south] = &self.routers;
        self.know(&[(north, "host-north"), (south, "host-south")]);
    }

    fn write(&self) {
        self.know_all();
        // A site is where a site.toml is; what is in it does not matter for keys.
        fs::write(self.path("site/site.toml"), "version = 1\n").expect("written");
        self.vyr(&["key", "new", "op"]);
        let operator = fs::read_to_string(self.path("data/keys/op.pub")).expect("a key");
        let line = format!("op@office namespaces=\"vyr-plan,vyr-bundle\" {operator}");
        keygen(&self.path("backup"));
        let backup = fs::read_to_string(self.path("backup.pub")).expect("a key");
        fs::write(self.path("site/operators.allowed_signers"), line).expect("written");
        let mut text = String::from(
            "version = 1\nname = \"office\"\nprefix = \"fd3a:91c2:77e0::/48\"\n\
             [operators]\nthreshold = 1\nfrom = [\"192.168.78.0/24\", \"192.168.79.0/24\"]\n\
             [profiles.split]\nlan = true\ninternet = false\n",
        );
        text += &format!("[recovery]\nrecipients = [\"{}\"]\n", backup.trim());
        for (at, router) in self.routers.iter().enumerate() {
            let (name, address) = (router.name, router.address);
            let interface = &router.link["vyr-".len()..];
            let site = self.site();
            let key = self.vyr(&[
                "server",
                "key",
                &router.link,
                "--node",
                &router.url(),
                "--site",
                &site,
            ]);
            text += &format!(
                "[servers.{name}]\nmanagement = [\"{address}\"]\nmanagement_port = {PORT}\n\
                 roles = [\"{name}\"]\n\
                 [interfaces.{interface}]\nrole = \"{name}\"\nlan = [\"192.168.7{}.0/24\"]\n\
                 internet = false\nipv6 = true\n\
                 [interfaces.{interface}.at.{name}]\nendpoint = \"{address}\"\nport = 51820\n\
                 public_key = \"{key}\"\nvpn = [\"10.2{at}.0.0/24\", \"fd3a:91c2:77e0:2{at}::/64\"]\n",
                at + 8
            );
        }
        let interfaces = self.routers.iter().map(|router| &router.link["vyr-".len()..]);
        let constraints: String =
            interfaces.map(|interface| format!("{interface} = [\"split\"]\n")).collect();
        text += &format!("[constraints]\n{constraints}");
        fs::write(self.path("site/site.toml"), text).expect("written");
    }

    /// A signed plan with so many clients of each router.
    pub(crate) fn plan(&self, clients: usize) -> String {
        let mut lines = String::new();
        for router in &self.routers {
            for n in 0..clients {
                let key = self.operator.run("wg", &["genkey"], "").expect("wg is there");
                let key = self.operator.run("wg", &["pubkey"], &key).expect("wg is there");
                lines += &format!(
                    "  {{ id = \"{}-{n}\", owner = \"Ana\", interface = \"{}\", profile = \
                     \"split\", public_key = \"{}\", state = \"active\" }},\n",
                    router.name,
                    &router.link["vyr-".len()..],
                    key.trim()
                );
            }
        }
        let text = format!("version = 1\nclients = [\n{lines}]\n");
        fs::write(self.path("site/clients.toml"), text).expect("written");
        let (site, key) = (self.site(), self.path("data/keys/op"));
        self.vyr(&["lock", "--site", &site]);
        let key = key.to_str().expect("UTF-8");
        self.vyr(&["plan", "sign", "--site", &site, "--key", key])
    }

    /// The command at the operator's, who has this binary on every host.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vyr"));
        command.args(arguments).stdin(Stdio::null());
        command.env("VYR_DATA_DIR", self.path("data")).env("SSH_AUTH_SOCK", &self.agent);
        command.env("USER", "ana").env_remove("SUDO_USER");
        let far = arguments.iter().any(|word| *word == "--node" || *word == "--all");
        if far && !arguments.contains(&"--remote-vyr") {
            command.args(["--remote-vyr", env!("CARGO_BIN_EXE_vyr")]);
        }
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.operator.inside(|| self.command(arguments).output().expect("vyr starts"))
    }

    /// Runs it; what it printed.
    #[track_caller]
    pub(crate) fn printed(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs it; the first line of what it printed.
    #[track_caller]
    pub(crate) fn vyr(&self, arguments: &[&str]) -> String {
        self.printed(arguments).lines().next().unwrap_or_default().to_owned()
    }

    /// Runs what must fail; its exit code, and what it printed and said.
    #[track_caller]
    pub(crate) fn fails(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.output(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    pub(crate) fn apply<'a>(&self, site: &'a str, plan: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["apply", plan, "--site", site, "--backend", "userspace"], more].concat()
    }

    /// A program of its own in a directory of its own; its path.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        path
    }

    /// The plan that the site says is applied.
    pub(crate) fn pointer(&self) -> Option<String> {
        let text = fs::read_to_string(self.path("site/plans/applied.network")).ok()?;
        Some(text.trim_end().to_owned())
    }
}
