//! Results and images of nobody: held, or sent once, and never for ever.

use std::time::Duration;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use simulators::phantom::Phantom;
use system_tests::study;
use tokio::time::sleep;

use crate::case::run;
use crate::images::objects_of;
use crate::message::{ask, reports_of_study, send, settled};
use crate::site::Kind;

/// How long a repetition would take: the fault sent again every two or three seconds.
const REPETITION: Duration = Duration::from_secs(9);

/// The message of the case, with PID-3 and PID-4 as given.
fn message(name: &str, identifiers: &str) -> String {
    format!(
        "MSH|^~\\&|LAB|HOSP|ISO|HOSP|20260103101500||ORU^R01|{name}|P|2.5.1\n\
         PID|1||{identifiers}|DOE^JANE||19800101|F\nOBR|1|P|F|24323-8^Panel^LN\n\
         OBX|1|NM|2823-3^Potassium^LN||6.9{name}|mmol/L|3.5-5.1|HH|||F\n"
    )
}

#[test]
fn field_s01_no_patient_sent_for_ever() {
    run(Kind::Resending, "s01-no-patient-sent-for-ever", async |site, case| {
        let hospital = &site.hospital;
        let kinds =
            [("S01A", "|"), ("S01B", "\"\"|"), ("S01C", "|OLD^^^HOSP"), ("S01D", "^^^HOSP^MR|")];
        for (name, identifiers) in kinds {
            let sent = send(hospital, message(name, identifiers).as_bytes()).await;
            case.check(format!("{name} is answered"), !sent.code.is_empty(), &sent.answer);
        }
        let phantom = Phantom { size: 64, pixel: 6.0, ..study("field s01") };
        let files = phantom.files_with(|_, set| {
            set.put(DataElement::new(tags::PATIENT_ID, VR::LO, PrimitiveValue::from("")));
        });
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        hospital.modality().store(&files).await.unwrap();
        settled(hospital, &phantom.study_uid()).await;
        // Only time shows that nothing is sent again.
        sleep(REPETITION).await;
        for (name, _) in kinds {
            let messages = hospital.ehr.received();
            let count = messages.iter().filter(|it| it.contains(&format!("6.9{name}"))).count();
            case.check(format!("{name} is sent once or held"), count < 2, count);
        }
        let objects = objects_of(hospital, &phantom.study_uid()).len();
        case.check("objects of nobody are sent once or held", objects < 3, objects);
        let reports = reports_of_study(hospital, &phantom.study_uid()).len();
        case.check("a report of nobody is sent once or held", reports < 2, reports);
        let events = ask(hospital, &["audit", "show", "--limit", "500"]);
        let changed = events.as_array().into_iter().flatten();
        let changed = changed.filter(|it| it["kind"] == "identity_changed_after_delivery").count();
        case.check("no identity has changed", changed == 0, changed);
    });
}
