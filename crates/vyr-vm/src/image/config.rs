//! An image's config: what runs in it, as whom, with what.

use serde::{Deserialize, Serialize};
use vyr_base::{Category, Digest, Problem};

/// Most words of a command line, and most variables.
const WORDS_MAX: usize = 4096;

/// Longest word, variable or path, in bytes: Linux takes 128 KiB at most.
const WORD_BYTES_MAX: usize = 128 << 10;

/// Most layers a config lists.
const DIFF_IDS_MAX: usize = 4096;

/// A config is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is no JSON of the right shape.
    #[error("the image's config cannot be read")]
    Json(#[source] serde_json::Error),
    /// For another machine.
    #[error("the image is for {os}/{architecture}, not for linux/amd64")]
    Platform {
        /// Its operating system, cut to 40 characters.
        os: String,
        /// Its architecture, cut to 40 characters.
        architecture: String,
    },
    /// A field that cannot be used.
    #[error("the image's config has a {field} that {why}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Problem for ConfigError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Json(_) => None,
            Self::Platform { .. } => Some("build the image for linux/amd64".into()),
            Self::Field { .. } => Some("build the image again with this field mended".into()),
        }
    }
}

/// Which signal asks the service to end, by its number on Linux, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopSignal(pub u8);

/// What an image says about running it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The program and its first arguments; may be empty.
    pub entrypoint: Vec<String>,
    /// The arguments behind them, or the program if there is no entrypoint.
    pub cmd: Vec<String>,
    /// Names and values, in their order.
    pub env: Vec<(String, String)>,
    /// As the image spells it: a name or a number, with `:group` or without; empty is root.
    pub user: String,
    /// An absolute path; `/` if the image names none.
    pub working_dir: String,
    /// SIGTERM if the image names none.
    pub stop_signal: StopSignal,
    /// Digests of the layers' tar archives, the lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    config: Option<Run>,
    rootfs: Option<RootFs>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

impl Config {
    /// Reads a config.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let document: Document = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        if (document.os.as_str(), document.architecture.as_str()) != ("linux", "amd64") {
            let cut = |text: &str| super::fault::shown(text.as_bytes()).chars().take(40).collect();
            let (os, architecture) = (cut(&document.os), cut(&document.architecture));
            return Err(ConfigError::Platform { os, architecture });
        }
        let run = document.config.unwrap_or_default();
        let entrypoint = words("Entrypoint", run.entrypoint)?;
        let cmd = words("Cmd", run.cmd)?;
        let env = words("Env", run.env)?;
        let pair = |variable: String| match variable.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(field("Env", "has a variable that is no NAME=VALUE")),
        };
        let env = env.into_iter().map(pair).collect::<Result<_, _>>()?;
        let user = word("User", run.user.unwrap_or_default())?;
        let working_dir = match word("WorkingDir", run.working_dir.unwrap_or_default())? {
            empty if empty.is_empty() => "/".to_owned(),
            path if path.starts_with('/') => path,
            _ => return Err(field("WorkingDir", "is no absolute path")),
        };
        let stop_signal = match run.stop_signal.as_deref() {
            None | Some("") => StopSignal(15),
            Some(text) => signal(text).ok_or_else(|| field("StopSignal", "Linux does not have"))?,
        };
        let diff_ids = document.rootfs.map(|rootfs| rootfs.diff_ids).unwrap_or_default();
        if diff_ids.len() > DIFF_IDS_MAX {
            return Err(field("rootfs", "lists too many layers"));
        }
        Ok(Self { entrypoint, cmd, env, user, working_dir, stop_signal, diff_ids })
    }
}

fn field(field: &'static str, why: &'static str) -> ConfigError {
    ConfigError::Field { field, why }
}

fn word(name: &'static str, word: String) -> Result<String, ConfigError> {
    if word.len() > WORD_BYTES_MAX {
        return Err(field(name, "is too long"));
    }
    if word.contains('\0') {
        return Err(field(name, "has a zero byte"));
    }
    Ok(word)
}

fn words(name: &'static str, words: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
    let words = words.unwrap_or_default();
    if words.len() > WORDS_MAX {
        return Err(field(name, "has too many words"));
    }
    words.into_iter().map(|one| word(name, one)).collect()
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`: as they are numbered on x86-64.
fn signal(text: &str) -> Option<StopSignal> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    /// Where the real-time signals begin and end, as the C library counts them.
    const RTMIN: u8 = 34;
    const RTMAX: u8 = 64;
    let upper = text.to_ascii_uppercase();
    let number = match upper.parse::<u8>() {
        Ok(number) => number,
        Err(_) => {
            let name = upper.strip_prefix("SIG").unwrap_or(&upper);
            if let Some(rest) = name.strip_prefix("RTMIN") {
                match rest.strip_prefix('+') {
                    Some(more) => RTMIN.checked_add(more.parse().ok()?)?,
                    None if rest.is_empty() => RTMIN,
                    None => return None,
                }
            } else if let Some(rest) = name.strip_prefix("RTMAX") {
                match rest.strip_prefix('-') {
                    Some(less) => RTMAX.checked_sub(less.parse().ok()?)?,
                    None if rest.is_empty() => RTMAX,
                    None => return None,
                }
            } else {
                u8::try_from(NAMES.iter().position(|known| *known == name)? + 1).ok()?
            }
        }
    };
    (1..=RTMAX).contains(&number).then_some(StopSignal(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: &str) -> Result<Config, ConfigError> {
        let text = format!(r#"{{"os":"linux","architecture":"amd64","config":{config}}}"#);
        Config::parse(text.as_bytes())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = parse("{}").expect("an empty config");
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("", "/"));
        assert_eq!(config.stop_signal, StopSignal(15));
        assert!(config.entrypoint.is_empty() && config.env.is_empty());
        assert_eq!(parse(r#"{"Entrypoint":null,"Env":null}"#).expect("nulls"), config);
    }

    #[test]
    fn signals_have_their_numbers() {
        for (text, number) in
            [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(signal(text), Some(StopSignal(number)), "{text}");
        }
        for text in ["", "0", "65", "SIGNONE", "RTMIN+31", "RTMIN3", "-1", "RTMIN+"] {
            assert_eq!(signal(text), None, "{text}");
        }
    }

    #[test]
    fn fields_that_cannot_be_used_are_named() {
        for (config, name) in [
            (r#"{"Env":["=x"]}"#, "Env"),
            (r#"{"WorkingDir":"app"}"#, "WorkingDir"),
            (r#"{"StopSignal":"SIGNONE"}"#, "StopSignal"),
            (r#"{"Cmd":["a\u0000b"]}"#, "Cmd"),
        ] {
            let refused = parse(config).expect_err(config);
            assert!(refused.to_string().contains(name), "{refused}");
        }
    }
}
