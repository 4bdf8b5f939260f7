//! Xception: Chollet, CVPR 2017, arXiv:1610.02357, figure 5.
//!
//! Depthwise-separable convolutions with residual connections: entry flow (blocks 2 to 4), middle flow (blocks 5 to
//! 12), exit flow (13 and 14). Names are Keras's; its four shortcut convolutions and their batch normalisations are
//! unnamed there and carry the counters of a fresh session.

use crate::graph::{Builder, Graph, NodeId, Op, Padding, Window};
use crate::head::Head;

const EPSILON: f32 = 1e-3;

pub(super) fn graph(name: &str, channels: usize, head: &Head) -> Graph {
    let mut b = Builder::new(channels);
    let mut x = b.conv("block1_conv1", 0, 32, [3, 3], 2, Padding::Valid);
    x = b.batch_norm("block1_conv1_bn", x, EPSILON, true);
    x = b.relu("block1_conv1_act", x);
    x = b.conv("block1_conv2", x, 64, [3, 3], 1, Padding::Valid);
    x = b.batch_norm("block1_conv2_bn", x, EPSILON, true);
    x = b.relu("block1_conv2_act", x);

    for (i, filters) in [128, 256, 728].into_iter().enumerate() {
        // Block 2 starts right after an activation, so it has none of its own.
        x = down(&mut b, i + 2, x, [filters, filters], i, i > 0);
    }
    for block in 5..=12 {
        let mut y = x;
        for i in 1..=3 {
            y = b.relu(format!("block{block}_sepconv{i}_act"), y);
            y = separable(&mut b, &format!("block{block}_sepconv{i}"), y, 728);
        }
        x = b.push(format!("block{block}_add"), Op::Add { scale: 1.0 }, &[x, y]);
    }
    x = down(&mut b, 13, x, [728, 1024], 3, true);
    for (i, filters) in [1536, 2048].into_iter().enumerate() {
        x = separable(&mut b, &format!("block14_sepconv{}", i + 1), x, filters);
        x = b.relu(format!("block14_sepconv{}_act", i + 1), x);
    }
    b.finish(name, x, head)
}

/// Two separable convolutions and a pooling beside a strided 1x1 shortcut.
fn down(b: &mut Builder, block: usize, x: NodeId, filters: [usize; 2], shortcut: usize, first_act: bool) -> NodeId {
    let counter = if shortcut == 0 { String::new() } else { format!("_{shortcut}") };
    let mut side = b.conv(format!("conv2d{counter}"), x, filters[1], [1, 1], 2, Padding::Same);
    side = b.batch_norm(format!("batch_normalization{counter}"), side, EPSILON, true);
    let mut y = x;
    for (i, filters) in filters.into_iter().enumerate() {
        let name = format!("block{block}_sepconv{}", i + 1);
        if i > 0 || first_act {
            y = b.relu(format!("{name}_act"), y);
        }
        y = separable(b, &name, y, filters);
    }
    let pool = Window { size: [3, 3], stride: 2, padding: Padding::Same };
    y = b.push(format!("block{block}_pool"), Op::MaxPool(pool), &[y]);
    b.push(format!("block{block}_add"), Op::Add { scale: 1.0 }, &[y, side])
}

/// Depthwise 3x3, pointwise 1x1, batch normalisation.
fn separable(b: &mut Builder, name: &str, x: NodeId, filters: usize) -> NodeId {
    let window = Window { size: [3, 3], stride: 1, padding: Padding::Same };
    let y = b.push(format!("{name}.depthwise"), Op::Depthwise { window }, &[x]);
    let y = b.conv(format!("{name}.pointwise"), y, filters, [1, 1], 1, Padding::Valid);
    b.batch_norm(format!("{name}_bn"), y, EPSILON, true)
}
