//! Mails from templates: handlebars in strict mode, one registry for each part of a mail (HTML
//! escapes, text does not, the subject is one line). A set of templates is checked as a whole when
//! it is loaded, so that rendering a mail cannot fail on a name.

mod check;
pub mod context;
mod error;
mod flat;
mod graph;
mod lead;
mod markup;
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
pub use sources::{Sources, embedded, overlaid};

use crate::config::Config;
use crate::domain::surge::{Kind, Occasion};
use handlebars::{Context, Handlebars, Template, html_escape, no_escape};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sources::Part;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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

impl Page {
    /// The page of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let page = &config.page;
        Self {
            name: page.name.clone(),
            support_url: page.support_url.clone(),
            public_url: Some(page.public_url.clone()),
        }
    }
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
    /// A surge.
    Surge {
        /// What it is.
        kind: Kind,
        /// Its component's name.
        component: Option<String>,
        /// What it was opened for.
        occasion: Occasion,
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
    sources: Sources,
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

    /// The built-in set with the files of a folder laid over it.
    ///
    /// # Errors
    /// As [`Templates::load`]; also when a file overrides nothing.
    pub fn overlaid(folder: Option<&Path>, page: &Page) -> Result<Self, TemplateError> {
        let (sources, faults) = overlaid(folder);
        faults.into_iter().next().map_or_else(|| Self::load(&sources, page), Err)
    }

    /// Loads and checks a set: partials end, every path exists in every sample, nothing is printed
    /// unescaped, every sample renders.
    ///
    /// # Errors
    /// The first template that fails one of these, with its place.
    pub fn load(sources: &Sources, page: &Page) -> Result<Self, TemplateError> {
        let first = |part, escape| registry(sources, page, part, escape).map_err(|mut faults| faults.swap_remove(0));
        Ok(Self {
            page: page.clone(),
            html: first(Part::Html, html_escape)?,
            text: first(Part::Text, no_escape)?,
            subject: first(Part::Subject, subject_escape)?,
            sources: sources.clone(),
            set_hash: sources::hash(sources),
        })
    }

    /// Everything that is wrong with the built-in set and the files of a folder laid over it.
    #[must_use]
    pub fn faults(folder: Option<&Path>, page: &Page) -> Vec<TemplateError> {
        let (sources, mut faults) = overlaid(folder);
        for (part, escape) in
            [(Part::Html, html_escape as fn(&str) -> String), (Part::Text, no_escape), (Part::Subject, subject_escape)]
        {
            faults.extend(registry(&sources, page, part, escape).err().into_iter().flatten());
        }
        faults
    }

    /// The sources this set was loaded from.
    #[must_use]
    pub const fn sources(&self) -> &Sources {
        &self.sources
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
    /// What it is about, without a template.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Incident { title: words, .. }
            | Self::Connections { component: words }
            | Self::Notice { subject: words } => prose::one_line(words, SUBJECT),
            Self::Surge { kind, component, occasion } => lead::surge_matter(*kind, component.as_deref(), *occasion),
        }
    }

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
            Self::Surge { .. } => ("mail/surge/subject.txt", json!({ "page": page.name, "matter": self.words() })),
        }
    }
}

/// The registry of one part, its templates parsed and checked; or what is wrong with them, by place.
fn registry(
    sources: &Sources,
    page: &Page,
    part: Part,
    escape: fn(&str) -> String,
) -> Result<Handlebars<'static>, Vec<TemplateError>> {
    let samples = samples::of_templates(page, part);
    let mut faults = check(sources, part, &samples);
    if !faults.is_empty() {
        let key = |fault: &TemplateError| (fault.template.clone(), fault.line, fault.column, fault.fault.to_string());
        faults.sort_by_key(key);
        faults.dedup_by_key(|fault| key(fault));
        return Err(faults);
    }
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    registry.set_prevent_indent(true);
    registry.register_escape_fn(escape);
    for (name, source) in sources.iter().filter(|(name, _)| Part::of(name) == part) {
        let flat = flat::flatten(sources, source);
        registry.register_template_string(name, flat).map_err(|error| vec![TemplateError::parsing(name, &error)])?;
    }
    for (name, views) in &samples {
        for view in views {
            let shown = render(&registry, name, &Context::from(view.clone())).map_err(|error| vec![error])?;
            if shown.trim().is_empty() {
                return Err(vec![TemplateError::of(name, Fault::Blank)]);
            }
        }
    }
    Ok(registry)
}

/// What can be said of the templates of a part before they are rendered.
fn check(sources: &Sources, part: Part, samples: &[(String, Vec<Value>)]) -> Vec<TemplateError> {
    let (mut parsed, mut faults) = (BTreeMap::new(), Vec::new());
    let names: BTreeSet<&str> = sources.keys().map(String::as_str).filter(|name| Part::of(name) == part).collect();
    for name in &names {
        let source = sources.get(*name).map_or("", String::as_str);
        match Template::compile_with_name(source, (*name).to_owned()) {
            Ok(template) => drop(parsed.insert((*name).to_owned(), template)),
            Err(error) => faults.push(TemplateError::parsing(name, &error)),
        }
        let misread = flat::misread(source);
        faults.extend(misread.map(|(at, what)| TemplateError::at(name, at, Fault::Unsupported(what.to_owned()))));
        if part == Part::Subject
            && let Some(line) = source.trim_end_matches(['\r', '\n']).split_inclusive(['\r', '\n']).next()
            && line.ends_with(['\r', '\n'])
        {
            faults.push(TemplateError::at(name, (1, line.trim_end().chars().count() + 1), Fault::LineBreak));
        }
    }
    let missing = samples.iter().filter(|(name, _)| !names.contains(name.as_str()));
    faults.extend(missing.map(|(name, _)| TemplateError::of(name, Fault::Missing)));
    faults.extend(graph::check(&parsed, &names));
    // A walk through a circle would not end.
    if !faults.iter().any(|fault| matches!(fault.fault, Fault::Cycle(_))) {
        let mut checker = check::Checker::new(&parsed);
        samples.iter().for_each(|(name, views)| checker.walk(name, views));
        let found = checker.finish();
        // What does not parse uses nothing, so that only what was found in others can be trusted.
        let whole = faults.is_empty();
        faults.extend(found.into_iter().filter(|f| whole || !matches!(f.fault, Fault::Unused | Fault::Unreached)));
    }
    for unused in faults.iter_mut().filter(|fault| fault.fault == Fault::Unused) {
        unused.known = embedded().into_keys().collect();
    }
    faults
}

/// Control characters could end the header.
fn subject_escape(value: &str) -> String {
    prose::one_line(value, usize::MAX)
}

fn render(registry: &Handlebars, name: &str, view: &Context) -> Result<String, TemplateError> {
    registry.render_with_context(name, view).map_err(|error| TemplateError::rendering(name, &error))
}
