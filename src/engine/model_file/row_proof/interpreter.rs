//! Interprets graphs over abstract values: node by node, with the subgraphs and functions that they hold.

use std::{collections::HashMap, rc::Rc};

use super::{
    super::onnx::{Attribute, Function, Graph, Node, OperatorSet},
    constants, control,
    extent::Symbols,
    rules::{self, Blame, Op},
    value::{Cause, Flow, Value},
};

/// Nodes that are interpreted at most, those of functions and loops each time: a model may nest them without end.
const MAX_STEPS: usize = 250_000;

/// Functions that call each other at most.
const MAX_CALLS: usize = 32;

/// Interprets the graphs of one model.
pub(super) struct Interpreter<'m> {
    pub symbols: Symbols,
    functions: HashMap<(&'m str, &'m str), &'m Function>,
    steps: usize,
    calls: usize,
}

/// The values that the nodes of a graph see.
pub(super) struct Scope<'a> {
    pub values: HashMap<&'a str, Value>,
    outer: Option<&'a Scope<'a>>,
    opsets: &'a [OperatorSet],
    /// The node that called the function that the graph is in.
    caller: Option<(&'a Function, &'a Node)>,
}

impl<'a> Scope<'a> {
    /// The scope of a model's graph.
    pub(super) fn of_model(opsets: &'a [OperatorSet]) -> Self {
        Scope { values: HashMap::new(), outer: None, opsets, caller: None }
    }

    fn inside(outer: &'a Scope<'a>) -> Self {
        Scope { values: HashMap::new(), outer: Some(outer), opsets: outer.opsets, caller: outer.caller }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| self.outer?.get(name))
    }

    fn opset(&self, domain: &str) -> i64 {
        let is_default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let found =
            self.opsets.iter().find(|opset| opset.domain == domain || is_default(&opset.domain) && is_default(domain));
        found.map_or(1, |opset| opset.version)
    }

    /// A node of a function with the attributes that its caller gives.
    fn resolved(&self, node: &Node) -> Option<Node> {
        let (function, caller) = self.caller?;
        if node.attributes.iter().all(|attribute| attribute.reference.is_empty()) {
            return None;
        }
        let resolve = |attribute: &Attribute| -> Option<Attribute> {
            if attribute.reference.is_empty() {
                return Some(attribute.clone());
            }
            let mut given = caller.attributes.iter().chain(&function.defaults);
            let given = given.find(|given| given.name == attribute.reference)?;
            Some(Attribute { name: attribute.name.clone(), ..given.clone() })
        };
        Some(Node { attributes: node.attributes.iter().filter_map(resolve).collect(), ..node.clone() })
    }
}

impl<'m> Interpreter<'m> {
    pub(super) fn new(functions: &'m [Function]) -> Self {
        let functions = functions.iter().map(|function| ((&*function.domain, &*function.name), function)).collect();
        Interpreter { symbols: Symbols::new(), functions, steps: 0, calls: 0 }
    }

    /// Adds the constants of a graph, and what its nodes give, to its scope.
    pub(super) fn run<'a>(&mut self, graph: &'a Graph, scope: &mut Scope<'a>) {
        for tensor in &graph.initializers {
            let value = constants::value(tensor, &mut self.symbols);
            scope.values.entry(&tensor.name).or_insert(value);
        }
        self.run_nodes(&graph.nodes, scope);
    }

    fn run_nodes<'a>(&mut self, nodes: &'a [Node], scope: &mut Scope<'a>) {
        for node in nodes {
            let outputs = self.node(node, scope);
            let named = node.outputs.iter().map(String::as_str).zip(outputs);
            scope.values.extend(named.filter(|(name, _)| !name.is_empty()));
        }
    }

    /// The values of the outputs of a graph inside another; those of its inputs are given.
    pub(super) fn subgraph(&mut self, graph: &Graph, outer: &Scope<'_>, inputs: Vec<Value>) -> Vec<Value> {
        let mut scope = Scope::inside(outer);
        scope.values.extend(graph.inputs.iter().map(|info| &*info.name).zip(inputs));
        self.run(graph, &mut scope);
        let undefined = |name: &str| unproven(name, format!("'{name}' is defined nowhere"));
        graph
            .outputs
            .iter()
            .map(|info| scope.get(&info.name).cloned().unwrap_or_else(|| undefined(&info.name)))
            .collect()
    }

    fn function(&mut self, function: &Function, node: &Node, inputs: &[Option<Value>]) -> Vec<Value> {
        let mut scope =
            Scope { values: HashMap::new(), outer: None, opsets: &function.opsets, caller: Some((function, node)) };
        let given = function.inputs.iter().zip(inputs);
        scope.values.extend(given.filter_map(|(name, value)| Some((name.as_str(), value.clone()?))));
        self.calls += 1;
        self.run_nodes(&function.nodes, &mut scope);
        self.calls -= 1;
        let undefined = |name: &str| unproven(name, format!("'{name}' is defined nowhere"));
        function.outputs.iter().map(|name| scope.get(name).cloned().unwrap_or_else(|| undefined(name))).collect()
    }

    /// The values of a node's outputs.
    fn node(&mut self, node: &Node, scope: &Scope<'_>) -> Vec<Value> {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.calls > MAX_CALLS {
            return all(node, &unproven(&shown(node), "the model has too many nodes to follow all".into()));
        }
        let resolved = scope.resolved(node);
        let node = resolved.as_ref().unwrap_or(node);
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            // A function may be called without some of its inputs.
            let is_left_out = name.is_empty()
                || scope.caller.is_some_and(|(function, _)| function.inputs.contains(name))
                    && scope.get(name).is_none();
            match scope.get(name) {
                _ if is_left_out => inputs.push(None),
                Some(value) => inputs.push(Some(value.clone())),
                None => return all(node, &unproven(&shown(node), format!("its input '{name}' is defined nowhere"))),
            }
        }
        while inputs.last().is_some_and(Option::is_none) {
            inputs.pop();
        }
        let asks_for_shape = matches!(node.operator.as_str(), "Shape" | "Size");
        let lost = |mixed: bool| {
            inputs.iter().flatten().find(|value| match value.flow {
                // A shape can be known where the elements are lost.
                Flow::Mixed(_) if asks_for_shape && value.shape.is_some() => false,
                Flow::Mixed(_) => mixed,
                Flow::Unproven(_) => !mixed,
                _ => false,
            })
        };
        if let Some(lost) = lost(true).or_else(|| lost(false)) {
            return all(node, lost);
        }
        if let Some(function) = self.functions.get(&(node.domain.as_str(), node.operator.as_str())).copied() {
            return self.function(function, node, &inputs);
        }
        let op = Op { node, inputs, opset: scope.opset(&node.domain) };
        let given = match node.operator.as_str() {
            "Constant" => Ok(vec![constants::constant_node(node, &mut self.symbols)]),
            "If" => control::branch(self, &op, scope),
            "Loop" => control::repeat(self, &op, scope),
            "Scan" => control::scan(self, &op, scope),
            _ => rules::apply(&op, &mut self.symbols),
        };
        match given {
            Ok(mut values) => {
                let missing = unproven(&shown(node), "nothing is known of some of its outputs".into());
                values.resize(node.outputs.len().max(values.len()), missing);
                values
            }
            Err(_) if op.inputs.iter().flatten().all(Value::is_constant) && !is_random(node) && !has_graphs(node) => {
                let element = op.inputs.first().and_then(|first| Some(first.as_ref()?.element)).unwrap_or(0);
                let shape = rules::constant_shape(&op, &mut self.symbols);
                all(node, &Value::constant(element, shape))
            }
            Err(blame) => all(node, &blamed(node, blame)),
        }
    }
}

/// One value for all outputs of a node.
fn all(node: &Node, value: &Value) -> Vec<Value> {
    vec![value.computed(); node.outputs.len()]
}

fn is_random(node: &Node) -> bool {
    node.operator.starts_with("Random") || matches!(&*node.operator, "Bernoulli" | "Multinomial" | "Dropout")
}

fn has_graphs(node: &Node) -> bool {
    node.attributes.iter().any(|attribute| attribute.graph.is_some() || !attribute.graphs.is_empty())
}

/// A node, for people: its operator and its name, or that of its first output.
pub(super) fn shown(node: &Node) -> String {
    let name = if node.name.is_empty() { node.outputs.first().map_or("", String::as_str) } else { &node.name };
    format!("{} '{name}'", node.operator)
}

/// A value of which nothing is known.
pub(super) fn unproven(node: &str, why: String) -> Value {
    let cause = Rc::new(Cause { node: node.to_owned(), why });
    Value::of(Flow::Unproven(cause), None, 0)
}

fn blamed(node: &Node, blame: Blame) -> Value {
    let cause = |why| Rc::new(Cause { node: shown(node), why });
    let flow = match blame {
        Blame::Mixes(why) => Flow::Mixed(cause(why)),
        Blame::Unproven(why) => Flow::Unproven(cause(why)),
    };
    Value::of(flow, None, 0)
}
