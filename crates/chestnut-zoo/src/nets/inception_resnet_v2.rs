//! Inception-ResNet-v2: Szegedy, Ioffe, Vanhoucke and Alemi, AAAI 2017, arXiv:1602.07261, figures 15 to 20.
//!
//! Inception branches whose sum is scaled down before it joins the residual. Branch convolutions are unnamed in Keras
//! and carry the counters of a fresh session; their batch normalisation has no gamma.

use crate::graph::{Builder, Graph, NodeId, Op, Padding, Window};
use crate::head::Head;
use Padding::{Same, Valid};

const EPSILON: f32 = 1e-3;

/// A branch: (filters, kernel) in order.
type Branch<'a> = &'a [(usize, [usize; 2])];

pub(super) fn graph(name: &str, channels: usize, head: &Head) -> Graph {
    let mut n = Net { b: Builder::new(channels), convolutions: 0 };
    // Stem.
    let mut x = n.conv(0, 32, [3, 3], 2, Valid);
    x = n.conv(x, 32, [3, 3], 1, Valid);
    x = n.conv(x, 64, [3, 3], 1, Same);
    x = n.max_pool(x);
    x = n.conv(x, 80, [1, 1], 1, Valid);
    x = n.conv(x, 192, [3, 3], 1, Valid);
    x = n.max_pool(x);

    // Mixed 5b: Inception-A.
    let mut parts =
        n.branches(x, &[&[(96, [1, 1])], &[(48, [1, 1]), (64, [5, 5])], &[(64, [1, 1]), (96, [3, 3]), (96, [3, 3])]]);
    let pool = n.b.push("mixed_5b_pool", Op::AvgPool(Window { size: [3, 3], stride: 1, padding: Same }), &[x]);
    parts.push(n.conv(pool, 64, [1, 1], 1, Same));
    x = n.b.push("mixed_5b", Op::Concat, &parts);

    for i in 1..=10 {
        let branches: [Branch; 3] =
            [&[(32, [1, 1])], &[(32, [1, 1]), (32, [3, 3])], &[(32, [1, 1]), (48, [3, 3]), (64, [3, 3])]];
        x = n.residual(&format!("block35_{i}"), x, 320, &branches, 0.17, true);
    }

    // Mixed 6a: Reduction-A.
    let mut parts = vec![n.conv(x, 384, [3, 3], 2, Valid)];
    let y = n.branch(x, &[(256, [1, 1]), (256, [3, 3])]);
    parts.push(n.conv(y, 384, [3, 3], 2, Valid));
    parts.push(n.max_pool(x));
    x = n.b.push("mixed_6a", Op::Concat, &parts);

    for i in 1..=20 {
        let branches: [Branch; 2] = [&[(192, [1, 1])], &[(128, [1, 1]), (160, [1, 7]), (192, [7, 1])]];
        x = n.residual(&format!("block17_{i}"), x, 1088, &branches, 0.1, true);
    }

    // Mixed 7a: Reduction-B.
    let mut parts = Vec::new();
    for (branch, last) in
        [(&[(256, [1, 1])][..], 384), (&[(256, [1, 1])][..], 288), (&[(256, [1, 1]), (288, [3, 3])][..], 320)]
    {
        let y = n.branch(x, branch);
        parts.push(n.conv(y, last, [3, 3], 2, Valid));
    }
    parts.push(n.max_pool(x));
    x = n.b.push("mixed_7a", Op::Concat, &parts);

    for i in 1..=10 {
        let branches: [Branch; 2] = [&[(192, [1, 1])], &[(192, [1, 1]), (224, [1, 3]), (256, [3, 1])]];
        // The last block is neither scaled down nor rectified.
        let last = i == 10;
        x = n.residual(&format!("block8_{i}"), x, 2080, &branches, if last { 1.0 } else { 0.2 }, !last);
    }
    x = n.b.conv("conv_7b", x, 1536, [1, 1], 1, Same);
    x = n.b.batch_norm("conv_7b_bn", x, EPSILON, false);
    x = n.b.relu("conv_7b_ac", x);
    n.b.finish(name, x, head)
}

struct Net {
    b: Builder,
    convolutions: usize,
}

impl Net {
    /// Convolution, batch normalisation, ReLU, under the next counter.
    fn conv(&mut self, x: NodeId, filters: usize, size: [usize; 2], stride: usize, padding: Padding) -> NodeId {
        let counter = if self.convolutions == 0 { String::new() } else { format!("_{}", self.convolutions) };
        self.convolutions += 1;
        let y = self.b.conv(format!("conv2d{counter}"), x, filters, size, stride, padding);
        let y = self.b.batch_norm(format!("batch_normalization{counter}"), y, EPSILON, false);
        self.b.relu(format!("activation{counter}"), y)
    }

    fn max_pool(&mut self, x: NodeId) -> NodeId {
        let name = format!("max_pool_after_{}", self.convolutions);
        self.b.push(name, Op::MaxPool(Window { size: [3, 3], stride: 2, padding: Valid }), &[x])
    }

    fn branch(&mut self, x: NodeId, layers: Branch) -> NodeId {
        layers.iter().fold(x, |y, &(filters, size)| self.conv(y, filters, size, 1, Same))
    }

    fn branches(&mut self, x: NodeId, branches: &[Branch]) -> Vec<NodeId> {
        branches.iter().map(|layers| self.branch(x, layers)).collect()
    }

    /// x + scale * conv(branches of x), then ReLU unless it is the last block.
    fn residual(
        &mut self,
        name: &str,
        x: NodeId,
        filters: usize,
        branches: &[Branch],
        scale: f32,
        rectify: bool,
    ) -> NodeId {
        let parts = self.branches(x, branches);
        let mixed = self.b.push(format!("{name}_mixed"), Op::Concat, &parts);
        let window = Window { size: [1, 1], stride: 1, padding: Same };
        let up = self.b.push(format!("{name}_conv"), Op::Conv { window, filters, bias: true }, &[mixed]);
        let sum = self.b.push(format!("{name}_add"), Op::Add { scale }, &[x, up]);
        if rectify { self.b.relu(format!("{name}_ac"), sum) } else { sum }
    }
}
