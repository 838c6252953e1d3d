//! A hospital in which every connection goes through a proxy.

use std::path::PathBuf;

use rustix::process::Pid;
use simulators::{Ehr, Pacs};

use super::proxy::Proxy;
use super::system::System;
use crate::processes::family;
use crate::{Hospital, Scratch, SiteOptions, database_pid};

/// A workflow that runs once per study, as soon as all its slices have arrived.
const WORKFLOW: &str = "
workflow: bone
on: { study: { complete: { quiet: 300ms, expect: [{ instances: 4 }], enough: [expected] } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] }, retry: { attempts: 9, backoff: 100ms } } }
deliver:
  - { to: far_pacs, what: [seg, sr], after: [bone] }
  - { to: far_ehr, what: [oru], after: [bone] }
";

/// Number of slices of a study.
pub(super) const SLICES: u16 = 4;

/// An engine, its simulated peers, and the proxies between them.
pub struct Ward {
    pub(super) hospital: Hospital,
    pub(super) pacs: Pacs,
    pub(super) ehr: Ehr,
    /// From the modality to the engine.
    pub(super) modality_proxy: Proxy,
    /// From the RIS to the engine.
    pub(super) ris_proxy: Proxy,
    /// From the engine to the PACS.
    pub(super) pacs_proxy: Proxy,
    /// From the engine to the EHR.
    pub(super) ehr_proxy: Proxy,
    /// SHA-256 of each acknowledged data set.
    pub(super) sent: Vec<[u8; 32]>,
    /// MSH-10 of each acknowledged order, and SHA-256 of its bytes in hex.
    pub(super) ordered: Vec<(String, String)>,
    /// How many acknowledged studies name no patient.
    pub(super) of_nobody: usize,
    _scratch: Scratch,
}

impl Ward {
    /// Opens a ward without faults.
    pub async fn open() -> Self {
        Self::with("").await
    }

    /// Opens a ward with more lines in its site file.
    pub(super) async fn with(lines: &str) -> Self {
        let scratch = Scratch::default();
        let any = "127.0.0.1:0".parse().unwrap();
        let pacs = Pacs::open(&scratch.path("pacs"), "FAR".parse().unwrap(), any).await.unwrap();
        let ehr = Ehr::open(&scratch.path("ehr"), any).await.unwrap();
        let pacs_proxy = Proxy::open().await;
        let ehr_proxy = Proxy::open().await;
        pacs_proxy.lead_to(pacs.address().to_string());
        ehr_proxy.lead_to(ehr.address().to_string());
        let destinations = format!(
            "  far_pacs: {{ dicom: {{ address: \"{}\", ae_title: FAR }} }}\n  \
             far_ehr: {{ mllp: {{ address: \"{}\", application: EHR, facility: FAR }}, allow_unverified: true }}\n{lines}",
            pacs_proxy.address(),
            ehr_proxy.address(),
        );
        let workflows = [("bone", WORKFLOW)];
        let options = SiteOptions {
            workflows: &workflows,
            destinations: &destinations,
            is_faulty_system: true,
            ..SiteOptions::default()
        };
        let hospital = Hospital::with(options).await;
        let ward = Self {
            hospital,
            pacs,
            ehr,
            modality_proxy: Proxy::open().await,
            ris_proxy: Proxy::open().await,
            pacs_proxy,
            ehr_proxy,
            sent: Vec::new(),
            ordered: Vec::new(),
            of_nobody: 0,
            _scratch: scratch,
        };
        ward.connect_to_engine();
        ward
    }

    /// Points the proxies of modality and RIS to the current addresses of the engine.
    fn connect_to_engine(&self) {
        self.modality_proxy.lead_to(&self.hospital.engine.dicom);
        self.ris_proxy.lead_to(&self.hospital.engine.mllp);
    }

    /// Ends all faults but those of processes and of the clock.
    pub(super) fn repair(&self) {
        for proxy in [&self.modality_proxy, &self.ris_proxy, &self.pacs_proxy, &self.ehr_proxy] {
            proxy.set(None);
        }
        self.system().fill_disk(false);
        self.pacs.refuse(0, 0);
        self.ehr.refuse(0, 0);
    }

    /// Kills the engine and starts it again, as a service manager does.
    pub(super) fn kill_engine(&mut self) {
        self.hospital.engine.kill();
        self.hospital.restart();
        self.connect_to_engine();
    }

    /// The faulty system that the engine runs on.
    pub(super) fn system(&self) -> &System {
        self.hospital.system.as_ref().expect("a ward has one")
    }

    /// The process id of the engine.
    pub(super) fn engine(&self) -> i32 {
        self.hospital.engine.id().cast_signed()
    }

    /// The processes of the database, beginning with the postmaster.
    pub(super) fn database(&self) -> Vec<i32> {
        let postmaster = database_pid(&self.data()).map(Pid::as_raw_nonzero);
        postmaster.map_or_else(Vec::new, |it| family(it.get()))
    }

    /// The addresses of the DICOM and HL7 listeners of the engine, without a proxy.
    pub fn addresses(&self) -> (String, String) {
        (self.hospital.engine.dicom.clone(), self.hospital.engine.mllp.clone())
    }

    /// The data folder of the engine.
    pub fn data(&self) -> PathBuf {
        self.hospital.scratch.path("data")
    }
}
