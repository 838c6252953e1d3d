//! What the model is shown, beside what dcmtk and pydicom show of the same files (DIN-80).

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::process::Command;

use imaging::SliceError;
use imaging::rendering::{Manner, Shown, Views, show};
use serde::Deserialize;
use serde_json::{Value, json};
use system_tests::generators::pictures;
use system_tests::{Scratch, python, reference_and_python, root};

/// The largest difference of a grey level from that of the peer who decides.
const TOLERANCE: f64 = 1.0;

/// Fewest images of the reference material that are shown.
const IMAGES_MIN: usize = 170;

/// Where dcmtk does not decide, or another decoder is the reason for more than [`TOLERANCE`].
const EXCEPTIONS: [Exception; 10] = [
    // dcmtk cuts off fractions in each of its tables for luminance and chrominance.
    Exception { name: "ybr-full", decides: Decider::Pydicom, tolerance: TOLERANCE },
    Exception { name: "ybr-full-by-plane", decides: Decider::Pydicom, tolerance: TOLERANCE },
    Exception { name: "ybr-full-422", decides: Decider::Pydicom, tolerance: TOLERANCE },
    // JPEG with loss and in colour: each decoder rounds its transform and its colours.
    Exception::of_jpeg("pydicom_test_files/SC_rgb_dcmtk_+eb+cy+n1.dcm", 2.0),
    Exception::of_jpeg("pydicom_test_files/SC_rgb_dcmtk_+eb+cy+np.dcm", 2.0),
    Exception::of_jpeg("pydicom_test_files/SC_rgb_jpeg_lossy_gdcm.dcm", 2.0),
    Exception::of_jpeg("pydicom_test_files/SC_jpeg_no_color_transform.dcm", 3.0),
    Exception::of_jpeg("transfer_syntaxes_ct/TestPattern_JPEG-Baseline_YBR422.dcm", 3.0),
    Exception::of_jpeg("transfer_syntaxes_ct/TestPattern_JPEG-Baseline_YBRFull.dcm", 3.0),
    // The same rounding of one stored value, which is 32 HU in a window of 400 HU.
    Exception::of_jpeg(
        "transfer_syntaxes_ct/CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm",
        22.0,
    ),
];

/// What the reasons say of files that are not shown.
const REFUSALS: [&str; 10] = [
    // No image, or one without pixels.
    "it has no Rows",
    "Missing required attribute `PixelData`",
    // Cut off.
    "it cannot be read",
    // Refused by name (`engine/limits.md`).
    "it has several frames",
    "Bits Allocated is ",
    "BitsAllocated other than 8 or 16",
    "32 of 32 bits",
    // JPEG-LS, JPEG of twelve bits, a JPEG 2000 with an end of sequence in its code stream.
    "Unsupported TransferSyntax `1.2.840.10008.1.2.4.8",
    "unsupported JPEG feature: SamplePrecision(12)",
    "jpeg2k decoder failure",
];

/// An image for which something else holds than for all others.
struct Exception {
    name: &'static str,
    decides: Decider,
    tolerance: f64,
}

/// The peer that decides.
#[derive(Clone, Copy)]
enum Decider {
    /// dcmtk, or pydicom where dcmtk has no picture.
    Dcmtk,
    Pydicom,
}

impl Exception {
    const fn of_jpeg(name: &'static str, tolerance: f64) -> Self {
        Self { name, decides: Decider::Dcmtk, tolerance }
    }

    fn of(name: &str) -> Self {
        let usual = Self { name: "", decides: Decider::Dcmtk, tolerance: TOLERANCE };
        EXCEPTIONS.into_iter().find(|it| it.name == name).unwrap_or(usual)
    }
}

/// A difference from a peer, or why it has no picture.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Peer {
    Apart(f64),
    None(String),
}

impl Display for Peer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apart(levels) => write!(f, "{levels}"),
            Self::None(reason) => f.write_str(reason),
        }
    }
}

/// A picture of ours beside those of both peers.
#[derive(Clone, Debug, Deserialize)]
struct Compared {
    name: String,
    dcmtk: Peer,
    pydicom: Peer,
    /// The brightest pixel of padding.
    padding: u8,
}

impl Compared {
    /// Whether it is what the peer who decides shows.
    fn is_as_shown(&self) -> bool {
        let Exception { decides, tolerance, .. } = Exception::of(&self.name);
        let peer = match (decides, &self.dcmtk) {
            (Decider::Dcmtk, Peer::Apart(_)) => &self.dcmtk,
            _ => &self.pydicom,
        };
        matches!(peer, Peer::Apart(apart) if *apart <= tolerance) && self.padding == 0
    }
}

/// Writes a data set with file meta information, by dcmtk.
fn with_meta(file: &Path, to: &Path) -> bool {
    let written = Command::new("dcmconv").arg("-q").arg(file).arg(to).status().unwrap();
    written.success() && to.exists()
}

/// Pictures of ours, to be compared.
struct Comparison {
    scratch: Scratch,
    list: Vec<Value>,
}

impl Comparison {
    fn open() -> Self {
        Self { scratch: Scratch::default(), list: Vec::new() }
    }

    /// Adds all pictures of a file; its reason if it has none.
    fn add(&mut self, name: &str, file: &Path) -> Result<(), String> {
        let received = self.scratch.path(&format!("{}.dcm", self.list.len()));
        let bytes = std::fs::read(file).unwrap();
        let shown = match show(&bytes, &Views::All) {
            // Without its file meta information it is as an association carries it.
            Err(SliceError::Unreadable(_)) if with_meta(file, &received) => {
                show(&std::fs::read(&received).unwrap(), &Views::All)
            }
            other => other,
        };
        let shown = shown.map_err(|it| it.to_string())?;
        let mut windows = 0;
        let mut tables = 0;
        for (index, Shown { picture, manner }) in shown.iter().enumerate() {
            let path = self.scratch.path(&format!("{}.ppm", self.list.len()));
            let header = format!("P6\n{} {}\n255\n", picture.width, picture.height);
            std::fs::write(&path, [header.as_bytes(), &picture.rgb].concat()).unwrap();
            let manner = match manner {
                Manner::FiledWindow { function, .. } => {
                    windows += 1;
                    json!({"kind": "window", "index": windows - 1, "function": function.name()})
                }
                Manner::FiledTable { .. } => {
                    tables += 1;
                    json!({"kind": "table", "index": tables - 1})
                }
                Manner::AskedWindow(it) | Manner::OverValues(it) => json!({
                    "kind": "set", "index": 0, "center": it.center, "width": it.width
                }),
                Manner::Levels(it) => json!({
                    "kind": "levels", "index": 0, "center": it.center, "width": it.width
                }),
                Manner::Colours | Manner::Palette => json!({"kind": "colour", "index": 0}),
            };
            let name = if index == 0 { name.to_owned() } else { format!("{name} #{index}") };
            self.list.push(json!({
                "name": name, "file": file, "picture": path, "manner": manner
            }));
        }
        Ok(())
    }

    fn compared(&self, python: &Path) -> Vec<Compared> {
        let list = serde_json::to_string(&self.list).unwrap();
        std::fs::write(self.scratch.path("list.json"), list).unwrap();
        let script = root().join("tests/it/shown.py");
        let folder = self.scratch.path("");
        let output = Command::new(python).arg(script).arg(folder).output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let compared: Vec<Compared> =
            lines.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert_eq!(compared.len(), self.list.len(), "{output:?}");
        compared
    }
}

/// DIN-80: an image of each kind that we have generated, without reference material.
#[test]
fn din_80_every_kind_of_image_is_shown_as_dcmtk_or_pydicom_shows_it() {
    let python = python();
    let mut comparison = Comparison::open();
    for image in pictures::all() {
        let path = comparison.scratch.path(&format!("{}.dcm", image.name));
        std::fs::write(&path, &image.bytes).unwrap();
        comparison.add(image.name, &path).unwrap();
    }
    let compared = comparison.compared(&python);
    check(&compared);
}

/// Fails with every picture that is not what the peer who decides shows.
#[track_caller]
fn check(compared: &[Compared]) {
    let others = compared.iter().filter(|it| !it.is_as_shown()).map(|it| {
        let Compared { name, dcmtk, pydicom, padding } = it;
        format!("{name}: dcmtk {dcmtk}, pydicom {pydicom}, padding {padding}")
    });
    assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new());
}

/// All files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// DIN-80: every real image, of every modality of the reference material.
#[test]
fn din_80_every_real_image_is_shown_as_dcmtk_or_pydicom_shows_it() {
    let Some((reference, python)) = reference_and_python() else { return };
    let folder = reference.join("material/dicom");
    let mut comparison = Comparison::open();
    let mut refused = Vec::new();
    for file in files(&folder) {
        let name = file.strip_prefix(&folder).unwrap().display().to_string();
        if let Err(reason) = comparison.add(&name, &file) {
            refused.push(format!("{name}: {reason}"));
        }
    }
    let unexplained = refused.iter().filter(|it| !REFUSALS.iter().any(|known| it.contains(known)));
    assert_eq!(unexplained.collect::<Vec<_>>(), Vec::<&String>::new());
    let compared = comparison.compared(&python);
    assert!(compared.len() > IMAGES_MIN, "{} images are shown", compared.len());
    check(&compared);
}
