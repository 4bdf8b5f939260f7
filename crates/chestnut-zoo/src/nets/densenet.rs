//! DenseNet-121, -169 and -201: Huang, Liu, van der Maaten and Weinberger, CVPR 2017, arXiv:1608.06993, table 1.
//!
//! Every layer of a block sees the concatenation of all layers before it: BN, ReLU, 1x1 to 4k channels, BN, ReLU,
//! 3x3 to k = 32 channels. A transition halves the channels and the resolution. Names are Keras's.

use crate::graph::{Builder, Graph, NodeId, Op, Padding, Window};
use crate::head::Head;

const GROWTH: usize = 32;
const EPSILON: f32 = 1.001e-5;

pub(super) fn graph(name: &str, blocks: [usize; 4], channels: usize, head: &Head) -> Graph {
    let mut b = Builder::new(channels);
    let mut x = b.conv("conv1_conv", 0, 64, [7, 7], 2, Padding::Each(3));
    x = b.batch_norm("conv1_bn", x, EPSILON, true);
    x = b.relu("conv1_relu", x);
    // Keras pads with zeros, which never win: the values are those of a ReLU.
    x = b.push("pool1", Op::MaxPool(Window { size: [3, 3], stride: 2, padding: Padding::Each(1) }), &[x]);
    let mut width = 64;
    for (i, layers) in blocks.into_iter().enumerate() {
        let block = format!("conv{}", i + 2);
        for layer in 1..=layers {
            x = dense_layer(&mut b, &format!("{block}_block{layer}"), x);
            width += GROWTH;
        }
        if i + 1 < blocks.len() {
            width /= 2;
            x = transition(&mut b, &format!("pool{}", i + 2), x, width);
        }
    }
    x = b.batch_norm("bn", x, EPSILON, true);
    x = b.relu("relu", x);
    b.finish(name, x, head)
}

fn dense_layer(b: &mut Builder, name: &str, x: NodeId) -> NodeId {
    let mut y = b.batch_norm(format!("{name}_0_bn"), x, EPSILON, true);
    y = b.relu(format!("{name}_0_relu"), y);
    y = b.conv(format!("{name}_1_conv"), y, 4 * GROWTH, [1, 1], 1, Padding::Valid);
    y = b.batch_norm(format!("{name}_1_bn"), y, EPSILON, true);
    y = b.relu(format!("{name}_1_relu"), y);
    y = b.conv(format!("{name}_2_conv"), y, GROWTH, [3, 3], 1, Padding::Same);
    b.push(format!("{name}_concat"), Op::Concat, &[x, y])
}

fn transition(b: &mut Builder, name: &str, x: NodeId, filters: usize) -> NodeId {
    let mut y = b.batch_norm(format!("{name}_bn"), x, EPSILON, true);
    y = b.relu(format!("{name}_relu"), y);
    y = b.conv(format!("{name}_conv"), y, filters, [1, 1], 1, Padding::Valid);
    b.push(format!("{name}_pool"), Op::AvgPool(Window { size: [2, 2], stride: 2, padding: Padding::Valid }), &[y])
}
