//! DICOM files that are about to be sent, and the transfer syntaxes they can be sent in.
//!
//! An object is sent as it is wherever the peer accepts that. One in Explicit VR Little Endian is
//! written in Implicit VR Little Endian for a peer that accepts nothing else, without loss (PS3.5,
//! 10.1). Nothing else is transcoded.

use std::borrow::Cow;
use std::collections::BTreeSet;

use contracts::SopReference;
use encoding::dicom::{file_meta, implicit_vr};
use sha2::{Digest as _, Sha256};

use crate::client_association::{ClientAssociation, ScuError, uncompressed};
use crate::presentation_context::{PresentationContext, ProposedContext, Role};
use crate::transfer_syntax::{EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN};

/// Upper bound of the presentation contexts of an association: their ids are the odd numbers of a
/// byte (PS3.8, 7.1.1.13).
const CONTEXTS_MAX: usize = 128;

/// A DICOM file, split into the parts of a C-STORE.
pub(crate) struct OutgoingObject<'a> {
    pub(crate) sop_class: &'a str,
    pub(crate) sop_instance: &'a str,
    /// The transfer syntax that the file is in.
    pub(crate) transfer_syntax: String,
    data_set: &'a [u8],
}

/// Identifies an object that was sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectIdentity {
    sop_instance: String,
    /// SHA-256 of the data set of the file.
    sha256: [u8; 32],
}

impl<'a> OutgoingObject<'a> {
    /// Splits a file.
    ///
    /// # Errors
    ///
    /// Fails if it is no DICOM file with a File Meta group that the engine can read.
    pub(crate) fn read(file: &'a [u8]) -> Result<Self, ScuError> {
        Self::split(file).ok_or(ScuError::NotAFile)
    }

    fn split(file: &'a [u8]) -> Option<Self> {
        let (start, transfer_syntax) = file_meta::split(file)?;
        let (meta, data_set) = file.split_at_checked(start)?;
        let value = |number: u8| {
            let at = meta.windows(6).position(|it| it == [2, 0, number, 0, b'U', b'I'])?;
            let (length, rest) = meta.get(at + 6..)?.split_first_chunk::<2>()?;
            let text = rest.get(..usize::from(u16::from_le_bytes(*length)))?;
            Some(std::str::from_utf8(text).ok()?.trim_end_matches('\0'))
        };
        Some(Self { sop_class: value(2)?, sop_instance: value(3)?, transfer_syntax, data_set })
    }

    pub(crate) fn identity(&self) -> ObjectIdentity {
        ObjectIdentity {
            sop_instance: self.sop_instance.to_owned(),
            sha256: Sha256::digest(self.data_set).into(),
        }
    }

    pub(crate) fn reference(&self) -> SopReference {
        SopReference {
            sop_class: self.sop_class.to_owned(),
            sop_instance: self.sop_instance.to_owned(),
        }
    }

    /// The presentation context that the object is sent on: the one of its own transfer syntax, or
    /// one of another that it can be written in.
    ///
    /// # Errors
    ///
    /// Fails if the peer has accepted none of them.
    pub(crate) fn context<'c>(
        &self,
        association: &'c ClientAssociation,
    ) -> Result<&'c PresentationContext, ScuError> {
        let own = association.context(self.sop_class, Some(&self.transfer_syntax));
        if self.transfer_syntax != EXPLICIT_LITTLE_ENDIAN {
            return own;
        }
        own.or_else(|_| association.context(self.sop_class, Some(IMPLICIT_LITTLE_ENDIAN)))
    }

    /// The data set, written in this transfer syntax.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written in it.
    pub(crate) fn data_set_in(&self, transfer_syntax: &str) -> Result<Cow<'a, [u8]>, ScuError> {
        if transfer_syntax == self.transfer_syntax {
            return Ok(Cow::Borrowed(self.data_set));
        }
        let written = implicit_vr::written(self.data_set);
        written.map(Cow::Owned).map_err(|source| ScuError::NotWritten {
            sop_instance: self.sop_instance.to_owned(),
            source,
        })
    }

    fn own_context(&self) -> ProposedContext {
        ProposedContext {
            abstract_syntax: self.sop_class.to_owned(),
            transfer_syntax: self.transfer_syntax.clone(),
            role: Role::Scu,
        }
    }
}

/// The presentation contexts to propose for objects: each class in the transfer syntaxes that its
/// objects are in, and in both uncompressed ones, so that a refusal tells which of all the peer
/// accepts. The latter are left out where the ids do not suffice.
pub(crate) fn contexts(objects: &[OutgoingObject<'_>]) -> BTreeSet<ProposedContext> {
    let mut contexts: BTreeSet<ProposedContext> =
        objects.iter().map(OutgoingObject::own_context).collect();
    let classes: BTreeSet<&str> = objects.iter().map(|it| it.sop_class).collect();
    for context in classes.into_iter().flat_map(|it| uncompressed(it, Role::Scu)) {
        if contexts.len() < CONTEXTS_MAX {
            contexts.insert(context);
        }
    }
    contexts
}

#[cfg(test)]
mod tests {
    use encoding::dicom::file_meta::FileMeta;

    use super::*;

    fn file(sop_class: &str, transfer_syntax: &str) -> Vec<u8> {
        let meta = FileMeta {
            sop_class,
            sop_instance: "1.2.3",
            transfer_syntax,
            sending_ae: "CT1",
            receiving_ae: "ISOCENTER",
        };
        let patient = b"\x10\x00\x20\x00LO\x04\x004711";
        [meta.to_bytes(), patient.to_vec()].concat()
    }

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const JPEG: &str = "1.2.840.10008.1.2.4.70";

    #[test]
    fn din_05_every_class_is_proposed_in_its_own_syntax_and_in_both_uncompressed_ones() {
        let file = file(CT, JPEG);
        let object = OutgoingObject::read(&file).unwrap();
        let proposed = contexts(&[object]);
        let syntaxes: Vec<&str> = proposed.iter().map(|it| it.transfer_syntax.as_str()).collect();
        assert_eq!(syntaxes, [IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN, JPEG]);
    }

    #[test]
    fn din_05_no_more_contexts_are_proposed_than_there_are_ids() {
        let files: Vec<Vec<u8>> = (0..100).map(|it| file(&format!("1.2.{it}"), JPEG)).collect();
        let objects: Vec<OutgoingObject<'_>> =
            files.iter().map(|it| OutgoingObject::read(it).unwrap()).collect();
        let proposed = contexts(&objects);
        assert_eq!(proposed.len(), CONTEXTS_MAX);
        assert!(objects.iter().all(|it| proposed.contains(&it.own_context())));
    }

    #[test]
    fn din_05_an_object_is_written_in_implicit_vr_and_otherwise_left_as_it_is() {
        let file = file(CT, EXPLICIT_LITTLE_ENDIAN);
        let object = OutgoingObject::read(&file).unwrap();
        let own = object.data_set_in(EXPLICIT_LITTLE_ENDIAN).unwrap();
        assert_eq!(*own, *b"\x10\x00\x20\x00LO\x04\x004711");
        let implicit = object.data_set_in(IMPLICIT_LITTLE_ENDIAN).unwrap();
        assert_eq!(*implicit, *b"\x10\x00\x20\x00\x04\x00\x00\x004711");
    }
}
