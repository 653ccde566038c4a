//! What is wrong with a template, and where.

/// A template that may not be used, or one that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fault}", self.place())]
pub struct TemplateError {
    /// The template's name: its path below `templates/` without `.hbs`.
    pub template: String,
    /// The line, from 1; 0 when the fault has no place.
    pub line: usize,
    /// The column, from 1; 0 when the fault has no place.
    pub column: usize,
    /// What is wrong.
    pub fault: Fault,
    /// The names that would have been right there.
    pub known: Vec<String>,
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
    /// It prints where escaping does not keep a value in its place: where, and what to do.
    #[error("a value is not safe {0}: escaping does not protect it there")]
    Exposed(&'static str, &'static str),
    /// It uses what these templates do without.
    #[error("{0} is not allowed here: only paths, #if, #unless, #each, #with and partials without arguments are")]
    Unsupported(String),
    /// No sample comes here, so that nothing can be said about it.
    #[error("no sample reaches this block")]
    Unreached,
    /// It failed while it was rendered.
    #[error("{0}")]
    Render(String),
    /// A subject of several lines: what follows the first would be lost, or become a header.
    #[error("a subject is one line, and this has a line break")]
    LineBreak,
    /// A mail or a subject that says nothing.
    #[error("nothing is said to a sample")]
    Blank,
    /// A file in the override folder that overrides nothing.
    #[error("this file overrides no template")]
    UnknownFile,
    /// A file or folder that cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

impl TemplateError {
    /// A fault of a whole template.
    pub(super) fn of(template: &str, fault: Fault) -> Self {
        Self::at(template, (0, 0), fault)
    }

    /// A fault at a line and column.
    pub(super) fn at(template: &str, (line, column): (usize, usize), fault: Fault) -> Self {
        Self { template: template.to_owned(), line, column, fault, known: Vec::new() }
    }

    /// File, line and column, as editors and compilers write them.
    #[must_use]
    pub fn place(&self) -> String {
        let whole = matches!(self.fault, Fault::UnknownFile | Fault::Unreadable(_));
        let file = format!("{}{}", self.template, if whole { "" } else { ".hbs" });
        if self.line == 0 { file } else { format!("{file}:{}:{}", self.line, self.column) }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let known = self.known.join(", ");
        match &self.fault {
            Fault::Syntax(_) => "close every block with {{/name}}, and every {{ with }}".to_owned(),
            Fault::Missing => "`allclear templates export` writes the built-in one".to_owned(),
            Fault::Unused => {
                format!("include it with {{{{> {}}}}}, or take it away; the built-in names are {known}", self.template)
            }
            Fault::UnknownPartial(_) => format!("the partials of this part are {known}"),
            Fault::Cycle(_) => "take one of these inclusions out".to_owned(),
            Fault::UnknownPath(_) if known.is_empty() => "write {{this}}, or a name with @root. before it".to_owned(),
            Fault::UnknownPath(_) => format!("the names here are {known}"),
            Fault::NotText(name) => {
                format!("write {{{{#if {name}}}}}{{{{{name}}}}}{{{{/if}}}}, or go through it with #each")
            }
            Fault::NotList(name) => format!("write {{{{#if {name}}}}}, or name a list"),
            Fault::Unescaped => "values come from outside, and would be read as markup".to_owned(),
            Fault::Exposed(_, what_to_do) => (*what_to_do).to_owned(),
            Fault::Unsupported(_) => {
                "what is to be shown is prepared by the program; a template only arranges it".to_owned()
            }
            Fault::Unreached => "no mail can come here; take it out, or turn the condition around".to_owned(),
            Fault::Render(_) => "see the place named".to_owned(),
            Fault::LineBreak => "write it on one line; the line end of the file does not count".to_owned(),
            Fault::Blank => "print something that every mail of the kind has".to_owned(),
            Fault::UnknownFile => {
                format!("name it like one of these, with .hbs: {known}; or put a partial into layouts/")
            }
            Fault::Unreadable(_) => "name a folder of UTF-8 files that this program may read".to_owned(),
        }
    }

    /// A fault found while parsing.
    pub(super) fn parsing(template: &str, error: &handlebars::TemplateError) -> Self {
        let (line, column) = error.pos().unwrap_or((0, 0));
        let reason = error.reason().to_string();
        // The parser lists all that could have come next, in its own words.
        let what =
            if reason.contains("expected ") { "a tag or a block is not closed before this".to_owned() } else { reason };
        Self::at(template, (line, column), Fault::Syntax(what))
    }

    /// A fault found while rendering.
    pub(super) fn rendering(template: &str, error: &handlebars::RenderError) -> Self {
        let name = error.template_name.as_deref().unwrap_or(template);
        let place = (error.line_no.unwrap_or(0), error.column_no.unwrap_or(0));
        Self::at(name, place, Fault::Render(error.reason().to_string()))
    }
}
