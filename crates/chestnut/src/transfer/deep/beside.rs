//! Whether what `finetune` taught can stand beside the other approaches of a comparison, and what to say where not.
//!
//! All of a table must be about the same images, split alike and looked at alike. Where that fails, the message names
//! what to run or which networks to compare.

use super::record::key;
use crate::cohort::Cohort;
use crate::compare::{Rows, common, label_table, parts_of};
use crate::embed::{Network, unlike_plain};
use crate::error::{Error, Result};
use crate::study::Study;

/// Images that a message names.
const SHOWN: usize = 3;

/// Refuses networks whose embeddings are not those of one look in f32: teaching begins with a head on these, and beside
/// means over several looks a table would show more than the teaching.
///
/// # Errors
/// [`Error::Network`].
pub(super) fn one_look(study: &Study, networks: &[Network]) -> Result<()> {
    let Some((network, option)) = unlike_plain(study, networks) else { return Ok(()) };
    let problem = format!(
        "its embeddings were made with --{option}, and finetune teaches by one look in f32; run embed without \
         --{option}"
    );
    Err(Error::Network { network: network.name.clone(), problem })
}

/// What to say of a record that is of all images which its network has embedded, if this comparison has fewer since
/// another network lacks some: that makes another split, and teaching again would not mend it.
pub(super) fn lacking(study: &Study, network: &Network, cohort: &Cohort, found: &str) -> Result<Option<String>> {
    let (own, _) = common(study, &study.cohort()?, std::slice::from_ref(network))?;
    let is_there = |id: &str| cohort.images.binary_search_by(|i| i.id.as_str().cmp(id)).is_ok();
    let lacking: Vec<&str> = own.images.iter().map(|i| i.id.as_str()).filter(|id| !is_there(id)).collect();
    if lacking.is_empty() {
        return Ok(None);
    }
    let [train, validation, predict] = parts_of(&own, &study.settings.split)?;
    let rows = Rows { train, validation, predict };
    let (names, labels) = label_table(&own, &rows.development())?;
    let parts = [&rows.train[..], &rows.validation[..], &rows.predict[..]];
    if key(study, network, &own, parts, &names, &labels) != found {
        return Ok(None);
    }
    let (name, count) = (&network.name, lacking.len());
    let more = if count > SHOWN { ", ..." } else { "" };
    let shown = lacking[..count.min(SHOWN)].join(", ");
    Ok(Some(format!(
        "was made from all images that {name} has embedded, and another network of this comparison lacks {count} of \
         them ({shown}{more}), which makes another split; embed these with all networks, or compare with --net {name} \
         alone"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::depths;
    use super::super::record::file_name;
    use super::*;
    use crate::cohort::{BlankRules, LabelSet};
    use crate::embed::{EmbedOptions, made_with};
    use crate::image::recipe::Recipe;
    use crate::image::variants::Tta;
    use crate::study::{Settings, SplitSettings};
    use chestnut_train::Depth;
    use std::path::{Path, PathBuf};

    #[test]
    fn what_is_left_out_is_said_with_the_way_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = Settings {
            view: None,
            images: PathBuf::new(),
            blank: BlankRules::default(),
            recipe: Recipe::default(),
            split: SplitSettings::default(),
            labels: LabelSet::chexpert(),
        };
        let study = Study { root: folder.path().to_path_buf(), settings };
        let networks = ["seeded:vgg16", "seeded:vgg19"].map(|n| Network::find(Path::new(""), n).expect("a formula"));
        let teach = |network: &Network| study.write(&file_name(network, Depth::Block), b"{}").expect("written");
        assert_eq!(depths(&study, &networks), (vec![], vec![]));
        teach(&networks[0]);
        let (all, left_out) = depths(&study, &networks);
        assert!(all.is_empty() && left_out.len() == 1, "{left_out:?}");
        for said in ["last block is left out", "--net seeded:vgg19 --depth block", "compare with --net seeded:vgg16"] {
            assert!(left_out[0].contains(said), "{left_out:?}");
        }
        assert_eq!(depths(&study, &networks[..1]), (vec![Depth::Block], vec![]));
        teach(&networks[1]);
        assert_eq!(depths(&study, &networks), (vec![Depth::Block], vec![]));
        made_with(&study, &networks[0], EmbedOptions { tta: Tta::Five, ..EmbedOptions::default() });
        let (all, left_out) = depths(&study, &networks);
        assert!(all.is_empty() && left_out[0].contains("run embed without --tta"), "{left_out:?}");
    }
}
