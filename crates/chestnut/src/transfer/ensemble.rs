//! Seven networks, one answer: simple and entropy-weighted averaging (paper Eq. 1 and 2), and the vote that the
//! authors' earlier code tried (protocol 5).

use super::Predictions;
use serde::{Deserialize, Serialize};

/// How the networks' probabilities are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ensemble {
    /// Mean over the networks (Eq. 1).
    Average,
    /// Mean weighted by 1 - H2(p), the certainty of each network about this image and label, with weights that sum to
    /// 1: what the authors' code computes and their tables show.
    Entropy,
    /// Eq. 2 as printed, without the denominator: not a probability and not monotone; for comparison only.
    EntropyLiteral,
    /// 1 where more than half of the networks say at least one half, else 0: an answer, not a probability.
    MajorityVote,
}

impl Ensemble {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Average, Self::Entropy, Self::EntropyLiteral, Self::MajorityVote];

    /// Name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Average => "Average",
            Self::Entropy => "Entropy",
            Self::EntropyLiteral => "Entropy (Eq. 2 as printed)",
            Self::MajorityVote => "Majority vote",
        }
    }

    /// Combines members that predict the same images and labels.
    ///
    /// # Panics
    /// If there is no member or they differ in length.
    #[must_use]
    pub fn combine(self, members: &[Predictions]) -> Predictions {
        assert!(!members.is_empty() && members.iter().all(|m| m.probabilities.len() == members[0].probabilities.len()));
        let probabilities =
            (0..members[0].probabilities.len()).map(|i| self.of(members.iter().map(|m| m.probabilities[i]))).collect();
        Predictions { approach: members[0].approach.clone(), source: self.name().to_owned(), probabilities }
    }

    /// Combines one probability of each network.
    fn of(self, p: impl Iterator<Item = f64> + Clone) -> f64 {
        let count = p.clone().count() as f64;
        let certain = |p: f64| 1.0 - binary_entropy(p);
        match self {
            Self::Average => p.sum::<f64>() / count,
            Self::EntropyLiteral => p.map(|p| certain(p) * p).sum(),
            Self::MajorityVote => {
                let votes = p.filter(|&p| p >= 0.5).count() as f64;
                if 2.0 * votes > count { 1.0 } else { 0.0 }
            }
            Self::Entropy => {
                let total: f64 = p.clone().map(certain).sum();
                // All at 0.5: nobody is certain of anything, so nobody weighs more.
                if total > 0.0 {
                    p.clone().map(|p| certain(p) * p).sum::<f64>() / total
                } else {
                    p.sum::<f64>() / count
                }
            }
        }
    }
}

/// Entropy of a probability in bits, 0 to 1.
fn binary_entropy(p: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    term(p) + term(1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    fn combine(kind: Ensemble, p: &[f64]) -> f64 {
        let members: Vec<_> = p
            .iter()
            .map(|&p| Predictions { approach: String::new(), source: String::new(), probabilities: vec![p] })
            .collect();
        kind.combine(&members).probabilities[0]
    }

    #[test]
    fn ensembles_stay_between_their_members() {
        let mut draw = Stream::keyed(2, "ensemble");
        for _ in 0..500 {
            let p: Vec<f64> = (0..7).map(|_| draw.uniform()).collect();
            let (low, high) = p.iter().fold((1.0_f64, 0.0_f64), |(l, h), &v| (l.min(v), h.max(v)));
            for kind in [Ensemble::Average, Ensemble::Entropy] {
                let c = combine(kind, &p);
                assert!((low - 1e-12..=high + 1e-12).contains(&c), "{kind:?} {p:?} {c}");
            }
        }
    }

    #[test]
    fn certainty_weighs_and_nobody_certain_is_guarded() {
        assert_eq!(combine(Ensemble::Entropy, &[0.5, 0.5]), 0.5);
        assert_eq!(combine(Ensemble::Entropy, &[0.5, 1.0]), 1.0);
        assert!(combine(Ensemble::Entropy, &[0.4, 0.95]) > combine(Ensemble::Average, &[0.4, 0.95]));
        // More than half: 4 of 7, 2 of 3, and not 1 of 2.
        let vote = |p: &[f64]| combine(Ensemble::MajorityVote, p);
        assert_eq!(
            [vote(&[0.5, 0.9, 0.1]), vote(&[0.4, 0.9, 0.1]), vote(&[0.9, 0.1]), vote(&[0.5])],
            [1.0, 0.0, 0.0, 1.0]
        );
        // The printed formula is not monotone (protocol 5).
        let literal = |p| combine(Ensemble::EntropyLiteral, &[p]);
        assert!((literal(0.15) - 0.058).abs() < 0.001 && literal(0.5) == 0.0 && (literal(0.8) - 0.222).abs() < 0.001);
    }
}
