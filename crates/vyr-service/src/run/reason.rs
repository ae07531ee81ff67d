//! Why an instance is not running any more, and how its process ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an instance drains, stopped or failed: the words of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The image could not be had.
    ImagePullFailed,
    /// It took too long.
    ImagePullTimeout,
    /// It is larger than images may be.
    ImageTooLarge,
    /// A layer of it is none.
    ImageLayerInvalid,
    /// Its root disk could not be made.
    RootfsBuildFailed,
    /// The machine did not start.
    VmmStartFailed,
    /// The machine ended, and nobody had told it to.
    VmmGone,
    /// It has no network.
    NetworkSetupFailed,
    /// A volume could not be attached.
    VolumeAttachFailed,
    /// The node has no secrets for it.
    SecretsMissing,
    /// They could not be given to the guest.
    SecretsInjectionFailed,
    /// The guest could not prepare itself.
    GuestSetupFailed,
    /// The command before the workload failed.
    PrestartFailed,
    /// The workload's program could not be started.
    EntrypointFailed,
    /// It was not ready in time.
    BootTimeout,
    /// Its check failed as often as it may.
    HealthcheckFailed,
    /// The kernel killed it for want of memory.
    OomKilled,
    /// Its process ended.
    Exited,
    /// It ended too often in a row.
    CrashLoopBackoff,
    /// Another instance took its place.
    Replaced,
    /// The plan has fewer of them, or the service no more.
    ScaledDown,
    /// Its release did not prove itself.
    RolloutFailed,
    /// There was no progress in time.
    RolloutTimeout,
    /// Another plan came before its end.
    Superseded,
    /// An operator wanted it to end.
    TerminatedByOperator,
    /// The node is emptied.
    NodeDraining,
}

impl Reason {
    /// As JSON has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ImagePullFailed => "image_pull_failed",
            Self::ImagePullTimeout => "image_pull_timeout",
            Self::ImageTooLarge => "image_too_large",
            Self::ImageLayerInvalid => "image_layer_invalid",
            Self::RootfsBuildFailed => "rootfs_build_failed",
            Self::VmmStartFailed => "vmm_start_failed",
            Self::VmmGone => "vmm_gone",
            Self::NetworkSetupFailed => "network_setup_failed",
            Self::VolumeAttachFailed => "volume_attach_failed",
            Self::SecretsMissing => "secrets_missing",
            Self::SecretsInjectionFailed => "secrets_injection_failed",
            Self::GuestSetupFailed => "guest_setup_failed",
            Self::PrestartFailed => "prestart_failed",
            Self::EntrypointFailed => "entrypoint_failed",
            Self::BootTimeout => "boot_timeout",
            Self::HealthcheckFailed => "healthcheck_failed",
            Self::OomKilled => "oom_killed",
            Self::Exited => "exited",
            Self::CrashLoopBackoff => "crash_loop_backoff",
            Self::Replaced => "replaced",
            Self::ScaledDown => "scaled_down",
            Self::RolloutFailed => "rollout_failed",
            Self::RolloutTimeout => "rollout_timeout",
            Self::Superseded => "superseded",
            Self::TerminatedByOperator => "terminated_by_operator",
            Self::NodeDraining => "node_draining",
        }
    }

    /// Whether the same release would fail in the same way again: a rollout ends at once.
    pub(super) const fn is_final(self) -> bool {
        matches!(
            self,
            Self::ImageTooLarge
                | Self::ImageLayerInvalid
                | Self::SecretsMissing
                | Self::EntrypointFailed
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How the process of an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Its exit code, unless a signal ended it.
    pub code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// Whether the guest's kernel killed a process of it for want of memory.
    pub oom_killed: bool,
}

impl End {
    /// Whether it ended of its own will and in order.
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("an end that nobody saw"),
        }?;
        if self.oom_killed {
            f.write_str(", killed for want of memory")?;
        }
        Ok(())
    }
}

/// Why something failed, with what was said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The word.
    pub reason: Reason,
    /// What the node or the guest said; never a secret. Cut to
    /// [`SAID_CHARS_MAX`](super::SAID_CHARS_MAX) characters.
    pub said: String,
}

impl Fault {
    /// A fault; what is too long of its text is cut.
    pub fn new(reason: Reason, said: impl AsRef<str>) -> Self {
        Self { reason, said: said.as_ref().chars().take(super::SAID_CHARS_MAX).collect() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.said.is_empty() {
            true => write!(f, "{}", self.reason),
            false => write!(f, "{}: {}", self.reason, self.said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_json_and_of_people_are_the_same() {
        for reason in [Reason::ImagePullFailed, Reason::VmmGone, Reason::OomKilled, Reason::Exited]
        {
            let json = serde_json::to_string(&reason).expect("a word");
            assert_eq!(json, format!("\"{reason}\""));
        }
    }
}
