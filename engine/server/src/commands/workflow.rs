//! Workflows: which are at work, putting others to work, and trying which would take a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use encoding::dicom_header::{Encoding, Header, Tag, read_encoded};
use encoding::file_meta;
use orchestrator::ActiveWorkflow;
use workflow::{Facts, MessageFacts, StudyFacts, Trigger};

use crate::activation::failures;
use crate::args::{Place, ServeFlags, WorkflowCommand};
use crate::commands::ask::{failed, finish, person, show};
use crate::commands::check::{read, show_coverage};
use crate::open::Opened;
use crate::output::{Failure, json, line};
use crate::workflows::{WorkflowFile, read_one, rendered};

pub(crate) async fn workflow(command: WorkflowCommand) -> Result<ExitCode, Failure> {
    match command {
        WorkflowCommand::List(listing) => {
            let opened = Opened::open(&listing.place).await?;
            let rows = opened.store.activations(listing.limit).await;
            opened.close().await;
            let rows = rows.map_err(|error| failed(&error))?;
            show(&listing, &rows, &["", "workflow", "version", "since", "by"], |it| {
                let mark = if it.is_current { "now" } else { "" };
                let version = it.digest.as_deref().map_or("off", |it| it.get(..12).unwrap_or(it));
                vec![mark.into(), it.name.clone(), version.into(), it.at.clone(), it.by.clone()]
            })?;
            Ok(ExitCode::SUCCESS)
        }
        WorkflowCommand::Activate { file, place, flags } => activate(&file, &place, &flags).await,
        WorkflowCommand::Deactivate { name, place } => {
            let opened = Opened::open(&place).await?;
            let outcome = opened.store.deactivate(&name, person()).await;
            finish(opened, outcome, "it starts no more runs", "no such workflow is at work").await
        }
        WorkflowCommand::Rollback { name, place } => {
            let opened = Opened::open(&place).await?;
            let outcome = opened.store.roll_back(&name, person()).await;
            let version = outcome.as_ref().ok().cloned().flatten().unwrap_or_default();
            let done = format!("version {} is at work", version.get(..12).unwrap_or_default());
            let outcome = outcome.map(|it| it.is_some());
            finish(opened, outcome, &done, "there is no version before this one").await
        }
        WorkflowCommand::Match { files, place, flags } => {
            matches(&files, &place, &flags).await.map(|()| ExitCode::SUCCESS)
        }
        WorkflowCommand::Schema => json(&workflow::schema()).map(|()| ExitCode::SUCCESS),
    }
}

/// Exit code 1 if a test fails: then all stays as it was.
async fn activate(file: &Path, place: &Place, flags: &ServeFlags) -> Result<ExitCode, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::from_error(&format!("cannot read `{}`", file.display()), &error)
    })?;
    let flags = ServeFlags { workflows: None, ..flags.clone() };
    let (site, _scratch) = read(place, &flags, &[&text]).await?;
    let offered = WorkflowFile { path: file.to_owned(), text };
    let read = read_one(&offered, &site.host, &site.destinations).await;
    let active = read.map_err(|it| Failure::new(format!("\n{}", rendered(&[it]))))?;
    let name = &active.reference.name;
    let trial = workflow::trial(&active.workflow);
    show_coverage(name, &trial);
    let failures = failures(&active.workflow);
    if !failures.is_empty() {
        for it in &failures {
            line(format_args!("FAIL {it}"));
        }
        line("it was not activated");
        return Ok(ExitCode::FAILURE);
    }
    if trial.outcomes.is_empty() {
        line("note: the file has no tests; nothing was tried");
    }
    let opened = Opened::open(place).await?;
    let outcome = opened.store.activate(&active.reference, &active.text, person()).await;
    let version = active.reference.digest.get(..12).unwrap_or_default().to_owned();
    let done =
        format!("{name}, version {version}, is at work; {} tests passed", trial.outcomes.len());
    finish(opened, outcome.map(|()| true), &done, "").await
}

/// Says of each study or message among `files` which workflows would take it.
async fn matches(files: &[PathBuf], place: &Place, flags: &ServeFlags) -> Result<(), Failure> {
    let (site, _scratch) = read(place, flags, &[]).await?;
    if site.workflows.is_empty() {
        return Err(Failure::new("there are no workflows: name their folder with --workflows"));
    }
    let mut paths = Vec::new();
    for path in files {
        collect(path, &mut paths)?;
    }
    let mut studies: BTreeMap<String, (StudyFacts, BTreeSet<String>)> = BTreeMap::new();
    for path in &paths {
        if let Some(header) = header(path) {
            add(&mut studies, &header);
        } else if let Some(facts) = message(path) {
            line(format_args!("{}: a message {}", path.display(), facts.message.kind));
            verdicts(&site.workflows, &facts, false);
        } else {
            line(format_args!("{}: neither a DICOM file nor an HL7 message", path.display()));
        }
    }
    for (uid, (study, _)) in studies {
        line(format_args!("study {uid}: {} instances, {:?}", study.instances, study.modalities));
        verdicts(&site.workflows, &Facts { study, ..Facts::default() }, true);
    }
    Ok(())
}

fn collect(path: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let cannot = |error: &std::io::Error| {
        Failure::from_error(&format!("cannot read `{}`", path.display()), error)
    };
    if !path.is_dir() {
        std::fs::metadata(path).map_err(|error| cannot(&error))?;
        paths.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(|error| cannot(&error))?.flatten() {
        collect(&entry.path(), paths)?;
    }
    paths.sort();
    Ok(())
}

/// The header of a DICOM file.
fn header(path: &Path) -> Option<Header> {
    let bytes = std::fs::read(path).ok()?;
    let (at, syntax) = file_meta::split(&bytes)?;
    let set = bytes.get(at..)?;
    read_encoded(std::io::Cursor::new(set), set.len() as u64, Encoding::of(&syntax)).ok()
}

fn add(studies: &mut BTreeMap<String, (StudyFacts, BTreeSet<String>)>, header: &Header) {
    let plain = |group, element| header.ascii(Tag(group, element)).unwrap_or_default().to_owned();
    let text = |group, element| header.text(Tag(group, element)).map(|it| it.text);
    let (study, series) = studies.entry(plain(0x0020, 0x000D)).or_default();
    study.instances += 1;
    series.insert(plain(0x0020, 0x000E));
    study.series = i64::try_from(series.len()).unwrap_or(i64::MAX);
    study.description = text(0x0008, 0x1030).unwrap_or_default();
    let lists = [
        (&mut study.modalities, plain(0x0008, 0x0060)),
        (&mut study.body_parts, plain(0x0018, 0x0015)),
        (&mut study.series_descriptions, text(0x0008, 0x103E).unwrap_or_default()),
    ];
    for (list, value) in lists {
        if !value.is_empty() && !list.contains(&value) {
            list.push(value);
        }
    }
}

/// What a message says to conditions.
fn message(path: &Path) -> Option<Facts> {
    let bytes = std::fs::read(path).ok()?;
    let message = hl7::Message::parse(&bytes, hl7::Rules::default().charset).ok()?;
    let observations = message.segments().iter().filter(|it| it.name == "OBX");
    let codes: Vec<String> = observations.map(|it| message.value(it, 3, 1)).collect();
    let document = hl7::mapping::effects(&message).ok()?.into_iter().find_map(|it| match it {
        contracts::MessageEffect::Document { document, .. } => Some(document),
        _ => None,
    });
    let document = document.unwrap_or_default();
    let message = MessageFacts {
        kind: format!("{}^{}", message.msh(9, 1), message.msh(9, 2)),
        observations: i64::try_from(codes.len()).unwrap_or(i64::MAX),
        codes,
        files: i64::try_from(document.attachments.len()).unwrap_or(i64::MAX),
        media_types: document.attachments.into_iter().map(|it| it.media_type).collect(),
        document_kind: document.about.map(|it| it.kind).unwrap_or_default(),
    };
    Some(Facts { message, ..Facts::default() })
}

fn verdicts(workflows: &[ActiveWorkflow], facts: &Facts, is_study: bool) {
    for active in workflows {
        let name = &active.reference.name;
        let workflow = &active.workflow;
        if matches!(workflow.trigger, Trigger::Study(_)) != is_study {
            let wants = if is_study { "messages" } else { "studies" };
            line(format_args!("  no   {name}: it takes {wants}"));
            continue;
        }
        match workflow.takes(facts) {
            Ok(true) => line(format_args!("  yes  {name}, {:?}", workflow.urgency(facts))),
            Ok(false) => line(format_args!("  no   {name}: {}", lack(&workflow.trigger, facts))),
            Err(error) => line(format_args!("  no   {name}: {error}")),
        }
    }
}

/// Why a trigger does not take something.
fn lack(trigger: &Trigger, facts: &Facts) -> String {
    let when = match trigger {
        Trigger::Study(study) => &study.when,
        Trigger::Message { kinds, .. } if !kinds.contains(&facts.message.kind) => {
            return format!("it takes {}, and this is {}", kinds.join(", "), facts.message.kind);
        }
        Trigger::Document { .. } if facts.message.media_types.is_empty() => {
            return "the message carries no document".to_owned();
        }
        Trigger::Message { when, .. } | Trigger::Document { when } => when,
    };
    let text = when.as_ref().map(|it| it.text().to_owned()).unwrap_or_default();
    format!("its condition does not hold: {text}")
}
