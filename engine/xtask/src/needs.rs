//! What has to be on the machine.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Outcome, heading};

/// Something the commands need: a package of Debian, and how to tell that it is there.
pub(crate) struct Need {
    package: &'static str,
    is_there: fn() -> bool,
}

/// The server programs of PostgreSQL 15 or newer.
pub(crate) const POSTGRESQL: Need = Need { package: "postgresql", is_there: has_postgresql };

/// A modality and a PACS that are not ours.
pub(crate) const DCMTK: Need = Need { package: "dcmtk", is_there: || is_on_path("storescu") };

/// A PACS that keeps what it gets, and is not ours.
pub(crate) const ORTHANC: Need =
    Need { package: "orthanc", is_there: || Path::new("/usr/sbin/Orthanc").exists() };

/// A validator of DICOM objects that is not ours.
pub(crate) const DICOM3TOOLS: Need =
    Need { package: "dicom3tools", is_there: || is_on_path("dciodvfy") };

/// A reader of PDF that is not ours.
pub(crate) const POPPLER: Need =
    Need { package: "poppler-utils", is_there: || is_on_path("pdfinfo") };

/// What reports as PDF are written with.
pub(crate) const FONTS: Need =
    Need { package: "fonts-dejavu-core", is_there: || has_font("dejavu/DejaVuSans.ttf") };

/// The same for Chinese and Japanese.
pub(crate) const CJK_FONTS: Need = Need {
    package: "fonts-droid-fallback",
    is_there: || has_font("droid/DroidSansFallbackFull.ttf"),
};

/// The same for Hangul.
pub(crate) const HANGUL_FONTS: Need =
    Need { package: "fonts-nanum", is_there: || has_font("nanum/NanumGothic.ttf") };

/// The reader of letters that `lab-report-parsing` opens as a library.
pub(crate) const TESSERACT: Need =
    Need { package: "tesseract-ocr", is_there: || has_language("eng") };

/// Its Chinese.
pub(crate) const TESSERACT_CHINESE: Need =
    Need { package: "tesseract-ocr-chi-sim", is_there: || has_language("chi_sim") };

/// What Python environments are made with.
pub(crate) const PYTHON_VENV: Need = Need { package: "python3-venv", is_there: has_venv };

/// Where Debian puts it, or on the path. The engine looks closer when it starts.
fn has_postgresql() -> bool {
    let packaged = |major: u32| {
        Path::new("/usr/lib/postgresql").join(major.to_string()).join("bin/initdb").exists()
    };
    (15..40).any(packaged) || is_on_path("initdb")
}

fn has_venv() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", "import venv, ensurepip"]).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|it| it.success())
}

fn has_font(file: &str) -> bool {
    Path::new("/usr/share/fonts/truetype").join(file).exists()
}

/// Whether Tesseract 5 knows a language, where Debian puts it.
fn has_language(name: &str) -> bool {
    Path::new("/usr/share/tesseract-ocr/5/tessdata").join(format!("{name}.traineddata")).exists()
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|it| it.join(program).exists())
}

/// Installs what is missing, where that is allowed.
pub(crate) fn provide(needs: &[Need]) -> Outcome {
    let missing: Vec<&str> =
        needs.iter().filter(|it| !(it.is_there)()).map(|it| it.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y {}", missing.join(" "));
    let Some(mut prefix) = how_to_install() else {
        return Err(format!(
            "something is missing. Please run:\n\n    sudo {line}\n\nand try again."
        ));
    };
    heading(&format!("installing {}", missing.join(", ")));
    keep_debian_from_making_a_cluster(&prefix);
    let mut apt = |arguments: &[&str]| {
        let mut command = match prefix.split_first_mut() {
            Some((sudo, rest)) => {
                let mut command = Command::new(sudo);
                command.args(rest).arg("apt-get");
                command
            }
            None => Command::new("apt-get"),
        };
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command.status().is_ok_and(|it| it.success())
    };
    // Old lists often do: an update that fails is no reason to stop.
    _ = apt(&["update", "-qq"]);
    let install: Vec<&str> =
        ["install", "-y", "-qq"].into_iter().chain(missing.iter().copied()).collect();
    let is_installed = apt(&install);
    if missing.contains(&ORTHANC.package) {
        keep_orthanc_from_running(&prefix);
    }
    if is_installed && needs.iter().all(|it| (it.is_there)()) {
        return Ok(());
    }
    Err(format!("the installation did not work. Please run:\n\n    sudo {line}\n\nand try again."))
}

/// What to put before `apt-get`: nothing for root, sudo if it asks no password, or no way at all.
fn how_to_install() -> Option<Vec<String>> {
    if !is_on_path("apt-get") {
        return None;
    }
    if is_root() {
        return Some(Vec::new());
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    let is_free = sudo.status().is_ok_and(|it| it.success());
    is_free.then(|| vec!["sudo".to_owned(), "-n".to_owned()])
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|it| it.stdout.trim_ascii() == b"0")
}

/// The package would start a server of its own, which nobody needs here. Only root can say so
/// without asking; where it cannot be said, the server does no harm.
fn keep_debian_from_making_a_cluster(prefix: &[String]) {
    let folder = Path::new("/etc/postgresql-common");
    let file = folder.join("createcluster.conf");
    if prefix.is_empty() && !file.exists() {
        _ = std::fs::create_dir_all(folder);
        _ = std::fs::write(file, "create_main_cluster = false\n");
    }
}

/// The package starts a server that listens on every network. Who wants it says `systemctl enable orthanc`.
fn keep_orthanc_from_running(prefix: &[String]) {
    let line = [prefix, &["systemctl".to_owned()]].concat();
    if let Some((program, before)) = line.split_first() {
        let mut stop = Command::new(program);
        stop.args(before).args(["disable", "--now", "orthanc"]);
        // Where no services are managed, none was started.
        _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
