//! The two proxies, each a process of its own with the same two listeners.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::load::HOST;

/// How long a proxy may take until it listens.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// A proxy that runs; it is ended when it is dropped.
pub(super) struct Proxy {
    child: Child,
    pub(super) raw: SocketAddr,
    pub(super) tls: SocketAddr,
}

/// A port that nobody has now.
fn port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Proxy {
    /// `vyr ingress`.
    pub(super) fn vyr(
        vyr: &Path,
        directory: &Path,
        backend: SocketAddr,
        threads: usize,
    ) -> Result<Self> {
        let (raw, tls) = (port()?, port()?);
        let file = directory.join("ingress.json");
        let route = |name: &str, hosts: &[&str]| {
            json!({"name": name, "hostnames": hosts,
                   "backends": [{"address": backend.to_string()}]})
        };
        let config = json!({
            "version": 1, "control": directory.join("ingress.sock"), "threads": threads,
            "timeouts": {"drain_ms": 0},
            "listeners": [
                {"name": "raw", "address": "::1", "port": raw.port(), "mode": "tcp_raw",
                 "route": "raw"},
                {"name": "tls", "address": "::1", "port": tls.port(), "mode": "tls_passthrough",
                 "routes": ["tls"]},
            ],
            "routes": [route("raw", &[]), route("tls", &[HOST])],
        });
        fs::write(&file, config.to_string())?;
        let mut command = Command::new(vyr);
        command.args(["ingress", "--config"]).arg(&file);
        Self::start(&mut command, raw, tls).context("vyr ingress")
    }

    /// HAProxy; the error is why it is not measured.
    pub(super) fn haproxy(
        directory: &Path,
        backend: SocketAddr,
        threads: usize,
    ) -> Result<Self, String> {
        let started = || -> Result<Self> {
            let (raw, tls) = (port()?, port()?);
            let file = directory.join("haproxy.cfg");
            let text = format!(
                "global\n nbthread {threads}\n maxconn 4096\n\
                 defaults\n mode tcp\n option splice-auto\n timeout connect 2s\n \
                 timeout client 600s\n timeout server 600s\n\
                 frontend raw\n bind [::1]:{}\n default_backend b\n\
                 frontend tls\n bind [::1]:{}\n tcp-request inspect-delay 3s\n \
                 tcp-request content accept if {{ req.ssl_hello_type 1 }}\n \
                 use_backend b if {{ req.ssl_sni -i {HOST} }}\n\
                 backend b\n server s [::1]:{}\n",
                raw.port(),
                tls.port(),
                backend.port(),
            );
            fs::write(&file, text)?;
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(&file);
            Self::start(&mut command, raw, tls)
        };
        started().map_err(|error| match error.downcast_ref::<std::io::Error>() {
            Some(e) if e.kind() == std::io::ErrorKind::NotFound => {
                "haproxy is not installed".to_owned()
            }
            _ => format!("haproxy: {error:#}"),
        })
    }

    fn start(command: &mut Command, raw: SocketAddr, tls: SocketAddr) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut proxy = Self { child: command.spawn()?, raw, tls };
        let until = Instant::now() + START_TIME_MAX;
        while TcpStream::connect(raw).is_err() || TcpStream::connect(tls).is_err() {
            if let Some(status) = proxy.child.try_wait()? {
                bail!("it ended: {status}");
            }
            if Instant::now() > until {
                bail!("it does not listen");
            }
            std::thread::yield_now();
        }
        Ok(proxy)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of all its threads and the processes it started, in nanoseconds.
    pub(super) fn cpu_ns(&self) -> u64 {
        let of_process = |pid: &u32| -> u64 {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
            let of_thread = |thread: fs::DirEntry| -> Option<u64> {
                let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
                text.split_whitespace().next()?.parse().ok()
            };
            threads.flatten().filter_map(of_thread).sum()
        };
        crate::process::family(self.pid()).iter().map(of_process).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
