//! Operators by which one request could end the process.
//!
//! ONNX Runtime's kernels do not check everything that a request can hold: some divide by what they are given, some index by it.
//! The look is static: it follows the values of a request through the graph ([`flow`]) to the operators that are known to end
//! the process. `tests/soak/operators.py` finds those operators.

mod deadly;
mod flow;

use super::onnx::{FunctionProto, GraphProto, NodeProto};
use deadly::{Needed, deadly, needs_elements};
use flow::{Scope, Value, output};

/// Nodes that are looked at, those of functions as often as they are called. More are no model that anybody made.
const MAX_NODES: usize = 1 << 20;

/// Functions inside functions, as deep as they are followed.
const MAX_DEPTH: usize = 32;

/// Why a request can end the process, for people; `None` where no such way is known.
pub(super) fn hazard(graph: &GraphProto, functions: &[FunctionProto]) -> Option<String> {
    let end =
        |why: String, node: &NodeProto| format!("operator '{}'{} {why} end the process", node.operator, named(node));
    NodeSearch::new(functions, |node, inputs| deadly(node, inputs).map(|why| end(why, node))).at(graph)
}

/// Why extents of a request may not be zero, for people; `None` where no operator of the graph is known to suffer from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeedsElements {
    /// Of any axis.
    pub all: Option<String>,
    /// Of axis 0.
    pub rows: Option<String>,
    /// Of the last axis, and axis 1 of four: the features and heads of attention.
    pub features: Option<String>,
}

/// Extents of a request that may not be zero.
pub(super) fn zero_extents(graph: &GraphProto, functions: &[FunctionProto]) -> NeedsElements {
    let look = |needed| needing(graph, functions, needed);
    NeedsElements { all: look(Needed::All), rows: look(Needed::Rows), features: look(Needed::Features) }
}

fn needing(graph: &GraphProto, functions: &[FunctionProto], needed: Needed) -> Option<String> {
    let fails =
        |node: &NodeProto| format!("its operator '{}'{} is known to fail without elements", node.operator, named(node));
    NodeSearch::new(functions, |node, inputs| needs_elements(node, inputs, needed).then(|| fails(node))).at(graph)
}

/// A search through all nodes, each with its input values, until one gives a reason.
struct NodeSearch<'a, F> {
    functions: &'a [FunctionProto],
    reason_of: F,
    nodes: usize,
    depth: usize,
}

impl<'a, F: Fn(&NodeProto, &[Value]) -> Option<String>> NodeSearch<'a, F> {
    fn new(functions: &'a [FunctionProto], reason_of: F) -> Self {
        NodeSearch { functions, reason_of, nodes: 0, depth: 0 }
    }

    fn at(mut self, graph: &GraphProto) -> Option<String> {
        self.nodes(&graph.nodes, &mut Scope::of_model(graph))
    }

    /// Visits nodes in the order in which they run.
    fn nodes(&mut self, nodes: &[NodeProto], scope: &mut Scope<'_>) -> Option<String> {
        nodes.iter().find_map(|node| self.node(node, scope))
    }

    fn node(&mut self, node: &NodeProto, scope: &mut Scope<'_>) -> Option<String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || self.depth > MAX_DEPTH {
            return Some("its functions are nested too deeply to be looked at".into());
        }
        let inputs = scope.inputs(node);
        let reason = (self.reason_of)(node, &inputs);
        if reason.is_some() {
            return reason;
        }
        let mut inner: Vec<Value> = Vec::new();
        for graph in node.attributes.iter().flat_map(|attribute| attribute.graph.iter().chain(&attribute.graphs)) {
            let mut inside = Scope::inside(scope, graph);
            if let Some(reason) = self.nodes(&graph.nodes, &mut inside) {
                return Some(reason);
            }
            // The first output of a loop's body is whether to go on.
            let outputs = graph.outputs.iter().skip(usize::from(node.operator == "Loop"));
            for (index, value) in outputs.map(|info| inside.value(&info.name)).enumerate() {
                match inner.get_mut(index) {
                    Some(other) => *other = other.or(value),
                    None => inner.push(value),
                }
            }
        }
        let function = self.functions.iter().find(|function| function.is_called_by(node));
        match function {
            None => {
                let outputs =
                    (0..node.outputs.len()).map(|index| output(node, &inputs, index, inner.get(index).copied()));
                scope.add(node, outputs);
            }
            Some(function) => {
                let mut inside = Scope::of_function(function.inputs.iter().cloned().zip(inputs));
                self.depth += 1;
                let reason = self.nodes(&function.nodes, &mut inside);
                self.depth -= 1;
                if reason.is_some() {
                    return reason;
                }
                let outputs: Vec<Value> = function.outputs.iter().map(|name| inside.value(name)).collect();
                scope.add(node, outputs.into_iter());
            }
        }
        None
    }
}

impl FunctionProto {
    fn is_called_by(&self, node: &NodeProto) -> bool {
        self.name == node.operator && self.domain == node.domain
    }
}

/// The node's name, where it has one.
fn named(node: &NodeProto) -> String {
    if node.name.is_empty() { String::new() } else { format!(" (node '{}')", node.name) }
}

#[cfg(test)]
mod tests;
