//! What the page says, before any layout: sections of text, lists, tables and figures.
//!
//! Sections fill these types, the template lays them out and escapes them, and the model card writes them as Markdown.
//! Only figures (`svg` has escaped their text), the base64 text of pictures and our own paths of links pass as they are.
//! What is missing is a block with its reason.

use super::html::base64;
use crate::explain::summary::EmbeddedMap;
use minijinja::{Value, context};

/// A numbered part of the page.
#[derive(Clone, Debug)]
pub(super) struct Section {
    /// Its anchor.
    pub(super) id: &'static str,
    pub(super) title: String,
    pub(super) blocks: Vec<Block>,
}

/// One thing in a section.
#[derive(Clone, Debug)]
pub(super) enum Block {
    Heading(String),
    Text(String),
    List(Vec<String>),
    /// Small print.
    Notes(Vec<String>),
    /// Something that is not there, and why.
    Missing(String),
    /// What makes the numbers below misleading.
    Mark(String),
    /// The way to another page of the same study: what it says, and where it lies as seen from this page.
    Link(String, &'static str),
    Table(Table),
    Figures(Figures),
    /// Pictures that the page embeds.
    Pictures(Vec<EmbeddedMap>),
}

/// Figures side by side.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// `roc` for square panels, `rows` for wide ones.
    pub(super) shape: &'static str,
    /// Name and sample of each line, the sample as SVG.
    pub(super) legend: Vec<(String, String)>,
    /// SVG.
    pub(super) panels: Vec<String>,
}

/// A table whose first column names its rows.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// What it shows, for those who cannot see it.
    pub(super) name: String,
    /// `results` for columns of numbers, `plain` for words.
    pub(super) style: &'static str,
    pub(super) head: Vec<Cell>,
    /// Rows below a heading, which may be empty.
    pub(super) groups: Vec<(String, Vec<Vec<Cell>>)>,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    /// A second line in small print.
    pub(super) below: String,
    pub(super) tone: Tone,
}

/// How a cell stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Normal,
    Bold,
    /// Not estimable, too few to say.
    Missing,
    /// For the authors to fill in.
    Blank,
    /// The second line is for the authors to fill in.
    Partly,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    pub(super) fn missing(text: impl Into<String>) -> Self {
        Self { tone: Tone::Missing, ..Self::new(text) }
    }

    pub(super) fn with(self, below: impl Into<String>) -> Self {
        Self { below: below.into(), ..self }
    }

    fn value(&self) -> Value {
        let class = match self.tone {
            Tone::Normal => "",
            Tone::Bold => "bold",
            Tone::Missing => "missing",
            Tone::Blank => "blank",
            Tone::Partly => "partly",
        };
        context! { text => self.text.as_str(), below => self.below.as_str(), class => class }
    }
}

impl Table {
    /// A table without headings between its rows.
    pub(super) fn new(name: &str, style: &'static str, head: &[&str], rows: Vec<Vec<Cell>>) -> Self {
        let head = head.iter().map(|h| Cell::new(*h)).collect();
        Self { name: name.to_owned(), style, head, groups: vec![(String::new(), rows)] }
    }

    fn value(&self) -> Value {
        let row = |row: &Vec<Cell>| -> Value { row.iter().map(Cell::value).collect() };
        let group = |(heading, rows): &(String, Vec<Vec<Cell>>)| {
            let rows: Value = rows.iter().map(row).collect();
            context! { heading => heading.as_str(), rows => rows }
        };
        let head: Value = self.head.iter().map(Cell::value).collect();
        let groups: Value = self.groups.iter().map(group).collect();
        context! {
            kind => "table",
            name => self.name.as_str(),
            style => self.style,
            head => head,
            columns => self.head.len(),
            groups => groups,
        }
    }

    fn markdown(&self) -> String {
        let line = |cells: &[Cell]| {
            let cells: Vec<String> = cells.iter().map(Cell::markdown).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(&self.head);
        text += &format!("|{}\n", " --- |".repeat(self.head.len()));
        for (_, rows) in &self.groups {
            rows.iter().for_each(|row| text += &line(row));
        }
        text
    }
}

impl Cell {
    fn markdown(&self) -> String {
        let text = plain(&self.text);
        if self.below.is_empty() { text } else { format!("{text} ({})", plain(&self.below)) }
    }
}

impl Block {
    fn value(&self) -> Value {
        let words = |kind: &str, text: &str| context! { kind => kind, text => text };
        let lines = |kind: &str, lines: &[String]| {
            let lines: Value = lines.iter().map(String::as_str).collect();
            context! { kind => kind, lines => lines }
        };
        match self {
            Self::Heading(text) => words("heading", text),
            Self::Text(text) => words("text", text),
            Self::Missing(text) => words("missing", text),
            Self::Mark(text) => words("mark", text),
            Self::Link(text, path) => {
                let href = Value::from_safe_string((*path).to_owned());
                context! { kind => "link", text => text.as_str(), href => href }
            }
            Self::List(items) => lines("list", items),
            Self::Notes(items) => lines("notes", items),
            Self::Table(table) => table.value(),
            Self::Figures(figures) => {
                let legend = figures.legend.iter().map(|(name, sample)| {
                    context! { name => name.as_str(), sample => Value::from_safe_string(sample.clone()) }
                });
                let legend: Value = legend.collect();
                let panels: Value = figures.panels.iter().map(|p| Value::from_safe_string(p.clone())).collect();
                context! { kind => "figures", shape => figures.shape, legend => legend, panels => panels }
            }
            Self::Pictures(maps) => {
                let picture = |map: &EmbeddedMap| {
                    let data = format!("data:image/png;base64,{}", base64(&map.png));
                    context! { words => map.words.as_str(), data => Value::from_safe_string(data) }
                };
                let pictures: Value = maps.iter().map(picture).collect();
                context! { kind => "pictures", pictures => pictures }
            }
        }
    }

    fn markdown(&self) -> String {
        match self {
            Self::Heading(text) => format!("### {}\n", plain(text)),
            Self::Text(text) | Self::Missing(text) | Self::Mark(text) | Self::Link(text, _) => {
                format!("{}\n", plain(text))
            }
            Self::List(items) | Self::Notes(items) => items.iter().map(|i| format!("- {}\n", plain(i))).collect(),
            Self::Table(table) => table.markdown(),
            Self::Figures(_) | Self::Pictures(_) => String::new(),
        }
    }
}

impl Section {
    /// What the template gets.
    pub(super) fn value(&self) -> Value {
        let blocks: Value = self.blocks.iter().map(Block::value).collect();
        context! { id => self.id, title => self.title.as_str(), blocks => blocks }
    }

    /// A page of Markdown; figures are left out.
    pub(super) fn markdown(&self) -> String {
        let blocks: Vec<String> = self.blocks.iter().map(Block::markdown).filter(|b| !b.is_empty()).collect();
        format!("# {}\n\n{}", plain(&self.title), blocks.join("\n"))
    }
}

/// One line of Markdown in which nothing is markup.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_holds_no_markup_of_others() {
        let rows = vec![vec![Cell::new("a|b"), Cell::new("<i>").with("x\ny")]];
        let blocks = vec![
            Block::Heading("h".to_owned()),
            Block::List(vec!["*one*".to_owned()]),
            Block::Table(Table::new("t", "plain", &["A", "B"], rows)),
        ];
        let text = Section { id: "card", title: "[x](y)".to_owned(), blocks }.markdown();
        assert_eq!(
            text,
            "# \\[x\\](y)\n\n### h\n\n- \\*one\\*\n\n| A | B |\n| --- | --- |\n| a\\|b | &lt;i> (x y) |\n"
        );
    }
}
