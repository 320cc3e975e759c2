//! Each operation of the document has all that its readers need.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{completed, examples::kind};
use crate::router;

fn document() -> (Value, Vec<String>) {
    completed(&router::described())
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, it)| (format!("{method} {path}"), it))
        })
        .collect()
}

fn is_said(text: &Value) -> bool {
    text.as_str().is_some_and(|text| !text.trim().is_empty())
}

#[test]
fn each_operation_has_an_id_of_its_own_a_summary_and_a_described_tag() {
    let (document, _) = document();
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|tag| is_said(&tag["description"]))
        .filter_map(|tag| tag["name"].as_str())
        .collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no id"));
        assert!(ids.insert(id), "{name}: another operation is called {id} too");
        assert!(is_said(&operation["summary"]), "{name} has no summary");
        let tag = operation["tags"][0].as_str().unwrap();
        assert!(tags.contains(tag), "{name}: nothing describes the tag {tag}");
    }
}

#[test]
fn each_operation_says_how_one_proves_who_one_is() {
    let (document, _) = document();
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert!(schemes.values().all(|scheme| is_said(&scheme["description"])), "{schemes:?}");
    for (name, operation) in operations(&document) {
        let ways = operation["security"].as_array().unwrap_or_else(|| panic!("{name} says nothing"));
        assert!(!ways.is_empty(), "{name} says nothing");
        let named: Vec<&str> =
            ways.iter().flat_map(|way| way.as_object().unwrap().keys()).map(String::as_str).collect();
        assert!(named.iter().all(|name| schemes.contains_key(*name)), "{name}: {named:?}");
        assert!(!named.contains(&"api_key") || named.contains(&"session"), "{name} keeps people out: {named:?}");
    }
}

#[test]
fn each_answer_is_described_and_so_are_refusals_and_failures() {
    let (document, _) = document();
    for (name, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("4XX") && responses.contains_key("5XX"), "{name}: {responses:?}");
        for (status, response) in responses {
            assert!(is_said(&response["description"]), "{name}: nothing describes {status}");
        }
    }
}

#[test]
fn each_parameter_is_described() {
    let (document, _) = document();
    for (name, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(is_said(&parameter["description"]), "{name}: nothing describes {}", parameter["name"]);
        }
    }
}

#[test]
fn each_body_has_an_example_that_is_as_its_schema_says() {
    let (document, missing) = document();
    assert_eq!(missing, [""; 0], "properties without a word in examples.rs");
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut bodies = 0;
    for (name, operation) in operations(&document) {
        let request = operation["requestBody"]["content"].as_object().into_iter().map(|content| ("request", content));
        let responses = operation["responses"].as_object().unwrap().iter();
        let responses =
            responses.filter_map(|(status, response)| Some((status.as_str(), response["content"].as_object()?)));
        for (what, content) in request.chain(responses) {
            // What has no schema is bytes.
            for body in content.values().filter(|body| body.get("schema").is_some()) {
                let example = body.get("example").unwrap_or_else(|| panic!("{name}: no example of its {what}"));
                if let Err(problem) = fits(schemas, &body["schema"], example) {
                    panic!("{name}: the example of its {what} does not fit: {problem}\n{example:#}");
                }
                bodies += 1;
            }
        }
    }
    assert!(bodies > 200, "{bodies}");
}

/// Whether a value is of a schema, as far as the schemas of this document go.
fn fits(schemas: &Map<String, Value>, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let found = schemas.get(name).ok_or(format!("there is no schema {name}"))?;
        return fits(schemas, found, value).map_err(|problem| format!("{name}: {problem}"));
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        fits(schemas, part, value)?;
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let problems: Vec<_> = choices.iter().filter_map(|choice| fits(schemas, choice, value).err()).collect();
        return if problems.len() < choices.len() { Ok(()) } else { Err(problems.join(", or ")) };
    }
    let may_be_null =
        schema["type"] == "null" || schema["type"].as_array().is_some_and(|all| all.contains(&"null".into()));
    if value.is_null() && may_be_null {
        return Ok(());
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return Err(format!("{value} is none of {}", schema["enum"]));
    }
    let is_right = match kind(schema) {
        "" => true,
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => false,
    };
    if !is_right {
        return Err(format!("{value} is no {}", schema["type"]));
    }
    let is_id = value.as_str().is_some_and(|text| uuid::Uuid::parse_str(text).is_ok());
    if schema["format"] == "uuid" && !is_id {
        return Err(format!("{value} is no UUID"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        value.get(name).ok_or(format!("`{name}` is missing"))?;
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            fits(schemas, property, value).map_err(|problem| format!("{name}: {problem}"))?;
        }
    }
    for item in value.as_array().into_iter().flatten() {
        fits(schemas, &schema["items"], item)?;
    }
    let known = schema["properties"].as_object();
    if let (Some(false), Some(known), Some(value)) =
        (schema["additionalProperties"].as_bool(), known, value.as_object())
        && let Some(other) = value.keys().find(|key| !known.contains_key(*key))
    {
        return Err(format!("`{other}` is not known"));
    }
    Ok(())
}
