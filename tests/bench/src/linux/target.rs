//! What a figure must reach.

use std::fmt;

/// The bound of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// The figure is to be no larger.
    AtMost(f64),
    /// The figure is to be no smaller.
    AtLeast(f64),
}

impl Target {
    /// Whether `figure` does.
    pub(crate) fn verdict(self, figure: f64) -> &'static str {
        let reached = match self {
            Target::AtMost(bound) => figure <= bound,
            Target::AtLeast(bound) => figure >= bound,
        };
        if reached { "reached" } else { "missed" }
    }

    /// A line with the target of `what`, and each figure by its name.
    pub(crate) fn print(self, what: &str, figures: impl IntoIterator<Item = (String, f64)>) {
        let figures = figures.into_iter();
        let each: Vec<String> =
            figures.map(|(name, figure)| format!("{name} {figure:.2} {}", self.verdict(figure))).collect();
        println!("target: {what} {self}: {}", each.join(", "));
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::AtMost(bound) => write!(f, "at most {bound}"),
            Target::AtLeast(bound) => write!(f, "at least {bound}"),
        }
    }
}
