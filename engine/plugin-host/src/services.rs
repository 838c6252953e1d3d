//! The services that a plugin's process offers to its plugin: files and volumes of the node's
//! input, and what only the engine can do, over the socket.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use domain::{ArtifactRef, ErrorChain, NodeInput, SopInstanceUid};
use imaging::SliceError;
use plugin_api::abi::v1::Status;
use plugin_api::{HostRejection, Rejection};
use sha2::{Digest as _, Sha256};

use crate::library::{Fault, HostServices, LentVolume};
use crate::message_writer::MessageWriter;
use crate::protocol::PluginMessage;

/// Interval at which a plugin that waits for the model checks whether the run was cancelled.
const CANCELLATION_POLL: Duration = Duration::from_millis(50);

/// Upper bound of a line of the log, in characters.
const LOG_CHARS_MAX: usize = 4096;

/// The engine's response to a question for the shared model.
pub(crate) struct ModelResponse {
    pub(crate) status: Status,
    /// The answer as JSON, a [`Rejection`] as JSON, or a text for people, by status.
    pub(crate) body: String,
}

/// A file of the input, read at the first request.
struct InputFile {
    path: PathBuf,
    content: OnceCell<Vec<u8>>,
}

/// A series of the input, stacked at the first request.
struct InputSeries {
    instances: Vec<SopInstanceUid>,
    volume: OnceCell<DecodedVolume>,
}

/// A stacked series, in the form in which it crosses the library boundary.
struct DecodedVolume {
    /// JSON of `domain::VolumeGeometry`.
    geometry: Vec<u8>,
    values: Vec<f32>,
}

/// The services of one call of `process`. What was read stays in memory until the call ends, as the
/// plugin holds references to it.
pub(crate) struct Services<'a> {
    files: BTreeMap<String, InputFile>,
    series: BTreeMap<String, InputSeries>,
    is_cancelled: &'a AtomicBool,
    writer: &'a MessageWriter,
    model_responses: &'a Receiver<ModelResponse>,
}

impl<'a> Services<'a> {
    pub(crate) fn new(
        input: &NodeInput,
        paths: BTreeMap<SopInstanceUid, PathBuf>,
        is_cancelled: &'a AtomicBool,
        writer: &'a MessageWriter,
        model_responses: &'a Receiver<ModelResponse>,
    ) -> Self {
        let mut files = BTreeMap::new();
        for (instance, path) in paths {
            files.insert(instance.to_string(), InputFile { path, content: OnceCell::new() });
        }
        let mut series = BTreeMap::new();
        for of_study in input.study.iter().flat_map(|it| &it.series) {
            let instances = of_study.instances.iter().map(|it| it.instance.clone()).collect();
            let stacked = InputSeries { instances, volume: OnceCell::new() };
            series.insert(of_study.series.to_string(), stacked);
        }
        Self { files, series, is_cancelled, writer, model_responses }
    }

    fn path_of(&self, instance: &SopInstanceUid) -> Result<&Path, Fault> {
        let file = self.files.get(instance.as_str());
        Ok(&file.ok_or_else(|| not_in_input("no such instance"))?.path)
    }

    fn stack(&self, instances: &[SopInstanceUid]) -> Result<DecodedVolume, Fault> {
        let mut slices = Vec::new();
        let mut localizers = Vec::new();
        for instance in instances {
            match imaging::slice::read(self.path_of(instance)?) {
                Ok(slice) => slices.push(slice),
                Err(SliceError::Localizer) => localizers.push(instance),
                Err(error) => return Err(slice_fault(instance, &error)),
            }
        }
        check_localizers(&localizers, slices.is_empty())?;
        let volume = imaging::volume::stack(slices).map_err(|error| Fault::Rejected {
            kind: HostRejection::GeometryInconsistent,
            reason: ErrorChain(&error).to_string(),
        })?;
        let geometry = serde_json::to_vec(&volume.geometry)
            .map_err(|error| Fault::Unavailable(error.to_string()))?;
        Ok(DecodedVolume { geometry, values: volume.values })
    }
}

fn not_in_input(reason: &str) -> Fault {
    Fault::Rejected { kind: HostRejection::NotInInput, reason: reason.to_owned() }
}

/// The fault of an instance that is no slice: its pixels, or its place in the stack.
fn slice_fault(instance: &SopInstanceUid, error: &SliceError) -> Fault {
    let kind = match error {
        SliceError::Undecodable { .. } | SliceError::Unclear { .. } => {
            HostRejection::PixelsUndecodable
        }
        SliceError::Unreadable(_)
        | SliceError::Missing { .. }
        | SliceError::Unusable { .. }
        | SliceError::Localizer
        | SliceError::SeveralFrames
        | SliceError::NotASlice { .. } => HostRejection::GeometryInconsistent,
    };
    Fault::Rejected { kind, reason: format!("instance {instance}: {}", ErrorChain(error)) }
}

/// The fault of a series with localizers. A series of nothing else is no volume by design, which a
/// plugin may pass over; one among slices is a mistake.
fn check_localizers(localizers: &[&SopInstanceUid], is_nothing_else: bool) -> Result<(), Fault> {
    match localizers.first() {
        None => Ok(()),
        Some(instance) if is_nothing_else => Err(Fault::Rejected {
            kind: HostRejection::Localizers,
            reason: format!("instance {instance}: {}", SliceError::Localizer),
        }),
        Some(instance) => Err(slice_fault(instance, &SliceError::Localizer)),
    }
}

impl HostServices for Services<'_> {
    fn log(&self, level: u32, message: &str) {
        let message: String = message.chars().take(LOG_CHARS_MAX).collect();
        // If the engine has ended, nobody is left to read the line.
        _ = self.writer.send(&PluginMessage::Log { level, message });
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    fn instance(&self, uid: &str) -> Result<&[u8], Fault> {
        let file = self.files.get(uid).ok_or_else(|| not_in_input("no such instance"))?;
        if let Some(content) = file.content.get() {
            return Ok(content);
        }
        let content = std::fs::read(&file.path);
        let content = content.map_err(|error| Fault::Unavailable(error.to_string()))?;
        Ok(file.content.get_or_init(|| content))
    }

    fn volume(&self, series: &str) -> Result<LentVolume<'_>, Fault> {
        let series = self.series.get(series).ok_or_else(|| not_in_input("no such series"))?;
        let decoded = if let Some(decoded) = series.volume.get() {
            decoded
        } else {
            let decoded = self.stack(&series.instances)?;
            series.volume.get_or_init(|| decoded)
        };
        Ok(LentVolume { geometry: &decoded.geometry, values: &decoded.values })
    }

    fn put_artifact(&self, content: &[u8]) -> Result<Vec<u8>, Fault> {
        let reference = ArtifactRef {
            sha256: hex::encode(Sha256::digest(content)),
            bytes: content.len() as u64,
        };
        self.writer
            .send_with(&PluginMessage::Artifact, content)
            .map_err(|error| Fault::Unavailable(error.to_string()))?;
        serde_json::to_vec(&reference).map_err(|error| Fault::Unavailable(error.to_string()))
    }

    fn infer(&self, request: &[u8]) -> Result<Vec<u8>, Fault> {
        // The late answer to a cancelled question must not be read as the answer to this one.
        while self.model_responses.try_recv().is_ok() {}
        self.writer
            .send_with(&PluginMessage::Infer, request)
            .map_err(|error| Fault::Unavailable(error.to_string()))?;
        loop {
            match self.model_responses.recv_timeout(CANCELLATION_POLL) {
                Ok(response) => return model_answer(response),
                Err(RecvTimeoutError::Timeout) if self.is_cancelled() => {
                    return Err(Fault::Unavailable("the run was cancelled".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fault::Unavailable("the engine has ended".to_owned()));
                }
            }
        }
    }
}

fn model_answer(response: ModelResponse) -> Result<Vec<u8>, Fault> {
    match response.status {
        Status::OK => Ok(response.body.into_bytes()),
        Status::REJECTED => {
            let rejection = serde_json::from_str(&response.body);
            let reason = rejection.map_or(response.body, |it: Rejection| it.reason);
            Err(Fault::Rejected { kind: HostRejection::QuestionRefused, reason })
        }
        _ => Err(Fault::Unavailable(response.body)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::sync_channel;

    use domain::{PatientFacts, SeriesInput, SeriesInstance, StudyInput};

    use super::*;
    use crate::protocol::{HEADER_BYTES, read_frame};

    /// An input of one series with the instances `1.2.1` and `1.2.2`, whose files have this
    /// content.
    fn input(folder: &Path, content: &[u8]) -> (NodeInput, BTreeMap<SopInstanceUid, PathBuf>) {
        let uids = ["1.2.1", "1.2.2"];
        let instances = uids.map(|it| SeriesInstance {
            instance: it.parse().unwrap(),
            sop_class: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
        });
        let series = SeriesInput {
            series: "1.2".parse().unwrap(),
            modality: "CT".to_owned(),
            instances: instances.to_vec(),
        };
        let study = StudyInput {
            study: "1".parse().unwrap(),
            series: vec![series],
            patient: PatientFacts::default(),
            images: BTreeMap::new(),
        };
        let mut files = BTreeMap::new();
        for uid in uids {
            let path = folder.join(uid);
            std::fs::write(&path, content).unwrap();
            files.insert(uid.parse().unwrap(), path);
        }
        (NodeInput { study: Some(study), ..NodeInput::default() }, files)
    }

    /// Runs `check` with services, the engine's end of their socket, and the sender of model
    /// responses.
    fn with_services(
        content: &[u8],
        check: impl FnOnce(&Services<'_>, UnixStream, std::sync::mpsc::SyncSender<ModelResponse>),
    ) {
        let folder = std::env::temp_dir().join(format!("isocenter-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let (input, files) = input(&folder, content);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, receiver) = sync_channel(2);
        let is_cancelled = AtomicBool::new(false);
        let writer = MessageWriter::new(theirs);
        check(&Services::new(&input, files, &is_cancelled, &writer, &receiver), ours, sender);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_instances_and_series_of_the_input_are_lent() {
        with_services(b"content", |services, _, _| {
            assert_eq!(services.instance("1.2.1"), Ok(b"content".as_slice()));
            let other = services.instance("1.2.3").unwrap_err();
            assert!(matches!(other, Fault::Rejected { kind: HostRejection::NotInInput, .. }));
            // A name is looked up, and never becomes a path.
            let path = services.instance("../../../../etc/passwd").unwrap_err();
            assert!(matches!(path, Fault::Rejected { kind: HostRejection::NotInInput, .. }));
            let series = services.volume("1.3").unwrap_err();
            assert!(matches!(series, Fault::Rejected { kind: HostRejection::NotInInput, .. }));
        });
    }

    #[test]
    fn a_lent_file_does_not_change_during_the_call() {
        with_services(b"first", |services, _, _| {
            let first = services.instance("1.2.1").unwrap();
            std::fs::write(services.path_of(&"1.2.1".parse().unwrap()).unwrap(), b"second")
                .unwrap();
            assert_eq!(services.instance("1.2.1").unwrap(), b"first");
            assert_eq!(first, b"first");
        });
    }

    #[test]
    fn a_file_that_is_gone_is_unavailable_and_not_rejected() {
        with_services(b"x", |services, _, _| {
            std::fs::remove_file(services.path_of(&"1.2.2".parse().unwrap()).unwrap()).unwrap();
            assert!(matches!(services.instance("1.2.2"), Err(Fault::Unavailable(_))));
        });
    }

    #[test]
    fn files_that_are_no_slices_have_no_volume() {
        with_services(b"no DICOM", |services, _, _| {
            let fault = services.volume("1.2").unwrap_err();
            let kind = HostRejection::GeometryInconsistent;
            assert!(matches!(fault, Fault::Rejected { kind: it, .. } if it == kind), "{fault:?}");
        });
    }

    #[test]
    fn a_fault_of_pixels_names_its_instance() {
        let undecodable = SliceError::Undecodable { reason: "why".to_owned() };
        let (name, found) = ("Rescale Slope", "0".to_owned());
        let unclear = SliceError::Unclear { name, found, why: "all pixels would have one value" };
        for (error, reason) in [
            (undecodable, "instance 1.2.1: its pixels cannot be decoded: why"),
            (unclear, "instance 1.2.1: Rescale Slope is 0: all pixels would have one value"),
        ] {
            let fault = slice_fault(&"1.2.1".parse().unwrap(), &error);
            let kind = HostRejection::PixelsUndecodable;
            assert_eq!(fault, Fault::Rejected { kind, reason: reason.to_owned() });
        }
    }

    #[test]
    fn a_series_of_localizers_alone_is_told_from_one_among_slices() {
        let instance: SopInstanceUid = "1.2.1".parse().unwrap();
        assert_eq!(check_localizers(&[], true), Ok(()));
        for (is_nothing_else, kind) in
            [(true, HostRejection::Localizers), (false, HostRejection::GeometryInconsistent)]
        {
            let reason = "instance 1.2.1: it is a localizer".to_owned();
            let found = check_localizers(&[&instance], is_nothing_else);
            assert_eq!(found, Err(Fault::Rejected { kind, reason }));
        }
    }

    #[test]
    fn an_artifact_is_sent_whole_and_named_by_its_digest() {
        with_services(b"", |services, mut engine, _| {
            let reference = services.put_artifact(b"mask").unwrap();
            let reference: ArtifactRef = serde_json::from_slice(&reference).unwrap();
            assert_eq!(reference.bytes, 4);
            assert_eq!(reference.sha256, hex::encode(Sha256::digest(b"mask")));
            let mut frame = vec![0; HEADER_BYTES + br#"{"type":"artifact"}"#.len() + 4];
            engine.read_exact(&mut frame).unwrap();
            assert!(frame.ends_with(b"mask"));
        });
    }

    #[test]
    fn a_line_of_the_log_has_an_upper_bound() {
        with_services(b"", |services, mut engine, _| {
            services.log(2, &"x".repeat(LOG_CHARS_MAX + 1));
            let PluginMessage::Log { level, message } = read_frame(&mut engine).unwrap() else {
                panic!("no line");
            };
            assert_eq!((level, message.len()), (2, LOG_CHARS_MAX));
        });
    }

    #[test]
    fn a_late_answer_is_not_the_answer_to_the_next_question() {
        with_services(b"", |services, engine, sender| {
            let response = |body: &str| ModelResponse { status: Status::OK, body: body.to_owned() };
            sender.send(response("late")).unwrap();
            let answering = std::thread::spawn(move || {
                let mut engine = engine;
                // The question is on its way before its answer is.
                let _: PluginMessage = read_frame(&mut engine).unwrap();
                sender.send(response("this one")).unwrap();
            });
            assert_eq!(services.infer(b"{}").unwrap(), b"this one");
            answering.join().unwrap();
        });
    }

    #[test]
    fn a_cancelled_run_does_not_wait_for_the_model() {
        with_services(b"", |services, _engine, _sender| {
            services.is_cancelled.store(true, Ordering::Relaxed);
            let fault = services.infer(b"{}").unwrap_err();
            assert_eq!(fault, Fault::Unavailable("the run was cancelled".to_owned()));
        });
    }

    #[test]
    fn the_models_refusal_keeps_its_reason() {
        let rejection = Rejection { code: "x".to_owned(), reason: "too long".to_owned() };
        let body = serde_json::to_string(&rejection).unwrap();
        let refused = model_answer(ModelResponse { status: Status::REJECTED, body });
        let kind = HostRejection::QuestionRefused;
        let expected = Fault::Rejected { kind, reason: "too long".to_owned() };
        assert_eq!(refused, Err(expected));
        let busy = ModelResponse { status: Status::UNAVAILABLE, body: "busy".to_owned() };
        assert_eq!(model_answer(busy), Err(Fault::Unavailable("busy".to_owned())));
    }
}
