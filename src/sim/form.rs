//! The form that a request asks its answer to have: JSON by a schema, or a call of a tool.
//!
//! One rule for chat completions, responses and Anthropic's messages, which ask for the same things
//! under different names.

use serde_json::{Map, Value, json};

use super::api_error::ApiError;
use super::generate::{Random, compose};

/// The form of an answer that is not plain text.
#[derive(Debug, PartialEq)]
pub(super) struct Form {
    /// The tool that is called.
    pub(super) tool: Option<String>,
    schema: Value,
}

impl Form {
    /// What the request asks for; `None` is plain text.
    pub(super) fn asked(fields: &Map<String, Value>) -> Result<Option<Self>, ApiError> {
        match forced_tool(fields)? {
            None => format(fields),
            called => Ok(called),
        }
    }

    /// The JSON of an answer, drawn from `seed`.
    pub(super) fn write(&self, seed: u64) -> String {
        let mut writer = Writer {
            root: &self.schema,
            random: Random::new(seed),
            left: 1_000,
        };
        let value = writer.value(&self.schema, 0);
        // Arguments have names, whatever the schema leaves open.
        if self.tool.is_some() && !value.is_object() {
            return "{}".to_owned();
        }
        value.to_string()
    }
}

/// The call that `tool_choice` asks for. A model that is free to call a tool answers with text.
fn forced_tool(fields: &Map<String, Value>) -> Result<Option<Form>, ApiError> {
    let choice = fields.get("tool_choice").filter(|choice| !choice.is_null());
    let Some(choice) = choice else {
        return Ok(None);
    };
    let choice = choice.get("allowed_tools").unwrap_or(choice);
    let mode = choice.get("mode").or(choice.get("type")).unwrap_or(choice);
    let wanted = match mode.as_str() {
        Some("auto" | "none") => return Ok(None),
        Some("required" | "any") => &choice["tools"][0],
        Some("function" | "tool") => choice,
        _ => return Err(ApiError::wrong_value("tool_choice", "a mode or a tool")),
    };
    // Chat completions put a tool into a `function`.
    let inner = |tool| Value::get(tool, "function").unwrap_or(tool);
    let name = &inner(wanted)["name"];
    let any = wanted.is_null();
    let tools = fields.get("tools").and_then(Value::as_array);
    let mut tools = tools.into_iter().flatten().map(inner);
    let tool = tools.find(|tool| tool["name"].is_string() && (any || tool["name"] == *name));
    let Some(tool) = tool else {
        let takes = "a tool that is among the tools";
        return Err(ApiError::wrong_value("tool_choice", takes));
    };
    let schema = tool.get("parameters").or(tool.get("input_schema"));
    Ok(Some(Form {
        tool: tool["name"].as_str().map(str::to_owned),
        schema: schema.cloned().unwrap_or(json!({"type": "object"})),
    }))
}

/// The JSON that `response_format` asks for, or what stands for it on other paths.
fn format(fields: &Map<String, Value>) -> Result<Option<Form>, ApiError> {
    let within = |name| fields.get(name)?.get("format");
    let own = ["response_format", "output_format"];
    let own = own.iter().find_map(|name| fields.get(*name));
    let format = own.or(within("text")).or(within("output_config"));
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(None);
    };
    let schema = format.get("json_schema").unwrap_or(format).get("schema");
    let any = json!({"type": "object", "properties": {"answer": {"type": "string"}}});
    let schema = match (format["type"].as_str(), schema) {
        (Some("text"), _) => return Ok(None),
        (Some("json_schema"), Some(schema)) => schema.clone(),
        (Some("json_object"), schema) => schema.cloned().unwrap_or(any),
        _ => {
            let takes = "text, json_object, or json_schema with a schema";
            return Err(ApiError::wrong_value("response_format", takes));
        }
    };
    Ok(Some(Form { tool: None, schema }))
}

/// Beyond this depth, a value has no more parts than its schema demands.
const SHALLOW: u32 = 4;

/// Writes a value that fits a schema. A `pattern` is not obeyed.
struct Writer<'a> {
    root: &'a Value,
    random: Random,
    /// How many values may still be made: a schema may hold itself.
    left: u32,
}

impl<'a> Writer<'a> {
    fn value(&mut self, schema: &'a Value, depth: u32) -> Value {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || depth > 32 {
            return Value::Null;
        }
        let reference = schema["$ref"].as_str().unwrap_or_default();
        if let Some(path) = reference.strip_prefix('#') {
            let target = self.root.pointer(path).unwrap_or(&Value::Null);
            return self.value(target, depth + 1);
        }
        let list = |name: &str| schema[name].as_array().filter(|list| !list.is_empty());
        if let Some(any) = list("anyOf").or(list("oneOf")).or(list("allOf")) {
            let null = any.iter().find(|one| one["type"] == "null");
            let one = null.filter(|_| depth > SHALLOW).unwrap_or(&any[0]);
            return self.value(one, depth + 1);
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(values) = list("enum") {
            return values[self.random.below(values.len())].clone();
        }
        let mut kinds = list("type").into_iter().flatten();
        let kind = kinds.find(|kind| *kind != "null");
        match kind.unwrap_or(&schema["type"]).as_str() {
            Some("object") => self.object(schema, depth),
            None if schema["properties"].is_object() => self.object(schema, depth),
            Some("array") => {
                let least = schema["minItems"].as_u64();
                let least = least.unwrap_or(u64::from(depth <= SHALLOW));
                let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
                let items = (0..least.min(most).min(1_000)).map(|_| &schema["items"]);
                items.map(|item| self.value(item, depth + 1)).collect()
            }
            Some("integer") => {
                let number = format!("{:.0}", self.number(schema, 1.0));
                number.parse().unwrap_or_default()
            }
            Some("number") => json!(self.number(schema, 0.001)),
            Some("boolean") => json!(self.random.below(2) == 1),
            Some("null") => Value::Null,
            _ => json!(self.text(schema)),
        }
    }

    fn object(&mut self, schema: &'a Value, depth: u32) -> Value {
        let required = schema["required"].as_array();
        let is_required = |name| required.is_some_and(|all| all.iter().any(|one| one == name));
        let properties = schema["properties"].as_object().into_iter().flatten();
        properties
            .filter(|(name, _)| depth <= SHALLOW || is_required(name.as_str()))
            .map(|(name, schema)| (name.clone(), self.value(schema, depth + 1)))
            .collect()
    }

    /// One of the first nine multiples, or the one that is next to it within the schema's bounds.
    /// `step` is how far a number stays away from a bound that is excluded.
    fn number(&mut self, schema: &Value, step: f64) -> f64 {
        let bound = |name: &str| schema[name].as_f64();
        let factor = bound("multipleOf");
        let step = factor.unwrap_or(step);
        let above = bound("exclusiveMinimum").map(|low| low + step);
        let below = bound("exclusiveMaximum").map(|high| high - step);
        let low = bound("minimum").or(above).unwrap_or(f64::MIN);
        let high = bound("maximum").or(below).unwrap_or(f64::MAX);
        let drawn = factor.unwrap_or(1.0) * (1.0 + self.random.below(9) as f64);
        let near = match drawn {
            _ if drawn < low => (low / step).ceil() * step,
            _ if drawn > high => (high / step).floor() * step,
            _ => drawn,
        };
        near.min(high).max(low)
    }

    fn text(&mut self, schema: &Value) -> String {
        match schema["format"].as_str() {
            Some("date") => return "2026-01-01".to_owned(),
            Some("date-time") => return "2026-01-01T00:00:00Z".to_owned(),
            Some("email") => return "simulated@example.com".to_owned(),
            Some("uri") => return "https://example.com/".to_owned(),
            Some("uuid") => return "00000000-0000-4000-8000-000000000000".to_owned(),
            _ => {}
        }
        let mut text = compose(self.random.next_u64(), 0, 8).words;
        let length = |name: &str| usize::try_from(schema[name].as_u64()?).ok();
        while text.len() < length("minLength").unwrap_or(0).min(100_000) {
            text.push('.');
        }
        text.truncate(length("maxLength").unwrap_or(text.len()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(schema: &Value, seed: u64) -> Value {
        let form = Form {
            tool: None,
            schema: schema.clone(),
        };
        serde_json::from_str(&form.write(seed)).unwrap()
    }

    /// A schema, and what its values have to be.
    type Case = (Value, fn(&Value) -> bool);

    #[test]
    fn values_fit_their_schemas() {
        let cases: &[Case] = &[
            (json!({"const": [7]}), |v| *v == json!([7])),
            (json!({"enum": ["a", "b", null]}), |v| {
                ["a", "b"].iter().any(|one| v == one) || v.is_null()
            }),
            (json!({"type": ["null", "string"]}), Value::is_string),
            (json!({"type": "null"}), Value::is_null),
            (json!({"type": "boolean"}), Value::is_boolean),
            (
                json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}),
                Value::is_i64,
            ),
            (json!({"allOf": [{"type": "integer"}]}), Value::is_i64),
            (json!({"type": "string", "maxLength": 3}), |v| {
                v.as_str().unwrap().len() == 3
            }),
            (json!({"type": "string", "minLength": 300}), |v| {
                v.as_str().unwrap().len() >= 300
            }),
            (json!({"type": "string", "format": "date"}), |v| {
                *v == "2026-01-01"
            }),
            (
                json!({"type": "integer", "minimum": 10, "maximum": 10}),
                |v| *v == 10,
            ),
            (
                json!({"type": "integer", "exclusiveMinimum": 0, "maximum": 1}),
                |v| *v == 1,
            ),
            (
                json!({"type": "integer", "minimum": 1, "exclusiveMaximum": 2}),
                |v| *v == 1,
            ),
            (json!({"type": "integer", "exclusiveMinimum": 10}), |v| {
                v.as_i64().unwrap() > 10
            }),
            (
                json!({"type": "integer", "minimum": 11, "multipleOf": 5}),
                |v| v.as_i64().unwrap() > 10 && v.as_i64().unwrap() % 5 == 0,
            ),
            (
                json!({"type": "integer", "maximum": 24, "multipleOf": 10}),
                |v| [10, 20].iter().any(|one| v == one),
            ),
            (json!({"type": "integer", "maximum": -5}), |v| {
                v.as_i64().unwrap() <= -5
            }),
            (
                json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
                |v| v.as_f64().unwrap() > 0.0 && v.as_f64().unwrap() < 1.0,
            ),
            (
                json!({"type": "number", "minimum": 1.1, "maximum": 1.1}),
                |v| *v == 1.1,
            ),
            (json!({"type": "number", "minimum": 0, "maximum": 1}), |v| {
                (0.0..=1.0).contains(&v.as_f64().unwrap())
            }),
            (
                json!({"type": "array", "items": {"type": "integer"}, "minItems": 3}),
                |v| {
                    v.as_array().unwrap().len() == 3
                        && v.as_array().unwrap().iter().all(Value::is_i64)
                },
            ),
            (json!({"type": "array", "maxItems": 0}), |v| *v == json!([])),
            (
                json!({"properties": {"a": {"const": 1}}, "required": ["a"]}),
                |v| v["a"] == 1,
            ),
            (
                json!({"$ref": "#/$defs/one", "$defs": {"one": {"const": 1}}}),
                |v| *v == 1,
            ),
            (json!({}), Value::is_string),
            (json!(true), Value::is_string),
        ];
        for (schema, fits) in cases {
            for seed in 0..20 {
                let value = write(schema, seed);
                assert!(fits(&value), "{schema}: {value}");
            }
        }
    }

    #[test]
    fn a_schema_that_holds_itself_comes_to_an_end() {
        let node = json!({"type": "object", "required": ["next", "kids"], "properties": {
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
            "kids": {"type": "array", "items": {"$ref": "#"}},
        }});
        let value = write(&node, 7);
        assert!(value["kids"].is_array());
        assert!(value.to_string().len() < 10_000, "{value}");
        write(&json!({"$ref": "#"}), 7);
        let wide = json!({"type": "array", "minItems": 1000, "items": {"$ref": "#"}});
        assert!(write(&wide, 7).to_string().len() < 100_000);
    }
}
