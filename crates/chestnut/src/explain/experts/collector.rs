//! Gathers what a reader finds: regions by image and label, and one message for each thing that does not fit.

use std::collections::BTreeMap;

use super::known::Match;
use super::{ExpertRegion, Known, MAX_MESSAGES, MAX_RUNS, Read, Runs};

/// Regions and messages while a file is read.
pub(super) struct Collector<'a> {
    known: &'a Known,
    /// By image and label.
    found: BTreeMap<(usize, usize), (Runs, usize)>,
    runs: usize,
    problems: Messages,
    notes: Messages,
    /// Names that fit nothing, with the number of items.
    unknown_images: BTreeMap<String, usize>,
    shared_names: BTreeMap<String, usize>,
    unknown_labels: BTreeMap<String, usize>,
    /// Items by label that outline nothing and say so.
    absent: BTreeMap<usize, usize>,
}

/// At most [`MAX_MESSAGES`], and how many more there were.
#[derive(Default)]
struct Messages {
    kept: Vec<String>,
    more: usize,
}

impl Messages {
    fn push(&mut self, message: String) {
        if self.kept.len() < MAX_MESSAGES { self.kept.push(message) } else { self.more += 1 }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.kept.push(format!("{} more such messages are not shown", self.more));
        }
        self.kept
    }
}

impl<'a> Collector<'a> {
    pub(super) fn new(known: &'a Known) -> Self {
        Self {
            known,
            found: BTreeMap::new(),
            runs: 0,
            problems: Messages::default(),
            notes: Messages::default(),
            unknown_images: BTreeMap::new(),
            shared_names: BTreeMap::new(),
            unknown_labels: BTreeMap::new(),
            absent: BTreeMap::new(),
        }
    }

    pub(super) fn known(&self) -> &'a Known {
        self.known
    }

    pub(super) fn problem(&mut self, message: String) {
        self.problems.push(message);
    }

    pub(super) fn note(&mut self, message: String) {
        self.notes.push(message);
    }

    /// The image of that name; names that fit nothing are counted.
    pub(super) fn image(&mut self, name: &str) -> Option<usize> {
        match self.known.image(name) {
            Match::One(image) => return Some(image),
            Match::Several => count(&mut self.shared_names, name),
            Match::None => count(&mut self.unknown_images, name),
        }
        None
    }

    /// The label of that name; names that fit nothing are counted.
    pub(super) fn label(&mut self, name: &str) -> Option<usize> {
        let label = self.known.label(name);
        if label.is_none() {
            count(&mut self.unknown_labels, name);
        }
        label
    }

    /// Image and label; an item that fits neither is counted for both.
    pub(super) fn target(&mut self, image: &str, label: &str) -> Option<(usize, usize)> {
        let (image, label) = (self.image(image), self.label(label));
        Some((image?, label?))
    }

    /// Columns and rows of an image.
    pub(super) fn size(&self, image: usize) -> (usize, usize) {
        let image = &self.known.images[image];
        (image.width, image.height)
    }

    /// Whether an item is drawn on the image's own size; if not, both sizes are said.
    pub(super) fn fits(&mut self, place: &str, image: usize, width: usize, height: usize) -> bool {
        let own = &self.known.images[image];
        if (own.width, own.height) == (width, height) {
            return true;
        }
        self.problem(format!(
            "{place}: the mask is {width} x {height} pixels and the image {:?} is {} x {}; draw it on the original \
             image, or resize it without cropping",
            own.id, own.width, own.height
        ));
        false
    }

    /// An item that says that the label is not outlined on an image.
    pub(super) fn absent(&mut self, label: usize) {
        *self.absent.entry(label).or_default() += 1;
    }

    /// One more part of the region of an image and a label; `place` stands in messages.
    pub(super) fn add(&mut self, place: &str, (image, label): (usize, usize), runs: Runs) {
        if runs.area() == 0 {
            self.problem(format!(
                "{place}: it outlines no pixel of {:?} for {:?}; remove it if nothing is to be seen there",
                self.known.images[image].id, self.known.labels[label]
            ));
        } else if self.runs + runs.count() > MAX_RUNS {
            self.problem(format!("{place}: there are more outlines than fit into memory; give fewer images at a time"));
        } else {
            let (all, parts) = self.found.remove(&(image, label)).unwrap_or_default();
            self.runs -= all.count();
            let all = all.union(runs);
            self.runs += all.count();
            self.found.insert((image, label), (all, parts + 1));
        }
    }

    pub(super) fn finish(mut self) -> Read {
        let items = |n: usize| if n == 1 { "1 item".to_owned() } else { format!("{n} items") };
        let labels = self.known.labels.join(", ");
        for (name, &n) in &self.unknown_labels {
            let name = quote(name);
            self.problems.push(format!(
                "{}: the study has no label {name}; its labels are {labels}. Say which of them it means, or leave it \
                 out",
                items(n)
            ));
        }
        for (name, &n) in &self.unknown_images {
            self.problems.push(format!("{}: the image {} is not in the study", items(n), quote(name)));
        }
        for (name, &n) in &self.shared_names {
            let name = quote(name);
            self.problems
                .push(format!("{}: several images of the study are called {name}; give their paths", items(n)));
        }
        for (&label, &n) in &self.absent {
            let label = &self.known.labels[label];
            self.notes.push(format!("{} of {label:?} say that nothing is to be seen; they are left out", items(n)));
        }
        let region = |((image, label), (runs, parts)): ((usize, usize), (Runs, usize))| {
            let image = &self.known.images[image];
            let (width, height) = (image.width, image.height);
            ExpertRegion {
                image: image.id.clone(),
                label: self.known.labels[label].clone(),
                width,
                height,
                parts,
                runs,
            }
        };
        Read {
            regions: self.found.into_iter().map(region).collect(),
            problems: self.problems.finish(),
            notes: self.notes.finish(),
        }
    }
}

/// Counts a name; of very many different ones only the first are kept.
fn count(names: &mut BTreeMap<String, usize>, name: &str) {
    if let Some(n) = names.get_mut(name) {
        *n += 1;
    } else if names.len() < 10 * MAX_MESSAGES {
        names.insert(name.to_owned(), 1);
    }
}

/// Text from outside for a message, shortened.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    let short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() { format!("{short:?}...") } else { format!("{short:?}") }
}
