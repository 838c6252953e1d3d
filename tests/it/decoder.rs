//! Files of other systems are decoded in a process of their own: one that makes the decoder crash,
//! eat memory or compute without end stops nothing else, and the same pictures come out (SEC-24).

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contracts::{DecodeError, Decoder as _};
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use encoding::dicom::deflation;
use encoding::dicom::file_meta::{self, FileMeta};
use encoding::dicom::header::{Encoding, Header, Tag, read_encoded, starts};
use imaging::rendering::render;
use plugin_host::{ConfinedDecoder, DecoderLimits};
use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::{
    Hospital, Scratch, SiteOptions, eventually, files, not_run, program, reference, study,
};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const RLE: &str = "1.2.840.10008.1.2.5";

const PIXELS: Tag = Tag(0x7FE0, 0x0010);

/// A codestream of JPEG 2000 that claims to have this many rows and columns, and has no pixels
/// (ISO/IEC 15444-1, A). It is as long as a small image.
fn claiming(side: u32, levels: u8) -> Vec<u8> {
    let word = |it: u32| it.to_be_bytes();
    let mut stream = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
    for number in [side, side, 0, 0, side, side, 0, 0] {
        stream.extend(word(number));
    }
    stream.extend([0, 1, 7, 1, 1]);
    stream.extend([0xFF, 0x52, 0, 12, 0, 0, 0, 1, 0, levels, 4, 4, 0, 1]);
    stream.extend([0xFF, 0x5C, 0, 4 + 3 * levels, 0x40]);
    stream.extend(vec![8 << 3; 1 + 3 * usize::from(levels)]);
    // A comment of 8,000 zeros.
    stream.extend([0xFF, 0x64, 0x1F, 0x44, 0, 0]);
    stream.extend([0; 8000]);
    stream.extend([0xFF, 0x90, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0x93]);
    stream.extend(vec![0; 1 + usize::from(levels)]);
    stream.extend([0xFF, 0xD9]);
    stream.resize(stream.len().next_multiple_of(2), 0);
    stream
}

/// A file of a plain one, in another transfer syntax and with another end of its data set.
fn rewritten(
    file: &[u8],
    transfer_syntax: &str,
    change: impl Fn(&[u8], usize) -> Vec<u8>,
) -> Vec<u8> {
    let (start, _) = file_meta::split(file).unwrap();
    let data = &file[start..];
    let header = header(data);
    let all = starts(Cursor::new(data), data.len() as u64, Encoding::of(EXPLICIT)).unwrap();
    let pixels = all.iter().find(|it| it.0 == PIXELS).map_or(data.len() as u64, |it| it.1);
    let meta = FileMeta {
        sop_class: header.ascii(Tag(8, 0x16)).unwrap(),
        sop_instance: header.ascii(Tag(8, 0x18)).unwrap(),
        transfer_syntax,
        sending_ae: "CT1",
        receiving_ae: "ISOCENTER",
    };
    [meta.to_bytes(), change(data, usize::try_from(pixels).unwrap())].concat()
}

fn header(data: &[u8]) -> Header {
    read_encoded(Cursor::new(data), data.len() as u64, Encoding::of(EXPLICIT)).unwrap()
}

/// The image with these compressed pixels.
fn compressed(file: &[u8], transfer_syntax: &str, fragment: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fragment.len()).unwrap().to_le_bytes();
    let encapsulated = [
        b"\xE0\x7F\x10\0OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\0\0\0\0\xFE\xFF\0\xE0".as_slice(),
        &length,
        fragment,
        b"\xFE\xFF\xDD\xE0\0\0\0\0",
    ]
    .concat();
    rewritten(file, transfer_syntax, |data, pixels| {
        [&data[..pixels], encapsulated.as_slice()].concat()
    })
}

fn deflated(file: &[u8]) -> Vec<u8> {
    rewritten(file, DEFLATED, |data, _| deflation::deflated(data).unwrap())
}

/// The pixels of a plain file in RLE, without any run (PS3.5, G).
fn rle(file: &[u8]) -> Vec<u8> {
    let (start, _) = file_meta::split(file).unwrap();
    let data = &file[start..];
    let all = starts(Cursor::new(data), data.len() as u64, Encoding::of(EXPLICIT)).unwrap();
    let pixels = all.iter().find(|it| it.0 == PIXELS).unwrap().1;
    let cells = &data[usize::try_from(pixels).unwrap() + 12..];
    let mut segments: Vec<Vec<u8>> = Vec::new();
    for byte in [1, 0] {
        let bytes: Vec<u8> = cells.chunks_exact(2).map(|it| it[byte]).collect();
        let literals = bytes.chunks(128).flat_map(|it| {
            let length = u8::try_from(it.len() - 1).unwrap();
            [&[length], it].concat()
        });
        let mut segment: Vec<u8> = literals.collect();
        segment.resize(segment.len().next_multiple_of(2), 0x80);
        segments.push(segment);
    }
    let mut frame = vec![0; 64];
    let second = 64 + u32::try_from(segments[0].len()).unwrap();
    for (at, number) in [2_u32, 64, second].into_iter().enumerate() {
        frame[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
    }
    compressed(file, RLE, &[frame, segments.concat()].concat())
}

/// A label map of one frame with as many segments, each of which would have a mask of its own.
fn label_map(segments: u16, side: u16) -> Vec<u8> {
    let phantom = Phantom { size: 8, slices: 1, ..study("label map") };
    let mut files = phantom.files_with(|_, set| {
        let put = |set: &mut InMemDicomObject, tag, vr, value: PrimitiveValue| {
            set.put(DataElement::new(tag, vr, value));
        };
        put(set, tags::ROWS, VR::US, side.into());
        put(set, tags::COLUMNS, VR::US, side.into());
        put(set, tags::BITS_ALLOCATED, VR::US, 8_u16.into());
        put(set, tags::SEGMENTATION_TYPE, VR::CS, "LABELMAP".into());
        let item = |number: u16| {
            InMemDicomObject::from_element_iter([
                DataElement::new(tags::SEGMENT_NUMBER, VR::US, PrimitiveValue::from(number)),
                DataElement::new(tags::TRACKING_UID, VR::UI, format!("1.2.{number}")),
            ])
        };
        let items: Vec<_> = (1..=segments).map(item).collect();
        set.put(DataElement::new(tags::SEGMENT_SEQUENCE, VR::SQ, DataSetSequence::from(items)));
        let sequence = |tag: dicom_core::Tag, item: InMemDicomObject| {
            let items = DataSetSequence::from(vec![item]);
            InMemDicomObject::from_element_iter([DataElement::new(tag, VR::SQ, items)])
        };
        let image = InMemDicomObject::from_element_iter([DataElement::new(
            tags::REFERENCED_SOP_INSTANCE_UID,
            VR::UI,
            "1.2.3",
        )]);
        let source = sequence(tags::SOURCE_IMAGE_SEQUENCE, image);
        let frame = sequence(tags::DERIVATION_IMAGE_SEQUENCE, source);
        let frames = DataSetSequence::from(vec![frame]);
        set.put(DataElement::new(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, VR::SQ, frames));
        put(
            set,
            tags::PIXEL_DATA,
            VR::OB,
            vec![1_u8; usize::from(side) * usize::from(side)].into(),
        );
    });
    files.remove(0)
}

fn decoder(limits: DecoderLimits) -> ConfinedDecoder {
    ConfinedDecoder::new(program(), limits)
}

fn written(scratch: &Scratch, name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch.path(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The decoder's picture of a file is that of its pixels, or both refuse it with the same reason.
async fn check_same(decoder: &ConfinedDecoder, path: &Path) -> bool {
    let ours = render(&std::fs::read(path).unwrap());
    match (decoder.picture(path).await, ours) {
        (Ok(theirs), Ok(ours)) => {
            let is_same = (theirs.width, theirs.height) == (ours.width, ours.height);
            assert!(is_same && theirs.rgb == ours.rgb, "{}", path.display());
            true
        }
        (Err(DecodeError::Undecodable { reason }), Err(error)) => {
            assert!(reason.starts_with(&error.to_string()), "{reason} {error}");
            false
        }
        (theirs, ours) => {
            let seen = format!("{}: {:?} {:?}", path.display(), theirs.is_ok(), ours.is_ok());
            assert_eq!(seen, "", "only one of the two refuses it");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_24_pictures_are_to_the_bit_those_of_the_codecs() {
    let scratch = Scratch::default();
    let decoder = decoder(DecoderLimits::default());
    let plain = Phantom { slices: 1, ..study("pictures") }.files().remove(0);
    for (name, bytes, is_picture) in [
        ("plain", plain.clone(), true),
        ("deflated", deflated(&plain), true),
        ("rle", rle(&plain), true),
        ("jpeg 2000", compressed(&plain, JPEG_2000, &claiming(16, 0)), true),
        ("nothing", b"no image".to_vec(), false),
    ] {
        let path = written(&scratch, name, &bytes);
        assert_eq!(check_same(&decoder, &path).await, is_picture, "{name}");
    }
    let gone = decoder.picture(&scratch.path("gone")).await.unwrap_err();
    assert!(matches!(gone, DecodeError::Undecodable { .. }), "{gone}");
}

/// Images of real scanners in every compression that is read.
#[tokio::test(flavor = "multi_thread")]
async fn sec_24_pictures_of_reference_material_are_to_the_bit_those_of_the_codecs() {
    let Some(reference) = reference() else {
        return not_run("the images of the reference material");
    };
    let decoder = decoder(DecoderLimits::default());
    let mut pictures = 0;
    for path in files(&reference.join("material/dicom")) {
        let length = std::fs::metadata(&path).unwrap().len();
        if path.extension().is_some_and(|it| it == "dcm") && length < 2 << 20 && pictures < 100 {
            pictures += usize::from(check_same(&decoder, &path).await);
        }
    }
    assert!(pictures > 0);
}

/// Each would end or stop the engine: they ask for more memory than there is, and for more time.
#[tokio::test(flavor = "multi_thread")]
async fn sec_24_a_bomb_ends_its_decoder_and_nothing_else() {
    let scratch = Scratch::default();
    let decoder = decoder(DecoderLimits::default());
    let small = Phantom { size: 64, slices: 1, ..study("bombs") }.files().remove(0);
    let image = |name, side, levels| {
        written(&scratch, name, &compressed(&small, JPEG_2000, &claiming(side, levels)))
    };
    let huge = decoder.picture(&image("huge", 60_000, 0)).await.unwrap_err();
    assert!(matches!(huge, DecodeError::Undecodable { .. }), "{huge}");

    // 16 MiB in the file, 16 GiB as masks.
    let map = written(&scratch, "map", &label_map(1000, 4096));
    let limits = DecoderLimits { memory_bytes_max: 2 << 30, ..DecoderLimits::default() };
    let ended = self::decoder(limits).segments(&map).await.unwrap_err();
    let is_told =
        matches!(&ended, DecodeError::Undecodable { reason } if reason.contains("signal"));
    assert!(is_told, "{ended}");
    let two = written(&scratch, "two", &label_map(2, 8));
    assert_eq!(decoder.segments(&two).await.unwrap().len(), 2);

    let limits = DecoderLimits { processor_seconds_max: 1, ..DecoderLimits::default() };
    let hasty = self::decoder(limits);
    let long = hasty.picture(&image("long", 20_000, 5)).await.unwrap_err();
    let expected = "decoding it takes more than 1 s of processor time";
    assert_eq!(long, DecodeError::Undecodable { reason: expected.to_owned() });

    let hasty = DecoderLimits { time_max: Duration::from_millis(300), ..DecoderLimits::default() };
    let start = Instant::now();
    let slow = self::decoder(hasty).picture(&image("slow", 20_000, 5)).await.unwrap_err();
    assert!(matches!(slow, DecodeError::OutOfTime { .. }), "{slow}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

const POINTING: &str = "
workflow: pointing
on: { study: { complete: { quiet: 200ms } } }
nodes: { it: { plugin: faulty, with: { fault: point, size: [64, 64] } } }
deliver:
  - { to: pacs, what: [sr, sc] }
  - { to: archive, what: [sc] }
";

/// The most memory that the engine has had, in bytes.
fn memory_peak(hospital: &Hospital) -> u64 {
    let status = format!("/proc/{}/status", hospital.engine.id());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find(|it| it.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn deliveries(hospital: &Hospital) -> Vec<Value> {
    hospital.ask(&["delivery", "list"]).as_array().unwrap().clone()
}

/// The report goes out without the picture, once, and `why` says for which image and reason.
#[tokio::test(flavor = "multi_thread")]
async fn sec_24_an_image_that_is_a_bomb_costs_its_picture_and_not_the_report() {
    let scratch = Scratch::default();
    let archive = format!("  archive: {{ folder: {} }}\n", scratch.path("out").display());
    let options = SiteOptions {
        workflows: &[("pointing", POINTING)],
        destinations: &archive,
        ..SiteOptions::default()
    };
    let hospital = Hospital::with(options).await;
    let phantom = Phantom { size: 64, slices: 1, ..study("a bomb") };
    let bomb = compressed(&phantom.files()[0], JPEG_2000, &claiming(16_000, 0));
    hospital.modality().store(&[&bomb]).await.unwrap();
    hospital.ended_runs(1).await;

    let received = hospital.pacs.received();
    let classes: Vec<&str> = received.iter().map(|it| it.sop_class.as_str()).collect();
    assert_eq!(classes.len(), 1, "the report, and no picture: {classes:?}");
    let instance = phantom.instance_uid(0);
    let expected = format!("nothing is drawn into image {instance}: its pixels cannot be decoded");
    let why = hospital.ask(&["why", &phantom.study_uid()]).to_string();
    assert!(why.contains(&expected), "{why}");
    let of = |name: &str| {
        let mut all = deliveries(&hospital).into_iter();
        all.find(|it| it["destination"] == name).unwrap()
    };
    assert_eq!(
        (of("pacs")["state"].as_str(), of("pacs")["attempt"].as_i64()),
        (Some("delivered"), Some(1))
    );
    let alone = of("archive");
    assert_eq!(alone["state"], "blocked", "{alone}");
    let reason = alone["reason"].as_str().unwrap();
    assert!(reason.contains(&instance) && reason.contains("cannot be decoded"), "{reason}");
    let peak = memory_peak(&hospital);
    assert!(peak < 600 << 20, "the engine itself has decoded it: {peak} bytes");

    // The next image has its picture.
    let sound = Phantom { size: 64, slices: 1, ..study("no bomb") };
    hospital.send(&sound).await;
    hospital.ended_runs(2).await;
    eventually("the picture", async || {
        let received = hospital.pacs.received();
        received.iter().any(|it| it.sop_class == "1.2.840.10008.5.1.4.1.1.7").then_some(())
    })
    .await;
}

/// What is deflated is inflated by the decoder: stored, measured and reported as the plain study
/// is, and refused with the reason if it is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn sec_24_a_deflated_study_is_received_as_a_plain_one() {
    let hospital = Hospital::open().await;
    let plain = study("plain");
    hospital.send(&plain).await;
    hospital.ended_runs(1).await;
    let packed: Vec<Vec<u8>> = study("packed").files().iter().map(|it| deflated(it)).collect();
    let packed: Vec<&[u8]> = packed.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&packed).await.unwrap();
    let runs = hospital.ended_runs(2).await;

    let volumes: Vec<Value> = runs.iter().map(|it| hospital.measurements_of(it)).collect();
    assert!(volumes[0].is_array() && volumes[0] == volumes[1], "{volumes:?}");

    let cut = rewritten(&study("cut").files()[0], DEFLATED, |data, _| {
        let packed = deflation::deflated(data).unwrap();
        packed[..packed.len() / 2].to_vec()
    });
    let refused = hospital.modality().store(&[&cut]).await.unwrap_err().to_string();
    assert!(refused.to_lowercase().contains("c0"), "{refused}");
    let events = hospital.ask(&["audit", "show", "--limit", "200"]).to_string();
    assert!(events.contains("the deflated data set cannot be read"), "{events}");
}
