#![expect(unsafe_code, reason = "this module is the plugin's side of the library boundary")]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::{
    ArtifactRef, InferAnswer, InferRequest, SeriesInstanceUid, SopInstanceUid, VolumeGeometry,
};

use crate::NodeError;
use crate::abi::v1::{Buffer, Bytes, HostTable, Status, VolumeView};

/// What is not as it should be with an answer, and can be lived with: all of it is the answer then.
const HARMLESS: [&str; 2] = ["Unmarked", "NoMasksSaid"];

/// Set by [`crate::cancel`], cleared before each call.
pub(crate) static CANCELLED: AtomicBool = AtomicBool::new(false);

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    /// Somebody should look now.
    Error = 1,
    /// Somebody should look.
    Warning = 2,
    /// Good to know.
    Information = 3,
    /// For the author.
    Detail = 4,
}

/// What the engine lends to a plugin while it works on a node.
pub struct Context<'a> {
    host: &'a HostTable,
}

/// A volume, lent by the engine.
#[derive(Clone, Debug)]
pub struct VolumeRef<'a> {
    /// Where its voxels lie.
    pub geometry: VolumeGeometry,
    /// Hounsfield units: slice by slice, row by row.
    pub values: &'a [f32],
}

/// Why the engine could not lend something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// What was asked for is at fault: asking again would not help.
    #[error("{0}")]
    Rejected(String),
    /// Asking again may help.
    #[error("{0}")]
    Unavailable(String),
}

impl HostError {
    /// The same as an error of the node; `code` says what an input at fault lacks.
    pub fn into_node_error(self, code: &str) -> NodeError {
        match self {
            Self::Rejected(reason) => NodeError::rejected(code, reason),
            Self::Unavailable(reason) => NodeError::Unavailable(reason),
        }
    }
}

impl<'a> Context<'a> {
    pub(crate) const fn new(host: &'a HostTable) -> Self {
        Self { host }
    }

    /// Writes one line to the engine's log. Name no patient in it.
    pub fn log(&self, level: Level, message: &str) {
        // SAFETY: the host lends this table, with its context, for the length of the call.
        unsafe { (self.host.log)(self.host.context, level as u32, Bytes::lend(message.as_bytes())) }
    }

    /// Says how far the work is, from 0 to 1.
    pub fn progress(&self, done: f64) {
        let per_mille = (0..=1000).rev().find(|it| f64::from(*it) <= done * 1000.0).unwrap_or(0);
        // SAFETY: as for `log`.
        unsafe { (self.host.progress)(self.host.context, per_mille) }
    }

    /// Whether the run was cancelled. Ask now and then, and return early.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: as for `log`.
        let told = unsafe { (self.host.is_cancelled)(self.host.context) };
        told != 0 || CANCELLED.load(Ordering::Relaxed)
    }

    /// The file of an instance, as it was received, behind File Meta Information of the engine's.
    ///
    /// # Errors
    ///
    /// Fails if it is not one of the input's.
    pub fn read_instance(&self, instance: &SopInstanceUid) -> Result<&'a [u8], HostError> {
        let mut file = Bytes::lend(&[]);
        let mut problem = MaybeUninit::<Buffer>::uninit();
        let name = Bytes::lend(instance.as_str().as_bytes());
        // SAFETY: as for `log`; `file` and `problem` outlive the call.
        let status = unsafe {
            (self.host.read_instance)(self.host.context, name, &raw mut file, problem.as_mut_ptr())
        };
        // SAFETY: the contract has the host fill it in, whatever the status.
        let problem = unsafe { problem.assume_init() };
        judged(status, &problem)?;
        // SAFETY: the host lends the file until `process` returns, which `'a` does not outlive.
        Ok(unsafe { file.as_slice() })
    }

    /// The instances of a series, decoded and stacked.
    ///
    /// # Errors
    ///
    /// [`HostError::Rejected`] if the series is no regular stack of slices; it says why.
    pub fn read_volume(&self, series: &SeriesInstanceUid) -> Result<VolumeRef<'a>, HostError> {
        let mut view = VolumeView::empty();
        let mut problem = MaybeUninit::<Buffer>::uninit();
        let name = Bytes::lend(series.as_str().as_bytes());
        // SAFETY: as for `log`; `view` and `problem` outlive the call.
        let status = unsafe {
            (self.host.read_volume)(self.host.context, name, &raw mut view, problem.as_mut_ptr())
        };
        // SAFETY: the contract has the host fill it in, whatever the status.
        let problem = unsafe { problem.assume_init() };
        judged(status, &problem)?;
        // SAFETY: the host lends the volume until `process` returns, which `'a` does not outlive.
        let geometry = unsafe { view.geometry.as_slice() };
        let geometry = serde_json::from_slice(geometry)
            .map_err(|error| HostError::Unavailable(error.to_string()))?;
        // SAFETY: as above.
        let values = unsafe { view.values() };
        Ok(VolumeRef { geometry, values })
    }

    /// Keeps what is too large for words, such as a mask, and gives its name.
    ///
    /// # Errors
    ///
    /// Fails if it is too large, or cannot be kept.
    pub fn put_artifact(&self, content: &[u8]) -> Result<ArtifactRef, HostError> {
        let mut reference = MaybeUninit::<Buffer>::uninit();
        // SAFETY: as for `log`; `content` and `reference` outlive the call.
        let status = unsafe {
            let room = reference.as_mut_ptr();
            (self.host.put_artifact)(self.host.context, Bytes::lend(content), room)
        };
        // SAFETY: the contract has the host fill it in, whatever the status.
        let reference = unsafe { reference.assume_init() };
        judged(status, &reference)?;
        serde_json::from_slice(reference.as_slice())
            .map_err(|error| HostError::Unavailable(error.to_string()))
    }

    /// Asks the shared model.
    ///
    /// # Errors
    ///
    /// [`HostError::Rejected`] if this can never be answered, [`HostError::Unavailable`] if there is no model
    /// or it cannot answer now.
    pub fn ask(&self, question: &InferRequest) -> Result<InferAnswer, HostError> {
        let question =
            serde_json::to_vec(question).map_err(|it| HostError::Rejected(it.to_string()))?;
        let answer = self.infer(&question)?;
        serde_json::from_slice(&answer).map_err(|it| HostError::Unavailable(it.to_string()))
    }

    /// Asks the shared model, and takes only an answer that is whole and can be taken apart.
    ///
    /// # Errors
    ///
    /// As [`NodeError::Rejected`] for a question or answer that cannot be used, else unavailable.
    pub fn ask_whole(&self, question: &InferRequest) -> Result<InferAnswer, NodeError> {
        let said = self.ask(question).map_err(|it| it.into_node_error("model_refused"))?;
        if said.is_cut {
            let reason = format!("the answer is cut off after {} tokens", said.tokens[1]);
            return Err(NodeError::rejected("answer_cut", reason));
        }
        let flaws: Vec<&str> =
            said.flaws.iter().map(String::as_str).filter(|it| !HARMLESS.contains(it)).collect();
        if !flaws.is_empty() {
            let reason = format!("the answer cannot be taken apart: {}", flaws.join(", "));
            return Err(NodeError::rejected("answer_unreadable", reason));
        }
        Ok(said)
    }

    /// Asks the shared model; request and response are JSON ([`InferRequest`], [`InferAnswer`]).
    ///
    /// # Errors
    ///
    /// Fails if there is no model, or it cannot answer in time.
    pub fn infer(&self, request: &[u8]) -> Result<Vec<u8>, HostError> {
        let mut response = MaybeUninit::<Buffer>::uninit();
        // SAFETY: as for `log`; `request` and `response` outlive the call.
        let status = unsafe {
            (self.host.infer)(self.host.context, Bytes::lend(request), response.as_mut_ptr())
        };
        // SAFETY: the contract has the host fill it in, whatever the status.
        let response = unsafe { response.assume_init() };
        judged(status, &response)?;
        Ok(response.as_slice().to_vec())
    }
}

fn judged(status: Status, problem: &Buffer) -> Result<(), HostError> {
    let text = || String::from_utf8_lossy(problem.as_slice()).into_owned();
    match status {
        Status::OK => Ok(()),
        Status::REJECTED => Err(HostError::Rejected(text())),
        _ => Err(HostError::Unavailable(text())),
    }
}
