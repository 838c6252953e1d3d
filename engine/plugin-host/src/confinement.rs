//! Whether this system can confine plugins (SEC-31), asked before any is started.
//!
//! The kernel may be too old, or the engine's data may lie where every plugin reads. `sandbox` asks
//! for the same when it confines a process.

use std::path::{Path, PathBuf};

use landlock::{Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};

use crate::sandbox::{LANDLOCK_MIN, SYSTEM_FOLDERS, system_settings};

/// Why plugins cannot be confined to the files of their calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfinementGap {
    /// The kernel restricts no access to files.
    #[error("this kernel has no Landlock, or it is switched off")]
    NoLandlock,
    /// The engine's data lie in a folder of the system.
    #[error("the data folder lies below `{}`, which plugins can read", folder.display())]
    ReadableData {
        /// The folder of the system.
        folder: PathBuf,
    },
}

impl ConfinementGap {
    /// What closes the gap, as the end of a sentence.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoLandlock => {
                "use Linux 5.13 or later with `landlock` among its security modules (`lsm=`), and a \
                 container that allows its calls"
            }
            Self::ReadableData { .. } => "move the data folder, for example to /var/lib/isocenter",
        }
    }
}

/// Why plugins cannot be confined on this system, with the engine's files in `data`. Nothing if
/// they can.
pub fn confinement_gap(data: &Path) -> Option<ConfinementGap> {
    if !has_landlock() {
        return Some(ConfinementGap::NoLandlock);
    }
    readable_parent(data).map(|folder| ConfinementGap::ReadableData { folder })
}

/// Whether the kernel restricts every kind of access that has to be.
fn has_landlock() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::from_all(LANDLOCK_MIN)).is_ok()
}

/// The folder of the system that `data` lies in, if any.
fn readable_parent(data: &Path) -> Option<PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let data = real(data);
    let folders = SYSTEM_FOLDERS.iter().map(PathBuf::from).chain(system_settings());
    folders.map(|it| real(&it)).find(|it| data.starts_with(it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::Scratch;
    use crate::sandbox::tests::without_landlock;

    #[test]
    fn sec_31_a_kernel_without_landlock_confines_nothing() {
        let scratch = Scratch::new();
        let folder = scratch.0.clone();
        without_landlock(move || {
            assert_eq!(confinement_gap(&folder), Some(ConfinementGap::NoLandlock));
        });
        assert_eq!(confinement_gap(&scratch.0), None);
    }

    #[test]
    fn sec_31_data_that_lie_in_a_folder_of_the_system_are_readable() {
        let found = confinement_gap(Path::new("/usr/share"));
        assert_eq!(found, Some(ConfinementGap::ReadableData { folder: "/usr".into() }));
    }
}
