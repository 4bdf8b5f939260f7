//! VGG-16 and VGG-19: Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556, table 1, columns D and E.
//!
//! Stacks of 3x3 convolutions with bias and ReLU, halved by 2x2 maximum pooling. The fully connected layers of the
//! original are not part of the paper's networks.

use crate::graph::{Builder, Graph, Op, Padding, Window};
use crate::head::Head;

const FILTERS: [usize; 5] = [64, 128, 256, 512, 512];

pub(super) fn graph(name: &str, convolutions: [usize; 5], channels: usize, head: &Head) -> Graph {
    let mut b = Builder::new(channels);
    let mut x = 0;
    for (block, (count, filters)) in convolutions.into_iter().zip(FILTERS).enumerate() {
        let block = block + 1;
        for i in 1..=count {
            let window = Window { size: [3, 3], stride: 1, padding: Padding::Same };
            x = b.push(format!("block{block}_conv{i}"), Op::Conv { window, filters, bias: true }, &[x]);
            x = b.relu(format!("block{block}_relu{i}"), x);
        }
        let pool = Window { size: [2, 2], stride: 2, padding: Padding::Valid };
        x = b.push(format!("block{block}_pool"), Op::MaxPool(pool), &[x]);
    }
    b.finish(name, x, head)
}
