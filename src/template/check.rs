//! Checks every path of a template against the sample mails, by walking the parsed template with
//! all samples at once. Strict mode alone lets a mistyped name in `#if` and `#each` pass, prints a
//! null as nothing and an object as `[object]`; here all of that is refused, and so is a block that
//! no sample reaches. The language is kept small so that the walk is exact.

use super::error::{Fault, TemplateError};
use super::graph::{BLOCK, place};
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
        TemplateError { template: self.template.to_owned(), line: self.line, column: self.column, fault }
    }
}

/// The walk through the templates of one part.
pub(super) struct Checker<'a> {
    set: &'a BTreeMap<String, Template>,
    used: BTreeSet<String>,
    seen: BTreeSet<Block>,
    reached: BTreeSet<Block>,
}

impl<'a> Checker<'a> {
    /// A walk that has seen nothing yet.
    pub fn new(set: &'a BTreeMap<String, Template>) -> Self {
        Self { set, used: BTreeSet::new(), seen: BTreeSet::new(), reached: BTreeSet::new() }
    }

    /// Walks a template with the data of all its samples.
    pub fn walk(&mut self, name: &str, samples: &[Value]) -> Result<(), TemplateError> {
        let frames: Vec<_> = samples.iter().map(|s| Frame { root: s, this: s, looping: false }).collect();
        self.named(name, &frames)
    }

    /// After all walks: refuses templates and blocks that nothing came to.
    pub fn finish(self) -> Result<(), TemplateError> {
        if let Some(name) = self.set.keys().find(|name| !self.used.contains(*name)) {
            return Err(TemplateError::of(name, Fault::Unused));
        }
        match self.seen.difference(&self.reached).next() {
            None => Ok(()),
            Some((template, line, column, _)) => {
                Err(Spot { template, line: *line, column: *column }.fault(Fault::Unreached))
            }
        }
    }

    fn named(&mut self, name: &str, frames: &[Frame]) -> Result<(), TemplateError> {
        let template = self.set.get(name).ok_or_else(|| TemplateError::of(name, Fault::Missing))?;
        self.used.insert(name.to_owned());
        self.elements(name, template, frames)
    }

    fn elements(&mut self, name: &str, template: &Template, frames: &[Frame]) -> Result<(), TemplateError> {
        for (i, element) in template.elements.iter().enumerate() {
            let (line, column) = place(template, i);
            let spot = Spot { template: name, line, column };
            match element {
                TemplateElement::RawString(_) | TemplateElement::Comment(_) => {}
                TemplateElement::HtmlExpression(_) => return Err(spot.fault(Fault::Unescaped)),
                TemplateElement::Expression(e) => print(e, frames).map_err(|fault| spot.fault(fault))?,
                TemplateElement::HelperBlock(block) => self.block(&spot, block, frames)?,
                TemplateElement::PartialExpression(p) | TemplateElement::PartialBlock(p) => {
                    self.partial(&spot, p, frames)?;
                }
                _ => return Err(spot.fault(Fault::Unsupported("a decorator".to_owned()))),
            }
        }
        Ok(())
    }

    fn partial(&mut self, spot: &Spot, partial: &DecoratorTemplate, frames: &[Frame]) -> Result<(), TemplateError> {
        let unsupported = |what: &str| Err(spot.fault(Fault::Unsupported(what.to_owned())));
        if !partial.params.is_empty() || !partial.hash.is_empty() {
            return unsupported("a partial with arguments");
        }
        let Some(name) = partial.name.as_name() else { return unsupported("a computed partial") };
        if let Some(inner) = &partial.template {
            self.elements(spot.template, inner, frames)?;
        }
        if name == BLOCK { Ok(()) } else { self.named(name, frames) }
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
                Path::Local((_, _, raw)) => return Err(fail(Fault::UnknownPath(raw.clone()))),
                Path::Relative((_, raw)) => frame.get(raw).ok_or_else(|| fail(Fault::UnknownPath(raw.clone())))?,
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
        for (template, frames, otherwise) in [(&block.template, inner, false), (&block.inverse, inverse, true)] {
            let Some(template) = template else { continue };
            let key = (spot.template.to_owned(), spot.line, spot.column, otherwise);
            if !frames.is_empty() {
                self.reached.insert(key.clone());
            }
            self.seen.insert(key);
            self.elements(spot.template, template, &frames)?;
        }
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

fn print(expression: &HelperTemplate, frames: &[Frame]) -> Result<(), Fault> {
    let raw = match &expression.name {
        Parameter::Path(path @ Path::Relative(_)) if expression.params.is_empty() && expression.hash.is_empty() => {
            path_text(path)
        }
        other => return Err(Fault::Unsupported(format!("`{}`", other.as_name().unwrap_or("this expression")))),
    };
    for frame in frames {
        match frame.get(&raw) {
            None => return Err(Fault::UnknownPath(raw)),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => return Err(Fault::NotText(raw)),
            Some(_) => {}
        }
    }
    Ok(())
}
