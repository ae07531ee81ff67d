//! Files of a site that are changed for a deploy, and put back when no node has its plan.
//!
//! ```text
//! write --> deploy --taken--> they stay
//!              |----refused--> they are what they were, the lock too
//!              `----not known--> they stay, and that is said
//! ```
//!
//! While registries and nodes are asked others may change the site. What they wrote is left alone.

use std::process::ExitCode;

use vyr_node::Result;
use vyr_plan::intent::FILE_BYTES_MAX;
use vyr_plan::services::ServicesPlan;

use super::deploy::{Ended, Progress, Reached, carry_out};
use crate::cli::DeployOptions;
use crate::cmd::link::Place;
use crate::cmd::site::{self, Site};
use crate::output;

const LOCK: &str = "vyr.lock";

/// See the module.
pub(super) struct Edited {
    site: Site,
    files: Vec<File>,
}

struct File {
    name: String,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

impl Edited {
    /// Writes the files, in this order, each whole or not at all; nobody else changes the site
    /// meanwhile. If one cannot be written, those before it are put back.
    pub(super) fn write(site: Site, texts: Vec<(String, String)>) -> Result<Self> {
        let bytes = |name: &str| site.bytes(name, FILE_BYTES_MAX);
        let mut files = Vec::new();
        for (name, text) in texts {
            let before = bytes(&name)?;
            files.push(File { before, after: Some(text.into_bytes()), name });
        }
        // A deploy changes it, too.
        if files.iter().all(|file| file.name != LOCK) {
            let before = bytes(LOCK)?;
            files.insert(0, File { name: LOCK.into(), after: before.clone(), before });
        }
        let edited = Self { site, files };
        for file in edited.files.iter().filter(|file| file.before != file.after) {
            let written = edited.site.write(&file.name, file.after.as_deref().unwrap_or_default());
            if let Err(error) = written {
                return Err(match edited.restored(None) {
                    Ok(_) => error,
                    Err(also) => error.and(format!("what was written stays: {also}")),
                });
            }
        }
        Ok(edited)
    }

    /// The names of those that are other ones now.
    pub(super) fn changed(&self) -> Vec<&str> {
        let changed = self.files.iter().filter(|file| file.before != file.after);
        changed.map(|file| file.name.as_str()).collect()
    }

    /// Deploys what the files say now.
    pub(super) fn deploy(
        &self,
        place: &Place,
        how: DeployOptions,
        is_meant: impl FnOnce(&ServicesPlan) -> Result<()>,
        json: bool,
    ) -> Result<ExitCode> {
        let mut progress = Progress::default();
        let ended = carry_out(place, how, &mut progress, is_meant, json);
        let told = match progress.reached {
            Reached::Taken => None,
            Reached::Nowhere => self.put_back(progress.lock),
            Reached::Sent => Some(
                "whether the node has the plan is not known: vyr ps --why; the site's files stay as \
                 they were changed, for another vyr deploy"
                    .to_owned(),
            ),
        };
        match ended {
            Ok(Ended::Taken(code)) => Ok(code),
            Ok(Ended::Refused(refused)) => {
                told.iter().for_each(output::say);
                site::refuse(&refused, json)
            }
            Err(error) => Err(match told {
                Some(told) => error.and(told),
                None => error,
            }),
        }
    }

    /// Puts them back, and says so; none: there was nothing to put back.
    fn put_back(&self, lock: Option<String>) -> Option<String> {
        let restored = self.site.alone().and_then(|_alone| self.restored(lock));
        match restored {
            Ok(names) if names.is_empty() => None,
            Ok(names) if names.len() == 1 => Some(format!("{} is as it was", names[0])),
            Ok(names) => Some(format!("{} are as they were", names.join(" and "))),
            Err(error) => Some(format!(
                "what was changed stays ({error}): take {} from git",
                self.changed().join(" and ")
            )),
        }
    }

    /// The names of those that were put back. `lock`: what a deploy made of the lock.
    fn restored(&self, lock: Option<String>) -> Result<Vec<&str>> {
        let lock = lock.map(String::into_bytes);
        let mut restored = Vec::new();
        for file in self.files.iter().rev() {
            let now = self.site.bytes(&file.name, FILE_BYTES_MAX)?;
            let ours = match file.name == LOCK && lock.is_some() {
                true => &lock,
                false => &file.after,
            };
            if now == file.before {
                continue;
            }
            if now != *ours {
                output::say(format!("{} was changed meanwhile, and is left as it is", file.name));
                continue;
            }
            match &file.before {
                Some(before) => self.site.write(&file.name, before)?,
                None => self.site.remove(&file.name)?,
            }
            restored.push(file.name.as_str());
        }
        Ok(restored)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A site with two files and no lock, and both changed.
    fn changed() -> (tempfile::TempDir, Edited) {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["site.toml", "one", "two"] {
            fs::write(directory.path().join(name), format!("{name} before")).expect("a file");
        }
        let site = Site::find(Some(directory.path())).expect("a site");
        let text = |name: &str| (name.to_owned(), format!("{name} after"));
        let edited = Edited::write(site, vec![text("one"), text("two")]).expect("they are written");
        (directory, edited)
    }

    fn text(directory: &tempfile::TempDir, name: &str) -> Option<String> {
        fs::read_to_string(directory.path().join(name)).ok()
    }

    #[test]
    fn what_was_changed_is_put_back_with_the_lock_that_was_made_of_it() {
        let (directory, edited) = changed();
        assert_eq!(text(&directory, "one").as_deref(), Some("one after"));
        assert_eq!(edited.changed(), ["one", "two"]);
        fs::write(directory.path().join(LOCK), "of the deploy").expect("a file");
        let told = edited.put_back(Some("of the deploy".into()));
        assert_eq!(told.as_deref(), Some("two and one and vyr.lock are as they were"));
        assert_eq!(text(&directory, "one").as_deref(), Some("one before"));
        assert_eq!(text(&directory, "two").as_deref(), Some("two before"));
        assert_eq!(text(&directory, LOCK), None, "there was none");
        assert_eq!(edited.put_back(None), None, "nothing is left to put back");
    }

    #[test]
    fn what_somebody_else_wrote_is_left_alone() {
        let (directory, edited) = changed();
        fs::write(directory.path().join("one"), "another's").expect("a file");
        fs::write(directory.path().join(LOCK), "another's").expect("a file");
        assert_eq!(
            edited.put_back(Some("of the deploy".into())).as_deref(),
            Some("two is as it was")
        );
        assert_eq!(text(&directory, "one").as_deref(), Some("another's"));
        assert_eq!(text(&directory, LOCK).as_deref(), Some("another's"));
    }

    #[test]
    fn files_that_cannot_all_be_written_are_what_they_were() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["site.toml", "one"] {
            fs::write(directory.path().join(name), "before").expect("a file");
        }
        let site = Site::find(Some(directory.path())).expect("a site");
        // As long as a name may be: what is written beside it first has a longer one.
        let texts = ["one".to_owned(), "x".repeat(250)].map(|name| (name, "after".to_owned()));
        assert!(Edited::write(site, texts.into()).is_err());
        assert_eq!(text(&directory, "one").as_deref(), Some("before"));
    }
}
