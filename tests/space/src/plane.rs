//! A data plane beside the kernel: wireguard-go.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{Namespace, is_able, is_installed, not_run};

/// Whether a data plane can run here, besides what `is_able` asks for; says every reason if not.
pub fn can_carry(test: &str) -> bool {
    let mut missing = Vec::new();
    for program in ["wg", "wireguard-go", "ping"] {
        if !is_installed(program) {
            missing.push(format!("{program} is not installed"));
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        missing.push("the kernel has no /dev/net/tun".into());
    }
    missing.iter().for_each(|reason| not_run(test, reason));
    is_able(test, &["nft"]) && missing.is_empty()
}

/// A data plane. It ends when nobody holds its stdin any more.
#[derive(Debug)]
pub struct Plane(Child);

impl Plane {
    /// Starts it and waits until it listens.
    pub fn start(space: &Namespace, link: &str) -> Self {
        let script = format!(
            "LOG_LEVEL=verbose wireguard-go -f {link} 2>&1 & plane=$!; read _; kill $plane; wait"
        );
        let start = || {
            let mut command = Command::new("sh");
            command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            command.stderr(Stdio::null()).spawn().expect("it starts")
        };
        let mut child = space.inside(start);
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let up = lines.by_ref().map_while(Result::ok).any(|line| line.contains("UAPI listener"));
        assert!(up, "wireguard-go does not come up");
        // Who does not read what it says stops it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self(child)
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
