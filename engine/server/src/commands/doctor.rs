//! `isocenter doctor`: examines the installation, and repairs it.

use std::process::ExitCode;

use clap::Args;
use inference::{ModelStore, StoreError};
use plugin_host::{ConfinementGap, confinement_gap};
use store::Check;
use upkeep::repair::{Depth, ExaminedInstallation, RepairError};

use super::Execute;
use crate::database::Opener;
use crate::installation::ListArgs;
use crate::operator::operator;
use crate::output::{Failure, exit_code, list};

/// Examines database, files, keys and trail for damage. The exit code is 1 if any is left.
#[derive(Args)]
pub(crate) struct Doctor {
    /// Repair what can be repaired without loss, take the rest out of use, and record both.
    #[arg(long)]
    repair: bool,
    /// Read the bytes of all images and messages.
    #[arg(long)]
    read_all: bool,
    #[command(flatten)]
    list: ListArgs,
}

const HEADINGS: [&str; 3] = ["", "check", "found"];

const PLUGINS_CONFINED: &str = "a plugin can read the images of its own run only";

const PAGES_READ_TWICE: &str = "two recognitions can read scans";

impl Execute for Doctor {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let installation = self.list.installation.read()?;
        let database = installation.open_database(Opener::Command).await?;
        let examined = ExaminedInstallation {
            store: &database.store,
            owner: &database.owner,
            data: &installation.data,
        };
        let depth = if self.read_all { Depth::Full } else { Depth::Quick };
        let outcome = examine(&examined, depth, self.repair).await;
        database.close().await;
        let mut checks = outcome.map_err(|error| match error {
            RepairError::Store(error) => Failure::database(&error),
            RepairError::Disk(error) => {
                Failure::from_error("the archive cannot be examined", &error)
            }
        })?;
        let gap = confinement_gap(&installation.data);
        let is_allowed = installation.config.allow_unconfined_plugins;
        checks.push(confinement_check(gap.as_ref(), is_allowed));
        checks.push(page_reader_check(&ModelStore::new(installation.data.join("models"))));
        list(self.list.json, &checks, &HEADINGS, |it| {
            let mark = if it.is_good { "ok" } else { "!!" };
            vec![mark.to_owned(), it.name.to_owned(), it.found.clone()]
        })?;
        Ok(exit_code(checks.iter().all(|it| it.is_good)))
    }
}

async fn examine(
    installation: &ExaminedInstallation<'_>,
    depth: Depth,
    is_to_repair: bool,
) -> Result<Vec<Check>, RepairError> {
    installation.store.ping().await?;
    if is_to_repair {
        installation.repair(depth, &operator()).await
    } else {
        installation.examine(depth).await
    }
}

/// The check of the confinement of plugins: what the system lacks for it, and whether the site
/// allows that.
fn confinement_check(gap: Option<&ConfinementGap>, is_allowed: bool) -> Check {
    let found = match (gap, is_allowed) {
        (None, false) => "yes".to_owned(),
        (None, true) => "the system can ensure it: remove `allow_unconfined_plugins`".to_owned(),
        (Some(gap), true) => {
            let remedy = gap.remedy();
            format!("plugins can read every file of the engine: {gap}; {remedy}")
        }
        (Some(gap), false) => format!("the engine does not start: {gap}; {}", gap.remedy()),
    };
    let is_good = gap.is_none() && !is_allowed;
    Check { name: PLUGINS_CONFINED, is_good, found, is_guard: false }
}

/// The check of the models that read print: a site need not have them, but not others.
fn page_reader_check(models: &ModelStore) -> Check {
    let (is_good, found) = match models.verify(page_models::NAME) {
        Ok(_) => (true, "yes".to_owned()),
        Err(StoreError::Missing { .. }) => {
            let title = page_models::TITLE;
            (
                true,
                format!("no, Tesseract alone: {title} is not imported (`isocenter model import`)"),
            )
        }
        Err(error) => (false, domain::ErrorChain(&error).to_string()),
    };
    Check { name: PAGES_READ_TWICE, is_good, found, is_guard: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pap_31_a_site_without_a_second_reader_of_pages_is_sound_and_told() {
        let check = page_reader_check(&ModelStore::new("/nowhere".into()));
        assert!(check.is_good && check.found.contains("isocenter model import"), "{}", check.found);
    }

    #[test]
    fn sec_31_plugins_without_confinement_are_a_finding_each_time() {
        let gap = ConfinementGap::NoLandlock;
        assert!(confinement_check(None, false).is_good);
        for (gap, is_allowed, expected) in [
            (Some(&gap), true, "every file of the engine: this kernel has no Landlock"),
            (Some(&gap), false, "does not start: this kernel has no Landlock"),
            (None, true, "remove `allow_unconfined_plugins`"),
        ] {
            let check = confinement_check(gap, is_allowed);
            assert!(!check.is_good && check.found.contains(expected), "{}", check.found);
        }
    }
}
