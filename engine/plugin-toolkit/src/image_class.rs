//! The SOP classes of images (PS3.4, B.5), by the names that reasons use. What a plugin does with each
//! is in the table of `plugins/README.md`.

/// A class of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageClass {
    /// SOP Class UID.
    pub sop_class: &'static str,
    /// Its name, for people.
    pub name: &'static str,
    /// What an object of it holds.
    pub form: Form,
}

/// What an object of a class holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One image. Some classes allow several frames: then the file decides.
    Image,
    /// Several frames, each of which could be an image of its own.
    Frames,
    /// Several frames that are no images of their own: tiles of a slide, projections, a tomogram.
    OtherFrames,
}

const fn class(sop_class: &'static str, name: &'static str, form: Form) -> ImageClass {
    ImageClass { sop_class, name, form }
}

/// All classes whose objects are images of a patient.
pub const IMAGE_CLASSES: [ImageClass; 48] = [
    class("1.2.840.10008.5.1.4.1.1.1", "computed radiograph", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.1.1", "digital radiograph", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.1.1.1", "digital radiograph for processing", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.1.2", "mammogram", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.1.2.1", "mammogram for processing", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.1.3", "intra-oral radiograph", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.1.3.1", "intra-oral radiograph for processing", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.2", "CT", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.2.1", "Enhanced CT", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.2.2", "Legacy Converted Enhanced CT", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.3.1", "ultrasound loop", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.4", "MR", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.4.1", "Enhanced MR", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.4.3", "Enhanced MR in colour", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.4.4", "Legacy Converted Enhanced MR", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.6.1", "ultrasound", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.6.2", "enhanced ultrasound volume", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.7", "secondary capture", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.7.1", "secondary captures of one bit", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.7.2", "secondary captures in grey bytes", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.7.3", "secondary captures in grey words", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.7.4", "secondary captures in colour", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.12.1", "angiogram", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.12.1.1", "Enhanced XA", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.12.2", "fluoroscopy", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.12.2.1", "Enhanced XRF", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.13.1.1", "3D angiography", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.13.1.2", "3D craniofacial", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.13.1.3", "breast tomosynthesis", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.14.1", "intravascular OCT", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.20", "nuclear medicine", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.77.1.1", "endoscopy", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.77.1.1.1", "video of endoscopy", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.77.1.2", "microscopy", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.77.1.3", "slide microscopy", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.77.1.4", "photograph", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.77.1.4.1", "video", Form::Frames),
    class("1.2.840.10008.5.1.4.1.1.77.1.5.1", "ophthalmic photograph", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.77.1.5.2", "ophthalmic photograph of 16 bits", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.77.1.5.4", "ophthalmic tomography (OCT)", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.77.1.5.7", "corneal topography", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.77.1.5.8", "ophthalmic OCT en face", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.77.1.6", "whole slide microscopy", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.77.1.7", "dermoscopy", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.128", "PET", Form::Image),
    class("1.2.840.10008.5.1.4.1.1.128.1", "Legacy Converted Enhanced PET", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.130", "Enhanced PET", Form::OtherFrames),
    class("1.2.840.10008.5.1.4.1.1.481.1", "radiotherapy image", Form::Image),
];

impl ImageClass {
    /// The class with this UID, if its objects are images of a patient.
    pub fn of(sop_class: &str) -> Option<&'static Self> {
        IMAGE_CLASSES.iter().find(|it| it.sop_class == sop_class)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_class_is_listed_once() {
        let classes: BTreeSet<&str> = IMAGE_CLASSES.iter().map(|it| it.sop_class).collect();
        let names: BTreeSet<&str> = IMAGE_CLASSES.iter().map(|it| it.name).collect();
        assert_eq!((classes.len(), names.len()), (IMAGE_CLASSES.len(), IMAGE_CLASSES.len()));
    }
}
