//! The decoder's process: confines itself, decodes one file, answers, and ends.
//!
//! The engine starts itself as `isocenter decoder TASK`. The file is the standard input, open for
//! reading; the answer goes to the standard output.

use std::io::{self, Read as _, Write as _};

use domain::ErrorChain;
use encoding::dicom::header::{Encoding, HeaderError, inflated_header};
use encoding::dicom::{deflation, file_meta};
use imaging::{SliceError, document_reader, rendering, segmentation_reader};

use crate::decoder_answer::{Answer, DecoderTask, SegmentAnswer};
use crate::decoder_sandbox;
use crate::protocol::{ATTACHMENT_BYTES_MAX, write_frame};

/// Confines this process, and decodes what is on standard input.
///
/// # Errors
///
/// Fails if the engine has ended, or if the answer is too long.
pub fn run(task: DecoderTask, memory_bytes_max: u64, processor_seconds: u64) -> io::Result<()> {
    if let Err(error) = decoder_sandbox::confine(memory_bytes_max, processor_seconds) {
        return send(&Answer::Unconfined { reason: error.to_string() }, &[]);
    }
    send(&Answer::Ready, &[])?;
    let mut file = Vec::new();
    io::stdin().lock().read_to_end(&mut file)?;
    match decoded(task, &file) {
        Ok(Decoded { answer, attachment }) => send(&answer, &attachment),
        Err(error) => send(&Answer::Undecodable { reason: error.to_string() }, &[]),
    }
}

fn send(answer: &Answer, attachment: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write_frame(&mut out, answer, attachment)?;
    out.flush()
}

/// An answer with its attachment.
struct Decoded {
    answer: Answer,
    attachment: Vec<u8>,
}

/// Why a file cannot be decoded.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// It is no image or object that can be read.
    #[error("{}", ErrorChain(.0))]
    Slice(#[from] SliceError),
    /// It does not begin as a file of the archive does (PS3.10, 7.1).
    #[error("it has no file meta information")]
    NoFileMeta,
    /// Its data set is not one that is accepted.
    #[error("{}", ErrorChain(.0))]
    Header(#[from] HeaderError),
    /// It is not deflated.
    #[error("it cannot be inflated: {0}")]
    Deflation(#[from] io::Error),
    /// It is too long once it is inflated (SEC-23).
    #[error("inflated, it has more than {ATTACHMENT_BYTES_MAX} bytes")]
    TooLong,
}

fn decoded(task: DecoderTask, file: &[u8]) -> Result<Decoded, Fault> {
    match task {
        DecoderTask::Picture => {
            let picture = rendering::render(file)?;
            let answer = Answer::Picture { width: picture.width, height: picture.height };
            Ok(Decoded { answer, attachment: picture.rgb })
        }
        DecoderTask::Segments => Ok(segments(file)?),
        DecoderTask::Document => {
            let document = document_reader::read(file)?;
            let predecessors = document.predecessors;
            let answer = Answer::Document { predecessors, sections: document.sections };
            Ok(Decoded { answer, attachment: Vec::new() })
        }
        DecoderTask::InflatedHeader => {
            let data = deflated_data(file)?;
            let attachment = inflated_header(data, data.len() as u64)?;
            Ok(Decoded { answer: Answer::Inflated, attachment })
        }
        DecoderTask::Inflated => {
            let data = deflated_data(file)?;
            let inflated = deflation::inflated(data, ATTACHMENT_BYTES_MAX.into())?;
            let attachment = inflated.ok_or(Fault::TooLong)?;
            Ok(Decoded { answer: Answer::Inflated, attachment })
        }
    }
}

/// The data set of a file that is deflated.
fn deflated_data(file: &[u8]) -> Result<&[u8], Fault> {
    let (start, transfer_syntax) = file_meta::split(file).ok_or(Fault::NoFileMeta)?;
    let data = file.get(start..).filter(|_| Encoding::of(&transfer_syntax).is_deflated);
    data.ok_or(Fault::NoFileMeta)
}

fn segments(file: &[u8]) -> Result<Decoded, SliceError> {
    let mut attachment = Vec::new();
    let mut segments = Vec::new();
    for segment in segmentation_reader::read(file)? {
        let mut images = Vec::new();
        for (image, mask) in segment.images {
            attachment.extend(encoding::bits::pack(mask));
            images.push(image);
        }
        let tracking_uid = segment.tracking_uid;
        segments.push(SegmentAnswer { tracking_uid, size: segment.size, images });
    }
    Ok(Decoded { answer: Answer::Segments { segments }, attachment })
}
