//! The pixels of an outlined region as runs: a study's masks at full size would not fit into memory as pictures.

/// Pixels of an image, numbered row by row, as runs `[start, end)` that ascend and neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs(Vec<[u32; 2]>);

impl Runs {
    /// From runs in any order, overlapping or empty.
    pub(super) fn new(mut runs: Vec<[u32; 2]>) -> Self {
        runs.retain(|run| run[0] < run[1]);
        runs.sort_unstable();
        let mut joined: Vec<[u32; 2]> = Vec::with_capacity(runs.len());
        for run in runs {
            match joined.last_mut() {
                Some(last) if run[0] <= last[1] => last[1] = last[1].max(run[1]),
                _ => joined.push(run),
            }
        }
        Self(joined)
    }

    /// The pixels that are `true`.
    pub(super) fn from_inside(inside: &[bool]) -> Self {
        let mut runs: Vec<[u32; 2]> = Vec::new();
        for (at, _) in inside.iter().enumerate().filter(|(_, is_inside)| **is_inside) {
            let at = at as u32;
            match runs.last_mut() {
                Some(last) if last[1] == at => last[1] = at + 1,
                _ => runs.push([at, at + 1]),
            }
        }
        Self(runs)
    }

    /// Pixels of any of them.
    pub(super) fn of_all(parts: Vec<Self>) -> Self {
        Self::new(parts.into_iter().flat_map(|part| part.0).collect())
    }

    /// Pixels of either.
    pub(super) fn union(self, other: Self) -> Self {
        let mut runs = self.0;
        runs.extend(other.0);
        Self::new(runs)
    }

    /// Number of pixels.
    pub(super) fn area(&self) -> usize {
        self.0.iter().map(|run| (run[1] - run[0]) as usize).sum()
    }

    /// Number of runs.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// One value per pixel of an image of `pixels`; runs beyond it are cut.
    pub(super) fn inside(&self, pixels: usize) -> Vec<bool> {
        let mut inside = vec![false; pixels];
        for run in &self.0 {
            let end = (run[1] as usize).min(pixels);
            inside[(run[0] as usize).min(end)..end].fill(true);
        }
        inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    #[test]
    fn runs_are_the_pixels_they_came_from() {
        let mut draw = Stream::keyed(1, "runs");
        for _ in 0..50 {
            let pixels = 1 + draw.below(90);
            let (a, b): (Vec<bool>, Vec<bool>) =
                (0..pixels).map(|_| (draw.uniform() < 0.4, draw.uniform() < 0.2)).unzip();
            let (runs, other) = (Runs::from_inside(&a), Runs::from_inside(&b));
            assert_eq!(runs.inside(pixels), a);
            assert_eq!(runs.area(), a.iter().filter(|&&v| v).count());
            let either: Vec<bool> = a.iter().zip(&b).map(|(&x, &y)| x || y).collect();
            assert_eq!(runs.union(other), Runs::from_inside(&either));
        }
        assert_eq!(Runs::new(vec![[4, 6], [2, 2], [0, 3], [3, 4]]), Runs(vec![[0, 6]]));
    }
}
