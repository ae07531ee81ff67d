//! Registries that lie: about digests and sizes, by silence, and without end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vyr_base::{Category, Digest, Problem};
use vyr_vm::image::{
    Limits, PullError, Pulled, Reason, Reference, Registry, RegistryError, Silent, Source,
};

use crate::maker::{file, tar};
use crate::place::Place;

/// How a path is answered.
#[derive(Clone)]
enum Answer {
    /// These bytes, or the part that is asked for.
    Bytes(Vec<u8>),
    /// These bytes; then the connection ends, though more was promised. The next time they are whole.
    Cut(Vec<u8>, usize),
    /// No part, always the whole.
    Whole(Vec<u8>),
    /// A beginning, and then nothing.
    Silence,
    /// `x` without end.
    Endless,
    /// A status and headers.
    Status(u16, Vec<String>),
}

/// What was asked: path and range.
type Asked = Mutex<Vec<(String, Option<String>)>>;

/// A hostile server on loopback. Its threads end with their connections.
struct Server {
    address: String,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Asked>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let answers: Arc<Mutex<BTreeMap<String, Answer>>> = Arc::default();
        let asked: Arc<Asked> = Arc::default();
        let shared = (Arc::clone(&answers), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, asked) = (Arc::clone(&shared.0), Arc::clone(&shared.1));
                thread::spawn(move || drop(serve(&stream, &answers, &asked)));
            }
        });
        Self { address, answers, asked }
    }

    fn on(&self, path: &str, answer: Answer) {
        self.answers.lock().expect("unpoisoned").insert(format!("/v2/app/{path}"), answer);
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.on(&format!("blobs/{digest}"), Answer::Bytes(bytes.into()));
        digest
    }

    fn ranges(&self, path: &str) -> Vec<Option<String>> {
        let asked = self.asked.lock().expect("unpoisoned");
        let path = format!("/v2/app/{path}");
        asked.iter().filter(|(known, _)| *known == path).map(|(_, range)| range.clone()).collect()
    }

    /// An image with one layer; gives the image's digest and the layer's.
    fn image(&self, layer: &[u8]) -> (Digest, Digest) {
        let config = json!({"os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer)]}})
        .to_string();
        let config_digest = self.blob(config.as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest, "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": self.blob(layer), "size": layer.len()}],
        });
        (self.manifest(&manifest), Digest::of(layer))
    }

    fn manifest(&self, manifest: &Value) -> Digest {
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        self.on(&format!("manifests/{digest}"), Answer::Bytes(bytes));
        digest
    }
}

fn serve(
    stream: &TcpStream,
    answers: &Mutex<BTreeMap<String, Answer>>,
    asked: &Asked,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut out = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut range = None;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            let lower = header.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("range:") {
                range = Some(value.trim().to_owned());
            }
        }
        asked.lock().expect("unpoisoned").push((path.clone(), range.clone()));
        let answer = answers.lock().expect("unpoisoned").get(&path).cloned();
        match answer {
            None => write!(out, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?,
            Some(Answer::Bytes(bytes)) => {
                let from = range.and_then(|range| {
                    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
                });
                let from: usize = from.unwrap_or(0);
                let (part, all) = (&bytes[from.min(bytes.len())..], bytes.len());
                if from > 0 {
                    let last = all - 1;
                    write!(
                        out,
                        "HTTP/1.1 206 Partial\r\ncontent-range: bytes {from}-{last}/{all}\r\n"
                    )?;
                } else {
                    write!(out, "HTTP/1.1 200 OK\r\n")?;
                }
                write!(out, "content-length: {}\r\n\r\n", part.len())?;
                out.write_all(part)?;
            }
            Some(Answer::Cut(bytes, at)) => {
                let whole = Answer::Bytes(bytes.clone());
                answers.lock().expect("unpoisoned").insert(path, whole);
                write!(out, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len())?;
                out.write_all(&bytes[..at])?;
                return Ok(());
            }
            Some(Answer::Whole(bytes)) => {
                write!(out, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len())?;
                out.write_all(&bytes)?;
            }
            Some(Answer::Silence) => {
                write!(out, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegin")?;
                // Until the other end has enough of it.
                let mut rest = String::new();
                reader.read_line(&mut rest)?;
                return Ok(());
            }
            Some(Answer::Endless) => {
                write!(out, "HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    out.write_all(&[b'x'; 64 << 10])?;
                }
            }
            Some(Answer::Status(status, headers)) => {
                write!(out, "HTTP/1.1 {status} Such\r\n")?;
                for header in headers {
                    write!(out, "{header}\r\n")?;
                }
                write!(out, "content-length: 0\r\n\r\n")?;
            }
        }
    }
}

/// Short waits: silence is what is tested.
fn limits() -> Limits {
    Limits { stall_time: Duration::from_millis(300), ..Limits::default() }
}

fn pull(place: &Place, server: &Server, digest: Digest) -> Result<Pulled, PullError> {
    let reference: Reference = format!("{}/app@{digest}", server.address).parse().expect("a name");
    let registry = Registry::new(&reference, true, None, &limits());
    place.images.pull(&Source::Registry(&registry, &reference), &limits(), &Silent)
}

fn layer() -> Vec<u8> {
    tar(&[file("a", &[7; 300_000])])
}

/// It failed, and nothing of it can be taken for an image.
fn is_refused(place: &Place, server: &Server, image: Digest) -> PullError {
    let refused = pull(place, server, image).expect_err("refused");
    assert!(place.images.show(&image, &limits()).is_err());
    refused
}

#[test]
fn another_manifest_than_asked_for_is_refused() {
    let (place, server) = (Place::new(), Server::start());
    let (image, _) = server.image(&layer());
    let (other, _) = server.image(&tar(&[]));
    let bytes =
        server.answers.lock().expect("unpoisoned")[&format!("/v2/app/manifests/{other}")].clone();
    server.on(&format!("manifests/{image}"), bytes);
    let refused = is_refused(&place, &server, image);
    assert!(matches!(refused, PullError::Registry(RegistryError::Digest { .. })), "{refused}");
    assert_eq!(refused.category(), Category::Failure);
}

#[test]
fn another_layer_than_named_is_refused_and_not_kept() {
    let (place, server) = (Place::new(), Server::start());
    let (image, layer_digest) = server.image(&layer());
    let mut other = layer();
    other[1000] ^= 1;
    server.on(&format!("blobs/{layer_digest}"), Answer::Bytes(other));
    let refused = is_refused(&place, &server, image);
    assert!(refused.to_string().starts_with("what came for"), "{refused}");
    assert_eq!(refused.reason(), Some(Reason::ImageLayerInvalid));
    assert!(!place.files("blobs/sha256").contains(&layer_digest.hex()));
    assert!(!place.files("partial").contains(&layer_digest.hex()));
    // The twin: the right bytes are taken.
    server.blob(&layer());
    pull(&place, &server, image).expect("the right bytes");
    assert!(place.files("partial").is_empty());
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let (place, server) = (Place::new(), Server::start());
    let (image, layer_digest) = server.image(&layer());
    let path = format!("blobs/{layer_digest}");
    server.on(&path, Answer::Cut(layer(), 100_000));
    let pulled = pull(&place, &server, image).expect("pulled");
    assert_eq!(pulled.bytes, pulled.fetched_bytes);
    let ranges = server.ranges(&path);
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges[0].is_none() && ranges[1].as_ref().is_some_and(|range| range != "bytes=0-"));
}

#[test]
fn what_an_earlier_pull_left_is_never_trusted() {
    let (place, server) = (Place::new(), Server::start());
    let (image, layer_digest) = server.image(&layer());
    let path = format!("blobs/{layer_digest}");
    let partial = place.path("images/partial").join(layer_digest.hex());
    // Half of other bytes, and a registry that gives what is asked for.
    std::fs::write(&partial, vec![1; 1000]).expect("a file");
    pull(&place, &server, image).expect("pulled");
    assert_eq!(server.ranges(&path), [Some("bytes=1000-".to_owned()), None]);
    // More than there is, and a registry that knows no parts.
    let place = Place::new();
    let partial = place.path("images/partial").join(layer_digest.hex());
    std::fs::write(&partial, vec![1; 400_000]).expect("a file");
    pull(&place, &server, image).expect("pulled");
    let place = Place::new();
    let partial = place.path("images/partial").join(layer_digest.hex());
    std::fs::write(&partial, vec![1; 1000]).expect("a file");
    server.on(&path, Answer::Whole(layer()));
    pull(&place, &server, image).expect("pulled");
}

#[test]
fn sizes_that_lie_are_refused() {
    for (change, what) in [(1_i64, "less than"), (-1, "more than")] {
        let (place, server) = (Place::new(), Server::start());
        let (image, layer_digest) = server.image(&layer());
        let path = format!("/v2/app/manifests/{image}");
        let Answer::Bytes(manifest) = server.answers.lock().expect("unpoisoned")[&path].clone()
        else {
            panic!("bytes")
        };
        let mut manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        let size = manifest["layers"][0]["size"].as_i64().expect("a size");
        manifest["layers"][0]["size"] = json!(size + change);
        let image = server.manifest(&manifest);
        let refused = is_refused(&place, &server, image);
        assert!(refused.to_string().contains(what), "{refused}");
        assert!(!place.files("blobs/sha256").contains(&layer_digest.hex()));
    }
}

#[test]
fn silence_ends_with_a_reason() {
    let (place, server) = (Place::new(), Server::start());
    let (image, layer_digest) = server.image(&layer());
    server.on(&format!("blobs/{layer_digest}"), Answer::Silence);
    let refused = is_refused(&place, &server, image);
    assert_eq!(refused.reason(), Some(Reason::ImagePullTimeout), "{refused}");
    assert!(refused.to_string().starts_with("image_pull_timeout: "), "{refused}");
    assert_eq!(refused.category(), Category::Transient);
    server.on(&format!("manifests/{image}"), Answer::Silence);
    let refused = is_refused(&place, &server, image);
    assert_eq!(refused.reason(), Some(Reason::ImagePullTimeout), "{refused}");
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let (place, server) = (Place::new(), Server::start());
    let (image, layer_digest) = server.image(&layer());
    server.on(&format!("blobs/{layer_digest}"), Answer::Endless);
    assert!(is_refused(&place, &server, image).to_string().contains("more than"));
    server.on(&format!("manifests/{image}"), Answer::Endless);
    let refused = is_refused(&place, &server, image);
    assert!(matches!(refused, PullError::Registry(RegistryError::TooLong { .. })), "{refused}");
    // A token without end.
    let realm = format!("http://{}/v2/app/token", server.address);
    let wants = vec![format!("www-authenticate: Bearer realm=\"{realm}\"")];
    server.on(&format!("manifests/{image}"), Answer::Status(401, wants));
    let query = "token?scope=repository:app:pull";
    server.on(query, Answer::Endless);
    let refused = is_refused(&place, &server, image);
    assert!(matches!(refused, PullError::Registry(RegistryError::TooLong { .. })), "{refused}");
}

#[test]
fn redirections_in_a_circle_end() {
    let (place, server) = (Place::new(), Server::start());
    let (image, layer_digest) = server.image(&layer());
    let path = format!("blobs/{layer_digest}");
    let circle = Answer::Status(307, vec![format!("location: /v2/app/{path}")]);
    server.on(&path, circle);
    let refused = is_refused(&place, &server, image);
    assert!(matches!(refused, PullError::Registry(RegistryError::Ask { .. })), "{refused}");
    // The twin: one redirection is followed.
    server.on("elsewhere", Answer::Bytes(layer()));
    server.on(&path, Answer::Status(307, vec!["location: /v2/app/elsewhere".into()]));
    pull(&place, &server, image).expect("pulled");
}

#[test]
fn statuses_have_their_categories() {
    let (place, server) = (Place::new(), Server::start());
    let (image, _) = server.image(&layer());
    for (status, category) in [
        (404, Category::NotFound),
        (403, Category::Auth),
        (429, Category::Transient),
        (503, Category::Transient),
        (418, Category::Failure),
        (206, Category::Failure),
    ] {
        server.on(&format!("manifests/{image}"), Answer::Status(status, Vec::new()));
        assert_eq!(is_refused(&place, &server, image).category(), category, "{status}");
    }
    server.on(&format!("manifests/{image}"), Answer::Status(401, Vec::new()));
    let refused = is_refused(&place, &server, image);
    assert!(matches!(refused, PullError::Registry(RegistryError::Challenge { .. })), "{refused}");
    let basic = vec!["www-authenticate: Basic realm=\"x\"".into()];
    server.on(&format!("manifests/{image}"), Answer::Status(401, basic));
    assert_eq!(is_refused(&place, &server, image).category(), Category::Auth);
}
