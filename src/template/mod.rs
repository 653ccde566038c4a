//! Mails from templates: handlebars in strict mode, one registry for each part of a mail (HTML
//! escapes, text does not, the subject is one line). A set of templates is checked as a whole when
//! it is loaded, so that rendering a mail cannot fail on a name.

mod check;
pub mod context;
mod error;
mod flat;
mod graph;
mod lead;
mod prose;
mod samples;
mod sources;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod view;

pub use context::Mail;
pub use error::{Fault, TemplateError};
pub use sources::{Sources, embedded};

use handlebars::{Context, Handlebars, Template, html_escape, no_escape};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sources::Part;
use std::collections::BTreeMap;

/// The longest subject, in characters.
const SUBJECT: usize = 120;

/// The page in whose name the mails are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Its name.
    pub name: String,
    /// Where help is found.
    pub support_url: Option<String>,
    /// Its public address.
    pub public_url: Option<String>,
}

/// Who reads a mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// The name of the person.
    pub name: Option<String>,
    /// The language tag; the texts are English, it is the caller's for the headers.
    pub locale: String,
    /// The IANA zone; times are in UTC alone when it is unknown.
    pub zone: String,
}

/// What a thread is about; decides the subject, which stays the same for the whole thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matter {
    /// An incident: its problem mails, updates, all-clear, end and post-mortem.
    Incident {
        /// The incident's title when the thread began.
        title: String,
        /// The incident's reference.
        reference: String,
    },
    /// One component's connections: the request and its correction.
    Connections {
        /// The component's name.
        component: String,
    },
    /// A notice.
    Notice {
        /// The subject the status team wrote.
        subject: String,
    },
}

/// Both parts of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The plain text part, wrapped.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

/// A checked set of templates.
#[derive(Clone)]
pub struct Templates {
    page: Page,
    html: Handlebars<'static>,
    text: Handlebars<'static>,
    subject: Handlebars<'static>,
    set_hash: String,
}

impl Templates {
    /// The built-in set.
    ///
    /// # Errors
    /// As [`Templates::load`].
    pub fn embedded(page: &Page) -> Result<Self, TemplateError> {
        Self::load(&embedded(), page)
    }

    /// Loads and checks a set: partials end, every path exists in every sample, nothing is printed
    /// unescaped, every sample renders.
    ///
    /// # Errors
    /// The first template that fails one of these, with its place.
    pub fn load(sources: &Sources, page: &Page) -> Result<Self, TemplateError> {
        Ok(Self {
            page: page.clone(),
            html: registry(sources, page, Part::Html, html_escape)?,
            text: registry(sources, page, Part::Text, no_escape)?,
            subject: registry(sources, page, Part::Subject, |value| prose::one_line(value, usize::MAX))?,
            set_hash: sources::hash(sources),
        })
    }

    /// The address of the content of this set: SHA-256 over all sources, in hexadecimal.
    #[must_use]
    pub fn set_hash(&self) -> &str {
        &self.set_hash
    }

    /// The subject of a thread: one line of at most 120 characters.
    ///
    /// # Errors
    /// When the template fails to render, which loading it excludes for all samples.
    pub fn subject(&self, matter: &Matter) -> Result<String, TemplateError> {
        let (name, view) = matter.view(&self.page);
        Ok(prose::one_line(&render(&self.subject, name, &Context::from(view))?, SUBJECT))
    }

    /// Both parts of a mail for a reader.
    ///
    /// # Errors
    /// When a template fails to render, which loading it excludes for all samples.
    pub fn render(&self, mail: &Mail, reader: &Reader) -> Result<Rendered, TemplateError> {
        let view = Context::from(view::of(mail, reader, &self.page));
        let name = |part: &str| format!("mail/{}/body.{part}", mail.kind());
        Ok(Rendered {
            text: text::tidy(&render(&self.text, &name("txt"), &view)?),
            html: render(&self.html, &name("html"), &view)?,
        })
    }
}

impl Matter {
    /// The subject's template and what it shows.
    fn view(&self, page: &Page) -> (&'static str, Value) {
        match self {
            Self::Incident { title, reference } => {
                ("mail/incident/subject.txt", json!({ "page": page.name, "title": title, "reference": reference }))
            }
            Self::Connections { component } => {
                ("mail/action_required/subject.txt", json!({ "page": page.name, "component": component }))
            }
            Self::Notice { subject } => ("mail/free/subject.txt", json!({ "page": page.name, "subject": subject })),
        }
    }
}

/// The registry of one part, its templates parsed and checked.
fn registry(
    sources: &Sources,
    page: &Page,
    part: Part,
    escape: fn(&str) -> String,
) -> Result<Handlebars<'static>, TemplateError> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    registry.set_prevent_indent(true);
    registry.register_escape_fn(escape);
    let mut parsed = BTreeMap::new();
    for (name, source) in sources.iter().filter(|(name, _)| Part::of(name) == part) {
        let template =
            Template::compile_with_name(source, name.clone()).map_err(|error| TemplateError::parsing(name, &error))?;
        registry.register_template_string(name, source).map_err(|error| TemplateError::parsing(name, &error))?;
        parsed.insert(name.clone(), template);
    }
    graph::check(&parsed)?;
    let samples = samples::of_templates(page, part);
    let mut checker = check::Checker::new(&parsed);
    samples.iter().try_for_each(|(name, views)| checker.walk(name, views))?;
    checker.finish()?;
    for name in parsed.keys() {
        let flat = flat::flatten(sources, sources.get(name).map_or("", String::as_str));
        registry.register_template_string(name, flat).map_err(|error| TemplateError::parsing(name, &error))?;
    }
    for (name, views) in &samples {
        views.iter().try_for_each(|view| render(&registry, name, &Context::from(view.clone())).map(drop))?;
    }
    Ok(registry)
}

fn render(registry: &Handlebars, name: &str, view: &Context) -> Result<String, TemplateError> {
    registry.render_with_context(name, view).map_err(|error| TemplateError::rendering(name, &error))
}
