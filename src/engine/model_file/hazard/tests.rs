use super::{
    super::onnx::{
        AttributeProto, BOOL, DimensionProto, FLOAT, INT64, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
        ValueInfoProto,
    },
    *,
};

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    let inputs = inputs.iter().map(ToString::to_string).collect();
    NodeProto { operator: operator.into(), inputs, outputs: vec![output.into()], ..NodeProto::default() }
}

fn int(name: &str, integer: i64) -> AttributeProto {
    AttributeProto { name: name.into(), integer, ..AttributeProto::default() }
}

/// An input; `None` declares no rank.
fn input(name: &str, element: i32, axes: Option<&[i64]>) -> ValueInfoProto {
    let dimension = |extent: &i64| DimensionProto { extent: (*extent >= 0).then_some(*extent), name: None };
    let shape = axes.map(|axes| TensorShapeProto { dimensions: axes.iter().map(dimension).collect() });
    ValueInfoProto { name: name.into(), kind: Some(TypeProto { tensor: Some(TensorTypeProto { element, shape }) }) }
}

fn constant(name: &str, values: &[i64]) -> TensorProto {
    let (extents, int64_data) = (vec![values.len() as i64], values.to_vec());
    TensorProto { name: name.into(), element: INT64, extents, int64_data, ..TensorProto::default() }
}

/// A graph with the inputs `ids` INT64 [-1,8], `x` FLOAT [-1,8], `any` FLOAT and the constants `two` and `minus_one`.
fn graph(nodes: Vec<NodeProto>) -> GraphProto {
    let inputs = vec![
        input("ids", INT64, Some(&[-1, 8])),
        input("x", FLOAT, Some(&[-1, 8])),
        input("any", FLOAT, None),
        input("go", BOOL, Some(&[])),
    ];
    let initializers = vec![constant("two", &[2]), constant("minus_one", &[3, -1]), constant("axes", &[4, 2])];
    GraphProto { nodes, inputs, initializers, ..GraphProto::default() }
}

fn hazard_of(nodes: Vec<NodeProto>) -> Option<String> {
    hazard(&graph(nodes), &[])
}

#[test]
fn integer_division_is_a_hazard_where_a_client_has_both_sides() {
    let shape = || node("Shape", &["x"], "shape");
    let cast = |from: &str, to: &str, kind: i32| NodeProto {
        attributes: vec![int("to", kind.into())],
        ..node("Cast", &[from], to)
    };
    for safe in [
        vec![node("Div", &["x", "x"], "y")],
        vec![node("Div", &["ids", "two"], "y")],
        vec![node("Mod", &["two", "minus_one"], "y")],
        vec![shape(), node("Div", &["shape", "minus_one"], "y")],
        vec![shape(), node("Mod", &["ids", "shape"], "y")],
        vec![node("Abs", &["ids"], "positive"), node("Mod", &["ids", "positive"], "y")],
        vec![cast("ids", "floats", FLOAT), node("Div", &["floats", "floats"], "y")],
        vec![node("Unsqueeze", &["two", "axes"], "b"), node("Div", &["ids", "b"], "y")],
    ] {
        assert_eq!(hazard_of(safe.clone()), None, "{safe:?}");
    }
    for deadly in [
        vec![node("Div", &["ids", "ids"], "y")],
        vec![node("Mod", &["ids", "minus_one"], "y")],
        vec![cast("x", "whole", INT64), node("Mod", &["whole", "ids"], "y")],
        vec![shape(), node("Sub", &["shape", "two"], "less"), node("Mod", &["ids", "less"], "y")],
        vec![node("Unsqueeze", &["minus_one", "axes"], "b"), node("Div", &["ids", "b"], "y")],
    ] {
        assert!(hazard_of(deadly.clone()).is_some(), "{deadly:?}");
    }
    let reason = hazard_of(vec![NodeProto { name: "/bucket".into(), ..node("Mod", &["ids", "ids"], "y") }]);
    let expected = "operator 'Mod' (node '/bucket') divides integers of a request, and the smallest of them divided by -1 \
                    can end the process";
    assert_eq!(reason.as_deref(), Some(expected));
}

#[test]
fn undeclared_ranks_are_a_hazard_where_operators_index_shapes() {
    for safe in [
        vec![node("Concat", &["x", "x"], "y")],
        vec![node("Relu", &["any"], "y")],
        vec![node("Squeeze", &["x", "two"], "r"), node("Concat", &["r", "r"], "y")],
        vec![node("Shape", &["x"], "s"), node("Squeeze", &["s"], "n"), node("Concat", &["n", "n"], "y")],
        vec![node("Reshape", &["any", "axes"], "r"), node("Concat", &["r", "r"], "y")],
        vec![node("Flatten", &["any"], "r"), node("ReverseSequence", &["r", "two"], "y")],
    ] {
        assert_eq!(hazard_of(safe.clone()), None, "{safe:?}");
    }
    for deadly in [
        vec![node("Concat", &["any", "x"], "y")],
        vec![node("Squeeze", &["x"], "r"), node("Concat", &["r", "r"], "y")],
        vec![
            node("Shape", &["x"], "s"),
            node("ConstantOfShape", &["s"], "c"),
            node("Squeeze", &["c"], "r"),
            node("Concat", &["r", "r"], "y"),
        ],
        vec![node("Relu", &["any"], "r"), node("DFT", &["r"], "y")],
        vec![node("Reshape", &["x", "ids"], "r"), node("Einsum", &["r"], "y")],
        vec![node("Shape", &["any"], "s"), node("Reshape", &["x", "s"], "r"), node("Concat", &["r", "x"], "y")],
    ] {
        assert!(hazard_of(deadly.clone()).is_some(), "{deadly:?}");
    }
}

#[test]
fn element_dependent_extents_are_a_hazard_for_some_operators() {
    assert_eq!(hazard_of(vec![node("Unique", &["x"], "y")]), None);
    assert!(hazard_of(vec![node("NonZero", &["x"], "n"), node("Unique", &["n"], "y")]).is_some());
    let step = vec![node("STFT", &["x", "ids", "", "two"], "y")];
    assert!(hazard_of(step).is_some_and(|why| why.contains("input 1")));
    assert_eq!(hazard_of(vec![node("STFT", &["x", "two", "", "two"], "y")]), None);
}

#[test]
fn branches_that_drop_an_axis_are_a_hazard() {
    let branch = |operator| {
        let outputs = vec![ValueInfoProto { name: "b".into(), kind: None }];
        let graph = GraphProto { nodes: vec![node(operator, &["x", "two"], "b")], outputs, ..GraphProto::default() };
        AttributeProto { graph: Some(graph), ..AttributeProto::default() }
    };
    let concatenated =
        |attributes| vec![NodeProto { attributes, ..node("If", &["go"], "y") }, node("Concat", &["y", "y"], "z")];
    assert!(hazard_of(concatenated(vec![branch("Squeeze"), branch("Reshape")])).is_some());
    assert_eq!(hazard_of(concatenated(vec![branch("Squeeze"), branch("Squeeze")])), None);
}

#[test]
fn subgraphs_and_functions_are_searched() {
    let inner = GraphProto { nodes: vec![node("Mod", &["ids", "ids"], "m")], ..GraphProto::default() };
    let body = AttributeProto { name: "then_branch".into(), graph: Some(inner), ..AttributeProto::default() };
    let branch = NodeProto { attributes: vec![body], ..node("If", &["go"], "y") };
    assert!(hazard_of(vec![branch]).is_some());

    let function = FunctionProto {
        name: "Bucket".into(),
        domain: "mine".into(),
        inputs: vec!["a".into(), "b".into()],
        outputs: vec!["c".into()],
        nodes: vec![node("Mod", &["a", "b"], "c")],
        ..FunctionProto::default()
    };
    let call = |a: &str, b: &str| graph(vec![NodeProto { domain: "mine".into(), ..node("Bucket", &[a, b], "y") }]);
    assert!(hazard(&call("ids", "ids"), std::slice::from_ref(&function)).is_some());
    assert_eq!(hazard(&call("ids", "two"), &[function]), None);
}

#[test]
fn recursive_functions_do_not_hang_the_search() {
    let calls = NodeProto { domain: "mine".into(), ..node("Twice", &["a"], "b") };
    let function = FunctionProto {
        name: "Twice".into(),
        domain: "mine".into(),
        inputs: vec!["a".into()],
        outputs: vec!["b".into()],
        nodes: vec![calls.clone(), calls.clone()],
        ..FunctionProto::default()
    };
    assert!(hazard(&graph(vec![calls]), &[function]).is_some());
}

#[test]
fn operators_that_need_elements_are_named() {
    let named = |operator| zero_extents(&graph(vec![node(operator, &["x"], "y")]), &[]).all;
    assert_eq!(named("Relu"), None);
    let attention = zero_extents(&graph(vec![node("Attention", &["x", "x", "x"], "y")]), &[]);
    assert!(attention.all.is_none() && attention.rows.is_none() && attention.features.is_some());
    let convolution = |weights| graph(vec![node("Conv", &["x", weights], "y")]);
    assert_eq!(zero_extents(&convolution("two"), &[]).all, None);
    assert!(zero_extents(&convolution("any"), &[]).all.is_some());
    assert_eq!(hazard(&convolution("any"), &[]), None);
    assert_eq!(named("LSTM").as_deref(), Some("its operator 'LSTM' is known to fail without elements"));
}
