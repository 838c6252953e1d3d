//! Sending the images of cases, and what came of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use serde::Deserialize;
use serde_json::Value;
use system_tests::{Hospital, Scratch, program, python};

use crate::case::Case;
use crate::message::{Report, reasons, reports_of_study, settled_since, why};
use crate::site::Site;

/// The code of a volume.
const VOLUME: &str = "118565006";

/// The true volume of the bone in the images of all cases, in mL.
pub(crate) const TRUE_ML: f64 = 1.152;

/// How much a volume may differ, in mL.
pub(crate) const ML_TOLERANCE: f64 = 0.002;

/// A variant of a case, as it was sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Variant {
    pub(crate) name: String,
    /// Why it could not be made.
    pub(crate) error: String,
    pub(crate) studies: Vec<String>,
    pub(crate) patients: Vec<String>,
    pub(crate) instances: Vec<String>,
    /// The status of each instance, with its comment.
    pub(crate) statuses: Vec<String>,
    /// What the engine says of each study.
    #[serde(skip)]
    pub(crate) whys: Vec<Value>,
    /// The reports on its studies.
    #[serde(skip)]
    pub(crate) reports: Vec<Report>,
    /// The objects in its studies that the PACS got.
    #[serde(skip)]
    pub(crate) objects: Vec<DefaultDicomObject>,
}

/// The variants of a case, and the folder of their files.
pub(crate) struct Variants {
    pub(crate) all: Vec<Variant>,
    pub(crate) scratch: Scratch,
}

impl Variant {
    /// The volumes of bone that the EHR was told.
    pub(crate) fn volumes(&self) -> Vec<f64> {
        let rows = self.reports.iter().flat_map(Report::rows).filter(|it| it.code == VOLUME);
        rows.filter_map(|it| it.value.parse().ok()).collect()
    }

    /// Whether the bone was measured once, and is of this volume.
    pub(crate) fn measures(&self, millilitres: f64) -> bool {
        let volumes = self.volumes();
        volumes.len() == 1 && volumes.iter().all(|it| (it - millilitres).abs() < ML_TOLERANCE)
    }

    /// The studies, as the engine shows them.
    fn known(&self) -> impl Iterator<Item = &Value> {
        self.whys.iter().filter_map(|it| it["studies"].as_array()).flatten()
    }

    /// The runs on its studies.
    pub(crate) fn runs(&self) -> Vec<&Value> {
        self.known().filter_map(|it| it["runs"].as_array()).flatten().collect()
    }

    /// The tasks about its studies.
    pub(crate) fn tasks(&self) -> Vec<&Value> {
        self.known().filter_map(|it| it["tasks"].as_array()).flatten().collect()
    }

    /// What senders and people are told about it.
    pub(crate) fn told(&self) -> String {
        let mut told: Vec<String> =
            self.statuses.iter().filter(|it| *it != "0000").cloned().collect();
        told.dedup();
        told.truncate(3);
        told.extend(self.runs().into_iter().flat_map(reasons).filter(|it| !it.is_empty()));
        let reason = |it: &&Value| it["reason"].as_str().map(str::to_owned);
        told.extend(self.tasks().iter().filter_map(reason));
        let standings = self.known().filter_map(|it| it["standings"]["ct-bone"]["reason"].as_str());
        told.extend(standings.map(str::to_owned));
        told.join("; ")
    }

    /// Whether nothing was measured and nothing sent, and a reason is told.
    pub(crate) fn is_refused(&self) -> bool {
        self.reports.is_empty() && self.objects.is_empty() && !self.told().is_empty()
    }

    /// What was seen, for people.
    pub(crate) fn seen(&self) -> String {
        format!(
            "{:?} mL; {} objects; {}{}",
            self.volumes(),
            self.objects.len(),
            self.told(),
            self.error
        )
    }
}

/// The value of an element as text, or nothing.
pub(crate) fn text(object: &DefaultDicomObject, tag: dicom_core::Tag) -> String {
    let value = object.element(tag).ok().and_then(|it| it.to_str().ok());
    value.map(|it| it.trim_end_matches(['\0', ' ']).to_owned()).unwrap_or_default()
}

/// The objects of a study that the PACS got, without pixels.
pub(crate) fn objects_of(hospital: &Hospital, study: &str) -> Vec<DefaultDicomObject> {
    let opened = hospital.pacs.received().into_iter().filter_map(|it| open(&it.path));
    opened.filter(|it| text(it, tags::STUDY_INSTANCE_UID) == study).collect()
}

fn open(path: &Path) -> Option<DefaultDicomObject> {
    OpenFileOptions::new().read_until(tags::PIXEL_DATA).open_file(path).ok()
}

/// The path of the segmentation in a study that the PACS got.
pub(crate) fn segmentation_of(hospital: &Hospital, study: &str) -> Option<PathBuf> {
    let received = hospital.pacs.received();
    let paths = received.into_iter().map(|it| it.path);
    let is_meant = |it: &DefaultDicomObject| {
        text(it, tags::STUDY_INSTANCE_UID) == study && text(it, tags::MODALITY) == "SEG"
    };
    paths.into_iter().find(|it| open(it).is_some_and(|object| is_meant(&object)))
}

/// Python with the senders of the cases, which find the engine in their environment.
pub(crate) fn python_for(site: &Site) -> Command {
    let mut command = Command::new(python());
    let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    command
        // The reference material is not ours to write into.
        .arg("-B")
        .env("ISO", program())
        .env("DATA", site.hospital.scratch.path("data"))
        .env("DPORT", port(&site.hospital.engine.dicom))
        .env("MPORT", port(&site.hospital.engine.mllp));
    command
}

/// Runs a script of a case, and returns what it prints.
pub(crate) fn python_lines(site: &Site, case: &Case, script: &str) -> Vec<String> {
    let scratch = Scratch::default();
    let mut command = python_for(site);
    let output = command.arg(case.folder.join(script)).current_dir(scratch.path("")).output();
    let output = output.unwrap();
    let is_done = output.status.success();
    assert!(is_done, "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Makes and sends the variants of a case, and waits for what comes of them.
pub(crate) async fn sent(site: &Site, case: &Case) -> Variants {
    let scratch = Scratch::default();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("field/send_case.py");
    let mut command = python_for(site);
    command.arg(script).arg(&case.folder).arg(scratch.path("files")).current_dir(scratch.path(""));
    let output = command.output().unwrap();
    let start = Instant::now();
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut all: Vec<Variant> = lines.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert!(!all.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    for variant in &mut all {
        let is_stored = variant.statuses.iter().any(|it| is_stored(it));
        for study in &variant.studies {
            // Nothing comes of a study of which nothing was stored.
            let told = if is_stored {
                settled_since(&site.hospital, study, start).await
            } else {
                why(&site.hospital, study)
            };
            variant.whys.push(told);
        }
    }
    for variant in &mut all {
        for study in variant.studies.iter().filter(|it| !it.is_empty()) {
            variant.reports.extend(reports_of_study(&site.hospital, study));
            variant.objects.extend(objects_of(&site.hospital, study));
        }
    }
    Variants { all, scratch }
}

/// Whether a status says that an instance was stored.
fn is_stored(status: &str) -> bool {
    status.starts_with("0000") || status.starts_with('B')
}

impl Variants {
    /// The variant of this name.
    pub(crate) fn named(&self, name: &str) -> &Variant {
        let found = self.all.iter().find(|it| it.name == name);
        found.unwrap_or_else(|| panic!("the case has no variant {name}"))
    }

    /// Compares the segmentation of a variant with the bone of its files, voxel by voxel, with the
    /// program of the cases. Returns what it prints.
    pub(crate) fn compared_masks(&self, site: &Site, case: &Case, name: &str) -> String {
        let variant = self.named(name);
        let study = variant.studies.first().map(String::as_str).unwrap_or_default();
        let Some(path) = segmentation_of(&site.hospital, study) else {
            return "there is no segmentation".to_owned();
        };
        let folder = self.scratch.path(&format!("masks/{name}/data/out/one"));
        fs::create_dir_all(&folder).unwrap();
        fs::copy(path, folder.join("seg-1.dcm")).unwrap();
        let mut command = python_for(site);
        command.arg(case.folder.join("../lib/check_seg.py"));
        command.arg(self.scratch.path(&format!("files/{name}")));
        command.current_dir(self.scratch.path(&format!("masks/{name}")));
        let output = command.output().unwrap();
        [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat()
    }
}

/// What is right for a variant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Right {
    /// The true volume goes out.
    Measured,
    /// Nothing goes out, and what is told has these words.
    Refused(&'static [&'static str]),
    /// One of both; the reason may have any words.
    MeasuredOrRefused,
    /// This volume goes out, or nothing, with a reason.
    MeasuredAsOrRefused(f64),
    /// Whatever is made of it, it is told.
    Told,
}

impl Right {
    pub(crate) fn holds(self, variant: &Variant) -> bool {
        match self {
            Self::Measured => variant.measures(TRUE_ML),
            Self::Refused(words) => {
                let told = variant.told().to_lowercase();
                variant.is_refused() && words.iter().all(|it| told.contains(&it.to_lowercase()))
            }
            Self::MeasuredOrRefused => variant.measures(TRUE_ML) || variant.is_refused(),
            Self::MeasuredAsOrRefused(millilitres) => {
                variant.measures(millilitres) || variant.is_refused()
            }
            Self::Told => !variant.volumes().is_empty() || !variant.told().is_empty(),
        }
    }
}

/// Checks each variant, and that there is no other.
pub(crate) fn check_all(case: &mut Case, variants: &Variants, right: &[(&str, Right)]) {
    for (name, right) in right {
        let variant = variants.named(name);
        case.check(*name, right.holds(variant), format!("{right:?}: {}", variant.seen()));
    }
    let unknown = variants.all.iter().find(|it| right.iter().all(|(name, _)| *name != it.name));
    let unknown = unknown.map(|it| it.name.clone());
    case.check("no other variant", unknown.is_none(), format!("{unknown:?} is not judged"));
}
