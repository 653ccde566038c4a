//! Checks every path of a template against the sample mails, by walking the parsed template with
//! all samples at once. Strict mode alone lets a mistyped name in `#if` and `#each` pass, prints a
//! null as nothing and an object as `[object]`; here all of that is refused, and so is a block that
//! no sample reaches. The language is kept small so that the walk is exact.

use super::error::{Fault, TemplateError};
use super::graph::{BLOCK, place};
use super::markup::Markup;
use super::sources::{Part, embedded};
use handlebars::template::{DecoratorTemplate, HelperTemplate, Parameter, TemplateElement};
use handlebars::{JsonTruthy, Path, Template};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Where one sample stands in a template.
#[derive(Clone, Copy)]
struct Frame<'a> {
    root: &'a Value,
    this: &'a Value,
    looping: bool,
}

/// A block of a template: name, line, column, and whether it is the `else` part.
type Block = (String, usize, usize, bool);

/// A place in a template.
struct Spot<'a> {
    template: &'a str,
    line: usize,
    column: usize,
}

impl Spot<'_> {
    fn fault(&self, fault: Fault) -> TemplateError {
        TemplateError::at(self.template, (self.line, self.column), fault)
    }

    /// A name that is not there, with those that are.
    fn unknown(&self, path: &str, frame: &Frame) -> TemplateError {
        let known = frame.this.as_object().into_iter().flat_map(|names| names.keys().cloned()).collect();
        TemplateError { known, ..self.fault(Fault::UnknownPath(path.to_owned())) }
    }
}

/// The walk through the templates of one part. It goes on after a fault, past what the fault makes unknowable.
pub(super) struct Checker<'a> {
    set: &'a BTreeMap<String, Template>,
    used: BTreeSet<String>,
    seen: BTreeSet<Block>,
    reached: BTreeSet<Block>,
    faults: Vec<TemplateError>,
    markup: Markup,
}

impl<'a> Checker<'a> {
    /// A walk that has seen nothing yet, through templates that include each other in no circle.
    pub fn new(set: &'a BTreeMap<String, Template>) -> Self {
        Self {
            set,
            used: BTreeSet::new(),
            seen: BTreeSet::new(),
            reached: BTreeSet::new(),
            faults: Vec::new(),
            markup: Markup::default(),
        }
    }

    /// Walks a template with the data of all its samples.
    pub fn walk(&mut self, name: &str, samples: &[Value]) {
        let frames: Vec<_> = samples.iter().map(|s| Frame { root: s, this: s, looping: false }).collect();
        self.markup = Markup::default();
        self.named(name, &frames);
    }

    /// After all walks: what was found; when that is nothing, the templates and blocks that nothing came to.
    pub fn finish(self) -> Vec<TemplateError> {
        let mut faults = self.faults;
        if faults.is_empty() {
            // What is built in cannot be taken away, and need not be: another that is laid over may do without.
            let built_in = embedded();
            let unused = self.set.keys().filter(|name| !self.used.contains(*name) && !built_in.contains_key(*name));
            faults.extend(unused.map(|name| TemplateError::of(name, Fault::Unused)));
            let unreached = self.seen.difference(&self.reached);
            faults.extend(unreached.map(|(template, line, column, _)| {
                Spot { template, line: *line, column: *column }.fault(Fault::Unreached)
            }));
        }
        faults
    }

    /// What is not in the set is missing or does not parse, which is told elsewhere.
    fn named(&mut self, name: &str, frames: &[Frame]) {
        if let Some(template) = self.set.get(name) {
            self.used.insert(name.to_owned());
            self.elements(name, template, frames);
        }
    }

    fn elements(&mut self, name: &str, template: &Template, frames: &[Frame]) {
        for (i, element) in template.elements.iter().enumerate() {
            let (line, column) = place(template, i);
            let spot = Spot { template: name, line, column };
            let done = match element {
                TemplateElement::RawString(text) => {
                    self.markup.read(text);
                    Ok(())
                }
                TemplateElement::Comment(_) => Ok(()),
                TemplateElement::HtmlExpression(_) => Err(spot.fault(Fault::Unescaped)),
                TemplateElement::Expression(e) => {
                    print(&spot, e, frames).and_then(|path| self.placed(&spot, Some(path.as_str())))
                }
                TemplateElement::HelperBlock(block) => self.block(&spot, block, frames),
                TemplateElement::PartialExpression(p) | TemplateElement::PartialBlock(p) => {
                    self.partial(&spot, p, frames)
                }
                _ => Err(spot.fault(Fault::Unsupported("a decorator".to_owned()))),
            };
            self.faults.extend(done.err());
        }
    }

    fn partial(&mut self, spot: &Spot, partial: &DecoratorTemplate, frames: &[Frame]) -> Result<(), TemplateError> {
        let unsupported = |what: &str| Err(spot.fault(Fault::Unsupported(what.to_owned())));
        if !partial.params.is_empty() || !partial.hash.is_empty() {
            return unsupported("a partial with arguments");
        }
        let Some(name) = partial.name.as_name() else { return unsupported("a computed partial") };
        if let Some(inner) = &partial.template {
            // Where a layout takes its block there is text: anything else is refused below.
            let outside = std::mem::take(&mut self.markup);
            self.elements(spot.template, inner, frames);
            self.markup = outside;
        }
        if name == BLOCK {
            return self.placed(spot, None);
        }
        self.named(name, frames);
        Ok(())
    }

    /// Whether a value, or a block of which no more is known, may stand here.
    fn placed(&mut self, spot: &Spot, path: Option<&str>) -> Result<(), TemplateError> {
        if Part::of(spot.template) != Part::Html {
            return Ok(());
        }
        self.markup.print(path).map_err(|(place, what_to_do)| spot.fault(Fault::Exposed(place, what_to_do)))
    }

    fn block(&mut self, spot: &Spot, block: &HelperTemplate, frames: &[Frame]) -> Result<(), TemplateError> {
        let fail = |fault| spot.fault(fault);
        let helper = block.name.as_name().unwrap_or_default();
        let ([Parameter::Path(path)], true, None) =
            (block.params.as_slice(), block.hash.is_empty(), &block.block_param)
        else {
            return Err(fail(Fault::Unsupported(format!("#{helper} with these arguments"))));
        };
        let (mut inner, mut inverse) = (Vec::new(), Vec::new());
        for frame in frames {
            let value = match path {
                Path::Local(_) if frame.looping && matches!(helper, "if" | "unless") => {
                    inner.push(*frame);
                    inverse.push(*frame);
                    continue;
                }
                Path::Local((_, _, raw)) => return Err(spot.unknown(raw, frame)),
                Path::Relative((_, raw)) => frame.get(raw).ok_or_else(|| spot.unknown(raw, frame))?,
            };
            let truthy = value.is_truthy(false);
            match helper {
                "if" | "unless" => if truthy == (helper == "if") { &mut inner } else { &mut inverse }.push(*frame),
                "with" if truthy => inner.push(Frame { this: value, looping: false, ..*frame }),
                "with" => inverse.push(*frame),
                "each" => {
                    let Some(items) = value.as_array() else {
                        return Err(fail(Fault::NotList(path_text(path))));
                    };
                    inner.extend(items.iter().map(|item| Frame { this: item, looping: true, ..*frame }));
                    if items.is_empty() {
                        inverse.push(*frame);
                    }
                }
                _ => return Err(fail(Fault::Unsupported(format!("#{helper}")))),
            }
        }
        let before = self.markup.clone();
        let mut after = Vec::new();
        for (template, frames, otherwise) in [(&block.template, inner, false), (&block.inverse, inverse, true)] {
            self.markup = before.clone();
            let Some(template) = template else {
                after.push(before.clone());
                continue;
            };
            let key = (spot.template.to_owned(), spot.line, spot.column, otherwise);
            if !frames.is_empty() {
                self.reached.insert(key.clone());
            }
            self.seen.insert(key);
            self.elements(spot.template, template, &frames);
            after.push(self.markup.clone());
        }
        self.markup = after.into_iter().max().unwrap_or(before);
        Ok(())
    }
}

impl<'a> Frame<'a> {
    /// The value of `name`, `name.name`, `this`, `this.name` or `@root.name`; no other form is known.
    fn get(&self, path: &str) -> Option<&'a Value> {
        let (mut value, rest) = match path.strip_prefix("@root.") {
            Some(rest) => (self.root, rest),
            None => (self.this, path.strip_prefix("this.").unwrap_or(path)),
        };
        if rest == "this" {
            return Some(value);
        }
        for name in rest.split('.') {
            value = value.as_object()?.get(name)?;
        }
        Some(value)
    }
}

fn path_text(path: &Path) -> String {
    match path {
        Path::Relative((_, raw)) | Path::Local((_, _, raw)) => raw.clone(),
    }
}

/// The path of what is printed.
fn print(spot: &Spot, expression: &HelperTemplate, frames: &[Frame]) -> Result<String, TemplateError> {
    let raw = match &expression.name {
        Parameter::Path(path @ Path::Relative(_)) if expression.params.is_empty() && expression.hash.is_empty() => {
            path_text(path)
        }
        other => {
            let what = format!("`{}`", other.as_name().unwrap_or("this expression"));
            return Err(spot.fault(Fault::Unsupported(what)));
        }
    };
    for frame in frames {
        match frame.get(&raw) {
            None => return Err(spot.unknown(&raw, frame)),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => return Err(spot.fault(Fault::NotText(raw))),
            Some(_) => {}
        }
    }
    Ok(raw)
}
