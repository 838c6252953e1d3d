//! The plugin's view of the engine during one call: [`Context`], and the errors of its services.
#![expect(unsafe_code, reason = "this module is the plugin's side of the library boundary")]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::{
    ArtifactRef, InferRequest, InferResponse, SeriesInstanceUid, SopInstanceUid, VolumeGeometry,
};

use crate::abi::v1::{Buffer, Bytes, HostTable, Status, VolumeView};
use crate::{NodeError, Rejection, RejectionCode};

/// Set by [`crate::cancel`], cleared before each call.
pub(crate) static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Severity of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    /// A person should look now.
    Error = 1,
    /// A person should look.
    Warning = 2,
    /// A normal step of the work.
    Information = 3,
    /// A detail for the plugin's author.
    Detail = 4,
}

/// The services of the engine, lent to a plugin for the length of one call.
pub struct Context<'a> {
    host: &'a HostTable,
}

/// A decoded volume, lent by the engine until `process` returns.
#[derive(Clone, Debug)]
pub struct VolumeRef<'a> {
    /// Position of the voxels in the patient.
    pub geometry: VolumeGeometry,
    /// Values after the rescale of the modality, in Hounsfield units for CT: slice by slice, row by
    /// row. A voxel of padding, which stands for no tissue, is not a number (NaN).
    pub values: &'a [f32],
}

/// Why a service of the engine failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The request is at fault: the same request would fail again.
    #[error("{reason}")]
    Rejected {
        /// The kind of fault, for decisions.
        kind: HostRejection,
        /// The fault as a sentence, for people.
        reason: String,
    },
    /// Something else is at fault: the same request may succeed later.
    #[error("{0}")]
    Unavailable(String),
}

/// The kinds of faults for which the engine rejects a request of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRejection {
    /// The instance or series does not belong to the input of the node.
    NotInInput,
    /// The pixels of an instance cannot be decoded, or their unit is not known.
    PixelsUndecodable,
    /// The series is no regular stack of slices, or one of its instances is no slice (DIN-81).
    GeometryInconsistent,
    /// Every instance of the series is a localizer, which is no volume by design.
    Localizers,
    /// The shared model can never answer this question.
    QuestionRefused,
    /// A kind that this version of the contract does not know.
    Other,
}

impl HostRejection {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::NotInInput,
        Self::PixelsUndecodable,
        Self::GeometryInconsistent,
        Self::Localizers,
        Self::QuestionRefused,
        Self::Other,
    ];

    /// Stable name of the kind: the `code` of the [`Rejection`] that crosses the boundary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotInInput => "not_in_input",
            Self::PixelsUndecodable => "pixels_undecodable",
            Self::GeometryInconsistent => "geometry_inconsistent",
            Self::Localizers => "localizers",
            Self::QuestionRefused => "question_refused",
            Self::Other => "other",
        }
    }

    /// The kind of this name; [`HostRejection::Other`] for a name of a later version.
    pub fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|it| it.name() == name).unwrap_or(Self::Other)
    }
}

impl HostError {
    /// Converts into an error of the node. `code` is the plugin's own name for a rejected request.
    pub fn into_node_error(self, code: impl RejectionCode) -> NodeError {
        match self {
            Self::Rejected { reason, .. } => NodeError::rejected(code, reason),
            Self::Unavailable(reason) => NodeError::Unavailable(reason),
        }
    }
}

impl<'a> Context<'a> {
    pub(crate) const fn new(host: &'a HostTable) -> Self {
        Self { host }
    }

    /// Writes one line to the engine's log. The line must not identify a patient.
    pub fn log(&self, level: Level, message: &str) {
        // SAFETY: the host lends this table, with its context, for the length of the call.
        unsafe { (self.host.log)(self.host.context, level as u32, Bytes::lend(message.as_bytes())) }
    }

    /// Reports the share of the work that is done, from 0 to 1.
    pub fn progress(&self, done: f64) {
        let per_mille = (0..=1000).rev().find(|it| f64::from(*it) <= done * 1000.0).unwrap_or(0);
        // SAFETY: as for `log`.
        unsafe { (self.host.progress)(self.host.context, per_mille) }
    }

    /// Whether the run was cancelled. A plugin polls this during long work and returns early.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: as for `log`.
        let flag = unsafe { (self.host.is_cancelled)(self.host.context) };
        flag != 0 || CANCELLED.load(Ordering::Relaxed)
    }

    /// Lends the file of an instance: the data set as it was received, behind File Meta Information
    /// written by the engine.
    ///
    /// # Errors
    ///
    /// [`HostRejection::NotInInput`] if the instance does not belong to the input of the node.
    pub fn read_instance(&self, instance: &SopInstanceUid) -> Result<&'a [u8], HostError> {
        let mut file = Bytes::lend(&[]);
        let mut problem = MaybeUninit::<Buffer>::uninit();
        let name = Bytes::lend(instance.as_str().as_bytes());
        // SAFETY: as for `log`; `file` and `problem` outlive the call.
        let status = unsafe {
            (self.host.read_instance)(self.host.context, name, &raw mut file, problem.as_mut_ptr())
        };
        // SAFETY: by the contract the host always fills it in.
        let problem = unsafe { problem.assume_init() };
        check_status(status, &problem)?;
        // SAFETY: the host lends the file until `process` returns, which `'a` does not outlive.
        Ok(unsafe { file.as_slice() })
    }

    /// Decodes the instances of a series and stacks them into a volume.
    ///
    /// # Errors
    ///
    /// [`HostRejection::PixelsUndecodable`] if a file cannot be decoded, or a CT does not state its
    /// Hounsfield units; [`HostRejection::GeometryInconsistent`] if the series is no regular stack
    /// of slices, and [`HostRejection::Localizers`] if it has nothing but those. The reason names
    /// the instance, or all problems of the stack.
    pub fn read_volume(&self, series: &SeriesInstanceUid) -> Result<VolumeRef<'a>, HostError> {
        let mut view = VolumeView::empty();
        let mut problem = MaybeUninit::<Buffer>::uninit();
        let name = Bytes::lend(series.as_str().as_bytes());
        // SAFETY: as for `log`; `view` and `problem` outlive the call.
        let status = unsafe {
            (self.host.read_volume)(self.host.context, name, &raw mut view, problem.as_mut_ptr())
        };
        // SAFETY: by the contract the host always fills it in.
        let problem = unsafe { problem.assume_init() };
        check_status(status, &problem)?;
        // SAFETY: the host lends the volume until `process` returns, which `'a` does not outlive.
        let geometry = unsafe { view.geometry.as_slice() };
        let geometry = serde_json::from_slice(geometry)
            .map_err(|error| HostError::Unavailable(error.to_string()))?;
        // SAFETY: as above.
        let values = unsafe { view.values() };
        Ok(VolumeRef { geometry, values })
    }

    /// Stores content that is too large for JSON, such as a mask, and returns its reference.
    ///
    /// # Errors
    ///
    /// Fails if the content is too large, or cannot be stored.
    pub fn put_artifact(&self, content: &[u8]) -> Result<ArtifactRef, HostError> {
        let mut reference = MaybeUninit::<Buffer>::uninit();
        // SAFETY: as for `log`; `content` and `reference` outlive the call.
        let status = unsafe {
            let response = reference.as_mut_ptr();
            (self.host.put_artifact)(self.host.context, Bytes::lend(content), response)
        };
        // SAFETY: by the contract the host always fills it in.
        let reference = unsafe { reference.assume_init() };
        check_status(status, &reference)?;
        serde_json::from_slice(reference.as_slice())
            .map_err(|error| HostError::Unavailable(error.to_string()))
    }

    /// Asks the shared model. The answer is not checked: see the crate `plugin-toolkit`.
    ///
    /// # Errors
    ///
    /// [`HostRejection::QuestionRefused`] if this question can never be answered,
    /// [`HostError::Unavailable`] if there is no model or the model cannot answer now.
    pub fn ask(&self, question: &InferRequest) -> Result<InferResponse, HostError> {
        let question = serde_json::to_vec(question).map_err(|error| HostError::Rejected {
            kind: HostRejection::QuestionRefused,
            reason: error.to_string(),
        })?;
        let answer = self.infer(&question)?;
        serde_json::from_slice(&answer).map_err(|it| HostError::Unavailable(it.to_string()))
    }

    /// Asks the shared model with a request and a response in JSON ([`InferRequest`],
    /// [`InferResponse`]).
    ///
    /// # Errors
    ///
    /// As [`Context::ask`].
    pub fn infer(&self, request: &[u8]) -> Result<Vec<u8>, HostError> {
        let mut response = MaybeUninit::<Buffer>::uninit();
        // SAFETY: as for `log`; `request` and `response` outlive the call.
        let status = unsafe {
            (self.host.infer)(self.host.context, Bytes::lend(request), response.as_mut_ptr())
        };
        // SAFETY: by the contract the host always fills it in.
        let response = unsafe { response.assume_init() };
        check_status(status, &response)?;
        Ok(response.as_slice().to_vec())
    }
}

/// Converts the status of a service, and the response that came with it, to a `Result`.
fn check_status(status: Status, response: &Buffer) -> Result<(), HostError> {
    let body = response.as_slice();
    match status {
        Status::OK => Ok(()),
        Status::REJECTED => Err(match serde_json::from_slice::<Rejection>(body) {
            Ok(Rejection { code, reason }) => {
                HostError::Rejected { kind: HostRejection::parse(&code), reason }
            }
            Err(_) => HostError::Rejected {
                kind: HostRejection::Other,
                reason: String::from_utf8_lossy(body).into_owned(),
            },
        }),
        _ => Err(HostError::Unavailable(String::from_utf8_lossy(body).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_of_the_host_keeps_its_kind_and_its_reason() {
        for kind in HostRejection::ALL {
            assert_eq!(HostRejection::parse(kind.name()), kind);
            let rejection = Rejection { code: kind.name().to_owned(), reason: "why".to_owned() };
            let body = Buffer::from(serde_json::to_vec(&rejection).unwrap());
            let expected = HostError::Rejected { kind, reason: "why".to_owned() };
            assert_eq!(check_status(Status::REJECTED, &body), Err(expected));
        }
    }

    #[test]
    fn a_rejection_of_an_unknown_kind_is_still_a_rejection() {
        let body = Buffer::from(br#"{"code": "tomorrow", "reason": "why"}"#.to_vec());
        let expected = HostError::Rejected { kind: HostRejection::Other, reason: "why".to_owned() };
        assert_eq!(check_status(Status::REJECTED, &body), Err(expected));
        let prose = Buffer::from(b"prose".to_vec());
        assert!(matches!(
            check_status(Status::REJECTED, &prose),
            Err(HostError::Rejected { kind: HostRejection::Other, reason }) if reason == "prose"
        ));
    }

    #[test]
    fn every_other_status_may_succeed_later() {
        for status in [Status::UNAVAILABLE, Status::PANICKED, Status(99)] {
            let outcome = check_status(status, &Buffer::from(b"busy".to_vec()));
            assert_eq!(outcome, Err(HostError::Unavailable("busy".to_owned())));
        }
    }
}
