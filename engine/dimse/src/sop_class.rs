//! SOP classes by their UID (PS3.4, Annexes A, B and J).
//!
//! The storage classes are those of PS3.4, Tables B.5-1 and B.6. Private classes and classes of
//! later editions of the standard are not among them, and are refused unless the site has
//! `dicom.accept_unknown_storage`.

/// A SOP class: the kind of object, or the service, that a presentation context is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SopClass {
    /// Its UID.
    pub uid: &'static str,
    /// Its name in PS3.6, Table A-1.
    pub name: &'static str,
}

const fn class(uid: &'static str, name: &'static str) -> SopClass {
    SopClass { uid, name }
}

/// Verification (PS3.4, A.4).
pub const VERIFICATION: &str = "1.2.840.10008.1.1";

/// Storage Commitment Push Model (PS3.4, J.3).
pub const COMMITMENT: &str = "1.2.840.10008.1.20.1";

/// The well-known instance of Storage Commitment Push Model (PS3.4, J.3.5).
pub const COMMITMENT_INSTANCE: &str = "1.2.840.10008.1.20.1.1";

/// Every storage class, retired ones included: modalities still send them.
pub const STORAGE: &[SopClass] = &[
    class("1.2.840.10008.5.1.4.1.1.1", "Computed Radiography Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.1.1", "Digital X-Ray Image Storage - For Presentation"),
    class("1.2.840.10008.5.1.4.1.1.1.1.1", "Digital X-Ray Image Storage - For Processing"),
    class(
        "1.2.840.10008.5.1.4.1.1.1.2",
        "Digital Mammography X-Ray Image Storage - For Presentation",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.1.2.1",
        "Digital Mammography X-Ray Image Storage - For Processing",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.1.3",
        "Digital Intra-Oral X-Ray Image Storage - For Presentation",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.1.3.1",
        "Digital Intra-Oral X-Ray Image Storage - For Processing",
    ),
    class("1.2.840.10008.5.1.4.1.1.2", "CT Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.2.1", "Enhanced CT Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.2.2", "Legacy Converted Enhanced CT Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.3", "Ultrasound Multi-frame Image Storage (retired)"),
    class("1.2.840.10008.5.1.4.1.1.3.1", "Ultrasound Multi-frame Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.4", "MR Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.4.1", "Enhanced MR Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.4.2", "MR Spectroscopy Storage"),
    class("1.2.840.10008.5.1.4.1.1.4.3", "Enhanced MR Color Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.4.4", "Legacy Converted Enhanced MR Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.5", "Nuclear Medicine Image Storage (retired)"),
    class("1.2.840.10008.5.1.4.1.1.6", "Ultrasound Image Storage (retired)"),
    class("1.2.840.10008.5.1.4.1.1.6.1", "Ultrasound Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.6.2", "Enhanced US Volume Storage"),
    class("1.2.840.10008.5.1.4.1.1.6.3", "Photoacoustic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.7", "Secondary Capture Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.7.1", "Multi-frame Single Bit Secondary Capture Image Storage"),
    class(
        "1.2.840.10008.5.1.4.1.1.7.2",
        "Multi-frame Grayscale Byte Secondary Capture Image Storage",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.7.3",
        "Multi-frame Grayscale Word Secondary Capture Image Storage",
    ),
    class("1.2.840.10008.5.1.4.1.1.7.4", "Multi-frame True Color Secondary Capture Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.8", "Standalone Overlay Storage (retired)"),
    class("1.2.840.10008.5.1.4.1.1.9", "Standalone Curve Storage (retired)"),
    class("1.2.840.10008.5.1.4.1.1.9.1", "Waveform Storage - Trial (retired)"),
    class("1.2.840.10008.5.1.4.1.1.9.1.1", "12-lead ECG Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.1.2", "General ECG Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.1.3", "Ambulatory ECG Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.1.4", "General 32-bit ECG Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.2.1", "Hemodynamic Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.3.1", "Cardiac Electrophysiology Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.4.1", "Basic Voice Audio Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.4.2", "General Audio Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.5.1", "Arterial Pulse Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.6.1", "Respiratory Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.6.2", "Multi-channel Respiratory Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.7.1", "Routine Scalp Electroencephalogram Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.7.2", "Electromyogram Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.7.3", "Electrooculogram Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.7.4", "Sleep Electroencephalogram Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.9.8.1", "Body Position Waveform Storage"),
    class("1.2.840.10008.5.1.4.1.1.10", "Standalone Modality LUT Storage (retired)"),
    class("1.2.840.10008.5.1.4.1.1.11", "Standalone VOI LUT Storage (retired)"),
    class("1.2.840.10008.5.1.4.1.1.11.1", "Grayscale Softcopy Presentation State Storage"),
    class("1.2.840.10008.5.1.4.1.1.11.2", "Color Softcopy Presentation State Storage"),
    class("1.2.840.10008.5.1.4.1.1.11.3", "Pseudo-Color Softcopy Presentation State Storage"),
    class("1.2.840.10008.5.1.4.1.1.11.4", "Blending Softcopy Presentation State Storage"),
    class("1.2.840.10008.5.1.4.1.1.11.5", "XA/XRF Grayscale Softcopy Presentation State Storage"),
    class(
        "1.2.840.10008.5.1.4.1.1.11.6",
        "Grayscale Planar MPR Volumetric Presentation State Storage",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.11.7",
        "Compositing Planar MPR Volumetric Presentation State Storage",
    ),
    class("1.2.840.10008.5.1.4.1.1.11.8", "Advanced Blending Presentation State Storage"),
    class("1.2.840.10008.5.1.4.1.1.11.9", "Volume Rendering Volumetric Presentation State Storage"),
    class(
        "1.2.840.10008.5.1.4.1.1.11.10",
        "Segmented Volume Rendering Volumetric Presentation State Storage",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.11.11",
        "Multiple Volume Rendering Volumetric Presentation State Storage",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.11.12",
        "Variable Modality LUT Softcopy Presentation State Storage",
    ),
    class("1.2.840.10008.5.1.4.1.1.12.1", "X-Ray Angiographic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.12.1.1", "Enhanced XA Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.12.2", "X-Ray Radiofluoroscopic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.12.2.1", "Enhanced XRF Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.12.3", "X-Ray Angiographic Bi-Plane Image Storage (retired)"),
    class("1.2.840.10008.5.1.4.1.1.13.1.1", "X-Ray 3D Angiographic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.13.1.2", "X-Ray 3D Craniofacial Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.13.1.3", "Breast Tomosynthesis Image Storage"),
    class(
        "1.2.840.10008.5.1.4.1.1.13.1.4",
        "Breast Projection X-Ray Image Storage - For Presentation",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.13.1.5",
        "Breast Projection X-Ray Image Storage - For Processing",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.14.1",
        "Intravascular Optical Coherence Tomography Image Storage - For Presentation",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.14.2",
        "Intravascular Optical Coherence Tomography Image Storage - For Processing",
    ),
    class("1.2.840.10008.5.1.4.1.1.20", "Nuclear Medicine Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.30", "Parametric Map Storage"),
    class("1.2.840.10008.5.1.4.1.1.66", "Raw Data Storage"),
    class("1.2.840.10008.5.1.4.1.1.66.1", "Spatial Registration Storage"),
    class("1.2.840.10008.5.1.4.1.1.66.2", "Spatial Fiducials Storage"),
    class("1.2.840.10008.5.1.4.1.1.66.3", "Deformable Spatial Registration Storage"),
    class("1.2.840.10008.5.1.4.1.1.66.4", "Segmentation Storage"),
    class("1.2.840.10008.5.1.4.1.1.66.5", "Surface Segmentation Storage"),
    class("1.2.840.10008.5.1.4.1.1.66.6", "Tractography Results Storage"),
    class("1.2.840.10008.5.1.4.1.1.66.7", "Label Map Segmentation Storage"),
    class("1.2.840.10008.5.1.4.1.1.66.8", "Height Map Segmentation Storage"),
    class("1.2.840.10008.5.1.4.1.1.67", "Real World Value Mapping Storage"),
    class("1.2.840.10008.5.1.4.1.1.68.1", "Surface Scan Mesh Storage"),
    class("1.2.840.10008.5.1.4.1.1.68.2", "Surface Scan Point Cloud Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1", "VL Image Storage - Trial (retired)"),
    class("1.2.840.10008.5.1.4.1.1.77.1.1", "VL Endoscopic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.1.1", "Video Endoscopic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.2", "VL Microscopic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.2.1", "Video Microscopic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.3", "VL Slide-Coordinates Microscopic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.4", "VL Photographic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.4.1", "Video Photographic Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.5.1", "Ophthalmic Photography 8 Bit Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.5.2", "Ophthalmic Photography 16 Bit Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.5.3", "Stereometric Relationship Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.5.4", "Ophthalmic Tomography Image Storage"),
    class(
        "1.2.840.10008.5.1.4.1.1.77.1.5.5",
        "Wide Field Ophthalmic Photography Stereographic Projection Image Storage",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.77.1.5.6",
        "Wide Field Ophthalmic Photography 3D Coordinates Image Storage",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.77.1.5.7",
        "Ophthalmic Optical Coherence Tomography En Face Image Storage",
    ),
    class(
        "1.2.840.10008.5.1.4.1.1.77.1.5.8",
        "Ophthalmic Optical Coherence Tomography B-scan Volume Analysis Storage",
    ),
    class("1.2.840.10008.5.1.4.1.1.77.1.6", "VL Whole Slide Microscopy Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.7", "Dermoscopic Photography Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.8", "Confocal Microscopy Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.1.9", "Confocal Microscopy Tiled Pyramidal Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.77.2", "VL Multi-frame Image Storage - Trial (retired)"),
    class("1.2.840.10008.5.1.4.1.1.78.1", "Lensometry Measurements Storage"),
    class("1.2.840.10008.5.1.4.1.1.78.2", "Autorefraction Measurements Storage"),
    class("1.2.840.10008.5.1.4.1.1.78.3", "Keratometry Measurements Storage"),
    class("1.2.840.10008.5.1.4.1.1.78.4", "Subjective Refraction Measurements Storage"),
    class("1.2.840.10008.5.1.4.1.1.78.5", "Visual Acuity Measurements Storage"),
    class("1.2.840.10008.5.1.4.1.1.78.6", "Spectacle Prescription Report Storage"),
    class("1.2.840.10008.5.1.4.1.1.78.7", "Ophthalmic Axial Measurements Storage"),
    class("1.2.840.10008.5.1.4.1.1.78.8", "Intraocular Lens Calculations Storage"),
    class("1.2.840.10008.5.1.4.1.1.79.1", "Macular Grid Thickness and Volume Report Storage"),
    class(
        "1.2.840.10008.5.1.4.1.1.80.1",
        "Ophthalmic Visual Field Static Perimetry Measurements Storage",
    ),
    class("1.2.840.10008.5.1.4.1.1.81.1", "Ophthalmic Thickness Map Storage"),
    class("1.2.840.10008.5.1.4.1.1.82.1", "Corneal Topography Map Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.1", "Text SR Storage - Trial (retired)"),
    class("1.2.840.10008.5.1.4.1.1.88.2", "Audio SR Storage - Trial (retired)"),
    class("1.2.840.10008.5.1.4.1.1.88.3", "Detail SR Storage - Trial (retired)"),
    class("1.2.840.10008.5.1.4.1.1.88.4", "Comprehensive SR Storage - Trial (retired)"),
    class("1.2.840.10008.5.1.4.1.1.88.11", "Basic Text SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.22", "Enhanced SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.33", "Comprehensive SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.34", "Comprehensive 3D SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.35", "Extensible SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.40", "Procedure Log Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.50", "Mammography CAD SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.59", "Key Object Selection Document Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.65", "Chest CAD SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.67", "X-Ray Radiation Dose SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.68", "Radiopharmaceutical Radiation Dose SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.69", "Colon CAD SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.70", "Implantation Plan SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.71", "Acquisition Context SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.72", "Simplified Adult Echo SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.73", "Patient Radiation Dose SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.74", "Planned Imaging Agent Administration SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.75", "Performed Imaging Agent Administration SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.76", "Enhanced X-Ray Radiation Dose SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.88.77", "Waveform Annotation SR Storage"),
    class("1.2.840.10008.5.1.4.1.1.90.1", "Content Assessment Results Storage"),
    class("1.2.840.10008.5.1.4.1.1.91.1", "Microscopy Bulk Simple Annotations Storage"),
    class("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF Storage"),
    class("1.2.840.10008.5.1.4.1.1.104.2", "Encapsulated CDA Storage"),
    class("1.2.840.10008.5.1.4.1.1.104.3", "Encapsulated STL Storage"),
    class("1.2.840.10008.5.1.4.1.1.104.4", "Encapsulated OBJ Storage"),
    class("1.2.840.10008.5.1.4.1.1.104.5", "Encapsulated MTL Storage"),
    class("1.2.840.10008.5.1.4.1.1.128", "Positron Emission Tomography Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.128.1", "Legacy Converted Enhanced PET Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.129", "Standalone PET Curve Storage (retired)"),
    class("1.2.840.10008.5.1.4.1.1.130", "Enhanced PET Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.131", "Basic Structured Display Storage"),
    class("1.2.840.10008.5.1.4.1.1.200.1", "CT Defined Procedure Protocol Storage"),
    class("1.2.840.10008.5.1.4.1.1.200.2", "CT Performed Procedure Protocol Storage"),
    class("1.2.840.10008.5.1.4.1.1.200.3", "Protocol Approval Storage"),
    class("1.2.840.10008.5.1.4.1.1.200.7", "XA Defined Procedure Protocol Storage"),
    class("1.2.840.10008.5.1.4.1.1.200.8", "XA Performed Procedure Protocol Storage"),
    class("1.2.840.10008.5.1.4.1.1.201.1", "Inventory Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.1", "RT Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.2", "RT Dose Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.3", "RT Structure Set Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.4", "RT Beams Treatment Record Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.5", "RT Plan Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.6", "RT Brachy Treatment Record Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.7", "RT Treatment Summary Record Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.8", "RT Ion Plan Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.9", "RT Ion Beams Treatment Record Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.10", "RT Physician Intent Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.11", "RT Segment Annotation Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.12", "RT Radiation Set Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.13", "C-Arm Photon-Electron Radiation Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.14", "Tomotherapeutic Radiation Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.15", "Robotic-Arm Radiation Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.16", "RT Radiation Record Set Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.17", "RT Radiation Salvage Record Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.18", "Tomotherapeutic Radiation Record Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.19", "C-Arm Photon-Electron Radiation Record Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.20", "Robotic Radiation Record Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.21", "RT Radiation Set Delivery Instruction Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.22", "RT Treatment Preparation Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.23", "Enhanced RT Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.24", "Enhanced Continuous RT Image Storage"),
    class("1.2.840.10008.5.1.4.1.1.481.25", "RT Patient Position Acquisition Instruction Storage"),
    class("1.2.840.10008.5.1.4.34.7", "RT Beams Delivery Instruction Storage"),
    class("1.2.840.10008.5.1.4.34.10", "RT Brachy Application Setup Delivery Instruction Storage"),
];

/// The root of all UIDs of the standard (PS3.5, 9.1).
const STANDARD: &str = "1.2.840.10008.";

/// The root of nearly all storage classes of the standard, and of nothing else.
const STANDARD_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.";

/// Whether a class that is not one of [`STORAGE`] may be a storage class: a private one, or one of
/// a later edition of the standard.
pub fn may_be_storage(uid: &str) -> bool {
    domain::is_uid(uid) && (!uid.starts_with(STANDARD) || uid.starts_with(STANDARD_STORAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_the_standard_are_taken_and_private_ones_are_not() {
        let prefix = "1.2.840.10008.5.1.4.1.1.";
        // The defaults of `standards.md` §1.1.
        for suffix in [
            "1", "1.1", "1.1.1", "1.2", "2", "2.1", "4", "4.1", "6.1", "3.1", "7", "7.1", "7.4",
            "12.1", "12.2", "20", "128", "130", "13.1.3", "77.1.1", "77.1.4", "77.1.5.1",
            "77.1.5.4", "77.1.7", "77.1.6", "66.4", "66.7", "66.5", "30", "88.11", "88.22",
            "88.33", "88.34", "88.35", "88.59", "11.1", "104.1", "481.3",
        ] {
            let uid = format!("{prefix}{suffix}");
            assert!(STORAGE.iter().any(|it| it.uid == uid), "{suffix}");
        }
        for uid in ["1.2.840.113619.4.30", "1.2.840.10008.5.1.4.1.2.2.1"] {
            assert!(STORAGE.iter().all(|it| it.uid != uid), "{uid}");
        }
    }

    #[test]
    fn din_03_private_classes_and_those_to_come_may_be_of_storage_and_other_services_are_not() {
        for uid in ["1.2.840.113619.4.30", "1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.999"] {
            assert!(may_be_storage(uid), "{uid}");
        }
        // Query, worklist, printing; nothing; no UID.
        for uid in
            ["1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.31", "1.2.840.10008.5.1.1.9"]
        {
            assert!(!may_be_storage(uid), "{uid}");
        }
        assert!(!may_be_storage("") && !may_be_storage("private"));
    }
}
