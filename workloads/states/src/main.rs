//! `states COMMAND..`: each argument is one step on files or keys, and prints one line: `ok` and
//! what was found, or `error` and the number of the fault. README.md lists the steps.
//!
//! A step that fails does not end the guest: the next one shows that the state is still usable.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Seek, SeekFrom, Write};

#[cfg(target_env = "p2")]
mod keys;
#[cfg(target_env = "p2")]
mod raw;

/// A step's own way to say what went wrong.
enum Fault {
    Io(io::Error),
    #[cfg_attr(not(target_env = "p2"), expect(dead_code, reason = "keys are in preview 2 only"))]
    Text(String),
    Usage,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn main() {
    for line in std::env::args().skip(1) {
        let words: Vec<&str> = line.split(' ').collect();
        match step(&words) {
            Ok(found) if found.is_empty() => println!("ok"),
            Ok(found) => println!("ok {found}"),
            Err(Fault::Io(error)) => match error.raw_os_error() {
                Some(number) => println!("error {number}"),
                None => println!("error {error}"),
            },
            Err(Fault::Text(text)) => println!("error {text}"),
            Err(Fault::Usage) => println!("usage {line}"),
        }
    }
}

fn step(words: &[&str]) -> Result<String, Fault> {
    #[cfg(target_env = "p2")]
    if words[0].starts_with("key") {
        return keys::step(words);
    }
    #[cfg(target_env = "p2")]
    if words[0].starts_with("raw") {
        return raw::step(words);
    }
    match *words {
        ["write", path, text] => fs::write(path, text)?,
        ["write", path, text, times] => fs::write(path, text.repeat(number(times)?))?,
        ["append", path, text] => {
            OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())?;
        }
        ["write-at", path, offset, text] => {
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.seek(SeekFrom::Start(number(offset)?))?;
            file.write_all(text.as_bytes())?;
        }
        ["create-new", path] => drop(File::create_new(path)?),
        ["read", path] => return Ok(fs::read_to_string(path)?),
        ["read-at", path, offset, length] => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(number(offset)?))?;
            let mut text = String::new();
            file.take(number(length)?).read_to_string(&mut text)?;
            return Ok(text.replace('\0', "0"));
        }
        ["size", path] => return Ok(fs::metadata(path)?.len().to_string()),
        ["set-size", path, size] => {
            OpenOptions::new().write(true).open(path)?.set_len(number(size)?)?;
        }
        ["list", path] => {
            let names: io::Result<Vec<_>> = fs::read_dir(path)?
                .map(|entry| {
                    let entry = entry?;
                    let mark = if entry.file_type()?.is_dir() { "/" } else { "" };
                    Ok(format!("{}{mark}", entry.file_name().to_string_lossy()))
                })
                .collect();
            return Ok(names?.join(" "));
        }
        ["mkdir", path] => fs::create_dir_all(path)?,
        ["rmdir", path] => fs::remove_dir(path)?,
        ["remove", path] => fs::remove_file(path)?,
        ["remove-all", path] => fs::remove_dir_all(path)?,
        ["rename", from, to] => fs::rename(from, to)?,
        ["touch", path] => {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(7);
            OpenOptions::new().read(true).open(path)?.set_modified(time)?;
        }
        ["modified", path] => {
            let since = fs::metadata(path)?.modified()?.duration_since(std::time::UNIX_EPOCH);
            return Ok(since.map_err(io::Error::other)?.as_nanos().to_string());
        }
        ["marker", path, hex] => fs::write(path, marker(hex))?,
        // Reads and tells only the length.
        ["look", path] => return Ok(fs::read(path)?.len().to_string()),
        ["many", path, count] => {
            for n in 0..number::<u32>(count)? {
                File::create(format!("{path}/{n}"))?;
            }
        }
        ["increment", path, times] => {
            for _ in 0..number::<u32>(times)? {
                OpenOptions::new().append(true).open(path)?.write_all(b"+")?;
            }
        }
        // Waits for another task to write the file.
        ["await", path] => while fs::metadata(path).is_err() {},
        // File calls without an end.
        ["stat-for-ever", path] => loop {
            let _ = black_box(fs::metadata(path));
        },
        ["write-for-ever", path] => loop {
            fs::write(path, "again")?;
        },
        ["trap"] => std::process::abort(),
        ["exhaust"] => loop {
            let mut more: Vec<u8> = Vec::new();
            if more.try_reserve_exact(1 << 20).is_err() {
                std::process::abort();
            }
            black_box(more.leak());
        },
        _ => return Err(Fault::Usage),
    }
    Ok(String::new())
}

/// A kilobyte that nobody else writes, made from eight hexadecimal digits: no part of it is in the
/// guest or on its command line.
fn marker(hex: &str) -> Vec<u8> {
    let mut word = u32::from_str_radix(hex, 16).unwrap_or(0);
    let mut bytes = Vec::with_capacity(1024);
    for _ in 0..256 {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, Fault> {
    text.parse().map_err(|_| Fault::Usage)
}
