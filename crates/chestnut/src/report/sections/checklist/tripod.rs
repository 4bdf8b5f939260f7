//! TRIPOD+AI, items 1 to 27c. The run both develops and evaluates models, so items for either apply.

use super::Answer::{Blank, Known as Is, Partly};
use super::known::Known;
use super::{Answer, Group, Item};

/// All items in order.
pub(super) fn items(k: &Known) -> Vec<Group> {
    vec![
        ("Title, abstract, introduction", introduction(k)),
        ("Methods: data", data(k)),
        ("Methods: analysis", analysis(k)),
        ("Open science and patients", open(k)),
        ("Results", results(k)),
        ("Discussion", discussion()),
    ]
}

fn introduction(k: &Known) -> Vec<Item> {
    vec![
        Item("1", "Title: develops or evaluates, population, outcome", Partly(k.labels.clone(), "the title")),
        Item("2", "Abstract", Partly(k.finding.clone(), "the abstract")),
        Item("3a", "Healthcare context and existing models", Blank("context, rationale, earlier models")),
        Item("3b", "Target population, purpose, users", Blank("who is to use it for whom, and where in care")),
        Item("3c", "Known inequalities in health", Blank("inequalities between groups in this setting")),
        Item("4", "Objectives", Partly("Develops models and evaluates them.".to_owned(), "the objectives")),
    ]
}

fn data(k: &Known) -> Vec<Item> {
    vec![
        Item("5a", "Sources of data", Blank("where data come from, why these, how representative they are")),
        Item("5b", "Dates", Blank("first and last date of the radiographs")),
        Item("6a", "Setting and centres", Blank("kind of hospital, number and place of centres")),
        Item("6b", "Eligibility", Partly(k.flow.clone(), "criteria applied before the files were gathered")),
        Item("6c", "Treatments", Blank("treatments that matter, or that none do")),
        Item("7", "Preparation and checks of data", Is(format!("{} {}", k.recipe, k.flow))),
        Item("8a", "Outcome", Partly(k.labels.clone(), "what each label means, when and how it was read")),
        Item("8b", "Who judged the outcome", Blank("readers, their training and background")),
        Item("8c", "Blinding of the outcome", Blank("what readers knew when they labelled")),
        Item(
            "9a",
            "Choice of predictors",
            Is(format!("The radiograph alone; no other field is learned from. {}", k.technology)),
        ),
        Item("9b", "Definition of predictors", Is(k.recipe.clone())),
        Item("9c", "Who judged predictors", Is("Nobody: they are computed from the image.".to_owned())),
        Item("10", "Sample size", Partly(format!("{} {}", k.parts, k.events), "how the size was decided")),
        Item(
            "11",
            "Missing data",
            Partly(
                "Unknown labels count nowhere, in learning or in testing; numbers per label: section Cohort."
                    .to_owned(),
                "why labels are missing",
            ),
        ),
    ]
}

fn analysis(k: &Known) -> Vec<Item> {
    vec![
        Item("12a", "How data were used and split", Is(k.split.clone())),
        Item("12b", "Handling of predictors", Is(k.recipe.clone())),
        Item("12c", "Model, building, hyperparameters, internal validation", Is(k.settings.clone())),
        Item("12d", "Differences between clusters", Partly(k.subgroups.clone(), "centres, if there are several")),
        Item("12e", "Measures and plots of performance", Is(k.metrics.clone())),
        Item("12f", "Updating of models", Is("None after the evaluation.".to_owned())),
        Item(
            "12g",
            "How predictions are calculated",
            Is("By the program from the image; probabilities of the test part are in predictions.csv.".to_owned()),
        ),
        Item(
            "13",
            "Imbalance of classes",
            Partly(
                "Splits are stratified over the labels. Few positives are marked and left out of a second mean."
                    .to_owned(),
                "any weighting that the settings do not name",
            ),
        ),
        Item("14", "Fairness", Partly(k.subgroups.clone(), "what was done about differences between groups")),
        Item(
            "15",
            "Output of the model",
            k.if_detailed(format!(
                "One probability per label and image; yes or no at two thresholds, chosen on out-of-fold predictions. {}",
                k.calibration
            )),
        ),
        Item(
            "16",
            "Training against evaluation data",
            Partly("Parts of one cohort, read and labelled alike.".to_owned(), "any difference in setting or labels"),
        ),
        Item("17", "Ethical approval", Blank("committee, number, consent or waiver")),
    ]
}

fn open(k: &Known) -> Vec<Item> {
    vec![
        Item("18a", "Funding", Blank("who funded the work, and their role")),
        Item("18b", "Conflicts of interest", Blank("conflicts of all authors")),
        Item("18c", "Protocol", Blank("where the protocol is, or that there is none")),
        Item("18d", "Registration", Blank("registry and number, or that there is none")),
        Item("18e", "Sharing of data", Blank("where data are, or why they cannot be shared")),
        Item("18f", "Sharing of code", Partly(k.version.clone(), "where the study\u{2019}s own code and models are")),
        Item("19", "Patients and the public", Blank("how they were involved, or that they were not")),
    ]
}

fn results(k: &Known) -> Vec<Item> {
    let people: Answer = match &k.people {
        Ok(people) => Partly(people.clone(), "other characteristics, dates, key predictors"),
        Err(_) => Blank("characteristics; the study\u{2019}s cohort.csv could not be read"),
    };
    vec![
        Item("20a", "Flow of participants", Is(k.flow.clone())),
        Item("20b", "Characteristics", people),
        Item(
            "20c",
            "Comparison of the parts",
            match &k.people {
                Ok(_) => Is("A column per part in the section Cohort.".to_owned()),
                Err(_) => Blank("a table of each part; the study\u{2019}s cohort.csv could not be read"),
            },
        ),
        Item("21", "Participants and outcomes in each analysis", Is(format!("{} {}", k.parts, k.events))),
        Item("22", "The full model", Is(format!("{} {}", k.settings, k.weights))),
        Item(
            "23a",
            "Performance with intervals, also in groups",
            k.if_detailed(format!("{} {}", k.finding, k.subgroups)),
        ),
        Item("23b", "Differences between clusters", Partly(k.subgroups.clone(), "centres, if there are several")),
        Item("24", "Results of updating", Is("Not applicable: no model was updated.".to_owned())),
    ]
}

fn discussion() -> Vec<Item> {
    vec![
        Item("25", "Interpretation, fairness included", Blank("what the results mean beside other studies")),
        Item(
            "26",
            "Limitations",
            Partly("What the program can tell is in the section Limits.".to_owned(), "bias and limits of this study"),
        ),
        Item(
            "27a",
            "Poor or missing input in use",
            Partly(
                "A file that cannot be read as a radiograph is refused with a reason.".to_owned(),
                "how poor images are handled in use",
            ),
        ),
        Item("27b", "Interaction and expertise of users", Blank("who uses it how, with what training")),
        Item("27c", "Next steps", Blank("further research, above all external tests")),
    ]
}
