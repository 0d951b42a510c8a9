//! A report as sections and lines, before it has a form. Not for: what stands in them, and not for a form.

/// A report.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// What it is about, in a line.
    pub title: String,
    /// Whose it is, a line each.
    pub below: Vec<String>,
    /// What is known.
    pub sections: Vec<Section>,
}

/// What is known of one thing.
#[derive(Debug)]
pub(super) struct Section {
    /// Its heading.
    pub name: &'static str,
    /// What it says; never empty.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Debug)]
pub(super) enum Line {
    /// A sentence.
    Says(String),
    /// A sentence with a word before it.
    Item(String, String),
    /// The same, to be copied as it stands.
    Step(&'static str, String),
    /// A call on a stack.
    Call {
        /// It is the application's own.
        application: bool,
        /// Which.
        text: String,
    },
    /// What belongs to the call before it.
    Of(String),
}

impl Page {
    /// Adds a section unless it says nothing.
    pub fn add(&mut self, name: &'static str, lines: Vec<Line>) {
        if !lines.is_empty() {
            self.sections.push(Section { name, lines });
        }
    }
}
