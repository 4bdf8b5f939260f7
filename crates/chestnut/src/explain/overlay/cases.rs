//! Which images of a label are worth looking at: the surest right ones, the surest wrong ones, the least sure ones.

use serde::{Deserialize, Serialize};

/// Numbers of images, most telling first. An image is in one list only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cases {
    /// Right and furthest from the threshold.
    pub confident_right: Vec<usize>,
    /// Wrong and furthest from the threshold: the first thing to look at, since many are errors of the labels.
    pub confident_wrong: Vec<usize>,
    /// Nearest to the threshold, right or wrong.
    pub uncertain: Vec<usize>,
}

/// Up to `k` cases of each kind. `truth` is `None` where the label is unknown; such images and those without a finite
/// probability are left out. An image is called positive at or above `threshold`.
///
/// How sure a call is: the distance of the probability from the threshold, as a share of the distance that is possible
/// on that side; so a threshold of 0.1 does not make all positives surer than any negative. Of equal ones the first
/// image comes first.
#[must_use]
pub fn select_cases(probabilities: &[f64], truth: &[Option<bool>], threshold: f64, k: usize) -> Cases {
    let sure = |p: f64| {
        let (distance, possible) =
            if p >= threshold { (p - threshold, 1.0 - threshold) } else { (threshold - p, threshold) };
        if possible > 0.0 { distance / possible } else { 0.0 }
    };
    // Surest first.
    let mut known: Vec<(usize, f64, bool)> = Vec::new();
    for (i, (&p, truth)) in probabilities.iter().zip(truth).enumerate() {
        if let (true, Some(truth)) = (p.is_finite(), truth) {
            known.push((i, sure(p), (p >= threshold) == *truth));
        }
    }
    known.sort_by(|a, b| b.1.total_cmp(&a.1));
    // At most a third for each kind of sure ones, so that a few images are spread over all three.
    let each = k.min(known.len().div_ceil(3));
    let first = |right: bool| -> Vec<usize> { known.iter().filter(|c| c.2 == right).map(|c| c.0).take(each).collect() };
    let (confident_right, confident_wrong) = (first(true), first(false));
    let is_free = |i: &usize| !confident_right.contains(i) && !confident_wrong.contains(i);
    let mut unsure = known.clone();
    unsure.sort_by(|a, b| a.1.total_cmp(&b.1));
    let uncertain = unsure.iter().map(|c| c.0).filter(is_free).take(k).collect();
    Cases { confident_right, confident_wrong, uncertain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surest_right_surest_wrong_and_least_sure() {
        let p = [0.99, 0.02, 0.97, 0.45, 0.55, 0.05, 0.80, f64::NAN, 0.9, 0.3];
        let truth = [1, 0, 0, 1, 1, 1, 1, 0, -1, 0].map(|t| (t >= 0).then_some(t == 1));
        let cases = select_cases(&p, &truth, 0.5, 2);
        assert_eq!(cases.confident_right, [0, 1]);
        assert_eq!(cases.confident_wrong, [2, 5]);
        assert_eq!(cases.uncertain, [3, 4]);
        // With a threshold of 0.1, 0.02 is surer than 0.55.
        let low = select_cases(&[0.55, 0.02], &[Some(true), Some(false)], 0.1, 1);
        assert_eq!((low.confident_right, low.uncertain), (vec![1], vec![0]));
    }

    #[test]
    fn odd_input_gives_fewer_cases() {
        assert_eq!(select_cases(&[], &[], 0.5, 3), Cases::default());
        assert_eq!(select_cases(&[0.4; 9], &[None; 9], 0.5, 3), Cases::default());
        for threshold in [0.0, 1.0] {
            let cases = select_cases(&[0.0, 1.0, 0.5, 0.5], &[Some(true); 4], threshold, 9);
            let mut all = [cases.confident_right, cases.confident_wrong, cases.uncertain].concat();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3], "each once");
        }
    }
}
