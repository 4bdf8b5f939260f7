//! Where every value lies for one batch and input size.
//!
//! Values that are not needed at the same time share memory: each gets the lowest offset at which it overlaps nobody
//! who lives at the same time, largest first. Concatenated values lie inside their Concat.

use crate::execute;
use crate::plan::{Plan, Work, blocks};
use crate::simd::LANES;
use chestnut_zoo::graph::{Graph, InputTooSmall, NodeId, Shape};

/// A range of floats in the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// The memory plan for one batch and input size.
pub(crate) struct Layout {
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) shapes: Vec<Shape>,
    /// Place of each node's value; empty for nodes that are never materialised.
    pub(crate) values: Vec<Place>,
    /// Memory that all workers share during one step.
    pub(crate) shared: Vec<Place>,
    /// Floats in the arena.
    pub(crate) arena: usize,
    /// Floats of each worker's own memory.
    pub(crate) scratch: usize,
}

impl Layout {
    pub(crate) fn new(
        graph: &Graph,
        plan: &Plan,
        batch: usize,
        (height, width): (usize, usize),
        threads: usize,
    ) -> Result<Self, InputTooSmall> {
        let shapes = graph.shapes(height, width)?;
        let size = |id: NodeId| {
            let s = shapes[id];
            blocks(s.channels) * batch * s.height * s.width * LANES
        };
        // Life of each root value in steps: from its first writer to its last reader.
        let root = |id: NodeId| plan.home[id].map_or(id, |(root, _)| root);
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; graph.nodes.len()];
        let mut touch = |id: NodeId, step: usize| {
            let life = lives[root(id)].get_or_insert((step, step));
            *life = (life.0.min(step), life.1.max(step));
        };
        for (i, step) in plan.steps.iter().enumerate() {
            touch(step.output, i);
            step.inputs().into_iter().filter(|&id| id != 0).for_each(|id| touch(id, i));
        }
        for tap in [Some(graph.feature_map), Some(graph.embedding), graph.output].into_iter().flatten() {
            touch(tap, plan.steps.len());
        }

        let mut requests: Vec<Request> = lives
            .iter()
            .enumerate()
            .filter_map(|(id, life)| life.map(|life| Request { owner: Owner::Node(id), life, len: size(id) }))
            .collect();
        let mut scratch = 0;
        for (i, step) in plan.steps.iter().enumerate() {
            if let Work::Convolution(c) = &step.work {
                let need = execute::memory(c, shapes[c.input], shapes[step.output], batch, threads);
                scratch = scratch.max(need.scratch);
                if need.shared > 0 {
                    requests.push(Request { owner: Owner::Step(i), life: (i, i), len: need.shared });
                }
            }
        }
        let (starts, arena) = place(&requests);
        let mut values = vec![Place::default(); graph.nodes.len()];
        let mut shared = vec![Place::default(); plan.steps.len()];
        for (request, start) in requests.iter().zip(starts) {
            let at = Place { start, len: request.len };
            match request.owner {
                Owner::Node(id) => values[id] = at,
                Owner::Step(i) => shared[i] = at,
            }
        }
        for id in 0..graph.nodes.len() {
            if let Some((root, block)) = plan.home[id].filter(|&(root, _)| root != id) {
                let pixels = batch * shapes[root].height * shapes[root].width * LANES;
                values[id] = Place { start: values[root].start + block * pixels, len: size(id) };
            }
        }
        Ok(Self { batch, height, width, shapes, values, shared, arena, scratch })
    }
}

enum Owner {
    Node(NodeId),
    Step(usize),
}

struct Request {
    owner: Owner,
    /// First and last step.
    life: (usize, usize),
    len: usize,
}

/// Start of each request, and the total; starts are multiples of a cache line.
fn place(requests: &[Request]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].len), requests[i].life));
    let mut starts = vec![0; requests.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for i in order {
        let r = &requests[i];
        let mut neighbours: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&j| requests[j].life.0 <= r.life.1 && r.life.0 <= requests[j].life.1)
            .map(|&j| (starts[j], starts[j] + requests[j].len))
            .collect();
        neighbours.sort_unstable();
        let mut start = 0;
        for (from, to) in neighbours {
            if start + r.len <= from {
                break;
            }
            start = start.max(to.next_multiple_of(LANES));
        }
        starts[i] = start;
        total = total.max(start + r.len);
        placed.push(i);
    }
    (starts, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_live_together_do_not_overlap() {
        let request = |life, len| Request { owner: Owner::Node(0), life, len };
        let requests = [request((0, 1), 64), request((1, 2), 32), request((2, 3), 64), request((0, 3), 16)];
        let (starts, total) = place(&requests);
        for i in 0..4 {
            for j in 0..i {
                let (a, b) = (&requests[i], &requests[j]);
                let together = a.life.0 <= b.life.1 && b.life.0 <= a.life.1;
                let apart = starts[i] + a.len <= starts[j] || starts[j] + b.len <= starts[i];
                assert!(!together || apart, "{i} and {j}");
            }
        }
        assert!(total < 64 + 32 + 64 + 16, "memory is shared");
    }
}
