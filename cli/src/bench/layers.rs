//! What every node of the network's graphs costs: ONNX Runtime's own profile, with the multiplications counted from the
//! shapes that it names.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The stage of a frame that runs a graph has the graph's name.
#[derive(Debug, Serialize)]
pub(super) struct GraphCost {
    pub(super) graph: String,
    /// 1e9 multiplications and additions of one run, in convolutions and matrix products.
    pub(super) gmac: f64,
    /// Milliseconds of one run in all nodes together, while it is profiled.
    pub(super) milliseconds: f64,
    pub(super) nodes: Vec<Node>,
}

/// One node; the dearest come first.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) operator: String,
    pub(super) milliseconds: f64,
    pub(super) gmac: f64,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    name: String,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    input_type_shape: Vec<BTreeMap<String, Vec<i64>>>,
    #[serde(default)]
    output_type_shape: Vec<BTreeMap<String, Vec<i64>>>,
}

fn shape(of: &[BTreeMap<String, Vec<i64>>], i: usize) -> Option<&[i64]> {
    of.get(i)?.values().next().map(Vec::as_slice)
}

fn elements(shape: &[i64]) -> f64 {
    shape.iter().map(|d| *d as f64).product()
}

impl Arguments {
    /// Multiplications of a convolution or matrix product; 0 for everything else, and where a shape is not told.
    fn macs(&self) -> f64 {
        let (input, weights) = (
            shape(&self.input_type_shape, 0),
            shape(&self.input_type_shape, 1),
        );
        let Some(output) = shape(&self.output_type_shape, 0) else {
            return 0.0;
        };
        let depth = match (self.op_name.as_str(), input, weights) {
            ("Conv" | "FusedConv", _, Some(weights)) if weights.len() == 4 => {
                elements(&weights[1..])
            }
            // Whichever side is transposed: the first factor holds `depth` for every row of the product.
            ("MatMul" | "FusedMatMul" | "Gemm", Some(input), _) => {
                let rows = elements(output) / output.last().map_or(1.0, |n| *n as f64);
                elements(input) / rows.max(1.0)
            }
            _ => 0.0,
        };
        depth * elements(output)
    }
}

/// Reads the profiles in a folder; graphs in the order of their names.
pub(super) fn read(folder: &Path) -> Result<Vec<GraphCost>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    files
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path)?;
            // The graph's name, then ONNX Runtime's time stamp.
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = name.split(['_', '.']).next().unwrap_or_default();
            parse(name, &text).with_context(|| format!("profile {}", path.display()))
        })
        .collect()
}

fn parse(graph: &str, text: &str) -> Result<GraphCost> {
    let events: Vec<Event> = serde_json::from_str(text)?;
    // Summed up by name: how often each one ran, microseconds, multiplications of one run.
    let mut sums: BTreeMap<String, (u32, f64, f64, String)> = BTreeMap::new();
    for event in events.iter().filter(|event| event.cat == "Node") {
        let Some(name) = event.name.strip_suffix("_kernel_time") else {
            continue;
        };
        let operator = event.args.op_name.clone();
        let sum = sums
            .entry(name.to_owned())
            .or_insert((0, 0.0, 0.0, operator));
        sum.0 += 1;
        sum.1 += event.dur;
        sum.2 = event.args.macs();
    }
    let mut nodes: Vec<Node> = sums
        .into_iter()
        .map(|(name, (runs, time, macs, operator))| Node {
            name,
            operator,
            milliseconds: time / f64::from(runs) / 1e3,
            gmac: macs / 1e9,
        })
        .collect();
    nodes.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
    Ok(GraphCost {
        graph: graph.to_owned(),
        gmac: nodes.iter().map(|n| n.gmac).sum(),
        milliseconds: nodes.iter().map(|n| n.milliseconds).sum(),
        nodes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplications_are_counted_by_shape() {
        let text = r#"[
            {"cat": "Session", "name": "model_run", "dur": 9},
            {"cat": "Node", "name": "a_kernel_time", "dur": 2000, "args": {"op_name": "Conv",
             "input_type_shape": [{"float": [1, 3, 8, 8]}, {"float": [32, 3, 4, 4]}],
             "output_type_shape": [{"float": [1, 32, 2, 2]}]}},
            {"cat": "Node", "name": "a_kernel_time", "dur": 4000, "args": {"op_name": "Conv",
             "input_type_shape": [{"float": [1, 3, 8, 8]}, {"float": [32, 3, 4, 4]}],
             "output_type_shape": [{"float": [1, 32, 2, 2]}]}},
            {"cat": "Node", "name": "b_kernel_time", "dur": 500, "args": {"op_name": "FusedMatMul",
             "input_type_shape": [{"float": [32, 6]}, {"float": [10, 32]}],
             "output_type_shape": [{"float": [6, 10]}]}},
            {"cat": "Node", "name": "c_kernel_time", "dur": 7000, "args": {"op_name": "Relu",
             "input_type_shape": [{"float": [6, 10]}], "output_type_shape": [{"float": [6, 10]}]}}
        ]"#;
        let cost = parse("matte", text).unwrap();
        let found: Vec<_> = cost
            .nodes
            .iter()
            .map(|n| (n.name.as_str(), n.milliseconds, (n.gmac * 1e9).round()))
            .collect();
        assert_eq!(
            found,
            [
                ("c", 7.0, 0.0),
                ("a", 3.0, f64::from(32 * 2 * 2 * 3 * 16)),
                ("b", 0.5, f64::from(6 * 10 * 32))
            ]
        );
        assert!((cost.milliseconds - 10.5).abs() < 1e-9);
        assert!((cost.gmac * 1e9 - 8064.0).abs() < 1e-3, "{}", cost.gmac);
    }
}
