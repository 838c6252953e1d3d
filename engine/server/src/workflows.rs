//! The workflow files of a site, read and checked together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::{OutputKind, WorkflowRef};
use orchestrator::{ActiveWorkflow, Destinations};
use plugin_host::PluginHost;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use workflow::{CheckContext, InvalidWorkflow};

use crate::output::Failure;

/// A workflow file.
pub(crate) struct WorkflowFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl WorkflowFile {
    fn read(path: PathBuf) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(&path)?;
        Ok(Self { path, text })
    }
}

/// The workflow files of a folder, by name.
pub(crate) fn files(folder: &Path) -> Result<Vec<WorkflowFile>, Failure> {
    let what = format!("cannot read the workflows in `{}`", folder.display());
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::from_error(&what, &error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
    paths.retain(|it| it.extension().is_some_and(|it| it == "yaml" || it == "yml"));
    paths.sort();
    let read = paths.into_iter().map(WorkflowFile::read);
    read.collect::<Result<_, _>>().map_err(|error| Failure::from_error(&what, &error))
}

/// Reads all workflows, or reports every problem of every file.
pub(crate) async fn read_all(
    files: &[WorkflowFile],
    host: &PluginHost,
    destinations: &Destinations,
) -> Result<Vec<ActiveWorkflow>, Vec<InvalidWorkflow>> {
    let mut active = Vec::new();
    let mut invalid = Vec::new();
    for file in files {
        match read_one(file, host, destinations).await {
            Ok(workflow) => active.push(workflow),
            Err(problems) => invalid.push(problems),
        }
    }
    if invalid.is_empty() { Ok(active) } else { Err(invalid) }
}

/// The problem of two files that claim to be the same workflow.
pub(crate) fn named_twice(files: &[WorkflowFile], read: &[ActiveWorkflow]) -> Option<String> {
    let mut seen = BTreeMap::new();
    files.iter().zip(read).find_map(|(file, it)| {
        let path = file.path.display();
        let first = seen.insert(it.reference.name.clone(), path.to_string())?;
        let name = &it.reference.name;
        Some(format!("`{first}` and `{path}` are both `workflow: {name}`: give one another name"))
    })
}

/// Reads one workflow, or reports every problem of it.
pub(crate) async fn read_one(
    file: &WorkflowFile,
    host: &PluginHost,
    destinations: &Destinations,
) -> Result<ActiveWorkflow, InvalidWorkflow> {
    let plugins: BTreeSet<String> = host.plugins().into_iter().map(|it| it.pin.name).collect();
    let destinations: BTreeMap<String, Vec<OutputKind>> = destinations
        .iter()
        .map(|(name, site)| {
            let takes = |kind: &OutputKind| site.destination.takes(*kind);
            (name.clone(), OutputKind::requestable().filter(takes).collect())
        })
        .collect();
    let problems = settings_problems(&file.text, host).await;
    let check = |plugin: &str, settings: &Value| {
        let problem = problems.iter().find(|it| it.plugin == plugin && it.settings == *settings);
        problem.map(|it| it.text.clone())
    };
    let surroundings =
        CheckContext { plugins: &plugins, destinations: &destinations, check_settings: &check };
    let name = file.path.display().to_string();
    let workflow = workflow::read(&name, &file.text, &surroundings)?;
    Ok(activated(workflow, file))
}

fn activated(workflow: workflow::Workflow, file: &WorkflowFile) -> ActiveWorkflow {
    let digest = hex::encode(Sha256::digest(&file.text));
    let reference = WorkflowRef { name: workflow.name.clone(), digest };
    ActiveWorkflow { workflow: Arc::new(workflow), reference, text: file.text.clone() }
}

/// What a plugin finds wrong with its settings in a workflow.
struct SettingsProblem {
    plugin: String,
    settings: Value,
    text: String,
}

/// Has every plugin that a workflow names check its settings.
async fn settings_problems(text: &str, host: &PluginHost) -> Vec<SettingsProblem> {
    let mut problems = Vec::new();
    for (plugin, settings) in workflow::plugin_settings(text) {
        if host.plugins().iter().any(|it| it.pin.name == plugin)
            && let Some(text) = host.check(&plugin, settings.clone()).await
        {
            problems.push(SettingsProblem { plugin, settings, text });
        }
    }
    problems
}

/// Shows problems as a compiler would.
pub(crate) fn rendered(problems: &[InvalidWorkflow]) -> String {
    let handler =
        miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    let mut text = String::new();
    for problem in problems {
        // Writing to a string does not fail.
        _ = handler.render_report(&mut text, problem);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yaml_files_are_workflows_in_alphabetical_order() {
        let name = format!("isocenter-workflows-{}", uuid::Uuid::now_v7());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["b.yaml", "a.yml", "README.md", "c.yaml~"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
        let found: Vec<String> = files(&folder).unwrap().into_iter().map(|it| it.text).collect();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, ["a.yml", "b.yaml"]);
        let failure = files(&folder).err().unwrap();
        assert!(failure.text().contains(&folder.display().to_string()), "{}", failure.text());
    }
}
