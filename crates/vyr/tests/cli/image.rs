//! Images from outside: a real registry with TLS and a password, and kills at bad moments.
//!
//! The images are umoci's, the registry is Debian's, skopeo pushes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::common::{HANG, Place, has, text_of};

/// What the registry wants: a password for tests and nothing else, and bcrypt's form of it.
pub(crate) const USER: &str = "robot:pw-of-the-test";
const HASHED: &str = "robot:$2y$05$abcdefghijklmnopqrstuu";

fn can(test: &str, programs: &[&str]) -> bool {
    programs.iter().all(|program| has(test, program))
}

/// An image made by umoci with one large file, in the layout `name`; gives its digest.
pub(crate) fn make_image(place: &Place, name: &str, megabytes: usize) -> String {
    let image = format!("{name}:one");
    let run = |arguments: &[&str]| {
        place.program("umoci", arguments).run().ok();
    };
    let rootless: &[&str] =
        if rustix::process::geteuid().is_root() { &[] } else { &["--rootless"] };
    run(&["init", "--layout", name]);
    run(&["new", "--image", &image]);
    let bundle = format!("{name}-bundle");
    run(&[&["unpack", "--image", &image], rootless, &[&bundle]].concat());
    let root = place.path(&bundle).join("rootfs");
    fs::create_dir_all(root.join("etc")).expect("a directory");
    fs::write(root.join("etc/passwd"), "web:x:33:34::/srv:/bin/sh\n").expect("a file");
    // Bytes that do not compress: xorshift.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(megabytes << 20);
    while bytes.len() < megabytes << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    fs::write(root.join("app"), bytes).expect("a file");
    run(&["repack", "--image", &image, &bundle]);
    run(&["config", "--image", &image, "--config.user", "web", "--config.entrypoint", "/app"]);
    let index = fs::read(place.path(name).join("index.json")).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    text_of(&index["manifests"][0]["digest"]).to_owned()
}

/// Debian's registry on loopback, on a port of its own choice.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: String,
}

impl Registry {
    pub(crate) fn start(place: &Place) -> Self {
        let openssl = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-days",
            "2",
            "-subj",
            "/CN=registry",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        place.program("openssl", &openssl).run().ok();
        let hashed = format!("{HASHED}{}", bcrypt_rest(place));
        place.file("htpasswd", hashed);
        let at = place.path("");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {at}/registry\n\
             http:\n  addr: 127.0.0.1:0\n  tls:\n    certificate: {at}/cert.pem\n    \
             key: {at}/key.pem\nauth:\n  htpasswd:\n    realm: test\n    path: {at}/htpasswd\n"
        );
        let config = place.file("registry.yml", config);
        let mut child = Command::new("docker-registry")
            .args(["serve", &config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the registry starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (found, address) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
                    let _ = found.send(rest[..end.unwrap_or(rest.len())].to_owned());
                }
            }
        });
        let address = address.recv_timeout(HANG).expect("the registry listens");
        Self { child, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rest of the password's hash; perl's crypt is the C library's.
fn bcrypt_rest(place: &Place) -> String {
    let password = USER.split_once(':').expect("two parts").1;
    let script = "my ($p, $s) = @ARGV; $s =~ s/^robot://; print crypt($p, $s);";
    let ended = place.program("perl", &["-e", script, password, HASHED]).run().ok();
    let salt = HASHED.split_once(':').expect("two parts").1;
    ended.text().strip_prefix(salt).expect("the same salt").to_owned()
}

#[test]
fn an_image_goes_from_a_registry_to_a_disk() {
    let test = "image::an_image_goes_from_a_registry_to_a_disk";
    let programs = ["umoci", "docker-registry", "skopeo", "openssl", "perl", "tar2sqfs"];
    if !can(test, &programs) {
        return;
    }
    let place = Place::new();
    make_image(&place, "layout", 1);
    let registry = Registry::start(&place);
    let name = format!("{}/team/app", registry.address);
    let policy = place.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let target = format!("docker://{name}:1.0");
    let copy = ["--policy", &policy, "copy", "--dest-tls-verify=false", "--dest-creds", USER];
    place.program("skopeo", &[&copy[..], &["oci:layout:one", &target]].concat()).run().ok();

    let encoded = place.program("openssl", &["base64", "-A"]).input(USER).run().ok();
    let auths =
        format!(r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#, registry.address, encoded.line());
    let auth = place.file("auth.json", auths);
    let trusting = |arguments: &[&str]| {
        place.vyr(arguments).env("SSL_CERT_FILE", place.path("cert.pem").as_str())
    };
    let tagged = format!("{name}:1.0");

    // Without trust in the certificate, without a password, by a tag: no.
    let resolve = ["image", "resolve", &tagged, "--auth-file", &auth];
    place.vyr(&resolve).run().refuses(6, &["cannot be asked"]);
    trusting(&["image", "resolve", &tagged]).run().refuses(3, &["--auth-file"]);
    trusting(&["image", "pull", &tagged]).run().refuses(2, &["vyr image resolve"]);

    let resolved = trusting(&resolve).run().ok();
    let pinned = resolved.line();
    let digest = pinned.split_once('@').expect("a digest").1.to_owned();
    assert_eq!(resolved.text(), format!("{name}@{digest}\n"));
    let unknown = format!("{name}@sha256:{}", "0".repeat(64));
    trusting(&["image", "pull", &unknown, "--auth-file", &auth]).run().refuses(4, &["not in the"]);
    trusting(&["image", "build", &digest]).run().refuses(4, &["vyr image pull"]);

    let pulled = trusting(&["--json", "image", "pull", &pinned, "--auth-file", &auth]).run().ok();
    let password = USER.split_once(':').expect("two parts").1;
    for secret in [password, &encoded.line()] {
        assert!(!pulled.stderr.contains(secret) && !pulled.text().contains(secret));
    }
    let pulled = pulled.json();
    assert_eq!(pulled["image_digest"], digest.as_str());
    assert_eq!(pulled["bytes"], pulled["fetched_bytes"]);
    let again = trusting(&["image", "pull", &pinned, "--auth-file", &auth, "--json"]).run().ok();
    assert_eq!(again.json()["fetched_bytes"], 0);

    let shown = place.vyr(&["image", "show", &digest, "--json"]).run().ok().json();
    assert_eq!(shown["config"]["user"], "web");
    assert_eq!(shown["disk"], Value::Null);
    let built = place.vyr(&["image", "build", &digest, "--json"]).run().ok().json();
    assert_eq!(built["disk"]["user"]["uid"], 33);
    assert_eq!(built["disk"]["config"]["entrypoint"][0], "/app");
    let disk = fs::read(text_of(&built["disk_path"])).expect("a disk");
    assert_eq!(&disk[..4], b"hsqs");
    let shown = place.vyr(&["image", "show", &digest, "--json"]).run().ok().json();
    assert_eq!(shown["disk"], built["disk"]);
    assert_eq!(shown["disk_path"], built["disk_path"]);
    // A damaged blob is told and nothing is made of it.
    let layer = text_of(&shown["layers"][0]["digest"]).replace("sha256:", "");
    let layer = place.data().join("images/blobs/sha256").join(layer);
    let mut bytes = fs::read(&layer).expect("a layer");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).expect("a layer");
    let damaged = place.vyr(&["image", "build", &digest, "--again"]).run();
    damaged.refuses(7, &["is damaged", "pull the image again"]);
}

/// A registry that gives half of each large blob, and the rest when it is told to.
struct Slow {
    address: String,
    /// One word for each half that was given.
    halves: Receiver<()>,
    /// Lets go of one that waits.
    go: Sender<()>,
}

impl Slow {
    fn start(layout: Utf8PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (half, halves) = channel();
        let (go, wait) = channel();
        thread::spawn(move || {
            // One connection at a time: the client has no more.
            for stream in listener.incoming().flatten() {
                let _ = serve(&stream, &layout, &half, &wait);
            }
        });
        Self { address, halves, go }
    }
}

fn serve(
    stream: &TcpStream,
    layout: &Utf8Path,
    half: &Sender<()>,
    wait: &Receiver<()>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut out = stream;
    loop {
        let (mut line, mut from) = (String::new(), 0);
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            let lower = header.to_ascii_lowercase();
            if let Some(range) = lower.trim().strip_prefix("range: bytes=") {
                from = range.trim_end_matches('-').parse().unwrap_or(0);
            }
            header.clear();
        }
        let path = line.split(' ').nth(1).unwrap_or_default();
        let hex = path.rsplit(':').next().unwrap_or_default();
        let bytes = fs::read(layout.join("blobs/sha256").join(hex))?;
        let (part, last) = (&bytes[from..], bytes.len() - 1);
        let (status, range) = match from {
            0 => ("200 OK", String::new()),
            _ => ("206 Partial", format!("content-range: bytes {from}-{last}/{}\r\n", last + 1)),
        };
        write!(out, "HTTP/1.1 {status}\r\n{range}content-length: {}\r\n\r\n", part.len())?;
        if part.len() < 1 << 20 {
            out.write_all(part)?;
            continue;
        }
        out.write_all(&part[..part.len() / 2])?;
        let _ = half.send(());
        let _ = wait.recv();
        out.write_all(&part[part.len() / 2..])?;
    }
}

/// Names in a directory below the images.
fn names(place: &Place, below: &str) -> Vec<String> {
    let directory = place.data().join("images").join(below);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

#[test]
fn a_killed_pull_leaves_no_image_and_goes_on() {
    let test = "image::a_killed_pull_leaves_no_image_and_goes_on";
    if !can(test, &["umoci"]) {
        return;
    }
    let place = Place::new();
    let digest = make_image(&place, "layout", 8);
    let slow = Slow::start(place.path("layout"));
    let name = format!("{}/app@{digest}", slow.address);
    let arguments = ["image", "pull", &name, "--plain-http", "--json"];
    let running = place.vyr(&arguments).start();
    slow.halves.recv_timeout(HANG).expect("half of it");
    // Something of it is on the disk before the kill.
    let arrived = || {
        let partial = place.data().join("images/partial");
        let files = fs::read_dir(partial).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum::<u64>()
    };
    let deadline = Instant::now() + HANG;
    while arrived() < 1 << 20 {
        assert!(Instant::now() < deadline, "nothing arrives");
        thread::sleep(Duration::from_millis(5));
    }
    running.kill();
    assert_eq!(running.wait().signal(), Some(9));
    let left = arrived();
    // The config alone is whole.
    assert_eq!(names(&place, "blobs/sha256").len(), 1);
    place.vyr(&["image", "show", &digest]).run().refuses(4, &["not among"]);
    // The server waits in the old connection; then in the new one.
    slow.go.send(()).expect("it waits");
    slow.go.send(()).expect("it will wait");
    let pulled = place.vyr(&arguments).run().ok().json();
    let (bytes, fetched) = (pulled["bytes"].as_u64(), pulled["fetched_bytes"].as_u64());
    assert!(fetched.expect("bytes") <= bytes.expect("bytes") - left, "{pulled} after {left}");
    assert_eq!(names(&place, "partial"), Vec::<String>::new());
    place.vyr(&["image", "show", &digest]).run().ok();
}

#[test]
fn a_killed_build_leaves_no_disk_and_can_be_repeated() {
    let test = "image::a_killed_build_leaves_no_disk_and_can_be_repeated";
    if !can(test, &["umoci", "tar2sqfs"]) {
        return;
    }
    let place = Place::new();
    let digest = make_image(&place, "layout", 24);
    place.vyr(&["image", "pull", "--layout", "layout"]).run().ok();
    let arguments = ["image", "build", &digest, "--json"];
    // Killed as soon as something is there, and ever later.
    for bytes in [0, 1 << 20, 8 << 20] {
        let running = place.vyr(&arguments).start();
        let deadline = Instant::now() + HANG;
        let begun = || {
            let partial = place.data().join("images/partial");
            let files = fs::read_dir(partial).into_iter().flatten().flatten();
            files.filter_map(|file| file.metadata().ok()).any(|meta| meta.len() >= bytes)
        };
        while !begun() && !running.ends_within(Duration::ZERO) {
            assert!(Instant::now() < deadline, "nothing begins");
            thread::sleep(Duration::from_millis(1));
        }
        running.kill();
        if running.wait().signal() == Some(9) {
            let disks = names(&place, "disks");
            let records = disks.iter().filter(|name| name.ends_with(".json")).count();
            // A disk without a record is whole, under its own digest; more is not there.
            assert_eq!(records, 0, "{disks:?}");
            let shown = place.vyr(&["image", "show", &digest, "--json"]).run().ok().json();
            assert_eq!(shown["disk"], Value::Null);
        }
    }
    let built = place.vyr(&arguments).run().ok().json();
    assert_eq!(names(&place, "partial"), Vec::<String>::new());
    let mut magic = [0; 4];
    let mut disk = fs::File::open(text_of(&built["disk_path"])).expect("a disk");
    disk.read_exact(&mut magic).expect("a superblock");
    assert_eq!(&magic, b"hsqs");
    let again = place.vyr(&["image", "build", &digest, "--again", "--json"]).run().ok().json();
    assert_eq!(again["disk"], built["disk"]);
}

#[test]
fn what_is_no_image_is_refused_with_what_to_do_instead() {
    let place = Place::new();
    for (word, hint) in [
        ("./Dockerfile", "buildah build"),
        ("app.zip", "push it to a registry"),
        ("image.tar", "skopeo copy"),
        ("nginx:latest", "REGISTRY/REPOSITORY"),
        ("r.example/app:1.0", "vyr image resolve"),
    ] {
        place.vyr(&["image", "pull", word]).run().refuses(2, &["hint: ", hint]);
    }
    place.vyr(&["image", "pull", "--layout", "."]).run().refuses(2, &["not an OCI layout"]);
    place.vyr(&["image", "pull", "--layout", "missing"]).run().refuses(4, &["not there"]);
    place.vyr(&["image", "pull", "--layout", ".", "x"]).run().refuses(2, &["digest"]);
    place.vyr(&["image", "pull"]).run().exits(2);
}
