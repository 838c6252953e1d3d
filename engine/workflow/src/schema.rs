//! The JSON Schema of a workflow file, for editors.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::spec::Spec;

/// The schema (JSON Schema, draft 2020-12). It describes each key and its values; `isocenter check`
/// checks how they fit together.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let schema = generator.into_root_schema_for::<Spec>();
    let mut value = schema.to_value();
    if let Some(map) = value.as_object_mut() {
        map.insert("title".to_owned(), Value::from("Workflow of Isocenter"));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_file_is_in_the_schema_with_its_meaning() {
        let schema = schema();
        let properties = schema["properties"].as_object().unwrap();
        for key in ["workflow", "on", "nodes", "deliver", "tests", "sla", "priority"] {
            assert!(properties[key]["description"].is_string(), "{key}");
        }
        let text = schema.to_string();
        for key in ["for_each", "on_failure_of", "finally", "only_between", "enough", "at_most"] {
            assert!(text.contains(&format!("\"{key}\"")), "{key}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
