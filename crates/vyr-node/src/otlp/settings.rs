//! What the environment says about export, by the names of the OpenTelemetry specification.
//!
//! An empty variable is an unset one, and `_TRACES_` or `_METRICS_` in a name overrules the name
//! without, both as specified. A value that makes no sense is an error here, at the start, and not
//! a guess: the specification would have it ignored with a warning nobody reads.

use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::error::OtlpError;

/// Where distributions keep the certificate authorities that they trust: Debian and Arch, Fedora,
/// SUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// One of the two things that are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn word(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
        }
    }
}

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// Where one signal goes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) protocol: Protocol,
    /// With scheme and host; with the whole path, for HTTP.
    pub(super) uri: Uri,
    /// Their values are marked sensitive: `Debug` does not show them.
    pub(super) headers: HeaderMap,
    /// Of one attempt.
    pub(super) timeout: Duration,
    /// Certificate authorities, if the scheme is `https`.
    pub(super) authorities: Option<Authorities>,
}

/// Certificate authorities as both stacks want them.
#[derive(Debug)]
pub(super) struct Authorities {
    pub(super) pem: Vec<u8>,
    pub(super) roots: RootCertStore,
}

/// All settings of an exporter that has something to do.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) traces: Option<Target>,
    pub(super) metrics: Option<Target>,
    /// What describes this node, apart from what it knows itself.
    pub(super) resource: Vec<(String, String)>,
    /// Spans that wait; more are dropped.
    pub(super) queue_max: usize,
    /// Spans of one request.
    pub(super) batch_max: usize,
    /// How long a span waits for a batch to fill.
    pub(super) batch_delay: Duration,
    /// For one batch, attempts and pauses together.
    pub(super) export_max: Duration,
    /// Between two exports of metrics.
    pub(super) metric_interval: Duration,
}

impl Settings {
    /// Reads them; `None` if nothing is to be exported.
    pub(super) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, OtlpError> {
        let get = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        if get("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let traces = target(&get, Signal::Traces)?;
        let metrics = target(&get, Signal::Metrics)?;
        if traces.is_none() && metrics.is_none() {
            return Ok(None);
        }
        let ms = |name, default| number(&get, name, default, 1..=86_400_000);
        let queue_max = number(&get, "OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1..=1_000_000)?;
        let batch_max = number(&get, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1..=10_000)?;
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Some(Self {
            traces,
            metrics,
            resource: resource(&get)?,
            queue_max: size(queue_max),
            batch_max: size(batch_max.min(queue_max)),
            batch_delay: Duration::from_millis(ms("OTEL_BSP_SCHEDULE_DELAY", 5_000)?),
            export_max: Duration::from_millis(ms("OTEL_BSP_EXPORT_TIMEOUT", 30_000)?),
            metric_interval: Duration::from_millis(ms("OTEL_METRIC_EXPORT_INTERVAL", 60_000)?),
        }))
    }
}

/// Where `signal` goes, if anywhere.
fn target(
    get: &impl Fn(&str) -> Option<String>,
    signal: Signal,
) -> Result<Option<Target>, OtlpError> {
    // The name it was found by, for the error, and the value.
    let find = |option: &str| {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{option}", signal.word());
        let common = format!("OTEL_EXPORTER_OTLP_{option}");
        [own, common].into_iter().find_map(|name| get(&name).map(|value| (name, value)))
    };
    let own_endpoint = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.word());
    let Some((endpoint_name, endpoint)) = find("ENDPOINT") else { return Ok(None) };
    let exporter = format!("OTEL_{}_EXPORTER", signal.word());
    match get(&exporter).as_deref().map(str::trim) {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(_) => return refuse(&exporter, "names an exporter we do not have", "otlp, or none"),
    }
    for option in ["CLIENT_KEY", "CLIENT_CERTIFICATE"] {
        if let Some((name, _)) = find(option) {
            let hint = "unset it; credentials go into OTEL_EXPORTER_OTLP_HEADERS";
            return refuse(&name, "is set, and client certificates are not supported", hint);
        }
    }
    let protocol = match find("PROTOCOL") {
        None => Protocol::Grpc,
        Some((name, value)) => match value.trim() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::HttpProtobuf,
            _ => return refuse(&name, "names a protocol we do not speak", "grpc or http/protobuf"),
        },
    };
    let path = match protocol {
        Protocol::HttpProtobuf if endpoint_name != own_endpoint => Some(signal.path()),
        _ => None,
    };
    let uri = endpoint_uri(&endpoint_name, endpoint.trim(), path)?;
    let authorities = match uri.scheme_str() {
        Some("https") => Some(authorities(find("CERTIFICATE"), get("SSL_CERT_FILE"))?),
        _ => None,
    };
    let headers = match find("HEADERS") {
        Some((name, value)) => headers(&name, &value)?,
        None => HeaderMap::new(),
    };
    let timeout_ms = match find("TIMEOUT") {
        Some((name, _)) => number(get, &name, 10_000, 1..=600_000)?,
        None => 10_000,
    };
    let timeout = Duration::from_millis(timeout_ms);
    Ok(Some(Target { protocol, uri, headers, timeout, authorities }))
}

/// An endpoint as a URI, with `path` appended to its own.
fn endpoint_uri(name: &str, text: &str, path: Option<&str>) -> Result<Uri, OtlpError> {
    const HINT: &str =
        "such as http://localhost:4317 (grpc), http://localhost:4318 (http/protobuf)";
    let whole = match path {
        Some(path) => format!("{}/{path}", text.trim_end_matches('/')),
        None => text.to_owned(),
    };
    // The value is not repeated: somebody may have put a password into it.
    let Ok(uri) = whole.parse::<Uri>() else { return refuse(name, "is not a URL", HINT) };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return refuse(name, "does not begin with http:// or https://", HINT);
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        let hint = "credentials go into OTEL_EXPORTER_OTLP_HEADERS";
        return refuse(name, "holds credentials", hint);
    }
    Ok(uri)
}

/// `key=value,key=value`, percent-encoded values.
fn headers(name: &str, text: &str) -> Result<HeaderMap, OtlpError> {
    const HINT: &str = "key=value,key=value with percent-encoded values";
    let mut headers = HeaderMap::new();
    for (n, (key, value)) in pairs(name, text, HINT)?.into_iter().enumerate() {
        let key = HeaderName::try_from(key.to_ascii_lowercase());
        let value = HeaderValue::try_from(value);
        let (Ok(key), Ok(mut value)) = (key, value) else {
            return refuse(name, format!("has no valid header as entry {}", n + 1), HINT);
        };
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// The resource's attributes that the environment gives. The last of a name wins, and
/// `OTEL_SERVICE_NAME` over all.
fn resource(get: &impl Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, OtlpError> {
    const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let given = match get(NAME) {
        Some(text) => pairs(NAME, &text, "key=value,key=value with percent-encoded values")?,
        None => Vec::new(),
    };
    let service = get("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name));
    Ok(given.into_iter().chain(service).collect())
}

/// Reads a list of pairs. Faults name the entry by its place, not by its content.
fn pairs(name: &str, text: &str, hint: &'static str) -> Result<Vec<(String, String)>, OtlpError> {
    let mut pairs = Vec::new();
    for (n, entry) in text.split(',').enumerate() {
        if entry.trim().is_empty() {
            continue;
        }
        let pair = entry.split_once('=').and_then(|(key, value)| {
            let key = key.trim();
            (!key.is_empty()).then_some(())?;
            Some((key.to_owned(), percent_decoded(value.trim())?))
        });
        let Some(pair) = pair else {
            return refuse(name, format!("has no key=value as entry {}", n + 1), hint);
        };
        pairs.push(pair);
    }
    Ok(pairs)
}

/// `None` for a `%` without two digits, or bytes that are not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// The file that was named, else the system's bundle.
fn authorities(
    named: Option<(String, String)>,
    ssl_cert_file: Option<String>,
) -> Result<Authorities, OtlpError> {
    let system = || BUNDLES.into_iter().find(|path| std::path::Path::new(path).exists());
    let (name, path) = named
        .or_else(|| ssl_cert_file.map(|path| ("SSL_CERT_FILE".to_owned(), path)))
        .unwrap_or_else(|| {
            ("the system's bundle".to_owned(), system().unwrap_or(BUNDLES[0]).to_owned())
        });
    let fault = |source| OtlpError::Certificates { name, path: path.clone(), source };
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(e) => return Err(fault(e)),
    };
    let mut roots = RootCertStore::empty();
    // A bundle may hold some that rustls cannot use; one that it can is enough.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if roots.is_empty() {
        return Err(fault(io::Error::new(io::ErrorKind::InvalidData, "no certificate in PEM")));
    }
    Ok(Authorities { pem, roots })
}

fn number(
    get: &impl Fn(&str) -> Option<String>,
    name: &str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, OtlpError> {
    let Some(text) = get(name) else { return Ok(default) };
    match text.trim().parse::<u64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let why = format!("is not a number from {} to {}", range.start(), range.end());
            refuse(name, why, "times are in milliseconds")
        }
    }
}

fn refuse<T>(name: &str, why: impl Into<String>, hint: &'static str) -> Result<T, OtlpError> {
    Err(OtlpError::Setting { name: name.to_owned(), why: why.into(), hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Settings>, OtlpError> {
        Settings::read(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    const HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");

    #[test]
    fn nothing_is_exported_unless_an_endpoint_is_set() {
        for pairs in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "True")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")],
        ] {
            assert!(read(pairs).expect("valid").is_none(), "{pairs:?}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_specification() {
        let settings = read(&[ENDPOINT]).expect("valid").expect("something");
        let target = settings.traces.expect("traces");
        assert_eq!(target.protocol, Protocol::Grpc);
        assert_eq!(target.timeout, Duration::from_secs(10));
        assert!(settings.metrics.is_some());
        assert_eq!((settings.queue_max, settings.batch_max), (2048, 512));
        assert_eq!(settings.batch_delay, Duration::from_secs(5));
        assert_eq!(settings.metric_interval, Duration::from_secs(60));
    }

    #[test]
    fn a_signals_own_setting_overrules_the_common_one() {
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/mine");
        let settings = read(&[own, HTTP]).expect("valid").expect("something");
        assert!(settings.metrics.is_none());
        assert_eq!(settings.traces.expect("traces").uri.path(), "/mine");
        let common = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:2/base/");
        let settings = read(&[own, common, HTTP]).expect("valid").expect("something");
        assert_eq!(settings.traces.expect("traces").uri.path(), "/mine");
        assert_eq!(settings.metrics.expect("metrics").uri.path(), "/base/v1/metrics");
    }

    #[test]
    fn a_value_without_sense_is_refused_by_name_and_secrets_stay_unsaid() {
        for bad in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json s3cret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "s3cret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=%zzs3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,s3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=s3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0a"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret@host:1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "s3cret:4317"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/s3cret"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=s3cret"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
        ] {
            let error = read(&[bad, ENDPOINT]).expect_err(bad.1);
            assert!(error.to_string().starts_with(bad.0), "{error}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
        let secret = ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20s3cret, x=1");
        let settings = read(&[ENDPOINT, secret]).expect("valid").expect("something");
        assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
        let headers = settings.traces.expect("traces").headers;
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert_eq!(headers["x"], "1");
    }

    #[test]
    fn the_service_name_has_its_own_variable() {
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,host.name=b%2Cc");
        let settings = read(&[ENDPOINT, attributes, ("OTEL_SERVICE_NAME", "mine")]);
        let resource = settings.expect("valid").expect("something").resource;
        assert_eq!(resource.last().map(|(_, value)| value.as_str()), Some("mine"));
        assert_eq!(resource[1], ("host.name".to_owned(), "b,c".to_owned()));
    }
}
