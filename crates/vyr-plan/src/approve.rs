//! Approvals: who signed a plan, and whether that is enough.
//!
//! ```text
//! sha256:<hex of the plan>
//! expires 2026-12-01T00:00:00Z
//! ```
//!
//! This text is signed (SSHSIG, namespace `vyr-plan`); it is made with `vyr plan sign` or with
//! `ssh-keygen -Y sign`. Invariants:
//! 1. `threshold` different keys of the trust root that applies *now* must approve; a plan's own
//!    trust root never approves itself.
//! 2. A plan that changes the trust root needs the threshold of the new one as well.
//! 3. An approval ends at its time, and a plan is never replaced by one of a lower epoch.
//!
//! Both kinds of plans are approved in this one way ([`Document`]), each over its own parent.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use vyr_artifact::{AllowedSigners, Namespace, TrustError, TrustPolicy};
use vyr_base::{Category, Digest, Problem};

use crate::plan::{Document, Plan, TrustRoot};

/// Bytes of an approval's text.
pub const APPROVAL_BYTES_MAX: usize = 256;
/// Approvals of one plan that are looked at.
pub const APPROVALS_MAX: usize = 256;

/// What an operator signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The plan.
    pub plan: Digest,
    /// When it stops to count.
    pub expires: Timestamp,
}

impl Approval {
    /// The bytes that are signed.
    pub fn to_text(&self) -> String {
        format!("{}\nexpires {}\n", self.plan, self.expires)
    }

    /// Reads the text in its one spelling.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > APPROVAL_BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (plan, rest) = text.split_once('\n')?;
        let expires = rest.strip_prefix("expires ")?.strip_suffix('\n')?;
        let approval = Self { plan: plan.parse().ok()?, expires: expires.parse().ok()? };
        (approval.to_text() == text).then_some(approval)
    }
}

/// An approval with its signature, as they came.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Where it came from, for messages: a file's name.
    pub name: String,
    /// The text.
    pub text: Vec<u8>,
    /// The armored SSHSIG.
    pub signature: Vec<u8>,
}

/// Who approved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Approver {
    /// As the trust root names them.
    pub principal: String,
    /// Their key.
    pub key_id: String,
    /// When their approval ends.
    pub expires: Timestamp,
    #[serde(skip)]
    public_key: String,
}

/// A plan that enough operators approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approved {
    /// How many had to.
    pub threshold: u8,
    /// Who did.
    pub approvers: Vec<Approver>,
    /// Whether the plan changes who may.
    pub changes_trust: bool,
}

/// What a plan is measured against: the one that is applied now, or what was set by hand.
#[derive(Debug)]
pub enum Root<'a, P = Plan> {
    /// The plan that is applied now, of the same kind.
    Plan(&'a P, Digest),
    /// Keys that somebody named, before the first plan or to check one elsewhere.
    Keys(&'a TrustRoot),
}

// By hand: what is borrowed need not be copied itself.
impl<P> Clone for Root<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Root<'_, P> {}

impl<P: Document> Root<'_, P> {
    /// Who is in charge now.
    pub fn trust(&self) -> &TrustRoot {
        match self {
            Self::Plan(plan, _) => plan.trust(),
            Self::Keys(trust) => trust,
        }
    }
}

/// Why a plan is not approved.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// Too few of the operators in charge.
    #[error("{found} of {threshold} needed operators approved the plan{}", told(.refused))]
    TooFew {
        /// How many did.
        found: usize,
        /// How many must.
        threshold: u8,
        /// What is wrong with the other approvals.
        refused: Vec<String>,
    },
    /// Too few of those who are to be in charge.
    #[error("{found} of {threshold} of the operators to come approved the plan")]
    TooFewNew {
        /// How many did.
        found: usize,
        /// How many must.
        threshold: u8,
    },
    /// It is older than what is applied, or no newer.
    #[error("the plan has epoch {epoch}, and {applied} is applied")]
    Replayed {
        /// Its own.
        epoch: u64,
        /// The one that is applied.
        applied: u64,
    },
    /// It was made over another plan.
    #[error("the plan replaces another one than the one that is applied")]
    Parent,
}

fn told(refused: &[String]) -> String {
    match refused {
        [] => String::new(),
        all => format!(" ({})", all.join("; ")),
    }
}

impl Problem for ApprovalError {
    fn category(&self) -> Category {
        match self {
            Self::TooFew { .. } | Self::TooFewNew { .. } => Category::Auth,
            Self::Replayed { .. } | Self::Parent => Category::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooFew { .. } => "let another operator run `vyr plan sign`".into(),
            Self::TooFewNew { .. } => {
                "who changes the operators needs the old ones' and the new ones' consent".into()
            }
            Self::Replayed { .. } | Self::Parent => {
                "run `vyr lock`, then plan and sign again".into()
            }
        })
    }
}

/// Whether `signed` are enough for `plan` over `root`, at `now`.
pub fn approve<P: Document>(
    plan: &P,
    digest: &Digest,
    root: Root<'_, P>,
    signed: &[Signed],
    now: Timestamp,
) -> Result<Approved, ApprovalError> {
    if let Root::Plan(applied, applied_digest) = root {
        let (epoch, applied) = (plan.epoch(), applied.epoch());
        if epoch <= applied {
            return Err(ApprovalError::Replayed { epoch, applied });
        }
        if plan.parent() != Some(applied_digest) {
            return Err(ApprovalError::Parent);
        }
    }
    let (trust, own) = (root.trust(), plan.trust());
    let (approvers, refused) = approvers(trust, digest, signed, now);
    if approvers.len() < usize::from(trust.threshold.max(1)) {
        let (found, threshold) = (approvers.len(), trust.threshold.max(1));
        return Err(ApprovalError::TooFew { found, threshold, refused });
    }
    let changes_trust = own.operators != trust.operators || own.threshold != trust.threshold;
    if changes_trust {
        let (new, _) = self::approvers(own, digest, signed, now);
        if new.len() < usize::from(own.threshold) {
            let (found, threshold) = (new.len(), own.threshold);
            return Err(ApprovalError::TooFewNew { found, threshold });
        }
    }
    Ok(Approved { threshold: trust.threshold, approvers, changes_trust })
}

/// The different keys of a root that approved, and why other approvals do not count.
fn approvers(
    trust: &TrustRoot,
    digest: &Digest,
    signed: &[Signed],
    now: Timestamp,
) -> (Vec<Approver>, Vec<String>) {
    let lines: Vec<String> = trust
        .operators
        .iter()
        .map(|of| format!("{} namespaces=\"vyr-plan\" {}\n", of.principal, of.public_key))
        .collect();
    let signers = match AllowedSigners::parse(lines.concat().as_bytes()) {
        Ok(signers) => signers,
        Err(error) => return (Vec::new(), vec![format!("the trust root cannot be read: {error}")]),
    };
    let policy = TrustPolicy { signers, ..TrustPolicy::default() };
    let (mut found, mut keys, mut refused) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for one in signed.iter().take(APPROVALS_MAX) {
        match approver(&policy, digest, one, now) {
            Ok(approver) => {
                if keys.insert(approver.public_key.clone()) {
                    found.insert(approver);
                }
            }
            Err(why) => refused.push(format!("{}: {why}", one.name)),
        }
    }
    (found.into_iter().collect(), refused)
}

fn approver(
    policy: &TrustPolicy,
    digest: &Digest,
    signed: &Signed,
    now: Timestamp,
) -> Result<Approver, String> {
    let approval = Approval::parse(&signed.text).ok_or("it is no approval")?;
    if approval.plan != *digest {
        return Err("it approves another plan".into());
    }
    if approval.expires <= now {
        return Err(format!("it ended at {}", approval.expires));
    }
    let verified = policy.verify(Namespace::Plan, &signed.text, &signed.signature, now);
    let signer = verified.map_err(|error: TrustError| error.to_string())?;
    Ok(Approver {
        principal: signer.principal,
        key_id: signer.key_id.to_string(),
        expires: approval.expires,
        public_key: signer.public_key,
    })
}
