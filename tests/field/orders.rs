//! Orders: cancelled in every way, and of two systems that count alike.

use std::time::Instant;

use simulators::phantom::Phantom;

use crate::case::run;
use crate::images::objects_of;
use crate::message::{only_send, reports_of, settled, settled_since};
use crate::site::Kind;

/// A study of an order of a case.
fn study(accession: &str, patient: &str, name: &str) -> Phantom {
    Phantom {
        patient_id: patient.to_owned(),
        patient_name: name.to_owned(),
        accession: accession.to_owned(),
        seed: format!("field {accession}"),
        size: 64,
        pixel: 6.0,
        slices: 3,
        ..Phantom::default()
    }
}

#[test]
fn field_h07_cancellations() {
    run(Kind::Hospital, "h07-cancellations", async |site, case| {
        let hospital = &site.hospital;
        let files = [
            "in1-two-obr-new.hl7",
            "in2-two-obr-cancel.hl7",
            "in3-status-ca.hl7",
            "in4-status-ca.hl7",
        ];
        for file in files {
            let message = case.read(file);
            let answer = only_send(hospital, &message).await;
            case.check(format!("{file} is taken"), answer.contains("MSA|AA|"), answer);
        }
        let accessions = ["H07ACC1", "H07ACC2", "H07ACC3"];
        for accession in accessions {
            hospital.send(&study(accession, "H07", "DOE^JANE")).await;
        }
        let start = Instant::now();
        for accession in accessions {
            let why = settled_since(hospital, accession, start).await;
            let is_cancelled = why["orders"][0]["cancelled"] == true;
            case.check(format!("{accession} is cancelled"), is_cancelled, &why["orders"]);
            let study = study(accession, "", "").study_uid();
            let objects = objects_of(hospital, &study).len();
            case.check(format!("{accession}: nothing to the PACS"), objects == 0, objects);
        }
        let reports = reports_of(hospital, "H07").len();
        case.check("nothing to the EHR", reports == 0, reports);
    });
}

#[test]
fn field_h18_order_number_of_two_systems() {
    run(Kind::Hospital, "h18-order-number-of-two-systems", async |site, case| {
        let hospital = &site.hospital;
        for file in ["in1.hl7", "in2.hl7"] {
            let message = case.read(file);
            let answer = only_send(hospital, &message).await;
            case.check(format!("{file} is taken"), answer.contains("MSA|AA|"), answer);
        }
        hospital.send(&study("H18ACC1", "H18A", "ALPHA^ANNA")).await;
        hospital.send(&study("H18ACC2", "H18B", "BETA^BERT")).await;
        let expected = [
            ("H18ACC1", "H18A", "1001^ED", "FL181^RIS"),
            ("H18ACC2", "H18B", "1001^ICU", "FL182^RIS"),
        ];
        for (accession, patient, placer, filler) in expected {
            let why = settled(hospital, accession).await;
            let of_patient = why["orders"].as_array().into_iter().flatten();
            let is_there = of_patient.into_iter().any(|it| it["patient"] == patient);
            case.check(format!("order of {patient}"), is_there, &why["orders"]);
            let reports = reports_of(hospital, patient);
            let report = reports.first();
            case.check(format!("one report of {patient}"), reports.len() == 1, reports.len());
            for (field, expected) in [(2, placer), (3, filler)] {
                let seen = report.map(|it| it.field("ORC", field)).unwrap_or_default();
                case.check(format!("ORC-{field} of {patient}"), seen == expected, seen);
            }
            let seen = report.map(|it| it.field("OBR", 18)).unwrap_or_default();
            case.check(format!("accession of {patient}"), seen == accession, seen);
        }
    });
}
