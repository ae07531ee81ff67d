//! What is inside: a list of known names, then the bytes of each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vyr_base::{Digest, canonical};

use super::{APPROVALS_BYTES_MAX, BUNDLE_VERSION, BundleError};
use crate::intent::FILE_BYTES_MAX;
use crate::plan::PLAN_BYTES_MAX;

/// Bytes of the list.
pub const CONTENTS_BYTES_MAX: usize = 1 << 20;
/// Entries of the list: a key for each link there can be, a plan with its approvals, the rest.
pub const ENTRIES_MAX: usize = 4096;
/// Bytes of the record of keys that have taken over: each device of a site, at most.
pub const MOVED_BYTES_MAX: usize = 64 << 20;
/// Bytes of everything but artifacts together: they are held in memory.
pub const SMALL_BYTES_MAX: u64 = 512 << 20;
/// Bytes of the artifacts' archive, which is never held in memory.
pub const ARTIFACTS_BYTES_MAX: u64 = 1 << 40;

/// One thing in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// `artifacts.tar`: an OCI layout of the artifacts that may run, with their signatures.
    Artifacts,
    /// `artifacts.txt`: their digests alone, one a line.
    ArtifactDigests,
    /// `checkpoint.json`: the last checkpoint of the node's journal.
    Checkpoint,
    /// `keys/<link>`: the private key of a link.
    Key(String),
    /// `moved.json`: the staged keys that have taken over.
    Moved,
    /// `next/<link>`: the private key that takes over from a link's own.
    NextKey(String),
    /// `plans/<hex>.approvals`: who approved a plan.
    Approvals(Digest),
    /// `plans/<hex>.json`: a plan.
    Plan(Digest),
    /// `trust/allowed_signers`: whose artifacts may run.
    AllowedSigners,
    /// `trust/revoked_keys`: and whose not.
    RevokedKeys,
    /// `vyr.lock`: what the site's compiler allocated.
    Lock,
}

impl Item {
    /// The most bytes it may have.
    pub fn bytes_max(&self) -> u64 {
        match self {
            Self::Artifacts => ARTIFACTS_BYTES_MAX,
            Self::ArtifactDigests => 16 << 20,
            Self::Checkpoint => 64 << 10,
            Self::Key(_) | Self::NextKey(_) => 256,
            Self::Moved => MOVED_BYTES_MAX as u64,
            Self::Approvals(_) => APPROVALS_BYTES_MAX as u64,
            Self::Plan(_) => PLAN_BYTES_MAX as u64,
            Self::AllowedSigners | Self::RevokedKeys => 4 << 20,
            Self::Lock => FILE_BYTES_MAX as u64,
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Artifacts => f.write_str("artifacts.tar"),
            Self::ArtifactDigests => f.write_str("artifacts.txt"),
            Self::Checkpoint => f.write_str("checkpoint.json"),
            Self::Key(link) => write!(f, "keys/{link}"),
            Self::Moved => f.write_str("moved.json"),
            Self::NextKey(link) => write!(f, "next/{link}"),
            Self::Approvals(plan) => write!(f, "plans/{}.approvals", plan.hex()),
            Self::Plan(plan) => write!(f, "plans/{}.json", plan.hex()),
            Self::AllowedSigners => f.write_str("trust/allowed_signers"),
            Self::RevokedKeys => f.write_str("trust/revoked_keys"),
            Self::Lock => f.write_str("vyr.lock"),
        }
    }
}

impl FromStr for Item {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, BundleError> {
        let digest = |hex: &str| format!("sha256:{hex}").parse::<Digest>().ok();
        let found = match text {
            "artifacts.tar" => Some(Self::Artifacts),
            "artifacts.txt" => Some(Self::ArtifactDigests),
            "checkpoint.json" => Some(Self::Checkpoint),
            "moved.json" => Some(Self::Moved),
            "trust/allowed_signers" => Some(Self::AllowedSigners),
            "trust/revoked_keys" => Some(Self::RevokedKeys),
            "vyr.lock" => Some(Self::Lock),
            _ => match text.split_once('/') {
                Some(("keys", link)) => is_link(link).then(|| Self::Key(link.to_owned())),
                Some(("next", link)) => is_link(link).then(|| Self::NextKey(link.to_owned())),
                Some(("plans", file)) => match file.split_once('.') {
                    Some((hex, "json")) => digest(hex).map(Self::Plan),
                    Some((hex, "approvals")) => digest(hex).map(Self::Approvals),
                    _ => None,
                },
                _ => None,
            },
        };
        // One name for one thing, whatever a reader of digests lets pass.
        found.filter(|item| item.to_string() == text).ok_or_else(|| {
            let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            let why = format!("nothing is called `{shown}`");
            BundleError::Impossible { part: "list", why }
        })
    }
}

/// Whether a text can be the name of a link, and of a file.
fn is_link(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.len() <= 15 && text.bytes().all(fits)
}

/// An item, as the list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub item: Item,
    /// How many bytes.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
}

/// The list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// In the order of their bytes, which is that of their names.
    pub entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    entries: Vec<Line>,
    version: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    bytes: u64,
    digest: Digest,
    name: String,
}

impl Contents {
    /// A list of entries, in whichever order they come.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| entry.item.to_string());
        Self { entries }
    }

    /// Its line, with its end.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let line = |entry: &Entry| Line {
            bytes: entry.bytes,
            digest: entry.digest,
            name: entry.item.to_string(),
        };
        let entries = self.entries.iter().map(line).collect();
        let list = List { entries, version: BUNDLE_VERSION };
        let bytes = canonical::to_vec(&list);
        let mut bytes = bytes.map_err(|source| BundleError::Form { part: "list", source })?;
        bytes.push(b'\n');
        // What nobody could read is not written.
        Self::parse(&bytes)?;
        Ok(bytes)
    }

    /// Reads the line, with its end: at most [`CONTENTS_BYTES_MAX`] bytes.
    pub fn parse(line: &[u8]) -> Result<Self, BundleError> {
        let part = "list";
        let most = CONTENTS_BYTES_MAX as u64;
        let line = line.strip_suffix(b"\n").filter(|line| line.len() < CONTENTS_BYTES_MAX);
        let line = line.ok_or(BundleError::Length { part, most })?;
        let list: List =
            canonical::parse(line).map_err(|source| BundleError::Form { part, source })?;
        if list.version != BUNDLE_VERSION {
            return Err(BundleError::Version(list.version.to_string()));
        }
        let impossible = |why: String| BundleError::Impossible { part, why };
        if list.entries.len() > ENTRIES_MAX {
            return Err(impossible(format!("it has over {ENTRIES_MAX} entries")));
        }
        if !list.entries.windows(2).all(|pair| pair[0].name < pair[1].name) {
            return Err(impossible("its names do not rise".into()));
        }
        let (mut entries, mut small) = (Vec::with_capacity(list.entries.len()), 0_u64);
        for Line { bytes, digest, name } in list.entries {
            let item: Item = name.parse()?;
            if bytes > item.bytes_max() {
                return Err(impossible(format!("{name} has {bytes} bytes")));
            }
            if item != Item::Artifacts {
                small = small.saturating_add(bytes);
            }
            entries.push(Entry { item, bytes, digest });
        }
        if small > SMALL_BYTES_MAX {
            return Err(impossible(format!("over {SMALL_BYTES_MAX} bytes besides artifacts")));
        }
        Ok(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(entries: &str) -> Result<Contents, BundleError> {
        Contents::parse(format!("{{\"entries\":[{entries}],\"version\":1}}\n").as_bytes())
    }

    fn line(name: &str, bytes: u64) -> String {
        format!("{{\"bytes\":{bytes},\"digest\":\"{}\",\"name\":\"{name}\"}}", Digest::of(b""))
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let (plan, entry) =
            (Digest::of(b"plan"), |item, bytes| Entry { item, bytes, digest: Digest::of(b"x") });
        let all = vec![
            entry(Item::Lock, 9),
            entry(Item::Plan(plan), 1000),
            entry(Item::Approvals(plan), 10),
            entry(Item::Key("vyr-office".into()), 45),
            entry(Item::NextKey("vyr-office".into()), 45),
            entry(Item::Moved, 30),
            entry(Item::Artifacts, 1 << 33),
            entry(Item::ArtifactDigests, 1),
            entry(Item::Checkpoint, 1),
            entry(Item::AllowedSigners, 1),
            entry(Item::RevokedKeys, 1),
        ];
        let contents = Contents::new(all);
        let bytes = contents.to_bytes().expect("JSON");
        assert_eq!(Contents::parse(&bytes).expect("its own"), contents);
        for entry in &contents.entries {
            assert_eq!(entry.item.to_string().parse::<Item>().expect("its own"), entry.item);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_and_lengths_that_lie_are_refused() {
        assert!(list(&line("vyr.lock", 1)).is_ok());
        let hex = "a".repeat(64);
        for name in [
            "/etc/passwd",
            "../key",
            "keys/../x",
            "keys/",
            "keys/a.b",
            "keys/sixteen-letters-",
            "plans/x.json",
            "trust/other",
            "",
            &format!("plans/{}.json", hex.to_uppercase()),
            &format!("plans/{hex}.json.json"),
        ] {
            assert!(list(&line(name, 1)).is_err(), "{name}");
        }
        assert!(list(&line("keys/vyr-a", 257)).is_err());
        assert!(list(&line("artifacts.tar", ARTIFACTS_BYTES_MAX + 1)).is_err());
        let plan = |digit: char| {
            line(&format!("plans/{}.json", "0".repeat(63) + &digit.to_string()), 127 << 20)
        };
        let plans: Vec<String> = "01234".chars().map(plan).collect();
        assert!(list(&plans[..4].join(",")).is_ok());
        assert!(list(&plans.join(",")).is_err(), "more than memory is meant for");
        let twice = [line("vyr.lock", 1), line("vyr.lock", 1)].join(",");
        assert!(list(&twice).is_err());
        assert!(Contents::parse(b"{\"entries\":[],\"version\":2}\n").is_err());
        assert!(Contents::parse(b"{\"entries\":[],\"version\":1}").is_err(), "cut off");
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_is_its_own_spelling(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(contents) = Contents::parse(&bytes) {
                prop_assert_eq!(contents.to_bytes().expect("JSON"), bytes);
            }
        }
    }
}
