//! OpenSSH `allowed_signers`: who may sign, for what, and when.
//!
//! ```text
//! PRINCIPALS [OPTIONS] KEYTYPE KEYDATA [COMMENT]
//! ana@example.com namespaces="vyr-artifact,vyr-plan" ssh-ed25519 AAAA... ana's laptop
//! ```
//!
//! The file is `ssh-keygen`'s (`man ssh-keygen`, ALLOWED SIGNERS), so `ssh-keygen -Y verify -f`
//! gives the same verdicts. `ssh-keygen` is told an identity and asks whether a line lists it;
//! we have only the key, and call its holder by the first identity of its line.
//!
//! Invariant: what is read here means the same on every machine and to `ssh-keygen`. Whatever
//! would not (local times, lines it would skip) is a fault, and one fault refuses the file.
//!
//! Not here: the option list (`options`), the verdict on a signature (`trust`).

use std::fmt;

use jiff::Timestamp;
use ssh_key::PublicKey;
use ssh_key::public::KeyData;
use vyr_base::{Category, Problem};

use crate::faults::{FaultKind, Faults, Line, TrustFile, TrustFileError, Word, each_line};
use crate::keys::{
    ACCEPTED, ACCEPTED_HINT, KeyId, is_accepted, is_uncompressed, line_of, read_key,
};
use crate::oci::clip;
use crate::options::{self, CERT_AUTHORITY, Options};
use crate::pattern::PatternList;
use crate::signature::Namespace;

/// A trust list: keys and what each may sign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedSigners {
    entries: Vec<AllowedSigner>,
}

/// One line of a trust list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedSigner {
    line: usize,
    principal: String,
    options: Options,
    key: KeyData,
    key_id: KeyId,
    public_key: String,
}

/// Why a line does not allow a signature by its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    // In order of how much they tell: a line for other namespaces says least.
    Namespace,
    NotYetValid(Timestamp),
    Expired(Timestamp),
}

impl AllowedSigners {
    /// Reads a file; all its faults are reported together.
    ///
    /// An empty file is valid and trusts nobody.
    pub fn parse(file: &[u8]) -> Result<Self, TrustFileError> {
        let mut faults = Faults::default();
        let entries = each_line(file, &mut faults, entry);
        faults.finish(TrustFile::AllowedSigners, Self { entries })
    }

    /// The lines, in the file's order.
    pub fn entries(&self) -> &[AllowedSigner] {
        &self.entries
    }

    /// The lines that hold this key.
    pub(crate) fn of_key<'a>(
        &'a self,
        key: &'a KeyData,
    ) -> impl Iterator<Item = &'a AllowedSigner> {
        self.entries.iter().filter(move |entry| entry.key == *key)
    }
}

impl AllowedSigner {
    /// The line of the file, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The first identity of the line: what its holder is called.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The key's id.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The key as `KEYTYPE KEYDATA`, without comment.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The namespaces it is restricted to, as written; `None`: any.
    pub fn namespaces(&self) -> Option<&str> {
        self.options.namespaces.as_ref().map(PatternList::as_str)
    }

    /// From when on it may sign, if that is restricted.
    pub fn valid_after(&self) -> Option<Timestamp> {
        self.options.valid_after
    }

    /// The last second at which it may sign, if that is restricted.
    pub fn valid_before(&self) -> Option<Timestamp> {
        self.options.valid_before
    }

    /// Whether this line lets its key sign in a namespace at all, whatever the time.
    pub fn allows_namespace(&self, namespace: &str) -> bool {
        self.options.namespaces.as_ref().is_none_or(|list| list.matches(namespace))
    }

    /// Whether this line lets its key sign in `namespace` at `now`.
    ///
    /// Both bounds are inclusive and in whole seconds, as in `ssh-keygen`.
    pub(crate) fn allows(&self, namespace: Namespace, now: Timestamp) -> Result<(), Refusal> {
        let Options { namespaces, valid_after, valid_before } = &self.options;
        if namespaces.as_ref().is_some_and(|list| !list.matches(namespace.as_str())) {
            return Err(Refusal::Namespace);
        }
        match (*valid_after, *valid_before) {
            (Some(after), _) if now < after => Err(Refusal::NotYetValid(after)),
            (_, Some(before)) if now.as_second() > before.as_second() => {
                Err(Refusal::Expired(before))
            }
            _ => Ok(()),
        }
    }
}

/// Reads one line; `None` when it had a fault (which is noted) that leaves nothing to trust.
fn entry(line: &Line<'_>, faults: &mut Faults) -> Option<AllowedSigner> {
    let principals = line.word(0)?;
    // ssh-keygen strips quotes in its own way; a name that needs them is not worth the doubt.
    if let Some(quote) = principals.text.find('"') {
        faults.push(line, principals.at + quote, FaultKind::QuotedPrincipals);
        return None;
    }
    let principal = principal(line, &principals, faults);
    let mut word = next(line, principals.end(), faults)?;
    let mut options = Options::default();
    if !begins_key(line, &word) {
        let end;
        (options, end) = options::parse(line, word.at, faults)?;
        word = next(line, end, faults)?;
    }
    let key = key(line, &word, faults)?;
    Some(AllowedSigner {
        line: line.number,
        principal: principal?,
        options,
        key_id: KeyId::of_data(&key),
        public_key: line_of(&key)?,
        key,
    })
}

fn principal(line: &Line<'_>, word: &Word<'_>, faults: &mut Faults) -> Option<String> {
    let list = PatternList::parse(word.text)
        .map_err(|empty| faults.push(line, word.at + empty.at, FaultKind::EmptyPattern))
        .ok()?;
    let identity = list.identity().map(str::to_owned);
    if identity.is_none() {
        faults.push(line, word.at, FaultKind::NoIdentity);
    }
    identity
}

/// The word after byte `from`; its absence means that the line has no key.
fn next<'a>(line: &Line<'a>, from: usize, faults: &mut Faults) -> Option<Word<'a>> {
    let word = line.word(from);
    if word.is_none() {
        faults.push(line, line.text.len(), FaultKind::MissingKey);
    }
    word
}

/// Whether a key begins here rather than an option list.
///
/// Key data always begins with `AAAA` (three zero bytes of a length), which tells an unknown key
/// type from an unknown option.
fn begins_key(line: &Line<'_>, word: &Word<'_>) -> bool {
    let before_data = || line.word(word.end()).is_some_and(|data| data.text.starts_with("AAAA"));
    ACCEPTED.contains(&word.text)
        || (!word.text.contains(['=', ',', '"'])
            && !word.text.eq_ignore_ascii_case(CERT_AUTHORITY)
            && before_data())
}

fn key(line: &Line<'_>, kind: &Word<'_>, faults: &mut Faults) -> Option<KeyData> {
    if !ACCEPTED.contains(&kind.text) {
        faults.push(line, kind.at, FaultKind::KeyType { name: clip(kind.text) });
        return None;
    }
    let data = next(line, kind.end(), faults)?;
    let key = read_key(kind.text, data.text);
    if key.is_none() {
        faults.push(line, data.at, FaultKind::KeyData { name: kind.text.to_owned() });
    }
    key
}

/// The line as it is believed, in the form `ssh-keygen` reads: one principal, times in UTC.
impl fmt::Display for AllowedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.principal)?;
        let time = |at: Timestamp| at.strftime("%Y%m%d%H%M%SZ").to_string();
        let options: Vec<String> = [
            self.namespaces().map(|names| format!("namespaces=\"{}\"", names.replace('"', "\\\""))),
            self.valid_after().map(|at| format!("valid-after=\"{}\"", time(at))),
            self.valid_before().map(|at| format!("valid-before=\"{}\"", time(at))),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !options.is_empty() {
            write!(f, "{} ", options.join(","))?;
        }
        f.write_str(&self.public_key)
    }
}

/// Why a line cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The name would not be read back as one literal identity.
    #[error("principal {principal:?} cannot be written to allowed signers")]
    Principal {
        /// The name, cut to 80 characters.
        principal: String,
    },
    /// The key would not be accepted.
    #[error("key type {algorithm} is not accepted")]
    KeyType {
        /// Its algorithm.
        algorithm: String,
    },
}

impl Problem for RenderError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Principal { .. } => {
                "use a name such as ana or ana@example.com, without spaces, commas, quotes, \
                 wildcards, and no ! or # in front"
                    .to_owned()
            }
            Self::KeyType { .. } => ACCEPTED_HINT.to_owned(),
        })
    }
}

/// Writes the line (without its end) that lets `key` sign in `namespaces` as `principal`.
///
/// No namespaces means no restriction: the key may then sign anything, also for other programs
/// that read the same file. The key's comment is left out.
pub fn render_line(
    principal: &str,
    key: &PublicKey,
    namespaces: &[Namespace],
) -> Result<String, RenderError> {
    let refused = |c: char| {
        c.is_control() || c.is_whitespace() || matches!(c, ',' | '"' | '*' | '?' | '\u{feff}')
    };
    if principal.is_empty() || principal.starts_with(['#', '!']) || principal.contains(refused) {
        return Err(RenderError::Principal { principal: clip(principal) });
    }
    let key = key.key_data();
    let key_line =
        line_of(key)
            .filter(|_| is_accepted(&key.algorithm()) && is_uncompressed(key))
            .ok_or_else(|| RenderError::KeyType { algorithm: key.algorithm().to_string() })?;
    if namespaces.is_empty() {
        return Ok(format!("{principal} {key_line}"));
    }
    let names: Vec<_> = namespaces.iter().map(|namespace| namespace.as_str()).collect();
    Ok(format!("{principal} namespaces=\"{}\" {key_line}", names.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ecdsa, ed25519, public_line};
    use proptest::prelude::*;
    use ssh_key::EcdsaCurve;

    fn faults(file: &str) -> Vec<(usize, usize, FaultKind)> {
        let error = AllowedSigners::parse(file.as_bytes()).expect_err(file);
        error.faults.into_iter().map(|f| (f.line, f.column, f.kind)).collect()
    }

    #[test]
    fn lines_are_read() {
        let (one, two) = (public_line(&ed25519(1)), public_line(&ecdsa(EcdsaCurve::NistP521)));
        let file = format!(
            "# our team\n\nana@x,ana {one} the laptop\n\
             *@ci\tnamespaces=\"vyr-artifact\",valid-before=\"20270101Z\" \t {two}\r\n"
        );
        let signers = AllowedSigners::parse(file.as_bytes()).expect("valid");
        let [ana, ci] = signers.entries() else { panic!("two lines") };
        assert_eq!((ana.line(), ana.principal(), ana.namespaces()), (3, "ana@x", None));
        assert_eq!((ana.public_key(), ana.valid_after()), (&one[..], None));
        assert_eq!(ana.key_id(), &KeyId::of(ed25519(1).public_key()));
        assert_eq!((ci.line(), ci.principal(), ci.public_key()), (4, "*@ci", &two[..]));
        assert_eq!(ci.namespaces(), Some("vyr-artifact"));
        assert_eq!(ci.valid_before(), Some("2027-01-01T00:00:00Z".parse().expect("time")));
        assert_eq!(AllowedSigners::parse(b"").expect("trusts nobody").entries(), []);
    }

    #[test]
    fn every_fault_of_a_file_is_told() {
        let key = public_line(&ed25519(1));
        let (kind, data) = key.split_once(' ').expect("two words");
        let file = format!(
            "ana ssh-rsa AAAAB3NzaC1yc2E=\n\
             bob\n\
             \"c d\" {key}\n\
             dan cert-authority {key}\n\
             eve {kind}\n\
             fay {kind} {data}AAAA\n\
             good {key}\n\
             !gus valid-before=\"2020\" ssh-dss {data}\n\
             ha,,ho namespaces=\"x\n\
             ina futurekey {data}\n\
             jo CERT-Authority {data}\n"
        );
        let kind_name = || kind.to_owned();
        assert_eq!(
            faults(&file),
            [
                (1, 5, FaultKind::KeyType { name: "ssh-rsa".into() }),
                (2, 4, FaultKind::MissingKey),
                (3, 1, FaultKind::QuotedPrincipals),
                (4, 5, FaultKind::CertAuthority),
                (5, 16, FaultKind::MissingKey),
                (6, 17, FaultKind::KeyData { name: kind_name() }),
                (8, 1, FaultKind::NoIdentity),
                (8, 20, FaultKind::Time { text: "2020".into() }),
                (8, 26, FaultKind::KeyType { name: "ssh-dss".into() }),
                (9, 4, FaultKind::EmptyPattern),
                (9, 19, FaultKind::Unterminated),
                (10, 5, FaultKind::KeyType { name: "futurekey".into() }),
                (11, 4, FaultKind::CertAuthority),
                (11, 19, FaultKind::KeyType { name: data.into() }),
            ]
        );
    }

    #[test]
    fn faults_come_in_the_order_of_the_lines() {
        let file = format!("bob\nana\u{7} {}\neve\n", public_line(&ed25519(1)));
        assert_eq!(
            faults(&file),
            [
                (1, 4, FaultKind::MissingKey),
                (2, 4, FaultKind::Control { character: '\u{7}' }),
                (3, 4, FaultKind::MissingKey),
            ]
        );
    }

    #[test]
    fn local_time_is_refused_with_the_reason() {
        let file = format!("ana valid-after=\"20260101\" {}", public_line(&ed25519(1)));
        let error = AllowedSigners::parse(file.as_bytes()).expect_err("local time");
        assert_eq!(error.faults[0].kind, FaultKind::LocalTime { text: "20260101".into() });
        assert!(error.hint().expect("has one").contains("two machines"));
    }

    #[test]
    fn windows_are_inclusive_to_the_second() {
        let file = format!(
            "ana valid-after=\"20260101Z\",valid-before=\"20260102Z\" {}",
            public_line(&ed25519(1))
        );
        let signers = AllowedSigners::parse(file.as_bytes()).expect("valid");
        let at =
            |now: &str| signers.entries()[0].allows(Namespace::Plan, now.parse().expect("time"));
        let (after, before) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let time = |text: &str| text.parse().expect("time");
        assert_eq!(at("2025-12-31T23:59:59.9Z"), Err(Refusal::NotYetValid(time(after))));
        assert_eq!(at(after), Ok(()));
        assert_eq!(at("2026-01-02T00:00:00.9Z"), Ok(()));
        assert_eq!(at("2026-01-02T00:00:01Z"), Err(Refusal::Expired(time(before))));
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        let key = ed25519(1);
        let namespaces = [Namespace::Artifact, Namespace::Plan];
        let line = render_line("ana@x", key.public_key(), &namespaces).expect("valid");
        assert_eq!(
            line,
            format!("ana@x namespaces=\"vyr-artifact,vyr-plan\" {}", public_line(&key))
        );
        let signers = AllowedSigners::parse(line.as_bytes()).expect("ours");
        assert_eq!(signers.entries()[0].principal(), "ana@x");
        for principal in ["", "a b", "a,b", "#a", "!a", "a*", "a?", "a\"", "a\nb", "\u{feff}a"] {
            let refused = render_line(principal, key.public_key(), &[]);
            assert!(matches!(refused, Err(RenderError::Principal { .. })), "{principal:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_that_renders_is_read_back(principal in "\\PC{1,12}") {
            let key = ed25519(1);
            if let Ok(line) = render_line(&principal, key.public_key(), &[]) {
                let signers = AllowedSigners::parse(line.as_bytes()).expect("what is written is valid");
                prop_assert_eq!(signers.entries()[0].principal(), &principal);
            }
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in any::<Vec<u8>>()) {
            let _ = AllowedSigners::parse(&bytes);
        }

        #[test]
        fn a_mutated_file_is_judged_without_panic(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
        ) {
            let key = public_line(&ed25519(1));
            let valid = format!("a\u{e4},!b valid-after=\"20260101Z\",namespaces=\"v*\" {key} c\n# d\n");
            let mut bytes = valid.into_bytes();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            if let Err(error) = AllowedSigners::parse(&bytes) {
                prop_assert!(!error.faults.is_empty());
            }
        }
    }

    #[test]
    fn a_line_is_written_as_it_is_believed() {
        let key = public_line(&ed25519(1));
        let text = format!(
            "ana,b* valid-before=\"20270101Z\",namespaces=\"vyr-artifact,a\\\"b\" {key} c\n"
        );
        let list = AllowedSigners::parse(text.as_bytes()).expect("valid");
        let written = list.entries()[0].to_string();
        let again = AllowedSigners::parse(format!("{written}\n").as_bytes()).expect("reads back");
        assert_eq!(again.entries()[0].valid_before(), list.entries()[0].valid_before());
        assert_eq!(again.entries()[0].namespaces(), Some("vyr-artifact,a\"b"));
        assert_eq!(again.entries()[0].to_string(), written);
        let hash = format!("!x,x,#y {key}\n");
        assert!(matches!(faults(&hash)[..], [(1, 1, FaultKind::NoIdentity)]));
    }
}
