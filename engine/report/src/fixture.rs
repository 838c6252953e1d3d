//! A small result for the tests of encoders: a volume of two planes with two segments, a marked box, a
//! finding, prose, and an order.

use std::collections::BTreeMap;

use contracts::{Output, Preferences};
use dicom_core::Tag;
use dicom_object::{FileDicomObject, InMemDicomObject, OpenFileOptions};
use domain::{
    Abnormality, Algorithm, Amended, ArtifactRef, Assigner, Attestation, Code, Demographics,
    Finding, InputInstance, LabRow, Meaning, Measurement, Order, OrderAction, OrderKey, OrderKind,
    OrderNumber, OutputKind, PatientId, PatientSpace, Person, Presence, Reasoning, ReasoningBox,
    ReasoningStep, Region, ResultSet, ResultStatus, ReviewState, Section, Segment, Segmentation,
    SopInstanceUid, VolumeGeometry, WorkflowRef,
};
use imaging::Picture;
use jiff::Timestamp;
use uuid::Uuid;

use crate::input::{
    Engine, PreviousDelivery, ReportContext, ReportError, ReportInput, SentObject,
    StudyDescription, TakenOut,
};
use crate::language::Language;
use crate::layout::fonts::Fonts;
use crate::recipient::Recipient;
use crate::status::StatusCodes;
use crate::{Templates, compose};

/// Columns of a plane.
const COLUMNS: u32 = 4;

/// Rows of a plane.
const ROWS: u32 = 2;

/// Everything that a [`ReportInput`] borrows.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) results: ResultSet,
    pub(crate) context: ReportContext,
    pub(crate) masks: BTreeMap<String, Vec<u8>>,
    pub(crate) pictures: BTreeMap<SopInstanceUid, Picture>,
    pub(crate) undecodable: BTreeMap<SopInstanceUid, String>,
    pub(crate) fonts: Fonts,
    pub(crate) recipient: Recipient,
}

impl Fixture {
    /// The result as a machine made it.
    pub(crate) fn new() -> Self {
        let first = Picture { width: COLUMNS, height: ROWS, rgb: vec![100; 24] };
        Self {
            results: results(),
            context: context(),
            // Pixels 0 and 1 of the first plane; pixel 15, the last of the second.
            masks: BTreeMap::from([
                ("left".to_owned(), vec![0b0000_0011, 0]),
                ("right".to_owned(), vec![0, 0b1000_0000]),
            ]),
            pictures: BTreeMap::from([(instance(1), first.clone()), (instance(2), first)]),
            undecodable: BTreeMap::new(),
            fonts: Fonts::open(&[]).unwrap(),
            recipient: Recipient::new("pacs", Preferences::default()),
        }
    }

    /// The result with this status; signed by a person, where the status requires it.
    pub(crate) fn with_status(status: ResultStatus) -> Self {
        let mut fixture = Self::new();
        fixture.results.status = status;
        let meaning = match status {
            ResultStatus::AiDraft | ResultStatus::AiPartial => return fixture,
            ResultStatus::HumanEdited => None,
            ResultStatus::Signed | ResultStatus::Amended => Some(Meaning::Approved),
            ResultStatus::Withdrawn => Some(Meaning::Rejected),
        };
        fixture.results.attested = Some(attestation(meaning));
        fixture
    }

    pub(crate) fn input(&self) -> ReportInput<'_> {
        ReportInput {
            results: &self.results,
            context: &self.context,
            status: StatusCodes::of(self.results.status),
            masks: &self.masks,
            pictures: &self.pictures,
            undecodable: &self.undecodable,
            fonts: &self.fonts,
            recipient: &self.recipient,
        }
    }

    pub(crate) fn compose(&self, requested: &[OutputKind]) -> Result<Vec<Output>, ReportError> {
        let templates = Templates::open(None, self.fonts.clone()).unwrap();
        compose(requested, &self.input(), &templates)
    }

    /// What an earlier delivery sent to the destination.
    pub(crate) fn sent_before(mut self, outputs: &[Output], is_of_this_run: bool) -> Self {
        let objects: Vec<SentObject> = outputs
            .iter()
            .map(|it| SentObject {
                kind: it.kind,
                sop_class: it.sop_class.clone(),
                series: it.series.clone(),
                id: it.id.clone(),
            })
            .collect();
        let attempted = objects.clone();
        self.context.previous =
            Some(PreviousDelivery { state: None, is_of_this_run, objects, attempted });
        self
    }

    /// What people had made of that earlier result.
    pub(crate) fn sent_as(mut self, state: ReviewState) -> Self {
        self.context.previous =
            self.context.previous.map(|it| PreviousDelivery { state: Some(state), ..it });
        self
    }

    /// Lets the result take the place of that of an earlier run.
    pub(crate) fn replacing(mut self) -> Self {
        let earlier = Uuid::from_u128(0x10);
        self.results.amends = Some(Amended { run: earlier, first: earlier, is_replaced: true });
        self
    }

    /// Adds the reasoning of a model: three steps, two of which cite a place.
    pub(crate) fn reasoned(mut self) -> Self {
        let region = &self.results.regions[0];
        let lesion = ReasoningBox {
            label: region.label.clone(),
            series: region.series.clone(),
            instance: region.instance.clone(),
            sop_class: region.sop_class.clone(),
            frame: None,
            size: region.size,
            corners: region.corners,
        };
        let shadow = ReasoningBox { label: "shadow".to_owned(), frame: Some(7), ..lesion.clone() };
        let step = |text: &str, boxes| ReasoningStep {
            text: text.to_owned(),
            characters_left_out: 0,
            boxes,
        };
        self.results.reasoning = vec![Reasoning {
            algorithm: algorithm(),
            steps: vec![
                step("Ribs are intact.", Vec::new()),
                step("There is a lesion.", vec![lesion]),
                ReasoningStep { characters_left_out: 3, ..step("A shadow", vec![shadow]) },
            ],
            steps_left_out: 2,
        }];
        self
    }

    /// Replaces the findings by laboratory rows.
    pub(crate) fn laboratory(mut self) -> Self {
        self.results.segmentations.clear();
        self.results.regions.clear();
        self.results.findings.clear();
        self.results.sections.clear();
        self.results.laboratory = vec![LabRow {
            entry_name: "Glucose".to_owned(),
            result: "7.8".to_owned(),
            reference: "3.9-6.1".to_owned(),
            unit: "mmol/L".to_owned(),
            code: "2345-7".to_owned(),
            scheme: "LN".to_owned(),
            abnormality: Abnormality::High,
            flag_received: "H".to_owned(),
            disagrees: false,
            doubt: String::new(),
            withdrawn: None,
            key: 1,
            ..LabRow::default()
        }];
        self
    }
}

/// Reads an object back.
pub(crate) fn read(output: &Output) -> FileDicomObject<InMemDicomObject> {
    OpenFileOptions::new().from_reader(output.bytes.as_slice()).unwrap()
}

/// The text of an attribute, without padding.
pub(crate) fn value(object: &InMemDicomObject, tag: Tag) -> String {
    let text = object.element(tag).unwrap().to_str().unwrap();
    text.trim_end_matches(['\0', ' ']).to_owned()
}

/// The items of a sequence.
pub(crate) fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.element(tag).ok().and_then(|it| it.items()).unwrap_or_default()
}

/// All text of a structured document, in order.
pub(crate) fn texts(item: &InMemDicomObject) -> Vec<String> {
    let mut found = Vec::new();
    for item in items(item, dicom_dictionary_std::tags::CONTENT_SEQUENCE) {
        let text = item.element(dicom_dictionary_std::tags::TEXT_VALUE);
        found.extend(text.ok().map(|it| it.to_str().unwrap().trim_end().to_owned()));
        found.extend(texts(item));
    }
    found
}

fn instance(number: u8) -> SopInstanceUid {
    format!("1.2.3.{number}").parse().unwrap()
}

fn algorithm() -> Algorithm {
    Algorithm {
        name: "threshold".to_owned(),
        version: "1".to_owned(),
        parameters: BTreeMap::from([("threshold_hu".to_owned(), "200".to_owned())]),
    }
}

fn segment(label: &str, voxels: u64) -> Segment {
    Segment {
        label: label.to_owned(),
        category: Code::new("123037004", "SCT", "Anatomical Structure"),
        kind: Code::new("272673000", "SCT", "Bone"),
        laterality: None,
        tracking_id: label.to_owned(),
        mask: ArtifactRef { sha256: label.to_owned(), bytes: 2 },
        voxels,
        is_edited: false,
        measurements: vec![Measurement {
            code: Code::new("118565006", "SCT", "Volume"),
            value: 0.25,
            unit: Code::new("mL", "UCUM", "milliliter"),
        }],
        key: 1,
    }
}

fn results() -> ResultSet {
    let ct = "1.2.840.10008.5.1.4.1.1.2";
    ResultSet {
        run: Uuid::from_u128(0x11),
        workflow: WorkflowRef { name: "ct-bone".to_owned(), digest: "d".to_owned() },
        status: ResultStatus::AiDraft,
        concluded: "2026-11-20T09:30:00Z".parse().unwrap(),
        revision: 0,
        attested: None,
        amends: None,
        findings: vec![Finding {
            code: Code::new("72704001", "SCT", "Fracture"),
            site: Some(Code::new("272673000", "SCT", "Bone")),
            laterality: None,
            presence: Presence::Absent,
            change: None,
            text: "No fracture.".to_owned(),
        }],
        segmentations: vec![Segmentation {
            series: "1.2.3".parse().unwrap(),
            geometry: VolumeGeometry {
                rows: ROWS,
                columns: COLUMNS,
                pixel_spacing: Some([0.5, 0.5]),
                space: Some(PatientSpace {
                    frame_of_reference: "1.2.9".to_owned(),
                    orientation: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
                    slice_spacing: 1.5,
                    slice_thickness: 1.5,
                    positions: vec![[0.0, 0.0, 0.0], [0.0, 0.0, 1.5]],
                }),
                instances: vec![instance(1), instance(2)],
                sop_class: ct.parse().unwrap(),
                lossy: false,
            },
            segments: vec![segment("left", 2), segment("right", 1)],
            algorithm: algorithm(),
            is_hidden: false,
        }],
        regions: vec![Region {
            label: "a lesion".to_owned(),
            series: "1.2.3".parse().unwrap(),
            instance: instance(2),
            sop_class: ct.parse().unwrap(),
            size: [COLUMNS, ROWS],
            corners: [1, 0, 3, 2],
            algorithm: algorithm(),
        }],
        laboratory: Vec::new(),
        sections: vec![Section {
            title: Code::new("19005-8", "LN", "Impression"),
            text: "Nothing acute.".to_owned(),
        }],
        reasoning: Vec::new(),
        inputs: vec![
            InputInstance { instance: instance(1), sha256: "a".repeat(64) },
            InputInstance { instance: instance(2), sha256: "b".repeat(64) },
        ],
        algorithms: vec![algorithm()],
    }
}

fn order_number(number: &str, namespace: &str) -> OrderNumber {
    let assigner = Assigner::Authority {
        namespace: namespace.to_owned(),
        universal_id: String::new(),
        universal_id_type: String::new(),
    };
    OrderNumber { number: number.to_owned(), assigner }
}

fn context() -> ReportContext {
    ReportContext {
        run: Uuid::from_u128(0x11),
        patient: PatientId::new("4711", "HOSP").unwrap(),
        demographics: Demographics {
            name: "DOE^JANE".to_owned(),
            birth_date: "19700101".to_owned(),
            sex: "F".to_owned(),
        },
        study: Some(StudyDescription {
            uid: "1.2".to_owned(),
            date: "20261120".to_owned(),
            time: "091500".to_owned(),
            id: "S1".to_owned(),
            description: "CT pelvis".to_owned(),
            accession: "ACC1".to_owned(),
        }),
        orders: vec![Order {
            action: OrderAction::Place,
            patient: None,
            key: OrderKey {
                placer: order_number("P1", "EHR"),
                filler: order_number("F1", "RIS"),
                kind: OrderKind::Imaging,
                accession: "ACC1".to_owned(),
                accession_issuer: String::new(),
                requested_procedure: "RP1".to_owned(),
                study: None,
            },
            procedure_code: "24627-2".to_owned(),
            procedure: "CT Pelvis".to_owned(),
            procedure_scheme: "LN".to_owned(),
            priority: "R".to_owned(),
            modality: "CT".to_owned(),
            reason: "fall".to_owned(),
            status: String::new(),
            account: String::new(),
            visit: String::new(),
        }],
        engine: Engine {
            name: "ISOCENTER".to_owned(),
            manufacturer: "Isocenter".to_owned(),
            model: "Isocenter".to_owned(),
            serial: "0123456789abcdef".to_owned(),
            uid: "2.25.4711".to_owned(),
            version: "0.1.0".to_owned(),
            language: Language::English,
        },
        previous: None,
        taken_out: TakenOut::default(),
    }
}

fn attestation(meaning: Option<Meaning>) -> Attestation {
    let at: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
    Attestation {
        by: Person {
            name: "Erika Example".to_owned(),
            organization: "Hospital".to_owned(),
            role: "radiologist".to_owned(),
        },
        version: 1,
        document: 0,
        replaces: None,
        at,
        meaning,
        digest: "e".repeat(64),
    }
}
