//! A manifest's file is read: every fault of its form and of the rules, each with its place.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use vyr_base::form::{At, Name, Reader};
use vyr_base::{Diagnostic, Source};

use super::file::{HealthKind, ManifestFile, ProcessTable, RouteTable};
use super::{Fault, Manifest, Spot, normal, rules, text};
use crate::refuse;

static MANIFEST: LazyLock<Reader<ManifestFile>> =
    LazyLock::new(|| Reader::new(&text::FORMS, refuse::key));

/// Bytes of a manifest's file: many times what anybody writes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Faults that are told; a file with more is another file.
const FAULTS_MAX: usize = 200;

/// A manifest that was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// What it means.
    pub manifest: Manifest,
    /// The file with its places, for faults between several services.
    pub file: ManifestFile,
    /// For each of the manifest's routes, its place in `file.routes`.
    pub routes: Vec<usize>,
    /// What is taken, and somebody should look at.
    pub warnings: Vec<Diagnostic>,
}

/// Reads the manifest of the service `name`, which is the stem of its file.
///
/// # Errors
/// Every fault, in the order of the text; with the warnings.
pub fn read(name: &str, source: &Source) -> Result<Read, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let service = match name.parse::<Name>() {
        Ok(name) => Some(name),
        Err(error) => {
            let what = format!("{} is no name of a service", source.name());
            let fault = Diagnostic::error("service-name", what).why(error.why);
            faults
                .push(fault.hint("the file's name is the service's: name it so, such as web.toml"));
            None
        }
    };
    if source.text().len() > FILE_BYTES_MAX {
        let what = format!("{} has {} bytes", source.name(), source.text().len());
        let fault = Diagnostic::error("too-large", what).why(format!("at most {FILE_BYTES_MAX}"));
        return Err(vec![fault.hint("put what is long into a file of the image")]);
    }
    let found = MANIFEST.read(source, &mut faults);
    // A file of another kind has a fault in every line: what it is says more than all of them.
    if !faults.is_empty()
        && let Some(refusal) = refuse::look(source.name(), source.text().as_bytes())
    {
        let fault = Diagnostic::error("not-a-manifest", refusal.what()).at(source.place(0..0));
        return Err(vec![fault.why(refusal.why).hint(refusal.instead)]);
    }
    let Some(file) = found.value else { return Err(in_order(faults)) };
    form(&file, source, &mut faults);
    warn(&file, source, &mut faults);
    let Some(service) = service.or_else(|| "stand-in".parse().ok()) else {
        return Err(in_order(faults));
    };
    let (manifest, routes) = normal::normalise(&service, &file);
    for fault in rules::faults(&manifest) {
        let span = place(&fault.spot, &file, &routes);
        // With a part missing, most rules would tell of what is missing.
        if found.whole || (is_of_one_value(&fault.spot) && !span.is_empty()) {
            let told = Diagnostic::error(fault.id, fault.what).at(source.place(span));
            faults.push(told.why(fault.why).hint(fault.hint));
        }
    }
    let faults = in_order(faults);
    match faults.iter().any(Diagnostic::is_error) {
        true => Err(faults),
        false => Ok(Read { manifest, file, routes, warnings: faults }),
    }
}

/// Faults in the order of the text, a bounded number; those without a place come first.
fn in_order(mut faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    faults.sort_by_key(|fault| fault.place.as_ref().map(|place| (place.line, place.column)));
    if let Some(more) = faults.len().checked_sub(FAULTS_MAX).filter(|more| *more > 0) {
        faults.truncate(FAULTS_MAX);
        let fault = Diagnostic::error("too-many", format!("there are {more} more faults"));
        let hint = "mend these first: one of them may be the cause of the others";
        faults.push(fault.hint(hint));
    }
    faults
}

/// Whether a rule about it looks at nothing else.
fn is_of_one_value(spot: &Spot) -> bool {
    matches!(spot, Spot::Memory(_) | Spot::Disk(_) | Spot::Command(_) | Spot::Prestart(_))
}

/// Where something stands.
fn place(spot: &Spot, file: &ManifestFile, routes: &[usize]) -> Range<usize> {
    let named = |name: &Name| {
        file.processes.get_key_value(name).map_or((0..0, None), |(key, of)| (key.span(), Some(of)))
    };
    let within = |name: &Name, part: fn(&ProcessTable) -> Option<Range<usize>>| {
        let (span, process) = named(name);
        process.and_then(part).unwrap_or(span)
    };
    match spot {
        Spot::Service => 0..0,
        Spot::Process(name) => named(name).0,
        Spot::Command(name) => within(name, |of| of.command.as_ref().map(At::span)),
        Spot::Prestart(name) => {
            let own = |of: &ProcessTable| of.prestart.as_ref().map(At::span);
            let env = file.env.prestart.as_ref().map(At::span);
            named(name).1.and_then(own).or(env).unwrap_or_default()
        }
        Spot::Memory(name) => within(name, |of| Some(of.resources.memory.span())),
        Spot::Disk(name) => within(name, |of| of.resources.disk.as_ref().map(At::span)),
        Spot::Health(name) => within(name, |of| of.health.as_ref().map(At::span)),
        Spot::Route(at) => {
            let route = routes.get(*at).and_then(|at| file.routes.get(*at));
            route.map_or(0..0, |route| match &route.hostname {
                Some(name) => name.span(),
                None => route.port.span(),
            })
        }
        Spot::Secrets => file.secrets.span(),
    }
}

/// What the normalised form cannot say, and the file can.
fn form(file: &ManifestFile, source: &Source, faults: &mut Vec<Diagnostic>) {
    let mut tell = |span: Range<usize>, id, what: String, why: &str, hint: String| {
        faults.push(Diagnostic::error(id, what).at(source.place(span)).why(why).hint(hint));
    };
    for (name, process) in &file.processes {
        let mut ports = BTreeSet::new();
        for port in &process.ports {
            if !ports.insert(&port.name) {
                let what = format!("{name} has two ports {}", port.name);
                let why = "routes find a port by its name";
                tell(port.span(), "port-twice", what, why, "give one of them another name".into());
            }
        }
        let (min, max) = (process.scale.min.as_ref(), process.scale.max.as_ref());
        let count = min.map_or(1, |min| **min);
        let read = min.is_none_or(At::is_written);
        if let Some(max) = max.filter(|max| read && max.is_written() && ***max != count) {
            let what = format!("{name} is to be {count} to {} instances", **max);
            let hint = format!("write min = {count} alone; change it with vyr scale");
            tell(max.span(), "autoscale", what, refuse::AUTOSCALE_WHY, hint);
        }
        if let Some(health) = &process.health
            && *health.kind == HealthKind::Tcp
            && health.kind.is_written()
            && health.path.is_some()
        {
            let what = format!("the check of {name} has a path and is no HTTP");
            let hint = "write type = \"http\", or take `path` out".into();
            tell(health.span(), "health-path", what, "only HTTP asks for a path", hint);
        }
    }
    for route in &file.routes {
        proxy_protocol(route, &mut tell);
    }
    let none = file.secrets.none.as_ref();
    if !file.secrets.is_written() || none.is_some_and(|none| !none.is_written()) {
        return;
    }
    let required = file.secrets.required.as_ref().filter(|names| !names.is_empty());
    let fault = match (none.is_some_and(|none| **none), required.is_some()) {
        (true, true) => "`secrets` names some and says that there are none",
        (false, false) => "`secrets` says neither which nor that there are none",
        _ => return,
    };
    tell(
        file.secrets.span(),
        "secrets-unsaid",
        fault.into(),
        "nothing starts before it was said what it may not start without",
        "write required = [\"NAME\"], or none = true".into(),
    );
}

/// The two keys of a PROXY header stand together or not at all: one is what the ingress does, the
/// other what the process was made to wait for.
fn proxy_protocol(
    route: &RouteTable,
    tell: &mut impl FnMut(Range<usize>, &'static str, String, &str, String),
) {
    let set = |flag: &Option<At<bool>>| flag.as_ref().filter(|flag| ***flag).map(At::span);
    match (set(&route.proxy_protocol), set(&route.backend_expects_proxy_protocol)) {
        (Some(span), None) => tell(
            span,
            "proxy-protocol",
            "a PROXY header is sent to a process of which nobody said that it waits for one".into(),
            "a process that does not takes the header for the client's first bytes",
            "write backend_expects_proxy_protocol = true, if it does".into(),
        ),
        (None, Some(span)) => tell(
            span,
            "proxy-protocol",
            "a process waits for a PROXY header that is not sent".into(),
            "it would wait for ever, or believe a header that a client wrote",
            "write proxy_protocol = true as well".into(),
        ),
        _ => {}
    }
}

/// Words in a variable's name that say that its value is for nobody else.
const SECRET_WORDS: [&str; 9] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "API_KEY",
    "PRIVATE_KEY",
    "CREDENTIAL",
];

/// Whether a variable of this name looks like a secret; names of files that hold one do not.
fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let elsewhere = ["_FILE", "_PATH", "_DIR", "_URL"].iter().any(|end| name.ends_with(end));
    !elsewhere && SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn warn(file: &ManifestFile, source: &Source, faults: &mut Vec<Diagnostic>) {
    let vars = file.env.vars.keys().chain(file.processes.values().flat_map(|of| of.vars.keys()));
    for name in vars.filter(|name| looks_secret(name.as_str())) {
        let warning = Diagnostic::error("secret-in-env", format!("{name} looks like a secret"))
            .warning()
            .at(source.place(name.span()))
            .why("variables are in the plan, which everybody reads, and in every child of the process")
            .hint(format!(
                "vyr secret set {name}: the process finds it in /run/secrets/platform.env"
            ));
        faults.push(warning);
    }
}

impl Read {
    /// Where something of the manifest stands in the file.
    pub fn place(&self, fault: &Fault) -> Range<usize> {
        place(&fault.spot, &self.file, &self.routes)
    }
}
