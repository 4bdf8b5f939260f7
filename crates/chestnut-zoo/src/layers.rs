//! What a network consists of, as a table: one row per layer, or per resolution.

use crate::graph::{Graph, InputTooSmall, Op, Shape};

/// One layer of a network for an input of some size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Name of the layer.
    pub name: String,
    /// What it computes, such as `conv 3x3 /2` or `dense sigmoid`.
    pub kind: String,
    /// Rows, columns and channels of its output.
    pub output: Shape,
    /// Values of its weights.
    pub parameters: usize,
    /// Multiply-adds for one image; convolutions and Dense layers only.
    pub multiply_adds: u64,
}

/// All layers whose outputs have one size, such as 56 x 56.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Rows of the outputs.
    pub height: usize,
    /// Columns of the outputs.
    pub width: usize,
    /// Channels of the last layer.
    pub channels: usize,
    /// Layers with weights.
    pub layers: usize,
    /// Name of the first layer.
    pub first: String,
    /// Name of the last layer.
    pub last: String,
    /// Sum over the layers.
    pub parameters: usize,
    /// Sum over the layers, for one image.
    pub multiply_adds: u64,
}

/// The layers of `graph` for an input of `height` x `width` pixels, in graph order, the input left out.
///
/// # Errors
/// [`InputTooSmall`], as [`Graph::shapes`].
pub fn layers(graph: &Graph, height: usize, width: usize) -> Result<Vec<Layer>, InputTooSmall> {
    let shapes = graph.shapes(height, width)?;
    let mut parameters = vec![0; graph.nodes.len()];
    let mut node = 0;
    // Tensors come in graph order and are named after their node.
    for (name, shape) in graph.tensors() {
        let owner = name.rsplit_once('.').map_or(name.as_str(), |(owner, _)| owner);
        node += graph.nodes[node..].iter().position(|n| n.name == owner).unwrap_or(0);
        parameters[node] += shape.iter().product::<usize>();
    }
    let rows = graph.nodes.iter().enumerate().skip(1).map(|(id, n)| Layer {
        name: n.name.clone(),
        kind: kind(&n.op),
        output: shapes[id],
        parameters: parameters[id],
        multiply_adds: graph.node_multiply_adds(id, &shapes),
    });
    Ok(rows.collect())
}

/// Layers by the size of their outputs, in order of first appearance.
#[must_use]
pub fn stages(layers: &[Layer]) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for layer in layers {
        let Shape { height, width, channels } = layer.output;
        let place = stages.iter().position(|s| (s.height, s.width) == (height, width)).unwrap_or_else(|| {
            let (first, last) = (layer.name.clone(), String::new());
            stages.push(Stage { height, width, channels, layers: 0, first, last, parameters: 0, multiply_adds: 0 });
            stages.len() - 1
        });
        let stage = &mut stages[place];
        stage.channels = channels;
        stage.last.clone_from(&layer.name);
        stage.layers += usize::from(layer.parameters > 0);
        stage.parameters += layer.parameters;
        stage.multiply_adds += layer.multiply_adds;
    }
    stages
}

fn kind(op: &Op) -> String {
    let window = |what: &str, size: [usize; 2], stride: usize| {
        let step = if stride > 1 { format!(" /{stride}") } else { String::new() };
        format!("{what} {}x{}{step}", size[0], size[1])
    };
    match op {
        Op::Input { .. } => "input".into(),
        Op::Conv { window: w, .. } => window("conv", w.size, w.stride),
        Op::Depthwise { window: w } => window("depthwise", w.size, w.stride),
        Op::BatchNorm { .. } => "batch norm".into(),
        Op::Relu => "relu".into(),
        Op::MaxPool(w) => window("max pool", w.size, w.stride),
        Op::AvgPool(w) => window("mean pool", w.size, w.stride),
        Op::GlobalAvgPool => "global mean".into(),
        Op::Add { scale } if *scale == 1.0 => "add".into(),
        Op::Add { scale } => format!("add {scale} x"),
        Op::Concat => "concat".into(),
        Op::Dense { activation, .. } => format!("dense {}", format!("{activation:?}").to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, Head};

    #[test]
    fn nothing_is_lost_between_graph_layers_and_stages() {
        for a in Architecture::ALL {
            let graph = a.graph(&Head::chexpert());
            let layers = layers(&graph, 224, 224).expect("224 fits");
            assert_eq!(layers.len(), graph.nodes.len() - 1);
            let all: usize = graph.tensors().iter().map(|(_, s)| s.iter().product::<usize>()).sum();
            let work = graph.multiply_adds(224, 224).expect("224 fits");
            assert_eq!(layers.iter().map(|l| l.parameters).sum::<usize>(), all, "{a}");
            assert_eq!(layers.iter().map(|l| l.multiply_adds).sum::<u64>(), work, "{a}");
            let stages = stages(&layers);
            assert_eq!(stages.iter().map(|s| s.parameters).sum::<usize>(), all, "{a}");
            assert_eq!(stages.iter().map(|s| s.multiply_adds).sum::<u64>(), work, "{a}");
            assert!(stages.len() <= 13, "{a}: {} rows are not a short table", stages.len());
            for (layer, node) in layers.iter().zip(&graph.nodes[1..]) {
                let weighted =
                    matches!(node.op, Op::Conv { .. } | Op::Depthwise { .. } | Op::BatchNorm { .. } | Op::Dense { .. });
                assert_eq!(layer.parameters > 0, weighted, "{a}: {}", layer.name);
            }
        }
    }

    #[test]
    fn vgg16_is_table_1_of_its_paper() {
        let layers = layers(&Architecture::Vgg16.graph(&Head::none()), 224, 224).expect("224 fits");
        let second = layers.iter().find(|l| l.name == "block1_conv2").expect("a layer");
        assert_eq!(
            (second.kind.as_str(), second.parameters, second.multiply_adds),
            ("conv 3x3", 64 * 64 * 9 + 64, 224 * 224 * 64 * 64 * 9)
        );
        let sizes: Vec<_> = stages(&layers).iter().map(|s| (s.height, s.channels, s.layers)).collect();
        assert_eq!(
            sizes,
            [(224, 64, 2), (112, 128, 2), (56, 256, 3), (28, 512, 3), (14, 512, 3), (7, 512, 0), (1, 512, 0)]
        );
    }
}
