//! A hospital whose every connection goes through a proxy.

use std::path::PathBuf;

use rustix::process::Pid;
use simulators::{Ehr, Pacs};

use super::proxy::Proxy;
use super::system::System;
use crate::processes::family;
use crate::{Habits, Hospital, Scratch, database_pid};

/// What is done with each study: once it is whole, and once.
const WORKFLOW: &str = "
workflow: bone
on: { study: { complete: { quiet: 300ms, expect: [{ instances: 4 }], enough: [expected] } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] }, retry: { attempts: 9, backoff: 100ms } } }
deliver:
  - { to: far_pacs, what: [seg, sr], after: [bone] }
  - { to: far_ehr, what: [oru], after: [bone] }
";

/// Slices of a study.
pub(super) const SLICES: u16 = 4;

/// An engine with its simulated peers, and what lies between them.
pub struct Ward {
    pub(super) hospital: Hospital,
    pub(super) pacs: Pacs,
    pub(super) ehr: Ehr,
    /// From the modality to the engine.
    pub(super) modality_way: Proxy,
    /// From the RIS to the engine.
    pub(super) ris_way: Proxy,
    /// From the engine to the PACS.
    pub(super) pacs_way: Proxy,
    /// From the engine to the EHR.
    pub(super) ehr_way: Proxy,
    /// SHA-256 of each data set that was acknowledged.
    pub(super) sent: Vec<[u8; 32]>,
    /// MSH-10 of each order that was acknowledged, and SHA-256 of its bytes, in hex.
    pub(super) ordered: Vec<(String, String)>,
    _scratch: Scratch,
}

impl Ward {
    /// Opens it.
    pub async fn open() -> Self {
        Self::with("").await
    }

    /// Opens it with more lines in its site file.
    pub(super) async fn with(lines: &str) -> Self {
        let scratch = Scratch::default();
        let any = "127.0.0.1:0".parse().unwrap();
        let pacs = Pacs::open(&scratch.path("pacs"), "FAR".parse().unwrap(), any).await.unwrap();
        let ehr = Ehr::open(&scratch.path("ehr"), any).await.unwrap();
        let (pacs_way, ehr_way) = (Proxy::open().await, Proxy::open().await);
        pacs_way.lead_to(pacs.address().to_string());
        ehr_way.lead_to(ehr.address().to_string());
        let destinations = format!(
            "  far_pacs: {{ dicom: {{ address: \"{}\", ae_title: FAR }} }}\n  \
             far_ehr: {{ mllp: {{ address: \"{}\", application: EHR, facility: FAR }}, allow_unverified: true }}\n{lines}",
            pacs_way.address(),
            ehr_way.address(),
        );
        let workflows = [("bone", WORKFLOW)];
        let habits = Habits {
            workflows: &workflows,
            destinations: &destinations,
            is_faulty_system: true,
            ..Habits::default()
        };
        let hospital = Hospital::with(habits).await;
        let (modality_way, ris_way) = (Proxy::open().await, Proxy::open().await);
        let ward = Self {
            hospital,
            pacs,
            ehr,
            modality_way,
            ris_way,
            pacs_way,
            ehr_way,
            sent: Vec::new(),
            ordered: Vec::new(),
            _scratch: scratch,
        };
        ward.lead();
        ward
    }

    /// Leads who calls the engine to where it listens now.
    fn lead(&self) {
        self.modality_way.lead_to(&self.hospital.engine.dicom);
        self.ris_way.lead_to(&self.hospital.engine.mllp);
    }

    /// Mends every connection.
    pub(super) fn mend(&self) {
        for way in [&self.modality_way, &self.ris_way, &self.pacs_way, &self.ehr_way] {
            way.set(None);
        }
        self.system().fill_disk(false);
        self.pacs.refuse(0, 0);
        self.ehr.refuse(0, 0);
    }

    /// Kills the engine, and starts it again as a service manager does.
    pub(super) fn kill_engine(&mut self) {
        self.hospital.engine.kill();
        self.hospital.restart();
        self.lead();
    }

    /// The system that the engine runs on.
    pub(super) fn system(&self) -> &System {
        self.hospital.system.as_ref().expect("a ward has one")
    }

    /// The process of the engine.
    pub(super) fn engine(&self) -> i32 {
        self.hospital.engine.id().cast_signed()
    }

    /// The processes of the database, the first of all first.
    pub(super) fn database(&self) -> Vec<i32> {
        let first = database_pid(&self.data()).map(Pid::as_raw_nonzero);
        first.map_or_else(Vec::new, |it| family(it.get()))
    }

    /// Where its doors for DICOM and for HL7 are.
    pub fn doors(&self) -> (String, String) {
        (self.hospital.engine.dicom.clone(), self.hospital.engine.mllp.clone())
    }

    /// The engine's folder.
    pub fn data(&self) -> PathBuf {
        self.hospital.scratch.path("data")
    }
}
