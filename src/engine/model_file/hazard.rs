//! Operators by which one request could end the process.
//!
//! ONNX Runtime's kernels do not check everything that a request can hold: some divide by what they are given, some index by it.
//! The look is static: it follows the values of a request through the graph ([`flow`]) to the operators that are known to end
//! the process. `tests/soak/operators.py` finds those operators.

mod flow;

use super::onnx::{Function, Graph, INT32, INT64, Node};
use flow::{Scope, Value, output};

/// Nodes that are looked at, those of functions as often as they are called. More are no model that anybody made.
const MAX_NODES: usize = 1 << 20;

/// Functions inside functions, as deep as they are followed.
const MAX_DEPTH: usize = 32;

/// Why a request can end the process, for people; `None` where no such way is known.
pub(super) fn hazard(graph: &Graph, functions: &[Function]) -> Option<String> {
    let mut look = Look { functions, nodes: 0, depth: 0 };
    look.nodes(&graph.nodes, &mut Scope::of_model(graph))
}

struct Look<'a> {
    functions: &'a [Function],
    nodes: usize,
    depth: usize,
}

impl Look<'_> {
    /// Looks at nodes in the order in which they run.
    fn nodes(&mut self, nodes: &[Node], scope: &mut Scope<'_>) -> Option<String> {
        nodes.iter().find_map(|node| self.node(node, scope))
    }

    fn node(&mut self, node: &Node, scope: &mut Scope<'_>) -> Option<String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || self.depth > MAX_DEPTH {
            return Some("its functions are nested too deeply to be looked at".into());
        }
        let inputs = scope.inputs(node);
        let reason = deadly(node, &inputs).map(|why| format!("operator '{}'{} {why}", node.operator, named(node)));
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

impl Function {
    fn is_called_by(&self, node: &Node) -> bool {
        self.name == node.operator && self.domain == node.domain
    }
}

/// The node's name, where it has one.
fn named(node: &Node) -> String {
    if node.name.is_empty() { String::new() } else { format!(" (node '{}')", node.name) }
}

/// How an operator can end the process by what it is given.
fn deadly(node: &Node, inputs: &[Value]) -> Option<String> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return None;
    }
    match (node.operator.as_str(), inputs) {
        ("Div" | "Mod", [dividend, divisor, ..]) => {
            let whole = matches!(dividend.element, INT32 | INT64 | 0) && matches!(divisor.element, INT32 | INT64 | 0);
            let dies = whole && dividend.by_client && divisor.minus_one;
            dies.then(|| {
                "divides whole numbers of a request, and the smallest number divided by -1 ends the process".into()
            })
        }
        _ => None,
    }
}
