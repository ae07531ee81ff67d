//! Reading such a file.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use super::{
    BASE64, FILE_BYTES_MAX, HEADER, KEYS_MAX, LineFault, PLAIN_BYTES_MAX, SecretError, SecretValue,
    Secrets, VALUE_BYTES_MAX,
};
use crate::manifest::SecretName;

/// Reads a file of secrets: one that somebody wrote by hand, or a canonical one. Lines that are
/// empty or begin with `#` say nothing; a `#` further on belongs to the value.
///
/// # Errors
/// Says which line is wrong, and never what is in it.
pub fn parse(bytes: &[u8]) -> Result<Secrets, SecretError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(SecretError::FileTooLarge);
    }
    let mut secrets = Secrets::new();
    let mut headed = false;
    for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        // What editors elsewhere end lines with. Any other carriage return is refused.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if !headed {
            header(line)?;
            headed = true;
            continue;
        }
        if line.starts_with(b"#") {
            continue;
        }
        let (name, value) =
            entry(line).map_err(|fault| SecretError::Line { line: n + 1, fault })?;
        if secrets.values.len() == KEYS_MAX {
            return Err(SecretError::TooMany);
        }
        if secrets.values.insert(name.clone(), value).is_some() {
            return Err(SecretError::Line { line: n + 1, fault: LineFault::Twice(name) });
        }
    }
    match headed {
        true if secrets.file_bytes() > FILE_BYTES_MAX => Err(SecretError::FileTooLarge),
        true => Ok(secrets),
        false => Err(SecretError::NoHeader),
    }
}

fn header(line: &[u8]) -> Result<(), SecretError> {
    if line == HEADER.as_bytes() {
        return Ok(());
    }
    let version = line.strip_prefix(b"# VYR_SECRETS_V").and_then(|rest| str::from_utf8(rest).ok());
    match version.and_then(|text| text.parse().ok()) {
        Some(version) if version != 1 => Err(SecretError::Version(version)),
        _ => Err(SecretError::NoHeader),
    }
}

fn entry(line: &[u8]) -> Result<(SecretName, SecretValue), LineFault> {
    let at = line.iter().position(|byte| *byte == b'=').ok_or(LineFault::NoEquals)?;
    // A name that is none may be a value that lost its line: it is not repeated.
    let name = str::from_utf8(&line[..at]).ok().and_then(|name| name.parse().ok());
    let name: SecretName = name.ok_or(LineFault::Name)?;
    let value = &line[at + 1..];
    if let Some(encoded) = value.strip_prefix(BASE64.as_bytes()) {
        return decoded(&name, encoded).map(|value| (name, value));
    }
    let fault = match () {
        () if value.contains(&b'\r') || value.contains(&0) => LineFault::Control(name),
        () if str::from_utf8(value).is_err() => LineFault::NotText(name),
        () if value.len() > PLAIN_BYTES_MAX => LineFault::PlainTooLarge(name),
        () => return Ok((name, SecretValue(Zeroizing::new(value.to_vec())))),
    };
    Err(fault)
}

fn decoded(name: &SecretName, encoded: &[u8]) -> Result<SecretValue, LineFault> {
    if encoded.len() > VALUE_BYTES_MAX.div_ceil(3) * 4 {
        return Err(LineFault::ValueTooLarge(name.clone()));
    }
    // As much room as it can need: what grows leaves copies behind.
    let mut room = Zeroizing::new(vec![0; encoded.len() / 4 * 3 + 3]);
    let length =
        Base64::decode(encoded, &mut room).map_err(|_| LineFault::Base64(name.clone()))?.len();
    if length > VALUE_BYTES_MAX {
        return Err(LineFault::ValueTooLarge(name.clone()));
    }
    room.truncate(length);
    Ok(SecretValue(room))
}
