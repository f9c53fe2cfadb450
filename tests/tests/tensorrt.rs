//! What can be said without a GPU: TensorRT takes every node of the graphs that are shipped, and no shape depends on what
//! is in a tensor.
//!
//! The operators and their restrictions are those of onnx-tensorrt's `docs/operators.md` (TensorRT 8.4 to 10), and that
//! bytes may be an input only where they are converted at once (`DataType::kUINT8` of TensorRT's headers).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prost::Message;

/// The parts of onnx.proto that are looked at; the tags are its own.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<Port>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    outputs: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    operator: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    number: i64,
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
    #[prost(int64, repeated, tag = "8")]
    numbers: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Port {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(message, optional, tag = "1")]
    tensor: Option<Element>,
}

#[derive(Clone, PartialEq, Message)]
struct Element {
    #[prost(int32, tag = "1")]
    kind: i32,
}

const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT64: i32 = 7;
const FLOAT16: i32 = 10;

/// Without restrictions on what matte gives them.
const FREE: &[&str] = &[
    "Add",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Cos",
    "DepthToSpace",
    "Div",
    "Exp",
    "Expand",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GreaterOrEqual",
    "HardSigmoid",
    "MatMul",
    "Max",
    "Mul",
    "Neg",
    "Range",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Sin",
    "Softmax",
    "Sqrt",
    "Sub",
    "Tanh",
    "Transpose",
];

/// Which inputs of an operator say what shape its output has, or what of its input is taken.
fn shaping(node: &Node) -> &[String] {
    let inputs = node.inputs.as_slice();
    match node.operator.as_str() {
        "Reshape" | "Expand" | "Slice" | "Pad" | "Unsqueeze" | "Squeeze" | "Resize" | "Split"
        | "Tile" | "ReduceSum" | "ReduceMax" | "ReduceMean" => &inputs[1.min(inputs.len())..],
        "Range" | "ConstantOfShape" => inputs,
        _ => &[],
    }
}

impl Node {
    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }

    fn text(&self, name: &str, otherwise: &str) -> String {
        self.attribute(name).map_or_else(
            || otherwise.to_owned(),
            |a| String::from_utf8_lossy(&a.text).into_owned(),
        )
    }

    fn number(&self, name: &str, otherwise: i64) -> i64 {
        self.attribute(name).map_or(otherwise, |a| a.number)
    }
}

/// What stands against a graph, in words.
fn objections(graph: &Graph) -> Vec<String> {
    let weights: BTreeMap<&str, &Tensor> = graph
        .initializers
        .iter()
        .map(|t| (t.name.as_str(), t))
        .collect();
    // What is the same whatever the tensors hold, once their shapes are known: constants, shapes, what is computed of them.
    let mut fixed: BTreeSet<&str> = weights.keys().copied().collect();
    // What is the same without knowing any shape.
    let mut constant = fixed.clone();
    let mut bytes: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for port in &graph.inputs {
        match port.kind.as_ref().and_then(|k| k.tensor.as_ref()) {
            Some(Element { kind: UINT8 }) => {
                bytes.insert(&port.name);
            }
            Some(Element {
                kind: FLOAT | FLOAT16,
            }) => {}
            other => found.push(format!("input {} is of type {other:?}", port.name)),
        }
    }
    for tensor in weights.values() {
        if ![FLOAT, FLOAT16, INT64].contains(&tensor.data_type) {
            let (name, kind) = (&tensor.name, tensor.data_type);
            found.push(format!("weight {name} is of type {kind}"));
        }
    }
    for node in &graph.nodes {
        let mut object =
            |what: &str| found.push(format!("{} ({}): {what}", node.name, node.operator));
        let given = |i: usize| node.inputs.get(i).filter(|name| !name.is_empty());
        let is_constant = |i: usize| given(i).is_none_or(|name| constant.contains(name.as_str()));
        let flat = node
            .attribute("kernel_shape")
            .is_some_and(|a| a.numbers.len() == 2);
        if !node.domain.is_empty() {
            object("no operator of ONNX itself");
        }
        match node.operator.as_str() {
            free if FREE.contains(&free) => {}
            "Conv" | "ConvTranspose" => {
                if !is_constant(1) || !flat {
                    object("weights must be constant, for pictures of two dimensions");
                }
                if node.operator == "ConvTranspose"
                    && node
                        .attribute("dilations")
                        .is_some_and(|a| a.numbers.iter().any(|d| *d != 1))
                {
                    object("no dilation");
                }
            }
            "AveragePool" | "MaxPool" => {
                if !flat || node.outputs.len() != 1 {
                    object("two dimensions and no indices");
                }
            }
            "ReduceSum" | "ReduceMax" | "ReduceMean" | "Unsqueeze" | "Squeeze" => {
                if !is_constant(1) {
                    object("axes must be constant");
                }
            }
            "Slice" => {
                if !is_constant(3) {
                    object("axes must be constant");
                }
            }
            "Split" => {}
            "LayerNormalization" => {
                if node.outputs.iter().filter(|o| !o.is_empty()).count() != 1 {
                    object("one output only");
                }
            }
            "Pad" => {
                if !["constant", "reflect", "edge"]
                    .contains(&node.text("mode", "constant").as_str())
                {
                    object("mode must be constant, reflect or edge");
                }
            }
            "Resize" => {
                let mode = node.text("mode", "nearest");
                let at = node.text("coordinate_transformation_mode", "half_pixel");
                let modes = [
                    "half_pixel",
                    "pytorch_half_pixel",
                    "asymmetric",
                    "align_corners",
                ];
                if !["nearest", "linear"].contains(&mode.as_str()) || !modes.contains(&at.as_str())
                {
                    object(&format!("mode {mode} at {at}"));
                }
                if node.number("antialias", 0) != 0 || given(1).is_some() {
                    object("no antialiasing, no region");
                }
            }
            _ => object("TensorRT's parser has no such operator, or matte did not use it so far"),
        }
        for input in &node.inputs {
            if bytes.contains(input.as_str()) && node.operator != "Cast" {
                object(&format!("{input} is bytes, which may only be converted"));
            }
        }
        for input in shaping(node).iter().filter(|name| !name.is_empty()) {
            if !fixed.contains(input.as_str()) {
                object(&format!("a shape depends on what is in {input}"));
            }
        }
        let all = |of: &BTreeSet<&str>| {
            node.inputs
                .iter()
                .all(|i| i.is_empty() || of.contains(i.as_str()))
        };
        let (is_fixed, is_constant) = (node.operator == "Shape" || all(&fixed), all(&constant));
        for output in &node.outputs {
            if is_fixed {
                fixed.insert(output);
            }
            if is_constant {
                constant.insert(output);
            }
        }
    }
    found
}

fn load(path: &Path) -> Graph {
    let bytes = std::fs::read(path).unwrap();
    Model::decode(bytes.as_slice()).unwrap().graph.unwrap()
}

/// Every graph in the packages.
fn shipped() -> Vec<PathBuf> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages");
    let mut all: Vec<_> = std::fs::read_dir(packages)
        .unwrap()
        .flat_map(|package| std::fs::read_dir(package.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        // Those in 8-bit integers are for the CPU alone.
        .filter(|path| !path.to_string_lossy().ends_with(".int8.onnx"))
        .collect();
    all.sort();
    all
}

#[test]
fn tensorrt_takes_every_node_of_the_shipped_graphs() {
    let shipped = shipped();
    assert!(shipped.len() >= 8, "{shipped:?}");
    for path in shipped {
        let graph = load(&path);
        assert!(graph.nodes.len() > 5, "{} is read", path.display());
        assert_eq!(objections(&graph), [""; 0], "{}", path.display());
    }
}

#[test]
fn what_it_does_not_take_is_found() {
    let graph = load(
        shipped()
            .iter()
            .find(|p| p.ends_with("lite/matte.onnx"))
            .unwrap(),
    );
    let changed = |change: &dyn Fn(&mut Graph)| {
        let mut graph = graph.clone();
        change(&mut graph);
        objections(&graph).join("\n")
    };
    let node = |operator: &str, input: &str| Node {
        inputs: vec![input.to_owned()],
        outputs: vec!["new".to_owned()],
        name: "added".to_owned(),
        operator: operator.to_owned(),
        ..Node::default()
    };
    let with = |node: Node| changed(&move |graph: &mut Graph| graph.nodes.push(node.clone()));
    assert!(with(node("NonZero", "last_alpha")).contains("no such operator"));
    assert!(with(node("Transpose", "frame")).contains("frame is bytes"));
    assert!(with(node("ConstantOfShape", "last_alpha")).contains("what is in last_alpha"));
    let mut cubic = node("Resize", "last_alpha");
    cubic.attributes.push(Attribute {
        name: "mode".to_owned(),
        text: b"cubic".to_vec(),
        ..Attribute::default()
    });
    assert!(with(cubic).contains("mode cubic"));
    let weights = changed(&|graph: &mut Graph| graph.initializers.retain(|t| t.dims.len() != 4));
    assert!(weights.contains("must be constant"), "{weights}");
}
