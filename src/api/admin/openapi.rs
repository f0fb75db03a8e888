//! The description of the HTTP API (OpenAPI 3.1), made of the protocol definition with its comments and the list of routes, so
//! that it can't say anything else.

use axum::http::Method;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use super::{
    http_request::in_query,
    routes::{self, ROOT, Route},
};
use crate::api::{
    metadata::SERVER_VERSION,
    proto::admin::{DESCRIPTORS, SERVICE},
};

/// Places of declarations in a file, as descriptors number them.
const MESSAGES: i32 = 4;
const FIELDS: i32 = 2;
const SERVICES: i32 = 6;
const METHODS: i32 = 2;
const SYNTAX: i32 = 12;

/// The document.
///
/// # Panics
/// Where the protocol definition that the build encoded can't be decoded: a defect of the build.
pub(super) fn document() -> String {
    let files = FileDescriptorSet::decode(DESCRIPTORS).expect("the build's own descriptors");
    let package = SERVICE.rsplit_once('.').map_or("", |(package, _)| package);
    let file = files.file.into_iter().find(|file| file.package() == package).unwrap_or_default();
    let definition = Definition::new(file);
    definition.document().to_string()
}

struct Definition {
    file: FileDescriptorProto,
    /// By the places of what they stand before.
    comments: BTreeMap<Vec<i32>, String>,
}

impl Definition {
    fn new(file: FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations.map(|location| (location.path.clone(), paragraphs(location.leading_comments())));
        Definition { comments: comments.collect(), file }
    }

    fn document(&self) -> Value {
        let answers = self.file.message_type.iter().filter(|message| !message.name().ends_with("Request"));
        let mut schemas: Map<_, _> =
            answers.map(|message| (message.name().into(), self.schema(message, &[]))).collect();
        schemas.insert(
            "Error".into(),
            json!({
                "type": "object",
                "required": ["error", "code"],
                "properties": {
                    "error": {"type": "string", "description": "What is wrong, for people."},
                    "code": {"type": "string", "description": "What kind of error it is, such as failed_precondition."},
                },
            }),
        );
        json!({
            "openapi": "3.1.0",
            "info": {"title": "onnxd admin API", "version": SERVER_VERSION, "description": self.comment(&[SYNTAX])},
            "servers": [{"url": "/"}],
            "security": [{}, {"token": []}],
            "paths": self.paths(),
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the file that the server's --admin-token-file names, where it names one.",
                }},
            },
        })
    }

    fn paths(&self) -> Map<String, Value> {
        let routes = routes::all();
        let mut paths: Map<String, Value> = Map::new();
        for route in &routes {
            let path = paths.entry(format!("{ROOT}{}", route.path)).or_insert_with(|| json!({}));
            path[route.method.as_str().to_lowercase()] = self.operation(route, &routes);
        }
        paths.insert(format!("{ROOT}/openapi.json"), json!({"get": {
            "operationId": "OpenApi",
            "summary": "This document.",
            "security": [{}],
            "responses": {"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}},
        }}));
        paths
    }

    fn operation(&self, route: &Route, routes: &[Route]) -> Value {
        let service = &self.file.service[0];
        let Some(index) = service.method.iter().position(|method| method.name() == route.call) else {
            return json!({});
        };
        let (method, comment) = (&service.method[index], self.comment(&[SERVICES, 0, METHODS, index as i32]));
        // Of those that are one call, the path that has no version is for all of them.
        let shared = routes.iter().filter(|other| other.call == route.call).count() > 1;
        let all = if shared && !route.path.contains("{version}") { "OfAll" } else { "" };
        let mut operation = json!({
            "operationId": format!("{}{all}", route.call),
            "summary": comment.split_inclusive(". ").next().unwrap_or_default().trim_end(),
            "description": comment,
            "responses": {
                "200": self.answer(method.output_type(), method.server_streaming()),
                "default": {
                    "description": "It is refused or fails.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                },
            },
        });
        let Some(message) = self.message(method.input_type()) else { return operation };
        let in_path: Vec<_> = message.field.iter().map(FieldDescriptorProto::name).collect();
        let in_path: Vec<_> =
            in_path.into_iter().filter(|field| route.path.contains(&format!("{{{field}}}"))).collect();
        let mut parameters: Vec<_> =
            in_path.iter().filter_map(|field| self.parameter(message, field, "path")).collect();
        if in_query(&route.method) {
            let rest = message.field.iter().map(FieldDescriptorProto::name).filter(|field| !in_path.contains(field));
            parameters.extend(rest.filter_map(|field| self.parameter(message, field, "query")));
        } else {
            let schema = self.schema(message, &in_path);
            let required = route.method != Method::PUT && schema.get("required").is_some();
            operation["requestBody"] =
                json!({"required": required, "content": {"application/json": {"schema": schema}}});
        }
        operation["parameters"] = parameters.into();
        operation
    }

    fn answer(&self, message: &str, streams: bool) -> Value {
        let schema = json!({"$ref": format!("#/components/schemas/{}", last(message))});
        if streams {
            let what = "Server-sent events: the kind is the name, the message the data, in JSON; the id counts. A client that comes again gets the state anew. Lines that begin with a colon keep the connection open.";
            let schema = json!({"type": "string", "contentMediaType": "application/json", "contentSchema": schema});
            return json!({"description": what, "content": {"text/event-stream": {"schema": schema}}});
        }
        let name = last(message);
        let what = self.message(message).map(|_| self.comment(&[MESSAGES, self.place(name)])).unwrap_or_default();
        let what = if what.is_empty() { "Done.".into() } else { what };
        json!({"description": what, "content": {"application/json": {"schema": schema}}})
    }

    fn parameter(&self, message: &DescriptorProto, name: &str, place: &str) -> Option<Value> {
        let index = message.field.iter().position(|field| field.name() == name)?;
        let field = &message.field[index];
        let mut parameter = json!({"name": name, "in": place, "required": place == "path", "schema": plain(field)});
        let comment = self.comment(&[MESSAGES, self.place(message.name()), FIELDS, index as i32]);
        if !comment.is_empty() {
            parameter["description"] = comment.into();
        }
        if (place, name) == ("path", "version") {
            parameter["schema"] = json!({"type": ["integer", "string"]});
            parameter["description"] = "A version, or one of the model's aliases.".into();
        }
        Some(parameter)
    }

    /// The schema of a message without some fields.
    fn schema(&self, message: &DescriptorProto, without: &[&str]) -> Value {
        let is_request = message.name().ends_with("Request");
        let place = self.place(message.name());
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (index, field) in message.field.iter().enumerate().filter(|(_, field)| !without.contains(&field.name())) {
            let mut schema = self.field(message, field);
            let comment = self.comment(&[MESSAGES, place, FIELDS, index as i32]);
            if !comment.is_empty() {
                schema["description"] = comment.into();
            }
            // Answers have every field. In requests a number or a map that is zero or empty is none, a text may be.
            if !is_request || !field.proto3_optional() && field.r#type() != Type::String {
                required.push(field.name());
            }
            properties.insert(field.name().into(), schema);
        }
        let mut schema = json!({"type": "object", "properties": properties});
        let comment = self.comment(&[MESSAGES, place]);
        if !comment.is_empty() {
            schema["description"] = comment.into();
        }
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        if is_request {
            schema["additionalProperties"] = false.into();
        }
        schema
    }

    fn field(&self, message: &DescriptorProto, field: &FieldDescriptorProto) -> Value {
        let name = last(field.type_name());
        let entry = message.nested_type.iter().find(|nested| nested.name() == name);
        if let Some(entry) = entry.filter(|_| field.r#type() == Type::Message) {
            let (key, value) = (&entry.field[0], &entry.field[1]);
            let mut schema = json!({"type": "object", "additionalProperties": plain(value)});
            if key.r#type() == Type::Uint64 {
                schema["propertyNames"] = json!({"pattern": "^[0-9]+$"});
            }
            return schema;
        }
        let one = match field.r#type() {
            Type::Message => json!({"$ref": format!("#/components/schemas/{name}")}),
            _ => plain(field),
        };
        if field.label() == Label::Repeated {
            json!({"type": "array", "items": one})
        } else if field.r#type() == Type::Message {
            json!({"anyOf": [one, {"type": "null"}]})
        } else if field.proto3_optional() {
            let mut nullable = one;
            nullable["type"] = json!([nullable["type"], "null"]);
            nullable
        } else {
            one
        }
    }

    fn message(&self, name: &str) -> Option<&DescriptorProto> {
        self.file.message_type.iter().find(|message| message.name() == last(name))
    }

    fn place(&self, name: &str) -> i32 {
        let place = self.file.message_type.iter().position(|message| message.name() == name);
        place.map_or(-1, |place| place as i32)
    }

    fn comment(&self, place: &[i32]) -> String {
        self.comments.get(place).cloned().unwrap_or_default()
    }
}

/// The schema of a value that is no message.
fn plain(field: &FieldDescriptorProto) -> Value {
    match field.r#type() {
        Type::Uint64 => json!({"type": "integer", "minimum": 0}),
        Type::Double => json!({"type": "number"}),
        Type::Bool => json!({"type": "boolean"}),
        _ => json!({"type": "string"}),
    }
}

/// The last part of a name with its package.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The text of a comment, with lines joined to paragraphs; a line of a list is one.
fn paragraphs(comment: &str) -> String {
    let mut text = String::new();
    for line in comment.lines() {
        let words = line.trim();
        let begins = words.is_empty() || words.starts_with("- ") || text.is_empty() || text.ends_with('\n');
        if begins && !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        } else if !begins {
            text.push(' ');
        }
        text.push_str(words);
        if words.is_empty() {
            text.push('\n');
        }
    }
    text.trim().into()
}
