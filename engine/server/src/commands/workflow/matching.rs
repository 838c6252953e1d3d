//! `isocenter workflow match`: tries files against the triggers of workflows, without an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use contracts::{AuthoritiesAsWritten, MessageEffect};
use encoding::dicom::file_meta;
use encoding::dicom::header::{Encoding, Header, Tag, inflated_header, read_encoded};
use orchestrator::ActiveWorkflow;
use workflow::{Facts, MessageFacts, StudyFacts, Trigger};

use crate::output::{Failure, line};

/// A study as far as its files show it.
#[derive(Default)]
struct SampledStudy {
    facts: StudyFacts,
    series: BTreeSet<String>,
}

/// Shows for each study or message among `files` which workflows would take it.
pub(super) fn matches(files: &[PathBuf], workflows: &[ActiveWorkflow]) -> Result<(), Failure> {
    if workflows.is_empty() {
        return Err(
            Failure::new("there are no workflows").with_hint("name their folder: --workflows")
        );
    }
    let mut paths = Vec::new();
    for path in files {
        collect(path, &mut paths)?;
    }
    let mut studies: BTreeMap<String, SampledStudy> = BTreeMap::new();
    for path in &paths {
        if let Some(header) = header(path) {
            add(&mut studies, &header);
        } else if let Some(facts) = message_facts(path) {
            line(format_args!("{}: a message {}", path.display(), facts.message.message_type));
            show_verdicts(workflows, &facts, Subject::Message);
        } else {
            line(format_args!("{}: neither a DICOM file nor an HL7 message", path.display()));
        }
    }
    for (uid, SampledStudy { facts, .. }) in studies {
        line(format_args!("study {uid}: {} instances, {:?}", facts.instances, facts.modalities));
        let facts = Facts { study: facts, ..Facts::default() };
        show_verdicts(workflows, &facts, Subject::Study);
    }
    Ok(())
}

/// Adds a file, or all files of a folder and its subfolders.
fn collect(path: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable =
        |error| Failure::from_error(&format!("cannot read `{}`", path.display()), &error);
    if !path.is_dir() {
        std::fs::metadata(path).map_err(unreadable)?;
        paths.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(unreadable)?.flatten() {
        collect(&entry.path(), paths)?;
    }
    paths.sort();
    Ok(())
}

/// The header of a DICOM file. Nothing, if it is none.
fn header(path: &Path) -> Option<Header> {
    let bytes = std::fs::read(path).ok()?;
    let (start, syntax) = file_meta::split(&bytes)?;
    let data_set = bytes.get(start..)?;
    let length = data_set.len() as u64;
    let encoding = Encoding::of(&syntax);
    if encoding.is_deflated {
        let plain = inflated_header(data_set, length).ok()?;
        let length = plain.len() as u64;
        return read_encoded(std::io::Cursor::new(plain), length, Encoding::INFLATED).ok();
    }
    read_encoded(std::io::Cursor::new(data_set), length, encoding).ok()
}

/// Adds an instance to the facts of its study.
fn add(studies: &mut BTreeMap<String, SampledStudy>, header: &Header) {
    let plain = |group, element| header.ascii(Tag(group, element)).unwrap_or_default().to_owned();
    let text = |group, element| header.text(Tag(group, element)).map(|it| it.text);
    let study = studies.entry(plain(0x0020, 0x000D)).or_default();
    study.series.insert(plain(0x0020, 0x000E));
    let facts = &mut study.facts;
    facts.instances += 1;
    facts.series = i64::try_from(study.series.len()).unwrap_or(i64::MAX);
    facts.description = text(0x0008, 0x1030).unwrap_or_default();
    add_once(&mut facts.modalities, plain(0x0008, 0x0060));
    add_once(&mut facts.body_parts, plain(0x0018, 0x0015));
    add_once(&mut facts.series_descriptions, text(0x0008, 0x103E).unwrap_or_default());
}

fn add_once(list: &mut Vec<String>, value: String) {
    if !value.is_empty() && !list.contains(&value) {
        list.push(value);
    }
}

/// What conditions see of an HL7 message. Nothing, if the file holds none.
fn message_facts(path: &Path) -> Option<Facts> {
    let bytes = std::fs::read(path).ok()?;
    let message = hl7::Message::parse(&bytes, hl7::Rules::default().charset).ok()?;
    let document = hl7::mapping::effects(&message, &AuthoritiesAsWritten)
        .ok()?
        .into_iter()
        .find_map(|it| match it {
            MessageEffect::Document { document, .. } => Some(document),
            _ => None,
        });
    let document = document.unwrap_or_default();
    let codes: Vec<String> = document.reported().map(|it| it.code.clone()).collect();
    let message = MessageFacts {
        message_type: message.message_type().to_string(),
        observations: i64::try_from(codes.len()).unwrap_or(i64::MAX),
        codes,
        files: i64::try_from(document.attachments.len()).unwrap_or(i64::MAX),
        media_types: document.attachments.into_iter().map(|it| it.media_type).collect(),
        document_kind: document.about.map(|it| it.kind).unwrap_or_default(),
    };
    Some(Facts { message, ..Facts::default() })
}

/// What a workflow is tried with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Study,
    Message,
}

impl Subject {
    /// What a trigger waits for.
    fn of(trigger: &Trigger) -> Self {
        match trigger {
            Trigger::Study(_) => Self::Study,
            Trigger::Message { .. } | Trigger::Document { .. } => Self::Message,
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::Study => "studies",
            Self::Message => "messages",
        }
    }
}

fn show_verdicts(workflows: &[ActiveWorkflow], facts: &Facts, subject: Subject) {
    for active in workflows {
        let name = &active.reference.name;
        let workflow = &active.workflow;
        let wanted = Subject::of(&workflow.trigger);
        if wanted != subject {
            line(format_args!("  no   {name}: it takes {}", wanted.plural()));
            continue;
        }
        match workflow.takes(facts) {
            Ok(true) => line(format_args!("  yes  {name}, {:?}", workflow.urgency(facts))),
            Ok(false) => {
                line(format_args!("  no   {name}: {}", unmet(&workflow.trigger, facts)));
            }
            Err(error) => line(format_args!("  no   {name}: {error}")),
        }
    }
}

/// Which condition of a trigger does not hold.
fn unmet(trigger: &Trigger, facts: &Facts) -> String {
    let when = match trigger {
        Trigger::Study(study) => &study.when,
        Trigger::Message { types, .. }
            if !types.iter().any(|it| it.matches(&facts.message.message_type)) =>
        {
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            let found = &facts.message.message_type;
            return format!("it takes {}, and this is {found}", types.join(", "));
        }
        Trigger::Document { .. } if facts.message.media_types.is_empty() => {
            return "the message carries no document".to_owned();
        }
        Trigger::Message { when, .. } | Trigger::Document { when } => when,
    };
    let text = when.as_ref().map(|it| it.text().to_owned()).unwrap_or_default();
    format!("its condition does not hold: {text}")
}
