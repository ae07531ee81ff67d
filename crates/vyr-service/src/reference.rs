//! What an image is called: a registry, a repository in it, and a digest or a tag.

use std::fmt;
use std::str::FromStr;

use vyr_base::{Category, Digest, Problem};

/// Longest reference, in bytes; the distribution specification's repository names end at 255.
const REFERENCE_BYTES_MAX: usize = 512;

/// A text that names no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// It does not have the form.
    #[error("{text:?} is no image reference: {why}")]
    Form {
        /// The text, cut to 120 characters.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A tag, where a digest is wanted.
    #[error("{text:?} names a tag, and only a digest says what will run")]
    Tag {
        /// The text.
        text: String,
    },
    /// Something that is no image but can be made into one.
    #[error("{text:?} is {what}, and only OCI images by digest are deployed")]
    NotAnImage {
        /// The text.
        text: String,
        /// What it is.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
}

impl Problem for ReferenceError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Form { .. } => {
                "write REGISTRY/REPOSITORY@sha256:.., such as registry.example/team/app@sha256:.."
                    .into()
            }
            Self::Tag { text } => format!("vyr image resolve {text}"),
            Self::NotAnImage { instead, .. } => (*instead).into(),
        })
    }
}

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// What it is now, which may be something else later.
    Tag(String),
    /// What it is, for ever.
    Digest(Digest),
}

/// `REGISTRY/REPOSITORY` with `:TAG` or `@sha256:..`.
///
/// The registry is always written: no short name means a registry that nobody named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// A host, with a port if there is one.
    pub registry: String,
    /// A path of lower-case names.
    pub repository: String,
    /// Which image of it.
    pub named: Named,
}

impl Reference {
    /// The digest.
    ///
    /// # Errors
    /// [`ReferenceError::Tag`] if it has none.
    pub fn digest(&self) -> Result<Digest, ReferenceError> {
        match &self.named {
            Named::Digest(digest) => Ok(*digest),
            Named::Tag(_) => Err(ReferenceError::Tag { text: self.to_string() }),
        }
    }

    /// The same repository, pinned.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { named: Named::Digest(digest), ..self.clone() }
    }

    /// The host without its port.
    pub fn host(&self) -> &str {
        match self.registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
            _ => &self.registry,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.named {
            Named::Tag(tag) => write!(f, ":{tag}"),
            Named::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = |why| ReferenceError::Form { text: text.chars().take(120).collect(), why };
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(form("it is too long"));
        }
        if let Some((what, instead)) = not_an_image(text) {
            return Err(ReferenceError::NotAnImage { text: text.into(), what, instead });
        }
        let (registry, rest) = text.split_once('/').ok_or_else(|| form("it names no registry"))?;
        let looks_like_host = registry.contains(['.', ':']) || registry == "localhost";
        if !looks_like_host {
            return Err(form("it names no registry"));
        }
        if !is_host(registry) {
            return Err(form("its registry is no host name"));
        }
        let (rest, digest) = match rest.split_once('@') {
            None => (rest, None),
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| form("its digest is no sha256:.."))?;
                (rest, Some(digest))
            }
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            None => (rest, None),
            Some((repository, tag)) => (repository, Some(tag)),
        };
        let is_name = |name: &str| {
            let inside =
                |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
            let edge =
                |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let bytes = name.as_bytes();
            bytes.iter().all(|c| inside(*c)) && edge(bytes.first()) && edge(bytes.last())
        };
        if !repository.split('/').all(is_name) {
            return Err(form("its repository is no path of lower-case names"));
        }
        let is_tag = |tag: &str| {
            let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
            let bytes = tag.as_bytes();
            bytes.len() <= 128
                && bytes.first().is_some_and(|c| word(*c))
                && bytes.iter().all(|c| word(*c) || b".-".contains(c))
        };
        let named = match (digest, tag) {
            (_, Some(tag)) if !is_tag(tag) => return Err(form("its tag is none")),
            // Beside a digest, a tag is a remark.
            (Some(digest), _) => Named::Digest(digest),
            (None, Some(tag)) => Named::Tag(tag.into()),
            (None, None) => return Err(form("it has neither digest nor tag")),
        };
        Ok(Self { registry: registry.into(), repository: repository.into(), named })
    }
}

/// A host name or an address, with a port or without.
fn is_host(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let port_is_one = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let name = |part: &str| {
        !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    port_is_one
        && match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.split('.').all(name),
        }
}

/// What people deploy elsewhere, and what it takes to deploy it here.
fn not_an_image(text: &str) -> Option<(&'static str, &'static str)> {
    let lower = text.to_ascii_lowercase();
    let build =
        "build it where you build: buildah build, push it to a registry, then name it by digest";
    let archive = "push it to a registry, or make an OCI layout of it: skopeo copy docker-archive:FILE oci:DIR";
    if lower == "." || lower.ends_with("dockerfile") || lower.ends_with("containerfile") {
        return Some(("a build context", build));
    }
    if lower.starts_with("git://") || lower.ends_with(".git") {
        return Some(("a source repository", build));
    }
    if [".zip", ".jar", ".war"].iter().any(|end| lower.ends_with(end)) {
        return Some(("a zip archive", build));
    }
    if [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| lower.ends_with(end)) {
        return Some(("a tar archive", archive));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_reference_is_written_as_it_is_read() {
        for text in [
            &format!("127.0.0.1:5000/app@{DIGEST}"),
            &format!("registry.example/a/b-c/d_e@{DIGEST}"),
            "localhost/app:1.0",
            "[::1]:5000/app:latest",
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(&reference.to_string(), text);
        }
        let both: Reference = format!("r.example/app:1.0@{DIGEST}").parse().expect("both");
        assert_eq!(both.to_string(), format!("r.example/app@{DIGEST}"));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "app",
            "app:1.0",
            "team/app:1.0",
            "r.example/App:1",
            "r.example/../x:1",
            "r.example/a//b:1",
            "r.example/a:",
            "r.example/a",
            "r.example/a@sha256:00",
            "user@r.example/a:1",
            "r.example:0/a:1",
            "r.example:99999/a:1",
            "[::1/a:1",
            "r.example/a?x=1:1",
            "http://r.example/a:1",
            "r.example/a:1\n",
            "r.example/-a:1",
        ] {
            assert!(
                matches!(text.parse::<Reference>(), Err(ReferenceError::Form { .. })),
                "{text}"
            );
        }
        let long = format!("r.example/{}:1", "a/".repeat(300));
        assert!(long.parse::<Reference>().is_err());
    }

    #[test]
    fn what_is_no_image_says_what_to_do_instead() {
        for text in ["./Dockerfile", ".", "app.zip", "image.tar", "git://x/y.git", "a/b.tar.gz"] {
            let refused = text.parse::<Reference>().expect_err(text);
            assert!(matches!(refused, ReferenceError::NotAnImage { .. }), "{text}");
            assert!(refused.hint().is_some_and(|hint| hint.contains("registry")), "{text}");
        }
    }

    #[test]
    fn a_tag_is_no_digest() {
        let reference: Reference = "r.example/app:1.0".parse().expect("a tag");
        let refused = reference.digest().expect_err("no digest");
        assert_eq!(refused.hint().as_deref(), Some("vyr image resolve r.example/app:1.0"));
    }
}
