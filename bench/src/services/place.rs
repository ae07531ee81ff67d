//! A node with one service, in a network namespace of its own: a registry, a site, an image.
//!
//! ```text
//! registry --image, once--> node (`vyr up`) --> instances
//! site: one operator, one node, services/web.toml --vyr deploy--> node
//! ```
//!
//! All of it ends with the value: the node, and what would outlive it, its ingress and its machines.

use std::cell::Cell;
use std::fs::{self, File};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use vyr_node::machines::find_platform;

use super::bare::arguments_of;
use super::http::BODY;
use crate::process::family;
use crate::space::{self, Namespace, ended};

/// What an instance has, in either arm.
pub(super) const MEMORY_BYTES: u64 = 128 << 20;
pub(super) const SCRATCH_BYTES: u64 = 1 << 30;
pub(super) const VCPUS: u8 = 1;
/// What runs in it.
pub(super) const PORT: u16 = 8080;
pub(super) const ARGV: [&str; 6] = ["/bin/httpd", "-f", "-p", "[::]:8080", "-h", "/www"];

/// Where the node's ingress listens.
pub(super) const INGRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 8088);

const REGISTRY: &str = "127.0.0.1:5511";

/// Programs that are needed, besides what namespaces need.
const PROGRAMS: [&str; 9] = [
    "docker-registry",
    "umoci",
    "skopeo",
    "busybox",
    "qemu-system-x86_64",
    "tar2sqfs",
    "mke2fs",
    "nft",
    "nsenter",
];

/// Nothing that is waited for here takes a tenth of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What is not there of what this needs.
pub(super) fn missing() -> Vec<String> {
    let mut missing = space::missing(&PROGRAMS);
    missing.extend(find_platform().err());
    missing
}

/// See the module.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) space: Namespace,
    vyr: PathBuf,
    platform: PathBuf,
    directory: TempDir,
    children: Vec<Child>,
    /// The node's process.
    node: u32,
    /// Makes each release another one.
    release: Cell<u64>,
    /// The arguments of a VMM that it started.
    vmm: Vec<String>,
}

/// A machine that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    /// Of its instance.
    pub(super) id: String,
    /// Of its VMM.
    pub(super) pid: u32,
    /// When its VMM let it begin.
    pub(super) begun: SystemTime,
}

/// What the node wrote down of an instance that serves, milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// When its process began to run.
    pub(super) ran_ms: u64,
    /// When its check had passed.
    pub(super) ready_ms: u64,
}

impl Place {
    /// All of it, with the image pulled and its disk built; no instance is left.
    pub(super) fn new(vyr: &Path) -> Result<Self> {
        let platform = find_platform().map_err(anyhow::Error::msg)?;
        let platform = platform.canonicalize().context("the platform of guests")?;
        let space = Namespace::make()?;
        space.ip("link set lo up\n")?;
        let mut place = Self {
            space,
            vyr: vyr.to_owned(),
            platform,
            directory: tempfile::tempdir()?,
            children: Vec::new(),
            node: 0,
            release: Cell::new(0),
            vmm: Vec::new(),
        };
        place.start_registry()?;
        place.push_image()?;
        place.make_site()?;
        place.start_node()?;
        place.deploy(1)?;
        for machine in place.running() {
            place.vmm = arguments_of(machine.pid)?;
        }
        place.empty()?;
        Ok(place)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> Result<String> {
        Ok(self.path(name).to_str().context("not UTF-8")?.to_owned())
    }

    /// The arguments of a VMM that the node started.
    pub(super) fn vmm(&self) -> &[String] {
        &self.vmm
    }

    /// Kernel and initramfs of guests.
    pub(super) fn platform(&self) -> &Path {
        &self.platform
    }

    /// The root disk of the image.
    pub(super) fn root_disk(&self) -> Result<PathBuf> {
        let entries = fs::read_dir(self.path("data/images/disks"))?.flatten();
        let mut disks = entries.map(|of| of.path());
        let is_disk = |path: &PathBuf| path.extension().is_some_and(|of| of == "squashfs");
        disks.find(is_disk).context("the node has no root disk")
    }

    fn start_registry(&mut self) -> Result<()> {
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{REGISTRY}\"}}\n",
            self.path("registry").display()
        );
        fs::write(self.path("registry.yml"), config)?;
        let mut registry = Command::new("docker-registry");
        registry.arg("serve").arg(self.path("registry.yml")).stdin(Stdio::null());
        registry.stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(self.space.spawn(&mut registry)?);
        Ok(())
    }

    /// An image whose server says one word.
    fn push_image(&self) -> Result<()> {
        let root = self.path("root");
        for below in ["bin", "www", "etc", "tmp"] {
            fs::create_dir_all(root.join(below))?;
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new);
        let busybox = busybox.into_iter().find(|path| path.is_file());
        fs::copy(busybox.context("where is busybox?")?, root.join("bin/busybox"))?;
        std::os::unix::fs::symlink("busybox", root.join("bin/httpd"))?;
        fs::write(root.join("www/index.html"), BODY)?;
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
        let (layout, bundle) = (self.text("layout")?, self.text("bundle")?);
        let image = format!("{layout}:v1");
        let say = |arguments: &[&str]| self.space.run("umoci", arguments, "").map(drop);
        say(&["init", "--layout", &layout])?;
        say(&["new", "--image", &image])?;
        say(&["unpack", "--image", &image, &bundle])?;
        let from = format!("{}/.", root.display());
        self.space.run("cp", &["-a", &from, &format!("{bundle}/rootfs")], "")?;
        say(&["repack", "--image", &image, &bundle])?;
        let [program, words @ ..] = ARGV;
        let mut config = vec!["config", "--image", &image, "--config.entrypoint", program];
        words.iter().for_each(|word| config.extend(["--config.cmd", word]));
        say(&config)?;
        let (from, to) = (format!("oci:{image}"), format!("docker://{REGISTRY}/web:v1"));
        let copy = ["copy", "--insecure-policy", "--dest-tls-verify=false", &from, &to];
        // It may have to come up first.
        self.until("an image in the registry", || {
            Ok(self.space.run("skopeo", &copy, "").is_ok().then_some(()))
        })
    }

    fn make_site(&self) -> Result<()> {
        self.vyr(&["key", "new", "op"])?;
        let (site, operator) = (self.text("site")?, self.text("data/keys/op.pub")?);
        self.vyr(&["init", &site, "--name", "bench", "--operator", &operator])?;
        let file = self.path("site/site.toml");
        let mut text = fs::read_to_string(&file)?;
        text.push_str("\n[nodes.bench]\nmemory = \"4Gi\"\ncpu = 4\n");
        fs::write(file, text)?;
        fs::create_dir_all(self.path("site/services"))?;
        Ok(())
    }

    fn start_node(&mut self) -> Result<()> {
        let config = self.text("node.toml")?;
        fs::write(&config, format!("[images]\nplain_http = [\"{REGISTRY}\"]\n"))?;
        let mut node = self.command(&["up", "--config", &config]);
        node.stdin(Stdio::null()).stdout(Stdio::null());
        node.stderr(File::create(self.path("node.log"))?);
        let node = self.space.spawn(&mut node)?;
        self.node = node.id();
        self.children.push(node);
        self.until("a node", || Ok(self.vyr(&["status"]).is_ok().then_some(())))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.vyr);
        command
            .arg("--data-dir")
            .arg(self.path("data"))
            .args(arguments)
            .env("VYR_GUEST", &self.platform)
            .env_remove("SSH_AUTH_SOCK")
            .current_dir(self.directory.path());
        command
    }

    fn vyr(&self, arguments: &[&str]) -> Result<()> {
        let output = self.space.output(&mut self.command(arguments))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "vyr {arguments:?}: {said}");
        Ok(())
    }

    fn until<T>(&self, what: &str, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() > end {
                let log = fs::read_to_string(self.path("node.log")).unwrap_or_default();
                bail!("{what}: it did not come; the node said: {}", last_lines(&log));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Declares so many instances of the next release. Its check is patient: a guest that is emulated
    /// beside a load must not be taken for a sick one, which would be an outage and no rollout.
    fn declare(&self, scale: u8) -> Result<()> {
        let release = self.release.replace(self.release.get() + 1);
        let text = format!(
            r#"version = 1
[image]
ref = "{REGISTRY}/web:v1"
[processes.http]
ports = [{{ name = "http", internal = {PORT} }}]
vars = {{ RELEASE = "{release}" }}
grace_seconds = 10
[processes.http.scale]
min = {scale}
[processes.http.resources]
memory = "{}Mi"
disk = "{}Mi"
[processes.http.health]
type = "http"
port = {PORT}
interval_seconds = 5
timeout_seconds = 5
grace_seconds = 60
failure = 5
[[routes]]
port = {}
process = "http"
to = "http"
[secrets]
none = true
"#,
            MEMORY_BYTES >> 20,
            SCRATCH_BYTES >> 20,
            INGRESS.port(),
        );
        Ok(fs::write(self.path("site/services/web.toml"), text)?)
    }

    /// Begins the deploy of a new release with so many instances; nothing else but this begins it.
    pub(super) fn begin_deploy(&self, scale: u8) -> Result<Child> {
        self.declare(scale)?;
        let (site, key) = (self.text("site")?, self.text("data/keys/op")?);
        let mut command =
            self.command(&["deploy", "--site", &site, "--key", &key, "--plain-http", "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.space.spawn(&mut command)
    }

    /// Waits until a deploy has ended, and well.
    pub(super) fn end_deploy(&self, deploy: Child) -> Result<()> {
        let output = ended(deploy)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "vyr deploy: {}", last_lines(&said));
        Ok(())
    }

    /// Both.
    pub(super) fn deploy(&self, scale: u8) -> Result<()> {
        self.end_deploy(self.begin_deploy(scale)?)
    }

    /// Removes all instances, and waits until no machine is left.
    pub(super) fn empty(&self) -> Result<()> {
        self.deploy(0)?;
        self.until_running(0).map(drop)
    }

    /// Waits until so many machines run, no more and no fewer.
    pub(super) fn until_running(&self, count: usize) -> Result<Vec<Running>> {
        self.until(&format!("{count} machines"), || {
            Ok(Some(self.running()).filter(|all| all.len() == count))
        })
    }

    /// The machines that run, by what the node finds them again with.
    pub(super) fn running(&self) -> Vec<Running> {
        #[derive(Deserialize)]
        struct Record {
            pid: u32,
        }
        let entries = fs::read_dir(self.path("data/machines")).into_iter().flatten().flatten();
        let one = |entry: fs::DirEntry| {
            let id = entry.file_name().into_string().ok().filter(|id| !id.starts_with('.'))?;
            let path = entry.path().join("machine.json");
            let begun = fs::metadata(&path).ok()?.modified().ok()?;
            // One that ends meanwhile does not run.
            let Record { pid } = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            Some(Running { id, pid, begun })
        };
        entries.filter_map(one).collect()
    }

    /// When the node had taken the plan that is in force.
    pub(super) fn taken(&self) -> Result<SystemTime> {
        let path = self.path("data/services/plan.json");
        Ok(fs::metadata(path).and_then(|of| of.modified())?)
    }

    /// What the node knows of an instance that serves.
    pub(super) fn written(&self, id: &str) -> Result<Written> {
        let state: Value =
            serde_json::from_slice(&fs::read(self.path("data/services/state.json"))?)?;
        let of = &state["instances"][id];
        ensure!(of["state"] == "ready", "instance {id} answers and is {}", of["state"]);
        let time = |name: &str| of[name].as_u64().with_context(|| format!("{id} has no {name}"));
        Ok(Written { ran_ms: time("ran_ms")?, ready_ms: time("since_ms")? })
    }

    /// The node's processes, without its VMMs; its first one comes first.
    pub(super) fn processes(&self) -> Vec<u32> {
        let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
        let own = program(self.node);
        family(self.node).into_iter().filter(|pid| program(*pid) == own).collect()
    }

    /// Processes whose time is the measurement's.
    pub(super) fn measured(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // What outlives a node: nobody else is in its namespace but the namespace's keeper.
        let (own, keeper) = (fs::read_link(self.space.path()).ok(), self.space.id());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != keeper && *pid != std::process::id()) {
            let of = fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| own.is_some() && of == own) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// The end of what a program said.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(4)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_is_told() {
        assert_eq!(last_lines(""), "");
        assert_eq!(last_lines("1\n2\n3\n4\n5\n"), "2; 3; 4; 5");
    }
}
