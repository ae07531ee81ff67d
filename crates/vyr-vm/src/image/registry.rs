//! One registry, asked over HTTP.
//!
//! Every answer is read up to a limit and up to a deadline, errors included: a registry may send
//! without end. Nothing an answer says is believed but its bytes, and those only under the digest
//! that was asked for.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ureq::config::{AutoHeaderValue, RedirectAuthHeaders};
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};
use vyr_base::{Category, Digest, Problem};
use vyr_service::{Named, Reference};
use zeroize::Zeroizing;

use super::fault::Reason;
use super::limits::{DOCUMENT_BYTES_MAX, Limits};
use super::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use super::token::{Challenge, Credentials, bearer};

/// Largest answer to a request for a token, in bytes.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Largest headers of an answer, in bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// How many redirections are followed: registries send blobs from elsewhere, in one step or two.
const REDIRECTS_MAX: u32 = 5;

/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It could not be asked, or the answer broke off.
    #[error("registry {registry} cannot be asked")]
    Ask {
        /// Which.
        registry: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The answer broke off.
    #[error("registry {registry} broke off its answer")]
    Broken {
        /// Which.
        registry: String,
        /// How.
        source: io::Error,
    },
    /// The answer took too long.
    #[error("{}: registry {registry} did not answer in time", Reason::ImagePullTimeout)]
    Timeout {
        /// Which.
        registry: String,
    },
    /// It has no such image.
    #[error("{what} is not in the registry, or this user may not see it")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// It wants other credentials.
    #[error("registry {registry} does not let this user read {repository}")]
    Denied {
        /// Which.
        registry: String,
        /// Of what.
        repository: String,
    },
    /// Another status.
    #[error("registry {registry} answers with status {status}")]
    Status {
        /// Which.
        registry: String,
        /// Its HTTP status.
        status: u16,
    },
    /// The answer is longer than any of its kind.
    #[error("registry {registry} answers with more than {limit} bytes")]
    TooLong {
        /// Which.
        registry: String,
        /// What is allowed.
        limit: u64,
    },
    /// The bytes are not those of the digest.
    #[error("registry {registry} sent {found} where {expected} was asked for")]
    Digest {
        /// Which.
        registry: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Credentials would go over the network in clear.
    #[error("registry {registry} is asked without TLS, and credentials are not sent so")]
    Clear {
        /// Which.
        registry: String,
    },
    /// It asks for credentials in a way that is not known.
    #[error("registry {registry} asks for credentials in a way that is not understood")]
    Challenge {
        /// Which.
        registry: String,
    },
}

impl RegistryError {
    /// The reason an instance is refused with, if there is one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Timeout { .. } => Some(Reason::ImagePullTimeout),
            _ => None,
        }
    }
}

impl Problem for RegistryError {
    fn category(&self) -> Category {
        match self {
            Self::Ask { .. } | Self::Broken { .. } | Self::Timeout { .. } => Category::Transient,
            Self::NotFound { .. } => Category::NotFound,
            Self::Denied { .. } => Category::Auth,
            Self::Status { status, .. } if *status == 429 || *status >= 500 => Category::Transient,
            Self::Clear { .. } => Category::Usage,
            _ => Category::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Ask { registry, .. } => {
                format!("see whether {registry} can be reached; one without TLS needs --plain-http")
            }
            Self::Broken { .. } | Self::Timeout { .. } => {
                "run it again: what arrived is kept and checked".into()
            }
            Self::NotFound { .. } => "check the name and the digest; push the image first".into(),
            Self::Denied { registry, .. } => {
                format!("skopeo login --authfile FILE {registry}, then pass --auth-file FILE")
            }
            Self::Clear { .. } => "give the registry a certificate".into(),
            Self::Digest { .. } => "do not trust this registry; pull from another".into(),
            Self::Status { status, .. } if *status == 429 || *status >= 500 => {
                "try again later".into()
            }
            Self::Status { .. } | Self::TooLong { .. } | Self::Challenge { .. } => return None,
        })
    }
}

/// A registry and who asks it.
pub struct Registry {
    agent: Agent,
    registry: String,
    plain: bool,
    /// The registry is this machine: nobody listens in between.
    loopback: bool,
    credentials: Option<Credentials>,
    /// What the registry wanted to see last time.
    authorization: Mutex<Option<Zeroizing<String>>>,
    blob_time: Duration,
    deadline: Instant,
}

impl Registry {
    /// The registry of `reference`. `plain` is HTTP without TLS; it is never fallen back to. All that
    /// is asked over it ends [`Limits::total_time`] from now.
    pub fn new(
        reference: &Reference,
        plain: bool,
        credentials: Option<Credentials>,
        limits: &Limits,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .https_only(!plain)
            .http_status_as_error(false)
            .max_redirects(REDIRECTS_MAX)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .max_response_header_size(HEADER_BYTES_MAX)
            .accept_encoding(AutoHeaderValue::None)
            .user_agent(concat!("vyr/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIME))
            .timeout_recv_response(Some(limits.stall_time))
            .timeout_per_read(Some(limits.stall_time))
            .build()
            .new_agent();
        let host = reference.host().trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = host.parse().ok();
        Self {
            agent,
            registry: reference.registry.clone(),
            plain,
            loopback: host == "localhost" || address.is_some_and(|address| address.is_loopback()),
            credentials,
            authorization: Mutex::new(None),
            blob_time: limits.blob_time,
            deadline: Instant::now() + limits.total_time,
        }
    }

    /// The registry's name.
    pub fn name(&self) -> &str {
        &self.registry
    }

    /// When it has to be done.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What a tag means now: the digest of the manifest or index that the registry gives for it.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn resolve(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        match &reference.named {
            Named::Digest(digest) => Ok(*digest),
            Named::Tag(tag) => Ok(Digest::of(&self.manifest(&reference.repository, tag)?)),
        }
    }

    /// Asks whether the registry still gives an image, and gives it as it is named.
    ///
    /// # Errors
    /// It does not; see [`RegistryError`].
    pub fn check(&self, reference: &Reference) -> Result<(), RegistryError> {
        match &reference.named {
            Named::Digest(digest) => self.document(&reference.repository, digest).map(drop),
            Named::Tag(tag) => self.manifest(&reference.repository, tag).map(drop),
        }
    }

    /// A manifest or an index, checked against its digest.
    pub(crate) fn document(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Vec<u8>, RegistryError> {
        let bytes = self.manifest(repository, &digest.to_string())?;
        let found = Digest::of(&bytes);
        if found != *digest {
            let registry = self.registry.clone();
            return Err(RegistryError::Digest { registry, expected: *digest, found });
        }
        Ok(bytes)
    }

    fn manifest(&self, repository: &str, name: &str) -> Result<Vec<u8>, RegistryError> {
        let path = format!("{repository}/manifests/{name}");
        let accept = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
        let answer = self.get(repository, &path, &[("accept", accept)])?;
        match answer.status() {
            StatusCode::OK => self.read_short(answer, DOCUMENT_BYTES_MAX),
            status => Err(self.refused(status, repository, name)),
        }
    }

    /// A blob's bytes from `offset` on, or from 0 if the registry wants it so; says which.
    pub(crate) fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        offset: u64,
    ) -> Result<(u64, impl Read + 'static), RegistryError> {
        let path = format!("{repository}/blobs/{digest}");
        let range = ("range", format!("bytes={offset}-"));
        let range = if offset > 0 { std::slice::from_ref(&range) } else { &[] };
        let answer = self.get(repository, &path, range)?;
        let start = match answer.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if offset > 0 => {
                let said = answer.headers().get("content-range").and_then(|v| v.to_str().ok());
                let begins = format!("bytes {offset}-");
                if !said.is_some_and(|said| said.starts_with(&begins)) {
                    let (registry, status) = (self.registry.clone(), 206);
                    return Err(RegistryError::Status { registry, status });
                }
                offset
            }
            status => return Err(self.refused(status, repository, &digest.to_string())),
        };
        let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
        Ok((start, body))
    }

    /// One request, with what the registry wants to see; asked for at most once.
    fn get(
        &self,
        repository: &str,
        path: &str,
        headers: &[(&str, String)],
    ) -> Result<Response<Body>, RegistryError> {
        let scheme = if self.plain { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/{path}", self.registry);
        let known = self.authorization.lock().map(|known| known.clone()).unwrap_or_default();
        let first = self.send(&url, headers, known)?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let header = first.headers().get("www-authenticate").and_then(|v| v.to_str().ok());
        let challenge = header.and_then(Challenge::parse);
        let registry = || self.registry.clone();
        let authorization = match challenge {
            None => return Err(RegistryError::Challenge { registry: registry() }),
            Some(Challenge::Basic) => match &self.credentials {
                Some(credentials) => {
                    self.in_clear(&url)?;
                    credentials.header()
                }
                None => {
                    let repository = repository.to_owned();
                    return Err(RegistryError::Denied { registry: registry(), repository });
                }
            },
            Some(Challenge::Bearer { realm, service }) => {
                self.token(repository, &realm, service.as_deref())?
            }
        };
        if let Ok(mut known) = self.authorization.lock() {
            *known = Some(authorization.clone());
        }
        self.send(&url, headers, Some(authorization))
    }

    fn token(
        &self,
        repository: &str,
        realm: &str,
        service: Option<&str>,
    ) -> Result<Zeroizing<String>, RegistryError> {
        let registry = || self.registry.clone();
        let separator = if realm.contains('?') { '&' } else { '?' };
        let mut url = format!("{realm}{separator}scope=repository:{}:pull", escape(repository));
        if let Some(service) = service {
            url.push_str(&format!("&service={}", escape(service)));
        }
        let authorization = match &self.credentials {
            None => None,
            Some(credentials) => {
                self.in_clear(&url)?;
                Some(credentials.header())
            }
        };
        let answer = self.send(&url, &[], authorization)?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused(answer.status(), repository, repository));
        }
        let answer = Zeroizing::new(self.read_short(answer, TOKEN_BYTES_MAX)?);
        bearer(&answer).ok_or_else(|| RegistryError::Challenge { registry: registry() })
    }

    /// Credentials go over TLS, or not off this machine.
    fn in_clear(&self, url: &str) -> Result<(), RegistryError> {
        let own = url.starts_with(&format!("http://{}/", self.registry)) && self.loopback;
        match url.starts_with("https://") || own {
            true => Ok(()),
            false => Err(RegistryError::Clear { registry: self.registry.clone() }),
        }
    }

    fn send(
        &self,
        url: &str,
        headers: &[(&str, String)],
        authorization: Option<Zeroizing<String>>,
    ) -> Result<Response<Body>, RegistryError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RegistryError::Timeout { registry: self.registry.clone() });
        }
        let time = Some(left.min(self.blob_time));
        let mut request = self.agent.get(url).config().timeout_global(time).build();
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization.as_str());
        }
        request.call().map_err(|source| self.fault(source))
    }

    fn fault(&self, source: ureq::Error) -> RegistryError {
        let registry = self.registry.clone();
        match source {
            ureq::Error::Timeout(_) => RegistryError::Timeout { registry },
            source => RegistryError::Ask { registry, source: Box::new(source) },
        }
    }

    /// A fault while a body is read.
    pub(crate) fn broken(&self, source: io::Error) -> RegistryError {
        let registry = self.registry.clone();
        let timeout = source.kind() == io::ErrorKind::TimedOut
            || source
                .get_ref()
                .is_some_and(|inner| matches!(inner.downcast_ref(), Some(ureq::Error::Timeout(_))));
        match timeout {
            true => RegistryError::Timeout { registry },
            false => RegistryError::Broken { registry, source },
        }
    }

    fn refused(&self, status: StatusCode, repository: &str, name: &str) -> RegistryError {
        let registry = self.registry.clone();
        match status.as_u16() {
            401 | 403 => RegistryError::Denied { registry, repository: repository.into() },
            404 => RegistryError::NotFound { what: format!("{registry}/{repository} {name}") },
            status => RegistryError::Status { registry, status },
        }
    }

    fn read_short(&self, answer: Response<Body>, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
        body.take(limit + 1).read_to_end(&mut bytes).map_err(|source| self.broken(source))?;
        if bytes.len() as u64 > limit {
            return Err(RegistryError::TooLong { registry: self.registry.clone(), limit });
        }
        Ok(bytes)
    }
}

/// For a query: everything but plain characters as `%xx`.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' | b':' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
