//! The words in which one host's network is asked from elsewhere: requests, answers, frames.
//!
//! ```text
//! magic "vyrn" | length u32, big endian | JSON        who answers speaks first: [`Hello`]
//! ```
//!
//! Invariants:
//! 1. Who reads takes no more than [`FRAME_BYTES_MAX`], and memory only as bytes arrive.
//! 2. A word that is not known is refused, never skipped. Only [`Hello`] of another version is read
//!    for its version, so that both sides can be named.
//! 3. What a reader refuses is quoted short and visible: it may be anybody's bytes.
//!
//! Not here: who carries the words (`vyr-node`), and what they do.

use std::io::{self, Read, Write};
use std::net::Ipv6Addr;
use std::path::PathBuf;

use base64ct::{Base64, Encoding};
use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vyr_base::{Category, Digest, Problem};
use vyr_plan::intent::Key;
use vyr_plan::plan::PLAN_BYTES_MAX;

use crate::rotation::Stage;

/// The version of these words. Two that speak different ones do not speak.
pub const WIRE: u16 = 1;

/// Bytes of a frame's JSON: the largest plan in base64, and room for all approvals of it.
pub const FRAME_BYTES_MAX: usize = PLAN_BYTES_MAX / 3 * 4 + (64 << 20);

/// Bytes of [`Hello`]: whoever was let in somewhere says who it is in less.
pub const HELLO_BYTES_MAX: usize = 64 << 10;

/// Bytes of an [`Answer`]: a step for each of the most peers there may be.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How each frame begins. What a login shell prints does not.
const MAGIC: [u8; 4] = *b"vyrn";

/// Characters of a stranger's text that are quoted.
const QUOTE_CHARS_MAX: usize = 80;

/// Who answers, before anything is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The words it speaks: [`WIRE`].
    pub wire: u16,
    /// The version of its `vyr`.
    pub vyr: String,
    /// Its host name.
    pub machine: String,
    /// The user it runs as.
    pub uid: u32,
}

/// What is asked of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Become what a plan says.
    Apply(Apply),
    /// Keep the change that waits. `plan`: only if it is this one.
    Confirm {
        /// Which, if it matters.
        plan: Option<Digest>,
    },
    /// Take the change back that waits. `plan`: only if it is this one.
    Rollback {
        /// Which, if it matters.
        plan: Option<Digest>,
    },
    /// Say how the host stands to its plan.
    Standing {
        /// The host's name in the plan; none: its host name.
        machine: Option<String>,
        /// What reads it.
        backend: BackendWish,
    },
    /// Say how far the keys are that take over. Nothing is changed.
    Takeovers {
        /// The host's name in the plan; none: its host name.
        machine: Option<String>,
        /// What reads it.
        backend: BackendWish,
    },
    /// Become the node that a bundle is of. Only a command on the host itself can.
    Rebuild(Box<Rebuild>),
    /// The public key of a link, made if there is none.
    LinkKey {
        /// The link.
        link: String,
        /// The one that takes over, beside the one in use.
        next: bool,
    },
    /// Give an instance of a service its link. Only a node's own process `net` does.
    Attach(InstanceAddress),
    /// Take it away, if it is still there. Only a node's own process `net` does.
    Detach {
        /// The instance.
        instance: String,
    },
    /// These instances and no others may be reached, by the ingress alone. Only a node's own process
    /// `net` does.
    Isolate {
        /// All of the node.
        instances: Vec<InstanceAddress>,
        /// The user whose connections reach them.
        ingress_uid: u32,
    },
}

/// An instance of a service and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceAddress {
    /// Its id, which no other ever has.
    pub instance: String,
    /// Its address.
    pub guest: Ipv6Addr,
}

/// What `apply` needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The plan, as its file has it.
    pub plan: Bytes,
    /// Approvals of it.
    pub approvals: Vec<SignedText>,
    /// The host's name in the plan; none: its host name.
    pub machine: Option<String>,
    /// Who asks, for whoever comes second.
    pub by: String,
    /// Milliseconds after which it is taken back unless it is confirmed; none: it is confirmed at
    /// once.
    pub within_ms: Option<u64>,
    /// Addresses that must answer a new TCP connection of that host.
    pub probes: Vec<String>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// What reads and changes the host.
    pub backend: BackendWish,
    /// The commit of the site's repository that the plan comes from, if it has one: 40 or 64 hex
    /// digits, for the receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_commit: Option<String>,
}

/// What a rebuild needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    /// The bundle, as its file has it.
    pub bundle: Bytes,
    /// The key of that one file, 16 bytes; never a key that opens others.
    pub file_key: Bytes,
    /// Who may sign bundles and plans: an `allowed_signers` file.
    pub trust: Bytes,
    /// The machine, if it must be this one.
    pub machine: Option<String>,
    /// The lowest epoch that is taken.
    pub at_least: u64,
    /// How many of those trusted must have approved the plan; 0: as many as it says.
    pub threshold: u8,
    /// Go on even if the old node answers.
    pub anyway: bool,
    /// Who asks.
    pub by: String,
    /// What reads and changes the host.
    pub backend: BackendWish,
}

/// An approval and its signature, as they lie beside a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedText {
    /// Where it came from, for messages.
    pub name: String,
    /// The text.
    pub text: Bytes,
    /// The armored SSHSIG.
    pub signature: Bytes,
}

/// Which backend is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendWish {
    /// Where WireGuard runs; none: the kernel's, if the host has it.
    pub kind: Option<WireGuardIn>,
    /// The directory of UAPI sockets, if it is not the usual one.
    pub sockets: Option<PathBuf>,
}

/// Where the data plane of WireGuard runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireGuardIn {
    /// In the kernel.
    Kernel,
    /// In a process for each link.
    Userspace,
}

/// What a host answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Request::Apply`].
    Applied(Applied),
    /// To [`Request::Confirm`] and [`Request::Rollback`].
    Ended {
        /// The plan of the change that has ended.
        plan: Digest,
        /// The plan before it.
        base: Option<Digest>,
    },
    /// To [`Request::Standing`].
    Standing(Standing),
    /// To [`Request::Takeovers`].
    Takeovers(Vec<Takeover>),
    /// To [`Request::LinkKey`].
    LinkKey {
        /// The public half.
        public_key: Key,
        /// Whether the private one was made now.
        new: bool,
        /// Where that lies on the host.
        directory: PathBuf,
    },
    /// To [`Request::Attach`]. Where both are on one host, the TAP is beside it.
    Attached {
        /// The link's name.
        interface: String,
        /// The card of the guest.
        mac: [u8; 6],
        /// The host at the other end.
        gateway: Ipv6Addr,
        /// Bytes of the largest packet.
        mtu: u32,
    },
    /// To [`Request::Detach`].
    Detached {
        /// Whether there was a link.
        was_there: bool,
    },
    /// To [`Request::Isolate`].
    Isolated {
        /// Rules that are loaded now.
        rules: usize,
    },
    /// To [`Request::Rebuild`].
    Rebuilt(Box<Rebuilt>),
    /// It was not done.
    Refused(Refusal),
}

/// What a rebuild made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebuilt {
    /// The bundle's name.
    pub bundle: Digest,
    /// Whose it is: the site and the machine in it.
    pub site: String,
    /// The machine.
    pub machine: String,
    /// The plan.
    pub plan: Digest,
    /// Its epoch.
    pub epoch: u64,
    /// When the bundle was made.
    pub made: Timestamp,
    /// Who signed it.
    pub signer: String,
    /// Who of those trusted approved the plan.
    pub approvers: Vec<String>,
    /// The host was that node already.
    pub nothing: bool,
    /// The digest of the host, read back.
    pub found: Digest,
    /// How many artifacts may run again.
    pub artifacts: u64,
    /// Artifacts that are only named, and are not in the store either.
    pub artifacts_missing: u64,
    /// What could not be asked of the old node.
    pub unasked: Vec<String>,
}

/// What became of [`Request::Apply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// The plan.
    pub plan: Digest,
    /// The plan before it.
    pub base: Option<Digest>,
    /// The name of the host in it.
    pub machine: String,
    /// Who approved it.
    pub approvers: Vec<String>,
    /// The steps, in order; none: the host was as the plan says.
    pub steps: Vec<String>,
    /// The host as it was.
    pub before: Digest,
    /// The host as it is now, or would be.
    pub after: Digest,
    /// Why connections that are not allowed any more are not cut; none: they are, or there are none.
    pub uncut: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// When it is taken back, if it waits to be confirmed.
    pub deadline: Option<Timestamp>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing was to be done.
    Nothing,
    /// Nothing was done: it was asked what would be.
    Shown,
    /// It waits to be confirmed.
    Waits,
    /// It is done.
    Confirmed,
}

impl Outcome {
    /// As commands print it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Shown => "shown",
            Self::Waits => "waits",
            Self::Confirmed => "confirmed",
        }
    }
}

/// How a host stands to its plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The plan it is compared with: the one that waits, else the confirmed one.
    pub plan: Digest,
    /// Whether the plan waits to be confirmed, and until when.
    pub waits: Option<Timestamp>,
    /// The digest of the host as it should be.
    pub wanted: Digest,
    /// The digest of the host as it is.
    pub found: Digest,
    /// What would make the host as it should be: none, and it is.
    pub differences: Vec<String>,
}

/// How far one key is that takes over on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Takeover {
    /// The link that has the addresses in the plan.
    pub link: String,
    /// The second link, if it is the server's key that takes over; none: it is the device's own.
    pub to: Option<String>,
    /// The device or node.
    pub id: String,
    /// How far it is.
    pub stage: Stage,
    /// When it last shook hands where it is before, seconds since 1970; none: never.
    pub old_handshake_unix_s: Option<u64>,
    /// When it did where it is after.
    pub new_handshake_unix_s: Option<u64>,
}

/// An error of the host, whole: who asked says it as the host would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The exit category.
    pub category: Category,
    /// What.
    pub message: String,
    /// What was underneath, outermost first.
    pub causes: Vec<String>,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Bytes, in base64 on the wire.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let bytes = Base64::decode_vec(&text).map_err(|_| D::Error::custom("no base64"))?;
        Ok(Self(bytes))
    }
}

/// Why words did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WordsError {
    /// Something else was said.
    #[error("what came is not vyr's: it begins with \"{0}\"")]
    Noise(String),
    /// It is too long.
    #[error("a frame of {0} bytes is refused, {1} are the most")]
    TooLong(usize, usize),
    /// The end came first.
    #[error("the connection ended in the middle of a frame")]
    Cut,
    /// The end came where an answer should be.
    #[error("the connection ended without an answer")]
    Silence,
    /// A frame that is none of the words.
    #[error("the frame is not understood: {0}")]
    Form(String),
    /// The other side speaks other words.
    #[error("there is vyr {vyr}, which speaks version {wire}, and this vyr {ours} speaks {WIRE}")]
    Version {
        /// Its vyr.
        vyr: String,
        /// Its words.
        wire: u16,
        /// Our vyr.
        ours: &'static str,
    },
    /// Reading or writing.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

impl Problem for WordsError {
    fn category(&self) -> Category {
        match self {
            Self::Noise(_) | Self::TooLong(..) | Self::Form(_) => Category::Usage,
            Self::Version { .. } => Category::Conflict,
            Self::Cut | Self::Silence | Self::Io(_) => Category::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Noise(_) => "let the login shell there print nothing when it has no terminal",
                Self::TooLong(..) | Self::Form(_) | Self::Version { .. } => {
                    "install the same vyr on both"
                }
                Self::Cut | Self::Silence | Self::Io(_) => {
                    "vyr drift says how it stands there; what nobody confirmed is taken back, and vyr \
                     confirm may be asked again"
                }
            }
            .into(),
        )
    }
}

/// A stranger's text, short and visible.
pub fn quoted(text: &str) -> String {
    let mut shown: String =
        text.chars().take(QUOTE_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        shown.push_str("..");
    }
    shown
}

/// Writes one frame, and sends it off.
pub fn write_frame<T: Serialize>(to: &mut impl Write, word: &T) -> Result<(), WordsError> {
    let json = serde_json::to_vec(word).map_err(|e| WordsError::Form(e.to_string()))?;
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= FRAME_BYTES_MAX);
    let length = length.ok_or(WordsError::TooLong(json.len(), FRAME_BYTES_MAX))?;
    to.write_all(&MAGIC)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&json)?;
    Ok(to.flush()?)
}

/// Reads the JSON of one frame of at most so many bytes; none: the end came between two.
pub fn read_frame(from: &mut impl Read, most: usize) -> Result<Option<Vec<u8>>, WordsError> {
    let mut head = Vec::with_capacity(8);
    from.by_ref().take(8).read_to_end(&mut head)?;
    let magic = head.len().min(MAGIC.len());
    if head[..magic] != MAGIC[..magic] {
        return Err(WordsError::Noise(quoted(&String::from_utf8_lossy(&head))));
    }
    match head.len() {
        0 => return Ok(None),
        8 => {}
        _ => return Err(WordsError::Cut),
    }
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if length > most {
        return Err(WordsError::TooLong(length, most));
    }
    let mut json = Vec::new();
    from.by_ref().take(length as u64).read_to_end(&mut json)?;
    if json.len() < length { Err(WordsError::Cut) } else { Ok(Some(json)) }
}

/// A frame's JSON as what it must be.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, WordsError> {
    serde_json::from_slice(json).map_err(|e| WordsError::Form(quoted(&e.to_string())))
}

/// The first frame of who answers. `ours` is the version of this `vyr`.
pub fn parse_hello(json: &[u8], ours: &'static str) -> Result<Hello, WordsError> {
    /// What every version says, whatever else it does.
    #[derive(Deserialize)]
    struct Versions {
        wire: u16,
        vyr: String,
    }
    let Versions { wire, vyr } = parse(json)?;
    if wire != WIRE {
        return Err(WordsError::Version { vyr: quoted(&vyr), wire, ours });
    }
    parse(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(request: &Request) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, request).expect("it fits");
        bytes
    }

    fn apply() -> Request {
        Request::Apply(Apply {
            plan: Bytes(b"{}".to_vec()),
            approvals: vec![SignedText {
                name: "a.approval".into(),
                text: Bytes(vec![0, 255]),
                signature: Bytes(Vec::new()),
            }],
            machine: None,
            by: "ana".into(),
            within_ms: Some(60_000),
            probes: vec!["192.0.2.1:22".into()],
            dry_run: false,
            backend: BackendWish::default(),
            site_commit: None,
        })
    }

    #[test]
    fn words_of_the_first_version_stay_as_they_are() {
        let json = concat!(
            r#"{"apply":{"plan":"e30=","approvals":[{"name":"a.approval","text":"AP8=","#,
            r#""signature":""}],"machine":null,"by":"ana","within_ms":60000,"#,
            r#""probes":["192.0.2.1:22"],"dry_run":false,"#,
            r#""backend":{"kind":null,"sockets":null}}}"#
        );
        let bytes = framed(&apply());
        assert_eq!(&bytes[..8], &[b"vyrn".as_slice(), &[0, 0, 0, 215]].concat());
        assert_eq!(str::from_utf8(&bytes[8..]), Ok(json));
        let read = read_frame(&mut bytes.as_slice(), FRAME_BYTES_MAX)
            .expect("a frame")
            .expect("not the end");
        assert_eq!(parse::<Request>(&read).expect("a request"), apply());
    }

    #[test]
    fn words_about_instances_stay_as_they_are() {
        let a = InstanceAddress { instance: "i-1".into(), guest: Ipv6Addr::LOCALHOST };
        let cases: [(Request, &str); 3] = [
            (Request::Attach(a.clone()), r#"{"attach":{"instance":"i-1","guest":"::1"}}"#),
            (Request::Detach { instance: "i-1".into() }, r#"{"detach":{"instance":"i-1"}}"#),
            (
                Request::Isolate { instances: vec![a], ingress_uid: 7 },
                r#"{"isolate":{"instances":[{"instance":"i-1","guest":"::1"}],"ingress_uid":7}}"#,
            ),
        ];
        for (request, json) in cases {
            assert_eq!(serde_json::to_string(&request).expect("words"), json);
            assert_eq!(parse::<Request>(json.as_bytes()).expect("a request"), request);
        }
    }

    #[test]
    fn frames_come_one_after_the_other_and_end() {
        let key = Request::LinkKey { link: "vyr-a".into(), next: false };
        let bytes = [framed(&apply()), framed(&key)].concat();
        let mut from = bytes.as_slice();
        for expected in [apply(), key] {
            let json =
                read_frame(&mut from, FRAME_BYTES_MAX).expect("a frame").expect("not the end");
            assert_eq!(parse::<Request>(&json).expect("a request"), expected);
        }
        assert!(read_frame(&mut from, FRAME_BYTES_MAX).expect("the end").is_none());
    }

    #[test]
    fn hostile_bytes_are_refused_by_what_they_are() {
        let read =
            |bytes: &[u8]| read_frame(&mut &bytes[..], ANSWER_BYTES_MAX).expect_err("no frame");
        assert!(matches!(read(b"Welcome to nas!"), WordsError::Noise(said) if said == "Welcome "));
        assert!(matches!(read(b"\x1b[2J"), WordsError::Noise(said) if said == "\\u{1b}[2J"));
        assert!(matches!(read(b"vy"), WordsError::Cut));
        assert!(matches!(read(b"vyrn\0\0\0\x05{}"), WordsError::Cut));
        assert!(matches!(read(b"vyrn\xff\xff\xff\xff"), WordsError::TooLong(..)));
        let length = u32::try_from(HELLO_BYTES_MAX + 1).expect("it is small");
        let long = [b"vyrn".as_slice(), &length.to_be_bytes()].concat();
        let hello = read_frame(&mut &long[..], HELLO_BYTES_MAX);
        assert!(matches!(hello, Err(WordsError::TooLong(_, HELLO_BYTES_MAX))));
        for json in [
            r#"{"confirm":{"plan":null,"force":true}}"#,
            r#"{"confirm":{}, "confirm":{}}"#,
            r#"{"apply":{}}"#,
            r#"{"link_key":{"link":"a","link":"b"}}"#,
            "[]",
            "",
        ] {
            assert!(
                matches!(parse::<Request>(json.as_bytes()), Err(WordsError::Form(_))),
                "{json}"
            );
        }
    }

    #[test]
    fn another_version_is_named_whatever_else_it_says() {
        let json = br#"{"wire":2,"vyr":"9.9","colour":"blue"}"#;
        let error = parse_hello(json, "0.1").expect_err("another version");
        assert_eq!(error.category(), Category::Conflict);
        let said = error.to_string();
        assert!(
            said.contains("9.9") && said.contains("version 2") && said.contains("0.1"),
            "{said}"
        );
        let ours = br#"{"wire":1,"vyr":"0.1","machine":"nas","uid":0,"colour":"blue"}"#;
        assert!(matches!(parse_hello(ours, "0.1"), Err(WordsError::Form(_))));
    }
}
