//! Files of other tools, told apart by their content: by the name alone only where nothing else can.
//!
//! The content decides first, because people rename files. What it must not do is to take a manifest
//! for something else: text is judged by its first line that says something, and a first line of TOML
//! leaves only other files in TOML.

use super::{Kind, Refusal};

/// Bytes of a file that are looked at: a tar archive shows itself at byte 257, the texts in their
/// first lines.
pub const LOOK_BYTES: usize = 16 << 10;
/// Lines of a text that are looked at.
const LOOK_LINES: usize = 400;

const BUILD_IT: &str = "build the image where you build, for example with buildah build, push it to \
                        a registry, and name it in the [image] of services/NAME.toml";
const WRITE_IT: &str = "write services/NAME.toml for each service: image, processes, routes; secrets \
                        with vyr secret set";

impl Kind {
    /// Why it is not deployed, and what to do instead.
    pub const fn reason(self) -> (&'static str, &'static str) {
        match self {
            Self::Compose => {
                ("a service is deployed for itself, not several as one unit", WRITE_IT)
            }
            Self::Helm => {
                ("there are no charts and no templates: a plan is what you sign", WRITE_IT)
            }
            Self::Kubernetes => ("there is no Kubernetes API here", WRITE_IT),
            Self::Dockerfile | Self::BuildContext => {
                ("images are made elsewhere: a release is an image that has a digest", BUILD_IT)
            }
            Self::Zip | Self::Tar => (
                "an image comes from an OCI registry or an OCI layout, with a digest for each layer",
                "push it to a registry (skopeo copy docker-archive:FILE docker://REGISTRY/NAME:TAG), \
                 or build an image of it",
            ),
            Self::Procfile => (
                "it says what runs, and not in which image nor with how much memory",
                "write each line as a process of services/NAME.toml, with its image and resources",
            ),
            Self::Nomad => ("there are no jobs and no drivers: a service is one image", WRITE_IT),
            Self::SystemdUnit => (
                "it runs a program of the host; a service runs an image, in a machine of its own",
                "make an image of the program, or leave it to systemd",
            ),
            Self::Terraform => {
                ("it says which machines there are; a service says what runs on yours", WRITE_IT)
            }
            Self::FlyApp => ("the manifest has another form here", WRITE_IT),
            Self::Wasm => {
                ("a service is an OCI image; a WebAssembly module is a task", "vyr run FILE.wasm")
            }
            Self::Program => ("a service is an OCI image, not a program", BUILD_IT),
        }
    }
}

/// Whether a file is one of another tool: `name` as somebody typed it, `first` its first bytes, of
/// which [`LOOK_BYTES`] are looked at. Nothing: it may be a manifest.
pub fn look(name: &str, first: &[u8]) -> Option<Refusal> {
    let first = &first[..first.len().min(LOOK_BYTES)];
    let kind = by_bytes(first).or_else(|| by_text(first)).or_else(|| by_name(name))?;
    let (why, instead) = kind.reason();
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let name = name.chars().take(120).map(clean).collect();
    Some(Refusal { name, kind, why, instead })
}

/// What bytes begin with that are no text.
const MAGIC: &[(usize, &[u8], Kind)] = &[
    (0, b"PK\x03\x04", Kind::Zip),
    (0, b"PK\x05\x06", Kind::Zip),
    (0, b"\x1f\x8b", Kind::Tar),
    (0, b"\x28\xb5\x2f\xfd", Kind::Tar),
    (0, b"\xfd7zXZ\x00", Kind::Tar),
    (0, b"BZh", Kind::Tar),
    (257, b"ustar", Kind::Tar),
    (0, b"\x7fELF", Kind::Program),
    (0, b"#!/", Kind::Program),
    (0, b"\0asm", Kind::Wasm),
];

fn by_bytes(first: &[u8]) -> Option<Kind> {
    let begins =
        |at: usize, magic: &[u8]| first.get(at..).is_some_and(|rest| rest.starts_with(magic));
    MAGIC.iter().find(|(at, magic, _)| begins(*at, magic)).map(|(.., kind)| *kind)
}

/// The lines of a text that say something: no comments, no blank ones.
fn lines(first: &[u8]) -> Vec<&str> {
    // A cut character at the end is not the text's fault.
    let text = match str::from_utf8(first) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&first[..error.valid_up_to()]).unwrap_or_default(),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim_end).take(LOOK_LINES);
    let says = |line: &&str| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#') && !line.starts_with("//") && line != "---"
    };
    lines.filter(says).collect()
}

fn by_text(first: &[u8]) -> Option<Kind> {
    let lines = lines(first);
    let start = *lines.first()?;
    if is_toml(start) {
        return toml(&lines);
    }
    if start.starts_with(['{', '[']) && !start.starts_with("{{") {
        return json(&lines);
    }
    let template = |line: &&str| line.contains("{{") && line.contains("}}");
    let values = |line: &&str| {
        [".Values", ".Release", ".Chart", "include "].iter().any(|w| line.contains(w))
    };
    if lines.iter().filter(|line| template(line)).any(values) {
        return Some(Kind::Helm);
    }
    if instruction(&lines) {
        return Some(Kind::Dockerfile);
    }
    block(start).or_else(|| yaml(&lines))
}

/// `key = value`, `[table]`: how TOML begins, and files that look like it.
fn is_toml(line: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "_-.\"' ".contains(c);
    let first = line.split_whitespace().next().unwrap_or_default();
    match (line.strip_prefix('['), line.split_once('=')) {
        (Some(rest), _) => {
            let head = rest.strip_prefix('[').unwrap_or(rest).split_once(']');
            head.is_some_and(|(name, _)| !name.is_empty() && name.chars().all(word))
        }
        (None, Some((key, _))) => {
            let key = key.trim_end();
            // `ARG V=1` begins another file; a key of two words has a point between them.
            let other = first.eq_ignore_ascii_case("arg") && key != first && !key.contains('.');
            !key.is_empty() && key.chars().all(word) && !other
        }
        (None, None) => false,
    }
}

/// Files in TOML or in the form of ini that have tables no manifest has.
fn toml(lines: &[&str]) -> Option<Kind> {
    let has = |line: &str| lines.contains(&line);
    let key = |key: &str| {
        lines.iter().any(|line| line.split_once('=').is_some_and(|(name, _)| name.trim() == key))
    };
    if (has("[Unit]") || has("[Service]")) && key("ExecStart") {
        return Some(Kind::SystemdUnit);
    }
    if has("[package]") && (has("[dependencies]") || key("edition")) {
        return Some(Kind::BuildContext);
    }
    let fly = has("[http_service]") || has("[[services]]") || key("primary_region");
    (key("app") && fly).then_some(Kind::FlyApp)
}

fn json(lines: &[&str]) -> Option<Kind> {
    let has = |key: &str| lines.iter().any(|line| line.contains(key));
    match () {
        () if has("\"apiVersion\"") && has("\"kind\"") => Some(Kind::Kubernetes),
        () if has("\"TaskGroups\"") || has("\"Datacenters\"") => Some(Kind::Nomad),
        () if has("\"services\"") && (has("\"image\"") || has("\"build\"")) => Some(Kind::Compose),
        () if has("\"dependencies\"") && has("\"version\"") => Some(Kind::BuildContext),
        () => None,
    }
}

/// Whether the first instruction is `FROM`; only `ARG` may stand before it.
fn instruction(lines: &[&str]) -> bool {
    let words = |line: &str| line.split_whitespace().next().map(str::to_ascii_uppercase);
    let first = lines.iter().find(|line| words(line).as_deref() != Some("ARG"));
    first.is_some_and(|line| {
        words(line).as_deref() == Some("FROM") && line.split_whitespace().nth(1).is_some()
    })
}

/// Blocks of HCL: `job "web" {`.
fn block(line: &str) -> Option<Kind> {
    let head = line.strip_suffix('{')?.trim_end();
    let (word, labels) = head.split_once(' ').unwrap_or((head, ""));
    let quoted = labels.split_whitespace().all(|label| label.starts_with('"'));
    match word {
        _ if !quoted => None,
        "job" => Some(Kind::Nomad),
        "terraform" | "resource" | "provider" | "module" | "variable" | "data" | "locals" => {
            Some(Kind::Terraform)
        }
        _ => None,
    }
}

/// What a YAML document's own keys say it is.
fn yaml(lines: &[&str]) -> Option<Kind> {
    let keys: Vec<(&str, &str)> = lines
        .iter()
        .filter(|line| !line.starts_with([' ', '\t', '-']))
        .filter_map(|line| line.split_once(':'))
        .filter(|(_, value)| value.is_empty() || value.starts_with(' '))
        .map(|(key, value)| (key.trim_matches(['"', '\'']), value.trim()))
        .collect();
    let has = |key: &str| keys.iter().any(|(name, _)| *name == key);
    let within = |key: &str| {
        lines
            .iter()
            .any(|line| line.trim_start().trim_start_matches("- ").split(':').next() == Some(key))
    };
    if has("apiVersion") && has("kind") {
        return Some(Kind::Kubernetes);
    }
    if has("apiVersion") && has("name") && has("version") {
        return Some(Kind::Helm);
    }
    if has("services") && (within("image") || within("build") || within("command")) {
        return Some(Kind::Compose);
    }
    if has("replicaCount") && has("image") {
        return Some(Kind::Helm);
    }
    let process = |(name, value): &(&str, &str)| {
        let name_is_one = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        name_is_one && !value.is_empty()
    };
    let usual = ["web", "worker", "release"];
    let procfile = keys.len() == lines.len()
        && keys.iter().all(process)
        && keys.iter().any(|(name, _)| usual.contains(name));
    procfile.then_some(Kind::Procfile)
}

/// What a name says where the bytes say nothing: a directory, an empty or a strange file.
fn by_name(name: &str) -> Option<Kind> {
    let lower = name.to_ascii_lowercase();
    if lower == "." || lower == ".." || lower.ends_with('/') {
        return Some(Kind::BuildContext);
    }
    let last = lower.rsplit('/').next().unwrap_or_default();
    // Whatever is called web.toml may be a manifest.
    if last.ends_with(".toml") || last.is_empty() {
        return None;
    }
    let stem = last.split('.').next().unwrap_or_default();
    let ends = |ends: &[&str]| ends.iter().any(|end| last.ends_with(end));
    match stem {
        "dockerfile" | "containerfile" => return Some(Kind::Dockerfile),
        "procfile" => return Some(Kind::Procfile),
        "chart" | "values" if ends(&[".yaml", ".yml"]) => return Some(Kind::Helm),
        "compose" | "docker-compose" if ends(&[".yaml", ".yml"]) => return Some(Kind::Compose),
        _ => {}
    }
    const SOURCES: [&str; 6] =
        ["package.json", "requirements.txt", "pom.xml", "go.mod", "gemfile", "makefile"];
    match () {
        () if SOURCES.contains(&last) => Some(Kind::BuildContext),
        () if ends(&[".dockerfile"]) => Some(Kind::Dockerfile),
        () if ends(&[".zip", ".jar", ".war"]) => Some(Kind::Zip),
        () if ends(&[".tar", ".tgz", ".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2"]) => {
            Some(Kind::Tar)
        }
        () if ends(&[".nomad", ".nomad.hcl"]) => Some(Kind::Nomad),
        () if ends(&[".tf"]) => Some(Kind::Terraform),
        () if ends(&[".service", ".socket", ".timer"]) => Some(Kind::SystemdUnit),
        () if ends(&[".wasm"]) => Some(Kind::Wasm),
        () => None,
    }
}
