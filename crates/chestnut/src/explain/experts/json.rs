//! Outlines in JSON: by image and label as CheXlocalize gives them, as a list, or as a COCO file.
//!
//! ```text
//! {"image": {"label": {"size": [height, width], "counts": "..."}}}            run lengths
//! {"image": {"img_size": [height, width], "label": [[[x, y], ...], ...]}}     polygons
//! [{"image": "...", "label": "...", "points": [[x, y], ...]}]                 polygons
//! {"images": [...], "categories": [...], "annotations": [...]}                COCO: run lengths, polygons or boxes
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::collector::{Collector, quote};
use super::{ExpertError, MAX_JSON_BYTES, Runs, boxes_csv, coco_rle, polygons};

/// Most runs of pixels of one shape.
const MAX_SHAPE_RUNS: usize = 4_000_000;

/// Key of CheXlocalize's polygons that holds the size of the image, not a label.
const SIZE_KEY: &str = "img_size";

/// Reads a whole file.
pub(super) fn read(name: &str, content: &[u8], collector: &mut Collector<'_>) -> Result<(), ExpertError> {
    if content.len() > MAX_JSON_BYTES {
        return Err(ExpertError::TooMany {
            name: name.to_owned(),
            what: "bytes",
            found: content.len(),
            limit: MAX_JSON_BYTES,
        });
    }
    let failed = |reason: String| ExpertError::Json { name: name.to_owned(), reason };
    let value: Value = serde_json::from_slice(content).map_err(|e| failed(e.to_string()))?;
    match &value {
        Value::Object(file) if file.contains_key("annotations") => read_coco(name, file, collector),
        Value::Object(images) => read_by_image(name, images, collector),
        Value::Array(items) => read_list(name, items, collector),
        _ => return Err(failed("it holds a single value".to_owned())),
    }
    Ok(())
}

/// Image, then label, then shape.
fn read_by_image(name: &str, images: &Map<String, Value>, collector: &mut Collector<'_>) {
    for (image, labels) in images {
        let place = format!("{name}, image {}", quote(image));
        let Value::Object(labels) = labels else {
            collector.problem(format!("{place}: labels with their outlines are expected below each image"));
            continue;
        };
        let stated = labels.get(SIZE_KEY);
        for (label, shape) in labels.iter().filter(|(label, _)| *label != SIZE_KEY) {
            let place = format!("{place}, {}", quote(label));
            read_shape(&place, image, label, stated, shape, collector);
        }
    }
}

/// Objects with image, label and points.
fn read_list(name: &str, items: &[Value], collector: &mut Collector<'_>) {
    for (i, item) in items.iter().enumerate() {
        let place = format!("{name}, item {}", i + 1);
        let text = |key: &str| item.get(key).and_then(Value::as_str);
        let shape = item.get("points").or_else(|| item.get("segmentation"));
        match (text("image"), text("label"), shape) {
            (Some(image), Some(label), Some(shape)) => read_shape(&place, image, label, None, shape, collector),
            _ => collector.problem(format!("{place}: it needs \"image\", \"label\" and \"points\"")),
        }
    }
}

/// The three tables of a COCO file; segmentations are preferred to boxes.
fn read_coco(name: &str, file: &Map<String, Value>, collector: &mut Collector<'_>) {
    let (images, labels) = (names(file, "images", "file_name"), names(file, "categories", "name"));
    let annotations = file.get("annotations").and_then(Value::as_array).into_iter().flatten();
    for (i, annotation) in annotations.enumerate() {
        let place = format!("{name}, annotation {}", i + 1);
        let number = |key: &str| annotation.get(key).and_then(Value::as_u64);
        let image = number("image_id").and_then(|id| images.get(&id));
        let label = number("category_id").and_then(|id| labels.get(&id));
        let (Some(image), Some(label)) = (image, label) else {
            collector.problem(format!("{place}: its image_id or category_id is not in the file"));
            continue;
        };
        let has_outline = |shape: &&Value| shape.as_array().is_none_or(|parts| !parts.is_empty()) && !shape.is_null();
        match (annotation.get("segmentation").filter(has_outline), annotation.get("bbox").and_then(numbers)) {
            (Some(shape), _) => read_shape(&place, image, label, None, shape, collector),
            (None, Some(corner)) if corner.len() == 4 => {
                let Some(target) = collector.target(image, label) else { continue };
                let (width, height) = collector.size(target.0);
                let corners = [corner[0], corner[1], corner[0] + corner[2], corner[1] + corner[3]];
                collector.add(&place, target, boxes_csv::fill(corners, width, height));
            }
            _ => collector.problem(format!("{place}: it has neither a segmentation nor a box of four numbers")),
        }
    }
}

/// A field of a table's rows by their number.
fn names<'a>(file: &'a Map<String, Value>, table: &str, field: &str) -> BTreeMap<u64, &'a str> {
    let rows = file.get(table).and_then(Value::as_array).into_iter().flatten();
    rows.filter_map(|row| Some((row.get("id")?.as_u64()?, row.get(field)?.as_str()?))).collect()
}

/// Run lengths (an object with size and counts) or polygons (lists), for one image and label.
fn read_shape(
    place: &str,
    image: &str,
    label: &str,
    stated: Option<&Value>,
    shape: &Value,
    collector: &mut Collector<'_>,
) {
    let Some(target) = collector.target(image, label) else { return };
    let (width, height) = collector.size(target.0);
    let stated = shape.get("size").or(stated);
    if let Some(size) = stated {
        let size = size.as_array().map(|pair| pair.iter().map(Value::as_u64).collect::<Vec<_>>());
        let Some([Some(rows), Some(columns)]) = size.as_deref() else {
            collector.problem(format!("{place}: its size is not [height, width]"));
            return;
        };
        let whole = |side: u64| usize::try_from(side).unwrap_or(usize::MAX);
        if !collector.fits(place, target.0, whole(*columns), whole(*rows)) {
            return;
        }
    }
    let found = match shape.get("counts") {
        Some(_) if stated.is_none() => Err("run lengths need a size, [height, width]".to_owned()),
        Some(Value::String(text)) => {
            coco_rle::decode_text(text, width, height).map(|inside| Runs::from_inside(&inside))
        }
        Some(Value::Array(counts)) => {
            let counts = counts.iter().map(Value::as_u64);
            coco_rle::decode_counts(counts, width, height).map(|inside| Runs::from_inside(&inside))
        }
        Some(_) => Err("counts are neither text nor a list of numbers".to_owned()),
        None => polygons_of(shape).and_then(|polygons| {
            let (mut parts, mut count) = (Vec::new(), 0);
            for points in &polygons {
                let runs = polygons::fill(points, width, height)?;
                count += runs.count();
                if count > MAX_SHAPE_RUNS {
                    return Err("its polygons have too many pieces; save it as run lengths".to_owned());
                }
                parts.push(runs);
            }
            Ok(Runs::of_all(parts))
        }),
    };
    let says_absent = shape.get("counts").is_some() || shape.as_array().is_some_and(Vec::is_empty);
    match found {
        Ok(runs) if says_absent && runs.area() == 0 => collector.absent(target.1),
        Ok(runs) => collector.add(place, target, runs),
        Err(why) => collector.problem(format!("{place}: {why}")),
    }
}

/// Polygons as lists of points, a single such list, or COCO's lists x, y, x, y.
fn polygons_of(shape: &Value) -> Result<Vec<Vec<[f64; 2]>>, String> {
    let unfit = || "an outline must be run lengths or lists of points [x, y]".to_owned();
    let parts = shape.as_array().ok_or_else(unfit)?;
    let flat: Option<Vec<Vec<f64>>> = parts.iter().map(numbers).collect();
    match flat {
        Some(points) if points.is_empty() => Ok(Vec::new()),
        Some(points) if points.iter().all(|point| point.len() == 2) => {
            Ok(vec![points.iter().map(|point| [point[0], point[1]]).collect()])
        }
        Some(lists) if lists.iter().all(|list| list.len() % 2 == 0) => {
            Ok(lists.iter().map(|list| list.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()).collect())
        }
        Some(_) => Err(unfit()),
        None => parts.iter().map(|polygon| points_of(polygon).ok_or_else(unfit)).collect(),
    }
}

fn points_of(polygon: &Value) -> Option<Vec<[f64; 2]>> {
    let point = |value: &Value| match numbers(value)?[..] {
        [x, y] => Some([x, y]),
        _ => None,
    };
    polygon.as_array()?.iter().map(point).collect()
}

/// A list of numbers.
fn numbers(value: &Value) -> Option<Vec<f64>> {
    value.as_array()?.iter().map(Value::as_f64).collect()
}
