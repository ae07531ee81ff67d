//! Target of `vyr-service`: a file of secrets, with a reader of its own beside it.

use std::collections::BTreeMap;

use vyr_service::manifest::SecretName;
use vyr_service::secret::{FILE_BYTES_MAX, KEYS_MAX, VALUE_BYTES_MAX, parse};

use crate::base64;
use crate::checks::problem;

/// The input is what an age file had inside.
pub fn secrets_file(input: &[u8]) {
    let model = model(input);
    match parse(input) {
        Err(error) => {
            problem(&error);
            assert!(model.is_none(), "what is good was refused: {error}");
        }
        Ok(secrets) => {
            let model = model.expect("what is no file of secrets was taken");
            let names: Vec<String> = secrets.names().map(ToString::to_string).collect();
            assert!(names.iter().eq(model.keys()), "other names were read");
            for (name, value) in &model {
                let name: SecretName = name.parse().expect("it was taken");
                let read = secrets.get(&name).expect("it was named").expose();
                assert!(read == value, "another value was read");
            }
            let text = secrets.to_bytes();
            assert!(text.len() == secrets.file_bytes() && text.len() <= FILE_BYTES_MAX);
            assert!(text.ends_with(b"\n") && !text.contains(&b'\r') && !text.contains(&0));
            let again = parse(&text).expect("its own text");
            assert!(again == secrets && *again.to_bytes() == *text, "it has two texts");
        }
    }
}

/// The names and values of a file; `None`: it is none.
fn model(input: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut headed = false;
    if input.len() > FILE_BYTES_MAX {
        return None;
    }
    for line in input.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line, headed) {
            (b"", _) => continue,
            (b"# VYR_SECRETS_V1", false) => {
                headed = true;
                continue;
            }
            (_, false) => return None,
            ([b'#', ..], true) => continue,
            (_, true) => {}
        }
        let at = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (String::from_utf8(line[..at].to_vec()).ok()?, &line[at + 1..]);
        let first = |c: char| c.is_ascii_uppercase() || c == '_';
        let named = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
        let value = match value.strip_prefix(b"base64:") {
            Some(text) => base64::decode(str::from_utf8(text).ok()?)?,
            None => {
                let text = str::from_utf8(value).ok()?;
                (value.len() <= 8192 && !text.contains(['\r', '\0'])).then(|| value.to_vec())?
            }
        };
        let fits = named && name.len() <= 128 && value.len() <= VALUE_BYTES_MAX;
        if !fits || found.len() == KEYS_MAX || found.insert(name, value).is_some() {
            return None;
        }
    }
    headed.then_some(found)
}

/// What the corpus begins with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let file = |lines: &str| format!("# VYR_SECRETS_V1\n{lines}").into_bytes();
    let long = "x".repeat(8192);
    vec![
        ("none", file("")),
        ("plain", file("DATABASE_URL=postgres://u:p@h/d?a=b#c\nTOKEN=\n")),
        ("bytes", file("A=base64:/wA=\nB=base64:YmFzZTY0OllRPT0=\n")),
        ("by-hand", b"\r\n# VYR_SECRETS_V1\r\n# comment\r\n\r\nB=2\r\nA=1".to_vec()),
        ("longest-plain", file(&format!("A={long}\n"))),
        ("too-long-plain", file(&format!("A={long}x\n"))),
        ("no-header", b"A=1\n".to_vec()),
        ("version-2", b"# VYR_SECRETS_V2\nA=1\n".to_vec()),
        ("twice", file("A=1\nB=2\nA=3\n")),
        ("return", file("A=1\r2\n")),
        ("nul", file("A=1\0\n")),
        ("no-text", [&file("A=")[..], b"\xff\n"].concat()),
        ("not-padded", file("A=base64:YQ\n")),
        ("bits-left-over", file("A=base64:YR==\n")),
        ("lower-case", file("token=1\n")),
        ("many", file(&(0..257).map(|n| format!("K{n}=\n")).collect::<String>())),
    ]
}
