//! stub
/// t
pub fn terminal(c: &super::Comparison) -> String {
    c.methods
        .iter()
        .map(|m| {
            format!(
                "{} {} {:?} {:?} {:?}\n",
                m.approach,
                m.source,
                m.labels.iter().map(|l| l.auc.map(|a| (a * 1000.0).round() / 1000.0)).collect::<Vec<_>>(),
                m.mean_auc,
                m.spread
            )
        })
        .collect()
}
