//! The loop with a learner small enough to follow: kills, stops, what is said, and what an update is made of.

use super::super::feed::tests::data;
use super::super::settings::tests::settings;
use super::*;
use chestnut_zoo::Tensor;
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

/// Logistic regression on the mean of the lower half less that of the upper half, by gradient descent with momentum.
struct Simple {
    state: State,
    /// Fails before this many more updates.
    lives: usize,
    nan_at: Option<u64>,
}

impl Simple {
    fn new() -> Self {
        let tensor = |v: f32| Tensor { shape: vec![2], data: vec![v, 0.0] };
        let named = |v: f32| Weights::from([("head.0.kernel".to_owned(), tensor(v))]);
        let state = State { weights: named(0.1), mean: named(0.0), square: Weights::new(), step: 0 };
        Self { state, lives: usize::MAX, nan_at: None }
    }

    fn features(images: &[f32], pixels: usize) -> Vec<f32> {
        let half = pixels * 3 / 2;
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
        images.chunks_exact(pixels * 3).map(|i| mean(&i[half..]) - mean(&i[..half])).collect()
    }
}

impl Learner for Simple {
    fn step_many(&mut self, batches: &[Batch<'_>], rate: f64) -> std::result::Result<f64, TrainError> {
        if self.lives == 0 {
            return Err(TrainError::Device("killed".into()));
        }
        self.lives -= 1;
        if self.nan_at == Some(self.state.step) {
            return Err(TrainError::NotFinite { step: self.state.step });
        }
        let (mut loss, mut gradient, mut count) = (0.0, [0.0_f32; 2], 0.0_f32);
        let w = self.state.weights["head.0.kernel"].data.clone();
        for batch in batches {
            let x = Self::features(batch.images, batch.height * batch.width);
            for (&x, (&t, &weight)) in x.iter().zip(batch.targets.iter().zip(batch.weights)) {
                let p = 1.0 / (1.0 + (-(w[0] * x + w[1])).exp());
                loss -= f64::from(weight * (t * p.ln() + (1.0 - t) * (1.0 - p).ln()));
                gradient[0] += weight * (p - t) * x;
                gradient[1] += weight * (p - t);
            }
            count += batch.weights.iter().sum::<f32>();
        }
        let mean = &mut self.state.mean.get_mut("head.0.kernel").expect("there").data;
        let weights = &mut self.state.weights.get_mut("head.0.kernel").expect("there").data;
        for ((w, m), g) in weights.iter_mut().zip(mean).zip(gradient) {
            *m = 0.9 * *m + g / count;
            *w -= rate as f32 * *m;
        }
        self.state.step += 1;
        Ok(loss / f64::from(count))
    }

    fn logits(&mut self, images: &[f32], height: usize, width: usize) -> std::result::Result<Vec<f32>, TrainError> {
        let w = &self.state.weights["head.0.kernel"].data;
        Ok(Self::features(images, height * width).into_iter().map(|x| w[0] * x + w[1]).collect())
    }

    fn state(&mut self) -> std::result::Result<State, TrainError> {
        Ok(self.state.clone())
    }

    fn restore(&mut self, state: &State) -> std::result::Result<(), TrainError> {
        self.state = state.clone();
        Ok(())
    }
}

struct Place {
    _folder: tempfile::TempDir,
    data: Data,
    out: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = data(folder.path());
        let out = folder.path().join("run");
        std::fs::create_dir(&out).expect("made");
        Self { data, out, _folder: folder }
    }

    fn run(&self, learner: &mut Simple, settings: &Settings, every: usize) -> Result<Vec<EpochRecord>> {
        let every = Every { batches: every, time: Duration::from_secs(3600) };
        let metadata = BTreeMap::new();
        let (folder, data) = (self.out.as_path(), &self.data);
        Run { data, settings, folder, metadata: &metadata, workers: 2, every, report: &|_| {} }.go(learner)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.out.join(name)).expect(name)
    }
}

#[test]
fn a_run_killed_again_and_again_ends_in_the_same_bits() {
    let whole = Place::new();
    let mut learner = Simple::new();
    let history = whole.run(&mut learner, &settings(), 1000).expect("trains");
    assert_eq!(history.len(), 4);
    assert!(history[3].loss < history[0].loss, "{history:?}");
    assert_eq!(history[3].auc, Some(1.0), "bright below is easy to tell");
    killed_runs_end_as(&whole, &history, &settings(), &[(1, 1), (2, 1), (4, 2), (5, 1000)]);
    // The log of the last run has each line once.
    let text = String::from_utf8(whole.bytes(LOG_FILE)).expect("text");
    assert_eq!(text.lines().filter(|l| l.contains("validation_auc")).count(), 4);
    assert!(String::from_utf8(whole.bytes(CURVE_FILE)).expect("text").contains("</svg>"));
}

#[test]
fn accumulated_and_balanced_runs_go_on_in_the_same_bits() {
    // Eight images in batches of two: an update of three batches and one of the last.
    let two = Settings { batch: 2, accumulate: 3, balanced: true, ..settings() };
    let whole = Place::new();
    let mut learner = Simple::new();
    let history = whole.run(&mut learner, &two, 1000).expect("trains");
    assert_eq!((history.len(), learner.state.step), (4, 8), "two updates an epoch");
    killed_runs_end_as(&whole, &history, &two, &[(1, 1), (2, 2), (3, 1000)]);
}

#[test]
fn small_batches_of_one_update_are_one_large_batch() {
    let run = |batch: usize, accumulate: usize| {
        let place = Place::new();
        let s = Settings { batch, accumulate, ..settings() };
        let mut learner = Simple::new();
        place.run(&mut learner, &s, 1000).expect("trains");
        learner.state
    };
    let (whole, parts) = (run(4, 1), run(2, 2));
    assert_eq!(whole.step, parts.step);
    let values = |s: &State| s.weights["head.0.kernel"].data.clone();
    assert!(values(&whole).iter().zip(values(&parts)).all(|(a, b)| (a - b).abs() < 1e-4), "{whole:?} {parts:?}");
    assert!((values(&run(2, 1))[0] - values(&whole)[0]).abs() > 1e-3, "twice as many updates end elsewhere");
}

/// Runs with these (updates a life, batches between two checkpoints) end in the bits of the run `whole`.
fn killed_runs_end_as(whole: &Place, history: &[EpochRecord], s: &Settings, pairs: &[(usize, usize)]) {
    for &(lives, every) in pairs {
        let killed = Place::new();
        let mut kills = 0;
        let resumed = loop {
            // Each start is a new process: nothing but the files is left.
            let mut learner = Simple { lives, ..Simple::new() };
            match killed.run(&mut learner, s, every) {
                Ok(history) => break history,
                Err(e) => assert_eq!(e.to_string(), "killed"),
            }
            kills += 1;
            assert!(kills < 50, "no progress with {lives} updates a life");
        };
        assert!(kills > 1, "{kills} kills");
        assert_eq!(resumed, history);
        assert!(killed.bytes(BEST_FILE) == whole.bytes(BEST_FILE), "the best weights");
        let last = |p: &Place| Checkpoint::read(&p.out.join(LAST_FILE), s).expect("whole");
        let (a, b) = (last(&killed), last(whole));
        assert_eq!((a.state, a.average, a.place.history), (b.state, b.average, b.place.history));
    }
}

#[test]
fn a_loss_that_is_not_finite_keeps_the_checkpoint_and_names_the_batch() {
    let place = Place::new();
    let mut learner = Simple { nan_at: Some(4), ..Simple::new() };
    let error = place.run(&mut learner, &settings(), 1).expect_err("stops");
    let PretrainError::NotFinite { epoch, batch, step, images } = &error else { panic!("{error}") };
    assert_eq!((*epoch, *batch, *step), (2, 2, 4), "three batches an epoch");
    assert_eq!(images.matches(".png").count(), 3);
    let kept = Checkpoint::read(&place.out.join(LAST_FILE), &settings()).expect("whole");
    assert_eq!((kept.place.epoch, kept.place.batch, kept.state.step), (1, 1, 4));
    assert!(String::from_utf8(place.bytes(LOG_FILE)).expect("text").contains("not finite"));
}

#[test]
fn it_stops_when_the_auc_does_not_rise_and_says_what_it_does() {
    let place = Place::new();
    let patient = Settings { epochs: 30, patience: 2, ..settings() };
    let seen = RefCell::new(Vec::new());
    let every = Every { batches: 5, time: Duration::from_secs(3600) };
    let run = Run {
        data: &place.data,
        settings: &patient,
        folder: &place.out,
        metadata: &BTreeMap::new(),
        workers: 1,
        every,
        report: &|event| {
            if let Event::Epoch { record, best } = event {
                seen.borrow_mut().push((record.epoch, *best));
            }
        },
    };
    let history = run.go(&mut Simple::new()).expect("trains");
    assert!(history.len() < 30, "an AUC of 1 cannot rise");
    let best = schedule::best(&aucs(&history)).expect("epochs");
    assert_eq!(history.len(), best + 3);
    assert_eq!(seen.borrow().last(), Some(&(history.len() - 1, false)));
    // Asked again, there is nothing to do but the figure, which a kill may have prevented.
    let figure = place.bytes(CURVE_FILE);
    std::fs::remove_file(place.out.join(CURVE_FILE)).expect("removed");
    assert_eq!(run.go(&mut Simple::new()).expect("done"), history);
    assert!(place.bytes(CURVE_FILE) == figure);
}

#[test]
fn a_checkpoint_behind_the_last_batch_is_refused() {
    let place = Place::new();
    let mut learner = Simple { lives: 2, ..Simple::new() };
    assert_eq!(place.run(&mut learner, &settings(), 1).expect_err("stops").to_string(), "killed");
    let path = place.out.join(LAST_FILE);
    let mut checkpoint = Checkpoint::read(&path, &settings()).expect("whole");
    assert_eq!((checkpoint.place.epoch, checkpoint.place.batch), (0, 2), "three batches an epoch");
    checkpoint.place.batch = 4;
    checkpoint.write(&path, &settings()).expect("written");
    let error = place.run(&mut Simple::new(), &settings(), 1).expect_err("no such batch").to_string();
    assert!(error.contains("last.safetensors") && error.contains("batch 4 of an epoch of 3"), "{error}");
}
