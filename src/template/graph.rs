//! Which template includes which. handlebars recurses without end on partials that include each
//! other and takes the process down with it; so circles are found before anything is rendered.

use super::error::{Fault, TemplateError};
use handlebars::Template;
use handlebars::template::{DecoratorTemplate, HelperTemplate, TemplateElement};
use std::collections::{BTreeMap, BTreeSet};

/// The partial that stands for the block given to a layout.
pub(super) const BLOCK: &str = "@partial-block";

/// An inclusion: the partial's name, line and column.
type Inclusion = (String, usize, usize);

/// Refuses circles and inclusions of what is not there.
pub(super) fn check(set: &BTreeMap<String, Template>) -> Result<(), TemplateError> {
    let mut finished = BTreeSet::new();
    for name in set.keys() {
        visit(set, name, &mut Vec::new(), &mut finished)?;
    }
    Ok(())
}

fn visit(
    set: &BTreeMap<String, Template>,
    name: &str,
    path: &mut Vec<String>,
    finished: &mut BTreeSet<String>,
) -> Result<(), TemplateError> {
    let Some(template) = set.get(name).filter(|_| !finished.contains(name)) else { return Ok(()) };
    path.push(name.to_owned());
    let mut inclusions = Vec::new();
    collect(template, &mut inclusions);
    for (partial, line, column) in inclusions {
        let fail = |fault| Err(TemplateError { template: name.to_owned(), line, column, fault });
        if let Some(start) = path.iter().position(|p| *p == partial) {
            return fail(Fault::Cycle(format!("{} > {partial}", path[start..].join(" > "))));
        }
        if !set.contains_key(&partial) {
            return fail(Fault::UnknownPartial(partial));
        }
        visit(set, &partial, path, finished)?;
    }
    path.pop();
    finished.insert(name.to_owned());
    Ok(())
}

fn collect(template: &Template, found: &mut Vec<Inclusion>) {
    for (i, element) in template.elements.iter().enumerate() {
        let (line, column) = place(template, i);
        match element {
            TemplateElement::PartialExpression(inclusion) | TemplateElement::PartialBlock(inclusion) => {
                partial(inclusion, line, column, found);
            }
            TemplateElement::DecoratorBlock(decorator) => {
                decorator.template.iter().for_each(|inner| collect(inner, found));
            }
            TemplateElement::HelperBlock(block) => helper(block, found),
            _ => {}
        }
    }
}

fn partial(inclusion: &DecoratorTemplate, line: usize, column: usize, found: &mut Vec<Inclusion>) {
    if let Some(name) = inclusion.name.as_name().filter(|name| *name != BLOCK) {
        found.push((name.to_owned(), line, column));
    }
    inclusion.template.iter().for_each(|inner| collect(inner, found));
}

fn helper(block: &HelperTemplate, found: &mut Vec<Inclusion>) {
    block.template.iter().chain(&block.inverse).for_each(|inner| collect(inner, found));
}

/// Line and column of an element.
pub(super) fn place(template: &Template, element: usize) -> (usize, usize) {
    template.mapping.get(element).map_or((0, 0), |at| (at.0, at.1))
}
