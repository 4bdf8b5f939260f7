//! The plan of a phantom cohort: who the patients are and which image carries which finding.
//!
//! Counts are exact (prevalence times images, rounded), since tables over a few hundred phantoms
//! would otherwise wobble. Visits per patient follow HUM-CXR (941 images of 746 patients; paper,
//! section 2.1). Labels of one patient resemble each other but may change between visits.
//! View, age and sex are drawn without looking at the labels.

use chestnut_stats::random::Stream;

use super::{Finding, Hospital, PhantomCase, PhantomConfig, PhantomError};

/// Patients per image in HUM-CXR.
const PATIENTS_PER_IMAGE: f64 = 746.0 / 941.0;
/// Most images of one patient.
const MAX_VISITS: usize = 4;
/// Share of a label's variance that belongs to the patient and stays between visits.
const PATIENT_SHARE: f64 = 0.5;
/// Share of women.
const WOMEN: f64 = 0.46;
/// Mean and standard deviation of the age in years.
const AGE: (f64, f64) = (62.0, 17.0);
/// Youngest and oldest patient in years.
const AGE_LIMITS: (f64, f64) = (18.0, 95.0);
/// Share of AP images in hospitals A and B.
const AP_SHARE: (f64, f64) = (0.2, 0.7);

/// Plans the whole cohort: labels, patients and views of every image, in image order.
///
/// # Errors
/// [`PhantomError`] if the configuration is out of range or the prevalences do not fit together.
pub fn plan(config: &PhantomConfig) -> Result<Vec<PhantomCase>, PhantomError> {
    config.check()?;
    let images = config.images;
    let root = Stream::keyed(config.seed, &format!("phantom-plan-{}", config.hospital));
    let patients = patients_of_images(images, &root);
    let labels = labels_of_images(config, &patients, &root)?;

    let ap_share = match config.hospital {
        Hospital::A => AP_SHARE.0,
        Hospital::B => AP_SHARE.1,
    };
    let people = root.child(1);
    let views = root.child(2);
    let cases = patients.iter().zip(labels).enumerate().map(|(index, (&patient, labels))| {
        let mut person = people.child(patient as u64);
        let sex = if person.uniform() < WOMEN { 'F' } else { 'M' };
        let age = (AGE.0 + AGE.1 * person.normal()).clamp(AGE_LIMITS.0, AGE_LIMITS.1);
        let view = if views.child(index as u64).uniform() < ap_share { "AP" } else { "PA" };
        PhantomCase {
            index,
            image_id: format!("{}{}-{index:05}", config.hospital, config.seed),
            patient_id: format!("{}{}-P{patient:05}", config.hospital, config.seed),
            view,
            age_years: age.round() as u32,
            sex,
            labels,
        }
    });
    Ok(cases.collect())
}

/// The patient number of every image: everybody has one image, some up to [`MAX_VISITS`].
fn patients_of_images(images: usize, root: &Stream) -> Vec<usize> {
    let patients = ((images as f64 * PATIENTS_PER_IMAGE).round() as usize).clamp(1, images);
    let mut stream = root.child(3);
    let mut visits = vec![1_usize; patients];
    let mut left = images - patients;
    while left > 0 {
        let patient = stream.below(patients);
        if visits[patient] < MAX_VISITS {
            visits[patient] += 1;
            left -= 1;
        }
    }
    let mut of_image: Vec<usize> = Vec::with_capacity(images);
    for (patient, &count) in visits.iter().enumerate() {
        of_image.extend(std::iter::repeat_n(patient, count));
    }
    stream.shuffle(&mut of_image);
    of_image
}

/// Labels with exact counts: Normal first, then each finding among the images that are not Normal.
fn labels_of_images(config: &PhantomConfig, patients: &[usize], root: &Stream) -> Result<Vec<[bool; 7]>, PhantomError> {
    let images = patients.len();
    let count_of = |f: Finding| (config.prevalence[f.index()] * images as f64).round() as usize;
    let normal = count_of(Finding::Normal);
    let mut labels = vec![[false; 7]; images];
    for finding in Finding::ALL {
        let count = count_of(finding);
        if finding != Finding::Normal && normal + count > images {
            return Err(PhantomError::Crowded { normal, finding, count, images });
        }
        let draws = root.child(10 + finding.index() as u64);
        let (of_patient, of_image) = (draws.child(0), draws.child(1));
        let mut ranked: Vec<(f64, usize)> = (0..images)
            .filter(|&i| !labels[i][Finding::Normal.index()])
            .map(|i| {
                let stays = of_patient.child(patients[i] as u64).normal();
                let changes = of_image.child(i as u64).normal();
                (PATIENT_SHARE.sqrt() * stays + (1.0 - PATIENT_SHARE).sqrt() * changes, i)
            })
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(_, image) in ranked.iter().take(count) {
            labels[image][finding.index()] = true;
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn counts_are_exact_and_normal_is_alone() {
        let config = PhantomConfig { images: 941, ..PhantomConfig::default() };
        let cases = plan(&config).unwrap();
        let counts = Finding::ALL.map(|f| cases.iter().filter(|c| c.labels[f.index()]).count());
        assert_eq!(counts, [273, 93, 427, 38, 135, 137, 147], "paper, Table 2");
        assert!(cases.iter().all(|c| !c.labels[0] || c.labels[1..].iter().all(|&l| !l)));
        assert!(cases.iter().any(|c| c.labels.iter().all(|&l| !l)), "some images have dropped findings only");
        assert!(cases.iter().any(|c| c.labels.iter().filter(|&&l| l).count() > 2));
    }

    #[test]
    fn visits_follow_the_paper() {
        let config = PhantomConfig { images: 941, hospital: Hospital::B, ..PhantomConfig::default() };
        let cases = plan(&config).unwrap();
        let mut visits: BTreeMap<&str, Vec<&PhantomCase>> = BTreeMap::new();
        for case in &cases {
            visits.entry(&case.patient_id).or_default().push(case);
        }
        assert_eq!(visits.len(), 746);
        assert!(visits.values().all(|v| v.len() <= MAX_VISITS));
        assert!(visits.values().all(|v| v.iter().all(|c| c.sex == v[0].sex && c.age_years == v[0].age_years)));
        let repeated: Vec<_> = visits.values().filter(|v| v.len() > 1).collect();
        let same = repeated.iter().filter(|v| v[0].labels == v[1].labels).count();
        assert!(same > 0 && same < repeated.len(), "labels vary moderately between visits");
    }

    #[test]
    fn small_and_impossible_cohorts() {
        for images in 1..12 {
            let cases = plan(&PhantomConfig { images, ..PhantomConfig::default() }).unwrap();
            assert_eq!(cases.len(), images);
        }
        let mut config = PhantomConfig { images: 10, ..PhantomConfig::default() };
        config.prevalence = [0.6, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert!(matches!(plan(&config), Err(PhantomError::Crowded { normal: 6, count: 5, .. })));
        config.prevalence[1] = f64::NAN;
        assert!(matches!(plan(&config), Err(PhantomError::Prevalence { finding: Finding::Cardiac, .. })));
        assert_eq!(plan(&PhantomConfig { images: 0, ..PhantomConfig::default() }), Err(PhantomError::Images(0)));
        assert_eq!(plan(&PhantomConfig { size: 8, ..PhantomConfig::default() }), Err(PhantomError::Size(8)));
    }
}
