//! What is wrong with a template, and where.

/// A template that may not be used, or one that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("templates/{template}.hbs:{line}:{column}: {fault}")]
pub struct TemplateError {
    /// The template's name: its path below `templates/` without `.hbs`.
    pub template: String,
    /// The line, from 1; 0 when the fault has no place.
    pub line: usize,
    /// The column, from 1; 0 when the fault has no place.
    pub column: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not parse.
    #[error("{0}")]
    Syntax(String),
    /// A mail needs it and it is not there.
    #[error("the template is missing")]
    Missing,
    /// No mail uses it: most likely its name is mistyped.
    #[error("no mail uses this template")]
    Unused,
    /// It includes a template that is not there.
    #[error("there is no partial `{0}` among the templates of this part")]
    UnknownPartial(String),
    /// It includes itself, directly or by others.
    #[error("the partials include each other in a circle: {0}")]
    Cycle(String),
    /// It names something that a mail does not have.
    #[error("`{0}` is not in the data of every mail that comes here")]
    UnknownPath(String),
    /// It prints something that is no text, or may be absent.
    #[error("`{0}` is not always a text here; put it into an #if or an #each")]
    NotText(String),
    /// It goes through something that is no list.
    #[error("`{0}` is not a list")]
    NotList(String),
    /// It prints without escaping.
    #[error("unescaped output is not allowed: write `{{{{…}}}}`")]
    Unescaped,
    /// It uses what these templates do without.
    #[error("{0} is not allowed here: only paths, #if, #unless, #each, #with and partials without arguments are")]
    Unsupported(String),
    /// No sample comes here, so that nothing can be said about it.
    #[error("no sample reaches this block")]
    Unreached,
    /// It failed while it was rendered.
    #[error("{0}")]
    Render(String),
}

impl TemplateError {
    /// A fault of a whole template.
    pub(super) fn of(template: &str, fault: Fault) -> Self {
        Self { template: template.to_owned(), line: 0, column: 0, fault }
    }

    /// A fault found while parsing.
    pub(super) fn parsing(template: &str, error: &handlebars::TemplateError) -> Self {
        let (line, column) = error.pos().unwrap_or((0, 0));
        Self { template: template.to_owned(), line, column, fault: Fault::Syntax(error.reason().to_string()) }
    }

    /// A fault found while rendering.
    pub(super) fn rendering(template: &str, error: &handlebars::RenderError) -> Self {
        Self {
            template: error.template_name.clone().unwrap_or_else(|| template.to_owned()),
            line: error.line_no.unwrap_or(0),
            column: error.column_no.unwrap_or(0),
            fault: Fault::Render(error.reason().to_string()),
        }
    }
}
