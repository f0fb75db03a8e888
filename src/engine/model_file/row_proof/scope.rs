//! Scopes: the values that the nodes of a graph see.

use std::collections::HashMap;

use super::{
    super::onnx::{AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto},
    value::Value,
};

/// The values that the nodes of a graph see.
pub(super) struct Scope<'a> {
    pub values: HashMap<&'a str, Value>,
    pub outer: Option<&'a Scope<'a>>,
    pub opsets: &'a [OperatorSetIdProto],
    /// The node that called the function that the graph is in.
    pub caller: Option<(&'a FunctionProto, &'a NodeProto)>,
}

impl<'a> Scope<'a> {
    /// The scope of a model's graph.
    pub(super) fn of_model(opsets: &'a [OperatorSetIdProto]) -> Self {
        Scope { values: HashMap::new(), outer: None, opsets, caller: None }
    }

    pub(super) fn inside(outer: &'a Scope<'a>) -> Self {
        Scope { values: HashMap::new(), outer: Some(outer), opsets: outer.opsets, caller: outer.caller }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| self.outer?.get(name))
    }

    /// The version of a domain's operators; `None` where there is not one import of it.
    pub(super) fn opset(&self, domain: &str) -> Option<i64> {
        let is_default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let is_it = |other: &str| other == domain || is_default(other) && is_default(domain);
        let mut found = self.opsets.iter().filter(|opset| is_it(&opset.domain));
        let first = found.next()?;
        found.next().is_none().then_some(first.version)
    }

    /// A node of a function with the attributes that its caller gives.
    pub(super) fn resolved(&self, node: &NodeProto) -> Option<NodeProto> {
        let (function, caller) = self.caller?;
        if node.attributes.iter().all(|attribute| attribute.reference.is_empty()) {
            return None;
        }
        let resolve = |attribute: &AttributeProto| -> Option<AttributeProto> {
            if attribute.reference.is_empty() {
                return Some(attribute.clone());
            }
            let mut given = caller.attributes.iter().chain(&function.defaults);
            let given = given.find(|given| given.name == attribute.reference)?;
            Some(AttributeProto { name: attribute.name.clone(), ..given.clone() })
        };
        Some(NodeProto { attributes: node.attributes.iter().filter_map(resolve).collect(), ..node.clone() })
    }
}
