//! Canonical JSON (RFC 8785), as far as the trail needs it: no fractions.

use std::fmt::Write as _;

use serde_json::Value;

/// A value that has no canonical form here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number of an event must be a whole number below 2^53")]
pub struct NotCanonical;

/// Largest whole number that every reader of JSON preserves (RFC 8785, 3.2.2.3).
const WHOLE_MAX: u64 = (1 << 53) - 1;

/// The canonical text of `value`: keys sorted, no white space between tokens.
///
/// # Errors
///
/// Fails on fractions and on numbers that readers would round: the writer must not use them.
pub fn canonical(value: &Value) -> Result<String, NotCanonical> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, text: &mut String) -> Result<(), NotCanonical> {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            // RFC 8785, 3.2.3: by UTF-16 code units.
            keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(&Value::String(key.clone()), text)?;
                text.push(':');
                write(map.get(key).unwrap_or(&Value::Null), text)?;
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text)?;
            }
            text.push(']');
        }
        Value::Number(number) => {
            let is_whole = number.as_i64().is_some_and(|it| it.unsigned_abs() <= WHOLE_MAX);
            if !is_whole {
                return Err(NotCanonical);
            }
            // Writing to a string does not fail.
            _ = write!(text, "{number}");
        }
        // serde_json escapes as RFC 8785, 3.2.2.2 requires.
        scalar => _ = write!(text, "{scalar}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn aud_01_keys_are_sorted_and_nothing_stands_between() {
        let value = json!({"type": "engine.start", "seq": 1, "a": [true, null, "\u{8}é\""]});
        let text = canonical(&value).unwrap();
        assert_eq!(text, r#"{"a":[true,null,"\bé\""],"seq":1,"type":"engine.start"}"#);
    }

    #[test]
    fn a_fraction_is_refused() {
        assert_eq!(canonical(&json!({"dose": 0.1})), Err(NotCanonical));
    }
}
