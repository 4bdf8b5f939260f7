//! Tests of the ingest on a folder made here: every kind of refusal, the accounting, archives, headers, pseudonyms.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;

use chestnut_stats::random::Stream;

use super::*;
use crate::cohort::source::tests::{tar_of, zip_of};
use crate::cohort::{CohortError, Label};
use crate::image::dicom::{self, DicomImage, Photometric, Samples, WriteSyntax, encode_dicom};

/// A picture of 8 x 8 random squares, 64 pixels wide: two seeds never look alike.
fn picture(seed: u64) -> ::image::GrayImage {
    let mut stream = Stream::keyed(seed, "picture");
    let squares: Vec<u8> = (0..64).map(|_| stream.below(256) as u8).collect();
    ::image::GrayImage::from_fn(64, 64, |x, y| ::image::Luma([squares[(y / 8 * 8 + x / 8) as usize]]))
}

/// A folder with every kind of file, and its table.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub")).expect("a folder");
    for (name, seed) in
        [("a.png", 1), ("c.png", 2), ("e.png", 3), ("f.png", 4), ("sub/h.png", 5), ("i.png", 6), ("j.png", 7)]
    {
        picture(seed).save(at(name)).expect("a picture");
    }
    fs::copy(at("a.png"), at("b.png")).expect("a copy");
    // The same picture as c, in another file: grey kept as three channels.
    ::image::DynamicImage::from(picture(2)).to_rgb8().save(at("d.png")).expect("a picture");
    let whole = fs::read(at("f.png")).expect("a file");
    fs::write(at("f.png"), &whole[..whole.len() / 2]).expect("a truncated file");
    fs::write(at("g.png"), "not a picture").expect("a text file");
    fs::write(at(".hidden.png"), "hidden").expect("a hidden file");
    let table = "image,patient_id,view,sex,age,Pleura\n\
                 a.png,SECRET-1,PA,F,40,1\n\
                 b.png,SECRET-1,PA,F,40,1\n\
                 c.png,SECRET-2,AP,M,50,0\n\
                 d.png,SECRET-3,AP,M,51,0\n\
                 e.png,SECRET-4,LL,M,51,1\n\
                 f.png,SECRET-5,PA,,,1\n\
                 g.png,SECRET-5,PA,,,1\n\
                 h.png,,,,,\n\
                 j.png,SECRET-6,PA,,,3\n\
                 gone.png,SECRET-7,PA,,,1\n\
                 c.png,SECRET-2,AP,M,50,0\n";
    fs::write(at("labels.csv"), table).expect("a table");
    folder
}

fn run(folder: &Path, options: &IngestOptions) -> Cohort {
    ingest(folder, &folder.join("labels.csv"), options, &|_| {}).expect("an ingest")
}

fn options() -> IngestOptions {
    IngestOptions::new(LabelSet::new("s", &["Pleura"]))
}

fn stage_of(cohort: &Cohort, item: &str, row: Option<u64>) -> Option<Stage> {
    cohort.rejects.iter().find(|r| r.item == item && r.row == row).map(|r| r.stage)
}

#[test]
fn every_file_and_every_row_ends_once_and_for_the_right_reason() {
    let folder = folder();
    let cohort = run(folder.path(), &options());
    let ids: Vec<&str> = cohort.images.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["a.png", "c.png", "d.png", "sub/h.png"], "{:?}", cohort.rejects);

    let mut files: Vec<&str> = ids;
    files.extend(cohort.rejects.iter().filter(|r| r.stage != Stage::Row).map(|r| r.item.as_str()));
    files.sort_unstable();
    assert_eq!(files, ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "g.png", "i.png", "j.png", "sub/h.png"]);
    let mut rows: Vec<u64> = cohort.images.iter().map(|i| i.row).collect();
    rows.extend(cohort.rejects.iter().filter_map(|r| r.row));
    rows.sort_unstable();
    assert_eq!(rows, (2..=12).collect::<Vec<_>>());

    assert_eq!(stage_of(&cohort, "b.png", Some(3)), Some(Stage::Duplicate));
    assert_eq!(stage_of(&cohort, "e.png", Some(6)), Some(Stage::View));
    assert_eq!(stage_of(&cohort, "f.png", Some(7)), Some(Stage::Read));
    assert_eq!(stage_of(&cohort, "g.png", Some(8)), Some(Stage::Read));
    assert_eq!(stage_of(&cohort, "i.png", None), Some(Stage::Labels));
    assert_eq!(stage_of(&cohort, "j.png", None), Some(Stage::Labels));
    assert_eq!(stage_of(&cohort, "j.png", Some(10)), Some(Stage::Row));
    assert_eq!(stage_of(&cohort, "gone.png", Some(11)), Some(Stage::Row));
    assert_eq!(stage_of(&cohort, "c.png", Some(12)), Some(Stage::Row));
}

#[test]
fn what_is_kept_of_an_image() {
    let folder = folder();
    let cohort = run(folder.path(), &options());
    let first = &cohort.images[0];
    assert_eq!((first.width, first.height, first.bits, first.format.as_str()), (64, 64, 8, "PNG"));
    assert_eq!((first.view.as_deref(), first.sex, first.age_years), (Some("PA"), Some('F'), Some(40.0)));
    assert_eq!(first.labels, [Label::Positive]);
    assert_eq!(cohort.images[3].labels, [Label::Unknown]);
    assert_eq!(cohort.images[3].patient, "image:sub/h.png", "without a patient id an image stands alone");
    // c and d are one picture under two patients: one patient from here on, and said.
    assert_eq!(cohort.images[1].patient, cohort.images[2].patient);
    assert!(
        cohort.warnings.iter().any(|w| w.contains("c.png and d.png (SECRET-2, SECRET-3)")),
        "{:?}",
        cohort.warnings
    );
    assert!(cohort.warnings.iter().any(|w| w.contains("1 images have no patient id")), "{:?}", cohort.warnings);
    let read_back = Cohort::from_csv(&cohort.to_csv(), &cohort.rejects_to_csv()).expect("reads back");
    assert_eq!((read_back.images, read_back.rejects), (cohort.images, cohort.rejects));
}

#[test]
fn with_a_key_no_patient_id_is_left_anywhere() {
    let folder = folder();
    let cohort = run(folder.path(), &IngestOptions { pseudonym_key: Some([3; 32]), ..options() });
    let everything = format!("{cohort:?}{}{}", cohort.to_csv(), cohort.rejects_to_csv());
    assert!(!everything.contains("SECRET"), "{everything}");
    assert!(cohort.images.iter().all(|i| i.patient.len() == 13 && i.patient.starts_with('P')));
    assert_eq!(cohort.patients(), 3);
}

#[test]
fn threads_change_nothing_and_progress_counts_each_image() {
    let folder = folder();
    let seen = Mutex::new(BTreeSet::new());
    let with_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            ingest(folder.path(), &folder.path().join("labels.csv"), &options(), &|p| {
                seen.lock().expect("no panic").insert((p.done, p.total));
            })
        })
        .expect("an ingest")
    };
    assert_eq!(with_threads(1), with_threads(4));
    // Seven files have a usable row and no lateral view: a b c d f g h.
    assert_eq!(seen.into_inner().expect("no panic"), (1..=7).map(|done| (done, 7)).collect::<BTreeSet<_>>());
}

#[test]
fn views_can_be_chosen_and_copies_kept() {
    let folder = folder();
    let pa = run(folder.path(), &IngestOptions { view: ViewFilter::Only("PA".to_owned()), ..options() });
    assert_eq!(pa.images.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["a.png"]);
    let all = IngestOptions { view: ViewFilter::Any, copies: Copies::Keep, ..options() };
    let ids: Vec<String> = run(folder.path(), &all).images.into_iter().map(|i| i.id).collect();
    assert_eq!(ids, ["a.png", "b.png", "c.png", "d.png", "e.png", "sub/h.png"]);
}

#[test]
fn what_stops_an_ingest_names_the_cause() {
    let folder = folder();
    let labels = folder.path().join("labels.csv");
    let gone = ingest(&folder.path().join("nowhere"), &labels, &options(), &|_| {});
    assert!(matches!(&gone, Err(CohortError::Folder { .. })), "{gone:?}");
    let other = IngestOptions::new(LabelSet::new("s", &["Bone"]));
    let error = ingest(folder.path(), &labels, &other, &|_| {}).expect_err("no such label");
    assert!(error.to_string().contains("Bone") && error.to_string().contains("Pleura"), "{error}");
    let error = ingest(folder.path(), &folder.path().join("no.csv"), &options(), &|_| {}).expect_err("no table");
    assert!(error.to_string().contains("no.csv"), "{error}");
}

#[test]
fn one_class_only_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    picture(1).save(folder.path().join("a.png")).expect("a picture");
    fs::write(folder.path().join("labels.csv"), "image,A,B\na.png,1,\n").expect("a table");
    let set = LabelSet::new("s", &["A", "B"]);
    let cohort = run(folder.path(), &IngestOptions::new(set));
    assert!(cohort.warnings.iter().any(|w| w.contains("label A has no negative")), "{:?}", cohort.warnings);
    assert!(cohort.warnings.iter().any(|w| w.contains("label B has no known value")), "{:?}", cohort.warnings);
    assert!(cohort.warnings.iter().any(|w| w.contains("no patient column")), "{:?}", cohort.warnings);
}

#[test]
fn an_archive_gives_the_cohort_of_its_folder() {
    let folder = folder();
    let plain = run(folder.path(), &options());
    let names = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "g.png", "i.png", "j.png", "sub/h.png"];
    let files: Vec<(&str, Vec<u8>)> =
        names.iter().map(|&name| (name, fs::read(folder.path().join(name)).expect("a file"))).collect();
    let members: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    for (name, archive) in [("export.zip", zip_of(&members)), ("export.tar", tar_of(&members))] {
        let other = tempfile::tempdir().expect("a temporary folder");
        fs::copy(folder.path().join("labels.csv"), other.path().join("labels.csv")).expect("a copy");
        fs::write(other.path().join(name), archive).expect("an archive");
        let packed = run(other.path(), &options());
        let prefix = format!("{name}/");
        assert_eq!(packed.to_csv().replace(&prefix, ""), plain.to_csv(), "{name}");
        let lines = |cohort: &Cohort| {
            let text = cohort.rejects_to_csv().replace(&prefix, "");
            text.lines().map(str::to_owned).collect::<BTreeSet<String>>()
        };
        assert_eq!(lines(&packed), lines(&plain), "{name}");
        let itself = ingest(&other.path().join(name), &other.path().join("labels.csv"), &options(), &|_| {});
        assert_eq!(itself.expect("an ingest"), plain, "{name} instead of a folder");
    }
}

/// A DICOM film of one study, as bytes. `extra` as in [`DicomImage`].
fn film(seed: u64, view: &str, series: &str, extra: &[(u16, u16, &str)]) -> Vec<u8> {
    encode_dicom(&DicomImage {
        width: 64,
        height: 64,
        samples: Samples::U8(picture(seed).into_raw()),
        bits_stored: 8,
        photometric: Photometric::Monochrome2,
        view_position: view.to_owned(),
        patient_id: format!("P{}", seed / 10),
        patient_name: "Made^Up".to_owned(),
        age_years: Some(50),
        sex: Some('F'),
        study: format!("study {}", seed / 10),
        image: format!("image {seed}"),
        series_description: series.to_owned(),
        manufacturer: "Example Imaging".to_owned(),
        pixel_mm: None,
        syntax: WriteSyntax::default(),
        extra: extra.iter().map(|&(group, element, text)| (group, element, text.to_owned())).collect(),
    })
    .expect("a film")
}

#[test]
fn one_row_labels_all_frontal_films_of_a_study() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let accession = |number| (0x0008, 0x0050, number);
    let first = [
        ("1/IM1", film(10, "PA", "Thorax pa", &[accession("00123")])),
        ("1/IM2", film(11, "LL", "Thorax lat", &[accession("00123")])),
        ("1/IM3", film(12, "AP", "Thorax Bettaufnahme", &[accession("00123"), (0x0008, 0x0068, "FOR PROCESSING")])),
    ];
    let members: Vec<(&str, &[u8])> = first.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    fs::write(folder.path().join("export.zip"), zip_of(&members)).expect("an archive");
    fs::write(folder.path().join("2.dcm"), film(20, "AP", "Thorax", &[accession("00124")])).expect("a film");
    fs::write(folder.path().join("cut.dcm"), &film(30, "AP", "Thorax", &[])[..200]).expect("a cut film");
    fs::write(folder.path().join("labels.csv"), "Accession Number,Pleura\n00123,1\n00124,0\n").expect("a table");
    let steps = Mutex::new(BTreeSet::new());
    let cohort = ingest(folder.path(), &folder.path().join("labels.csv"), &options(), &|p| {
        steps.lock().expect("no panic").insert((p.step == Step::Images, p.done, p.total));
    })
    .expect("an ingest");
    let found: Vec<(&str, Option<&str>, Label)> =
        cohort.images.iter().map(|i| (i.id.as_str(), i.view.as_deref(), i.labels[0])).collect();
    let expected = [
        ("2.dcm", Some("AP"), Label::Negative),
        ("export.zip/1/IM1", Some("PA"), Label::Positive),
        ("export.zip/1/IM3", Some("AP"), Label::Positive),
    ];
    assert_eq!(found, expected, "{:?}", cohort.rejects);
    assert_eq!(stage_of(&cohort, "export.zip/1/IM2", Some(2)), Some(Stage::View), "{:?}", cohort.rejects);
    assert_eq!(stage_of(&cohort, "cut.dcm", None), Some(Stage::Read), "{:?}", cohort.rejects);
    let warnings = cohort.warnings.join("\n");
    assert!(warnings.contains("1 images are detector values FOR PROCESSING"), "{warnings}");
    // Five headers; the cut one and the lateral have no second step.
    let steps = steps.into_inner().expect("no panic");
    let expected = (1..=5).map(|n| (false, n, 5)).chain((1..=3).map(|n| (true, n, 3)));
    assert_eq!(steps, expected.collect::<BTreeSet<_>>());
}

#[test]
fn headers_that_were_read_first_judge_alike_for_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let accession = |number: &'static str| (0x0008, 0x0050, number);
    for i in 0..12 {
        let (view, part) = [("PA", "Thorax"), ("LL", "Thorax"), ("AP", "Hip")][i % 3];
        // Two studies of a patient each.
        let seed = 10 * (1 + i / 6) + i % 6;
        let bytes = film(seed as u64, view, part, &[accession(["1", "2"][i / 6])]);
        fs::write(folder.path().join(format!("{i:02}.dcm")), bytes).expect("a film");
    }
    // A lateral film that is cut behind its header is refused as what it is.
    let whole = film(19, "LL", "Thorax", &[accession("1")]);
    fs::write(folder.path().join("cut.dcm"), &whole[..whole.len() - 100]).expect("a cut film");
    let ingested = |table: &str, threads: usize| {
        fs::write(folder.path().join("labels.csv"), table).expect("a table");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| run(folder.path(), &options()))
    };
    let by_header = "accession,Pleura\n1,1\n2,0\n";
    let cohort = ingested(by_header, 1);
    assert_eq!(cohort, ingested(by_header, 4));
    let ids: Vec<&str> = cohort.images.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["00.dcm", "03.dcm", "06.dcm", "09.dcm"], "{:?}", cohort.rejects);
    assert_eq!(stage_of(&cohort, "cut.dcm", Some(2)), Some(Stage::View), "{:?}", cohort.rejects);
    // Files named by the table give the same reasons, but for the damage, which is found there.
    let named: String = (0..12).map(|i| format!("{i:02}.dcm,{}\n", 1 - i / 6)).collect();
    let other = ingested(&format!("image,Pleura\n{named}cut.dcm,1\n"), 1);
    let reasons = |cohort: &Cohort| -> Vec<(String, String)> {
        let kept = cohort.rejects.iter().filter(|r| r.item != "cut.dcm");
        kept.map(|r| (r.item.clone(), r.reason.clone())).collect()
    };
    assert_eq!(reasons(&other), reasons(&cohort));
    assert_eq!(stage_of(&other, "cut.dcm", Some(14)), Some(Stage::Read), "{:?}", other.rejects);
    // A view in the table is believed more than the header's, whose body part still counts.
    let viewed = ingested("accession,view,Pleura\n1,PA,1\n2,LL,0\n", 2);
    let ids: Vec<&str> = viewed.images.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["00.dcm", "01.dcm", "03.dcm", "04.dcm"], "{:?}", viewed.rejects);
}

#[test]
fn blanked_pixels_and_the_rules_of_a_hospital_are_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let capture = (0x0008, 0x0016, "1.2.840.10008.5.1.4.1.1.7");
    fs::write(folder.path().join("a.dcm"), film(10, "PA", "Thorax", &[])).expect("a film");
    fs::write(folder.path().join("b.dcm"), film(20, "PA", "Thorax", &[capture])).expect("a film");
    fs::write(folder.path().join("labels.csv"), "image,Pleura\na.dcm,1\nb.dcm,0\n").expect("a table");
    let usual = run(folder.path(), &options());
    assert_eq!(stage_of(&usual, "b.dcm", Some(3)), Some(Stage::View), "{:?}", usual.rejects);
    let blank = BlankRules::from_toml("[[region]]\nmanufacturer = \"example\"\nshare = [0.0, 0.0, 1.0, 0.5]");
    let asked = IngestOptions {
        rules: SelectionRules::default().with_secondary_captures(),
        blank: blank.expect("valid"),
        ..options()
    };
    let cohort = run(folder.path(), &asked);
    assert_eq!(cohort.images.len(), 2, "{:?}", cohort.rejects);
    assert_eq!(cohort.images[0].sha256, usual.images[0].sha256, "the file is what it was");
    let warnings = cohort.warnings.join("\n");
    assert!(warnings.contains("2 of 2 images had regions blanked") && warnings.contains("secondary"), "{warnings}");
    let all = BlankRules::from_toml("[[region]]\nshare = [0.0, 0.0, 1.0, 1.0]").expect("valid");
    let nothing = run(folder.path(), &IngestOptions { blank: all, ..options() });
    assert_eq!(stage_of(&nothing, "a.dcm", Some(2)), Some(Stage::Read), "{:?}", nothing.rejects);
}

#[test]
fn real_dicom_files_are_all_accounted_for() {
    let Some(data) = image::real_data() else { return };
    let set = LabelSet::new("dicom", &["is_chest_radiograph"]);
    let folder = data.join("dicom");
    let cohort = ingest(&folder.join("files"), &folder.join("labels.csv"), &IngestOptions::new(set), &|_| {})
        .expect("an ingest");
    let files = fs::read_dir(folder.join("files")).expect("the files").count();
    assert_eq!(cohort.images.len() + cohort.rejects.len(), files, "{:?}", cohort.rejects);
    assert!(!cohort.images.is_empty(), "{:?}", cohort.rejects);
    for name in ["wg04_rg2_hip_jpeg_lossless.dcm", "bad_no_pixels.dcm"] {
        assert!(cohort.rejects.iter().any(|r| r.item == name), "{name} must be refused");
    }
}

/// Views and body parts as `labels.csv` of the real files has them.
#[test]
fn real_dicom_headers_are_judged_right() {
    let Some(data) = image::real_data() else { return };
    let table = fs::read_to_string(data.join("dicom/labels.csv")).expect("the table");
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let columns: BTreeMap<&str, usize> = header.iter().enumerate().map(|(at, &name)| (name, at)).collect();
    let strict = SelectionRules::default();
    let lenient = strict.clone().with_secondary_captures();
    let mut judged = 0;
    for line in lines {
        // No quoted field stands before these.
        let cells: Vec<&str> = line.split(',').collect();
        let (name, view, part) = (cells[columns["image"]], cells[columns["view"]], cells[columns["body_part"]]);
        let facts = dicom::header(&data.join("dicom/files").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let verdict = lenient.judge(&facts, None);
        if part == "HIP" {
            assert!(matches!(&verdict, Verdict::Refuse { reason } if reason.contains("hip")), "{name}: {verdict:?}");
        } else {
            let Verdict::Take { view: found, flags } = &verdict else { panic!("{name}: {verdict:?}") };
            assert_eq!(found.as_deref().unwrap_or(""), view, "{name}");
            assert_eq!(flags.iter().any(|f| f.contains("no body part")), part.is_empty(), "{name}: {flags:?}");
        }
        // Two files are secondary captures made of published PNG files.
        let is_capture = name.starts_with("nih_") || name.starts_with("siim_");
        let refused = matches!(strict.judge(&facts, None), Verdict::Refuse { reason } if reason.contains("secondary"));
        assert_eq!(refused, is_capture, "{name}");
        judged += 1;
    }
    assert!(judged > 0, "no file in the table");
}
