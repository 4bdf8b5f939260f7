//! CLAIM 2024, items 1 to 44.

use super::Answer::{Blank, Known as Is, Partly};
use super::known::Known;
use super::{Answer, Group, Item};

/// All items in order.
pub(super) fn items(k: &Known) -> Vec<Group> {
    vec![
        ("Title, abstract, introduction", introduction(k)),
        ("Methods: data", data(k)),
        ("Methods: reference standard", reference()),
        ("Methods: partitions and model", model(k)),
        ("Methods: evaluation", evaluation(k)),
        ("Results", results(k)),
        ("Discussion and other", discussion(k)),
    ]
}

fn introduction(k: &Known) -> Vec<Item> {
    vec![
        Item("1", "Title names the AI technique", Partly(k.technology.clone(), "a title that says so")),
        Item("2", "Abstract: design, methods, results, conclusions", Partly(k.finding.clone(), "the abstract")),
        Item("3", "Background and intended use", Blank("clinical background and intended role")),
        Item("4", "Aims and hypotheses", Partly(k.approaches.clone(), "aims, and hypotheses fixed beforehand")),
        Item("5", "Prospective or retrospective", Blank("design of the study")),
        Item("6", "Goal of the study", Partly("Models made and tested on one cohort.".to_owned(), "the goal")),
    ]
}

fn data(k: &Known) -> Vec<Item> {
    vec![
        Item("7", "Sources of data", Blank("hospital, archive, dates, whether public")),
        Item("8", "Inclusion and exclusion", Partly(k.flow.clone(), "criteria applied before the files were gathered")),
        Item("9", "Preprocessing", Is(k.recipe.clone())),
        Item("10", "Selection of parts of the data", Partly(k.flow.clone(), "any selection before that")),
        Item(
            "11",
            "De-identification",
            match k.pseudonyms {
                Some(true) => Partly(
                    "Patient ids became keyed pseudonyms; the key stays in the study\u{2019}s folder.".to_owned(),
                    "what was done to files and reports before, and burned-in text",
                ),
                Some(false) => Partly(
                    "Patient ids were kept as they came.".to_owned(),
                    "what was done to ids, files and reports before, and burned-in text",
                ),
                None => Blank("what was done to ids, files, reports and burned-in text"),
            },
        ),
        Item(
            "12",
            "Missing data",
            Partly(
                "A label that is blank is unknown unless the label set says otherwise; unknown labels count nowhere, in \
                 learning or in testing. Numbers per label: section Cohort."
                    .to_owned(),
                "why labels are missing",
            ),
        ),
        Item("13", "Image acquisition", Blank("devices, protocol, exposure")),
    ]
}

fn reference() -> Vec<Item> {
    vec![
        Item("14", "How the reference standard was obtained", Blank("definition of each label")),
        Item("15", "Why this reference standard", Blank("rationale and alternatives")),
        Item("16", "Who annotated", Blank("annotators, their training and number, or the reports used")),
        Item("17", "Annotation of the test part", Blank("whether it was read differently from the rest")),
        Item("18", "Variability between and within annotators", Blank("agreement, and how disagreement was settled")),
    ]
}

fn model(k: &Known) -> Vec<Item> {
    let start = if k.trained {
        k.weights.clone()
    } else {
        format!("{} Some come from a formula and are not trained.", k.weights)
    };
    vec![
        Item("19", "How data were assigned to parts", Is(k.split.clone())),
        Item("20", "Level at which parts are apart", Is(k.split.clone())),
        Item("21", "Intended size of the test part", Partly(k.parts.clone(), "how the size was decided")),
        Item("22", "The model", Is(format!("{} {}", k.technology, k.settings))),
        Item("23", "Software", Is(k.version.clone())),
        Item("24", "Starting values", Is(start)),
        Item("25", "Training", Is(k.settings.clone())),
        Item(
            "26",
            "How the final model was chosen",
            Partly(k.approaches.clone(), "which model goes on, and that the test part did not choose it"),
        ),
        Item(
            "27",
            "Ensembles",
            Is("Mean of the networks\u{2019} probabilities, and the mean weighted by 1 minus their entropy, where \
                there are several networks."
                .to_owned()),
        ),
    ]
}

fn evaluation(k: &Known) -> Vec<Item> {
    vec![
        Item("28", "Metrics", Is(k.metrics.clone())),
        Item("29", "Significance and uncertainty", Is(k.metrics.clone())),
        Item("30", "Robustness", Partly(k.robustness.clone(), "any further analysis")),
        Item(
            "31",
            "Explainability",
            if k.explained {
                Partly(
                    "Heat maps of two models, said for each which one it explains: section What the models looked at."
                        .to_owned(),
                    "who judged them, and how",
                )
            } else {
                Partly(
                    "Nothing was explained for this report.".to_owned(),
                    "what was used elsewhere, or that nothing was",
                )
            },
        ),
        Item("32", "Internal data", Is(format!("Test part of the same cohort. {}", k.split))),
        Item(
            "33",
            "External data",
            Partly("None in this report.".to_owned(), "external tests, or that there were none"),
        ),
        Item("34", "Registration of a clinical trial", Blank("registry and number, or that there is none")),
    ]
}

fn results(k: &Known) -> Vec<Item> {
    let people: Answer = match &k.people {
        Ok(people) => Partly(people.clone(), "clinical characteristics"),
        Err(_) => Blank("characteristics of each part; the study\u{2019}s cohort.csv could not be read"),
    };
    vec![
        Item("35", "Included and excluded", Partly(k.flow.clone(), "those excluded before the files were gathered")),
        Item("36", "Characteristics of each part", people),
        Item("37", "Performance with uncertainty", k.if_detailed(k.finding.clone())),
        Item("38", "Diagnostic performance and its precision", k.if_detailed(format!("{} {}", k.events, k.metrics))),
        Item(
            "39",
            "Failures: a look at incorrect results",
            Partly(
                "Every probability of the test part is in predictions.csv.".to_owned(),
                "a look at images that were called wrongly",
            ),
        ),
    ]
}

fn discussion(k: &Known) -> Vec<Item> {
    vec![
        Item(
            "40",
            "Limitations",
            Partly("What the program can tell is in the section Limits.".to_owned(), "bias and limits of this study"),
        ),
        Item("41", "Implications for practice", Blank("intended use and role; this software is for research only")),
        Item("42", "Protocol and details", Partly(k.settings.clone(), "where the protocol is")),
        Item("43", "Availability of software, model, data", Partly(k.version.clone(), "where code, models, data are")),
        Item("44", "Funding", Blank("who funded the work, and their role")),
    ]
}
