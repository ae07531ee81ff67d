//! A registry, a site and a node in one network namespace.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use vyr_space::{Guests, Namespace, is_able, not_run};

/// Nothing here takes a tenth of it; what does hangs.
pub(crate) const HANG: Duration = Duration::from_secs(300);
const PROGRAMS: [&str; 12] = [
    "docker-registry",
    "umoci",
    "skopeo",
    "busybox",
    "qemu-system-x86_64",
    "tar2sqfs",
    "nft",
    "unshare",
    "curl",
    "apt-get",
    "dpkg-deb",
    "zstd",
];
const REGISTRY: &str = "127.0.0.1:5511";
/// Where the ingress listens.
const URL: &str = "http://[::1]:8088";

/// See the module.
pub(crate) struct House {
    directory: tempfile::TempDir,
    space: Arc<Namespace>,
    platform: PathBuf,
    registry: Child,
    node: Option<Child>,
}

/// The release of the host's kernel.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// A place with a registry that has two images and a node that runs; none, and why, where that cannot
/// be.
pub(crate) fn is_able_here(test: &str) -> Option<House> {
    // Root, too.
    if !is_able(test, &PROGRAMS) {
        return None;
    }
    if !Path::new("/dev/net/tun").exists() {
        not_run(test, "there is no /dev/net/tun");
        return None;
    }
    let platform = match Guests::make(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(guests) => guests.platform,
        Err(why) => {
            not_run(test, &why);
            return None;
        }
    };
    let Some(space) = Namespace::make() else {
        not_run(test, "may not make network namespaces");
        return None;
    };
    Some(House::new(space, platform))
}

impl House {
    fn new(space: Namespace, platform: PathBuf) -> Self {
        space.line("ip link set lo up");
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{REGISTRY}\"}}\n",
            at("registry").display()
        );
        fs::write(at("registry.yml"), config).expect("room");
        let space = Arc::new(space);
        let mut registry = Command::new("docker-registry");
        registry.arg("serve").arg(at("registry.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = space.inside(|| registry.spawn()).expect("a registry");
        let mut house = Self { directory, space, platform, registry, node: None };
        for version in ["v1", "v2"] {
            house.image(version);
        }
        let key = house.path("operator");
        house.say("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().expect("x")]);
        let (site, key) = (house.path("site"), house.path("operator.pub"));
        house
            .vyr(&["init", path(&site), "--name", "house", "--operator", path(&key)], "")
            .expect("a site");
        fs::write(house.path("node.toml"), format!("[images]\nplain_http = [\"{REGISTRY}\"]\n"))
            .expect("room");
        house.start_node();
        let recipient = house.vyr(&["node", "key", "--secrets"], "").expect("a recipient");
        let recipient = recipient.split_whitespace().find(|word| word.starts_with("age1"));
        let recipient = recipient.expect("an age recipient").to_owned();
        let site_toml = site.join("site.toml");
        let mut text = fs::read_to_string(&site_toml).expect("it was made");
        text.push_str(&format!(
            "\n[nodes.house]\nmemory = \"2Gi\"\ncpu = 2\nsecrets = \"{recipient}\"\n"
        ));
        fs::write(site_toml, text).expect("room");
        fs::create_dir_all(site.join("services")).expect("room");
        house
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn key(&self) -> String {
        path(&self.path("operator")).to_owned()
    }

    fn say(&self, program: &str, arguments: &[&str]) -> String {
        self.space.run(program, arguments, "").unwrap_or_else(|e| panic!("{program}: {e}"))
    }

    /// An image whose server says its version.
    fn image(&self, version: &str) {
        let root = self.path(&format!("root-{version}"));
        for below in ["bin", "www", "etc", "tmp"] {
            fs::create_dir_all(root.join(below)).expect("room");
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let busybox = busybox.into_iter().find(|of| of.is_file()).expect("it is installed");
        fs::copy(busybox, root.join("bin/busybox")).expect("room");
        for name in ["sh", "httpd", "cat", "uname", "echo"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("room");
        }
        fs::write(root.join("www/index.html"), format!("version {version}\n")).expect("room");
        fs::write(root.join("www/healthz"), "ok\n").expect("room");
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("room");
        let mut config = vec!["--config.entrypoint", "/bin/httpd"];
        for word in ["-f", "-vv", "-p", "[::]:8080", "-h", "/www"] {
            config.extend(["--config.cmd", word]);
        }
        self.push("web", version, &root, &config);
    }

    /// Makes an image of a file tree, with what `umoci config` is told, and brings it to the registry.
    pub(crate) fn push(&self, name: &str, version: &str, root: &Path, config: &[&str]) {
        let layout = self.path(&format!("layout-{name}-{version}"));
        let image = format!("{}:{version}", layout.display());
        self.say("umoci", &["init", "--layout", path(&layout)]);
        self.say("umoci", &["new", "--image", &image]);
        // `umoci insert` would be shorter, and does not write the end of its archive.
        let bundle = self.path(&format!("bundle-{name}-{version}"));
        self.say("umoci", &["unpack", "--image", &image, path(&bundle)]);
        self.say("cp", &["-a", &format!("{}/.", root.display()), path(&bundle.join("rootfs"))]);
        self.say("umoci", &["repack", "--image", &image, path(&bundle)]);
        self.say("umoci", &[&["config", "--image", &image], config].concat());
        let to = format!("docker://{REGISTRY}/{name}:{version}");
        let from = format!("oci:{image}");
        let copy = ["copy", "--insecure-policy", "--dest-tls-verify=false", &from, &to];
        // It may have to come up first.
        let until = Instant::now() + HANG;
        while let Err(e) = self.space.run("skopeo", &copy, "") {
            assert!(Instant::now() < until, "no image in the registry: {e}");
        }
    }

    /// More lines of the node in `site.toml`.
    pub(crate) fn node_has(&self, lines: &str) {
        let site = File::options().append(true).open(self.path("site/site.toml"));
        site.expect("it was made").write_all(lines.as_bytes()).expect("room");
    }

    /// A file of `services/`, as it is written there: `REGISTRY` stands for where images are.
    pub(crate) fn service(&self, name: &str, text: &str) {
        let to = self.path(&format!("site/services/{name}.toml"));
        fs::write(to, text.replace("REGISTRY", REGISTRY)).expect("room");
    }

    /// Brings what the site says to the node, which has to go well.
    pub(crate) fn deploy(&self) {
        let deployed = self.json(&["deploy", "--key", &self.key(), "--plain-http"]);
        assert_eq!(deployed["outcome"], "succeeded", "{deployed}\n{}", self.node_log());
    }

    /// Where all of it is.
    pub(crate) fn space(&self) -> &Namespace {
        &self.space
    }

    /// Declares the service, with or without a secret that it requires.
    pub(crate) fn web(&self, version: &str, health: &str, secret: bool) {
        let secrets = if secret { "required = [\"TOKEN\"]" } else { "none = true" };
        let text = format!(
            r#"version = 1
[image]
ref = "{REGISTRY}/web:{version}"
[processes.http]
ports = [{{ name = "http", internal = 8080 }}]
grace_seconds = 2
[processes.http.resources]
memory = "128Mi"
disk = "1Gi"
[processes.http.restart]
backoff_seconds = 1
[processes.http.health]
type = "http"
port = 8080
path = "{health}"
interval_seconds = 1
timeout_seconds = 1
grace_seconds = 3
[[routes]]
port = 8088
process = "http"
to = "http"
[secrets]
{secrets}
"#
        );
        fs::write(self.path("site/services/web.toml"), text).expect("room");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vyr"));
        command
            .args(arguments)
            .env("VYR_DATA_DIR", self.path("data"))
            .env("VYR_GUEST", &self.platform)
            .current_dir(if self.path("site").exists() {
                self.path("site")
            } else {
                self.directory.path().to_owned()
            });
        command
    }

    pub(crate) fn output(
        &self,
        mut command: Command,
        input: &str,
    ) -> (Option<i32>, String, String) {
        use std::io::Write;
        self.space.inside(|| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("it starts");
            let mut stdin = child.stdin.take().expect("it is piped");
            let _ = stdin.write_all(input.as_bytes());
            drop(stdin);
            let output = child.wait_with_output().expect("it ends");
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            (output.status.code(), text(output.stdout), text(output.stderr))
        })
    }

    /// Runs `vyr`; what it printed, or what it said.
    pub(crate) fn vyr(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        match self.output(self.command(arguments), input) {
            (Some(0), printed, _) => Ok(printed),
            (code, printed, said) => Err(format!("{arguments:?}: {code:?} {printed} {said}")),
        }
    }

    /// The same for what has to fail: exit code and stdout.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let (code, printed, said) = self.output(self.command(arguments), "");
        assert_ne!(code, Some(0), "{arguments:?}: {printed} {said}");
        (code.expect("an exit code"), printed)
    }

    /// The object that `vyr ARGUMENTS --json` prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let printed =
            self.vyr(&arguments, "").unwrap_or_else(|e| panic!("{e}\n{}", self.node_log()));
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"))
    }

    pub(crate) fn node_log(&self) -> String {
        fs::read_to_string(self.path("node.log")).unwrap_or_default()
    }

    pub(crate) fn exec(&self, argv: &[&str]) -> Result<String, String> {
        self.vyr(&[&["exec", "web", "--"], argv].concat(), "")
    }

    /// What runs.
    pub(crate) fn instance(&self) -> Value {
        let listed = self.json(&["ps"]);
        let instances = listed["slots"][0]["instances"].as_array().cloned().unwrap_or_default();
        let ready = instances.into_iter().find(|of| of["state"] == "ready");
        ready.unwrap_or_else(|| panic!("nothing is ready: {listed}"))
    }

    /// The same, once there is something.
    pub(crate) fn until_ready(&self) -> Value {
        self.until_ready_but("")
    }

    fn until_ready_but(&self, but: &str) -> Value {
        let until = Instant::now() + HANG;
        loop {
            let listed = self.json(&["ps"]);
            let instances = listed["slots"][0]["instances"].as_array().cloned().unwrap_or_default();
            let is_it = |of: &Value| {
                of["state"] == "ready" && of["serving"] == true && of["instance"] != but
            };
            if let Some(ready) = instances.into_iter().find(is_it) {
                return ready;
            }
            assert!(Instant::now() < until, "nothing became ready: {listed}\n{}", self.node_log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// An answer through the ingress.
    pub(crate) fn get(&self, path: &str) -> String {
        let url = format!("{URL}{path}");
        self.space
            .run("curl", &["-sS", "-f", "-m", "20", &url], "")
            .unwrap_or_else(|e| panic!("{e}\n{}", self.node_log()))
    }

    /// Has the node start instances from snapshots.
    pub(crate) fn with_snapshots(&mut self) {
        let config = File::options().append(true).open(self.path("node.toml"));
        let lines = b"[machines]\nsnapshots = true\n";
        config.expect("it was made").write_all(lines).expect("room");
        self.kill_node();
        self.start_node();
    }

    /// Waits until the node has so many snapshots.
    pub(crate) fn until_snapshots(&self, count: usize) {
        let directory = self.path("data/machines/.snapshots");
        let whole = || {
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            entries.filter(|it| it.path().extension().is_some_and(|end| end == "json")).count()
        };
        let until = Instant::now() + HANG;
        while whole() != count {
            assert!(Instant::now() < until, "{} snapshots: {}", whole(), self.node_log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A connection whose server waits for the rest.
    pub(crate) fn half_a_request(&self) -> TcpStream {
        let at = URL.strip_prefix("http://").expect("it is one");
        let mut stream = self.space.inside(|| TcpStream::connect(at)).expect("it is taken");
        stream.set_read_timeout(Some(HANG)).expect("a time");
        stream.write_all(b"GET / HTTP/1.0\r\n").expect("open");
        stream
    }

    /// Runs a program as a user that is neither root nor the ingress.
    pub(crate) fn as_nobody(&self, argv: &[&str]) -> Result<String, String> {
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).uid(65_534).gid(65_534).current_dir("/");
        match self.output(command, "GET / HTTP/1.0\r\n\r\n") {
            (Some(0), printed, _) => Ok(printed),
            (_, printed, said) => Err(format!("{printed} {said}")),
        }
    }

    /// New connections one after the other until it is ended.
    pub(crate) fn load(&self) -> Load {
        self.load_of(&[URL])
    }

    /// The same of clients that are told more.
    pub(crate) fn load_of(&self, arguments: &[&str]) -> Load {
        let plain = ["-s", "-f", "-m", "20", "-o", "/dev/null"];
        let words: Vec<String> = plain.iter().chain(arguments).map(ToString::to_string).collect();
        let counts = Arc::new((AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0)));
        let (of_thread, space) = (Arc::clone(&counts), Arc::clone(&self.space));
        let thread = std::thread::spawn(move || {
            let (over, answers, failed) = &*of_thread;
            while !over.load(Ordering::SeqCst) {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let got = space.run("curl", &words, "");
                let count = if got.is_ok() { answers } else { failed };
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Load { counts, thread }
    }

    pub(crate) fn start_node(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("node.log"));
        let config = self.path("node.toml");
        let mut node = self.command(&["up", "--config", path(&config)]);
        node.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a log"));
        self.node = Some(self.space.inside(|| node.spawn()).expect("a node"));
        let until = Instant::now() + HANG;
        while self.vyr(&["status"], "").is_err() {
            assert!(Instant::now() < until, "no node: {}", self.node_log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All of the node's processes but machines and ingress end with it.
    pub(crate) fn kill_node(&mut self) {
        let mut node = self.node.take().expect("it runs");
        node.kill().expect("it is ours");
        node.wait().expect("it was killed");
        let until = Instant::now() + HANG;
        while self.vyr(&["status"], "").is_ok() {
            assert!(Instant::now() < until, "it answers still");
        }
    }

    /// Kills the VMM of an instance from outside, and waits for the next instance.
    pub(crate) fn kill_vmm(&self, instance: &Value) -> Value {
        let id = instance["instance"].as_str().expect("an id");
        let record = self.path(&format!("data/machines/{id}/machine.json"));
        let record: Value =
            serde_json::from_slice(&fs::read(record).expect("a record")).expect("JSON");
        let pid = record["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a process");
        let vmms = self.processes("qemu-system");
        assert!(vmms.contains(&pid), "{pid:?} is no VMM in this namespace");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
        self.until_ready_but(id)
    }

    pub(crate) fn kill_ingress(&self) {
        let [ingress] = self.processes("__ingress")[..] else { panic!("there is one ingress") };
        rustix::process::kill_process(ingress, rustix::process::Signal::KILL).expect("it is there");
        let until = Instant::now() + HANG;
        while self.processes("__ingress").contains(&ingress) {
            assert!(Instant::now() < until, "it does not end");
        }
    }

    /// Waits until clients are served.
    pub(crate) fn until_served(&self) {
        let until = Instant::now() + HANG;
        while self.space.run("curl", &["-sS", "-f", "-m", "20", URL], "").is_err() {
            assert!(Instant::now() < until, "no ingress: {}", self.node_log());
        }
    }

    /// Processes of this node with these words on their command lines.
    pub(crate) fn processes(&self, words: &str) -> Vec<rustix::process::Pid> {
        let entries = fs::read_dir("/proc").expect("it is mounted").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let own = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
            let space = fs::read_link(format!("/proc/{}/ns/net", self.space.id())).ok()?;
            let is_one = line.contains(words) && own == space;
            rustix::process::Pid::from_raw(pid).filter(|_| is_one)
        })
        .collect()
    }

    /// Files of the node's, the site's and the registry's that have these bytes.
    pub(crate) fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.directory.path().to_owned()];
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let kind = entry.file_type().expect("a type");
                if kind.is_dir() {
                    todo.push(entry.path());
                } else if kind.is_file() && has(&entry.path(), text.as_bytes()) {
                    found.push(entry.path());
                }
            }
        }
        found
    }
}

static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// Whether a file has these bytes; holes of a sparse one are zeros.
fn has(file: &Path, bytes: &[u8]) -> bool {
    let Ok(mut file) = File::open(file) else { return false };
    let mut window: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let Ok(read) = file.read(&mut buffer) else { return false };
        if read == 0 {
            return false;
        }
        // Most of a disk is nothing.
        if buffer[..read] == ZEROS[..read] {
            window.clear();
            continue;
        }
        window.extend_from_slice(&buffer[..read]);
        if window.windows(bytes.len()).any(|some| some == bytes) {
            return true;
        }
        window.drain(..window.len().saturating_sub(bytes.len()));
    }
}

fn path(of: &Path) -> &str {
    of.to_str().expect("UTF-8")
}

/// Clients, while something else happens.
pub(crate) struct Load {
    counts: Arc<(AtomicBool, AtomicU32, AtomicU32)>,
    thread: JoinHandle<()>,
}

impl Load {
    /// How many were answered, and how many were not.
    pub(crate) fn end(self) -> (u32, u32) {
        self.counts.0.store(true, Ordering::SeqCst);
        self.thread.join().expect("it counts");
        (self.counts.1.load(Ordering::SeqCst), self.counts.2.load(Ordering::SeqCst))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut node) = self.node.take() {
            let _ = node.kill();
            let _ = node.wait();
        }
        for pid in self.processes("qemu-system") {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        // The ingress and whatever else was left in the namespace: nobody else is in there.
        for pid in self.processes("__ingress") {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.registry.kill();
        let _ = self.registry.wait();
    }
}
