//! Statuses as people see them: a shape, a colour and a word each, so that no colour is needed to tell them apart.

use std::fmt;

use askama::filters::HtmlSafe;
use buildit_shared::domain::{RunStatus, StepStatus};

/// A status's drawing, in a square of 16.
pub(super) struct Shape {
    /// The status.
    name: &'static str,
    /// Its name as an icon of the browser's tab.
    pub(super) file: &'static str,
    /// Its colour there.
    colour: &'static str,
    drawing: &'static str,
}

const SUCCESS: &str = r#"<circle cx="8" cy="8" r="7.2"/><path class="cut" d="M4.7 8.3l2.3 2.3 4.4-4.9"/>"#;
const FAILURE: &str = r#"<path d="M5.1.8h5.8l4.3 4.3v5.8l-4.3 4.3H5.1L.8 10.9V5.1z"/><path class="cut" d="M5.6 5.6l4.8 4.8m0-4.8l-4.8 4.8"/>"#;
const ERROR: &str = r#"<path d="M8 .9l7.4 13.6H.6z"/><path class="cut" d="M8 5.9v3.7m0 2.3v.1"/>"#;
const RUNNING: &str =
    r#"<circle class="ring faint" cx="8" cy="8" r="6.2"/><path class="ring turns" d="M8 1.8A6.2 6.2 0 0 1 14.2 8"/>"#;
const PENDING: &str = r#"<circle class="ring" cx="8" cy="8" r="6.2" stroke-dasharray="2.2 2.67"/>"#;
const CANCELLED: &str =
    r#"<circle class="ring" cx="8" cy="8" r="6.2"/><rect x="5.4" y="5.4" width="5.2" height="5.2" rx="0.8"/>"#;
const SKIPPED: &str = r#"<circle class="ring faint" cx="8" cy="8" r="6.2"/><path class="ring" d="M5.2 8h5.6"/>"#;

macro_rules! shape {
    ($name:literal, $colour:literal, $drawing:expr) => {
        Shape { name: $name, file: concat!("icon-", $name, ".svg"), colour: $colour, drawing: $drawing }
    };
}

pub(super) static ICONS: [Shape; 9] = [
    shape!("success", "#2e9e55", SUCCESS),
    shape!("failure", "#d93a3f", FAILURE),
    shape!("error", "#d97a17", ERROR),
    shape!("running", "#4b7df0", RUNNING),
    shape!("pending", "#858b95", PENDING),
    shape!("cancelled", "#858b95", CANCELLED),
    shape!("skipped", "#858b95", SKIPPED),
    shape!("lost", "#d97a17", ERROR),
    shape!("none", "#4b6bd8", r#"<circle class="ring faint" cx="8" cy="8" r="6.2"/>"#),
];

/// BuildIt's own sign: blocks that stand on each other.
pub(super) const LOGO: &str = r#"<path d="M1.5 9.2h6v5.3h-6zM8.9 9.2h5.6v5.3H8.9zM4.6 1.8h6.8v6H4.6z"/>"#;

impl Shape {
    fn of(name: &str) -> &'static Shape {
        ICONS.iter().find(|shape| shape.name == name).unwrap_or(&ICONS[8])
    }

    /// The drawing as a file of its own, which no stylesheet reaches; without a status, the product's sign.
    pub(super) fn file_body(&self) -> String {
        let drawing = if self.name == "none" { LOGO } else { self.drawing };
        let drawing = drawing
            .replace("class=\"cut\"", "fill=\"none\" stroke=\"#fff\" stroke-width=\"1.9\" stroke-linecap=\"round\"")
            .replace(
                "class=\"ring faint\"",
                "fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.4\" opacity=\"0.35\"",
            )
            .replace("class=\"ring turns\"", "fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.4\"")
            .replace("class=\"ring\"", "fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.2\"");
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\" color=\"{0}\" fill=\"{0}\">{drawing}</svg>",
            self.colour
        )
    }
}

/// The name of a status's icon of the tab.
pub(super) fn icon_file(name: &str) -> &'static str {
    Shape::of(name).file
}

/// A status's shape in its colour; `alone` gives it a name for those who do not see it.
#[derive(Clone, Copy)]
pub(super) struct Icon {
    name: &'static str,
    alone: bool,
}

impl fmt::Display for Icon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, alone } = *self;
        let drawing = Shape::of(name).drawing;
        let label = match alone {
            true => format!("role=\"img\" aria-label=\"{name}\""),
            false => "aria-hidden=\"true\"".into(),
        };
        let title = if alone { format!("<title>{name}</title>") } else { String::new() };
        write!(f, "<svg class=\"icon is-{name}\" viewBox=\"0 0 16 16\" {label}>{title}{drawing}</svg>")
    }
}

impl HtmlSafe for Icon {}

/// A status as these pages show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) &'static str);

impl Status {
    /// The status of that name.
    pub(super) fn named(name: &str) -> Self {
        Self(Shape::of(name).name)
    }

    /// The shape where nothing else says the word.
    pub(super) fn alone(self) -> Icon {
        Icon { name: self.0, alone: true }
    }

    /// The shape beside the word.
    pub(super) fn icon(self) -> Icon {
        Icon { name: self.0, alone: false }
    }

    pub(super) fn name(self) -> &'static str {
        self.0
    }

    pub(super) fn is_live(self) -> bool {
        matches!(self.0, "pending" | "running")
    }

    /// It ended badly: something is to be looked at.
    pub(super) fn is_bad(self) -> bool {
        matches!(self.0, "failure" | "error" | "lost")
    }
}

impl From<RunStatus> for Status {
    fn from(status: RunStatus) -> Self {
        Self(status.name())
    }
}

impl From<StepStatus> for Status {
    fn from(status: StepStatus) -> Self {
        Self(status.name())
    }
}
