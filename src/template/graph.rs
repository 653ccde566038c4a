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

/// Finds circles and inclusions of what is not there. `names` are all templates of the part, `set` those that parse.
pub(super) fn check(set: &BTreeMap<String, Template>, names: &BTreeSet<&str>) -> Vec<TemplateError> {
    let (mut finished, mut faults) = (BTreeSet::new(), Vec::new());
    for name in set.keys() {
        visit(set, names, name, &mut Vec::new(), &mut finished, &mut faults);
    }
    faults
}

fn visit(
    set: &BTreeMap<String, Template>,
    names: &BTreeSet<&str>,
    name: &str,
    path: &mut Vec<String>,
    finished: &mut BTreeSet<String>,
    faults: &mut Vec<TemplateError>,
) {
    let Some(template) = set.get(name).filter(|_| finished.insert(name.to_owned())) else { return };
    path.push(name.to_owned());
    let mut inclusions = Vec::new();
    collect(template, &mut inclusions);
    for (partial, line, column) in inclusions {
        let fault = |fault| TemplateError::at(name, (line, column), fault);
        if let Some(start) = path.iter().position(|p| *p == partial) {
            faults.push(fault(Fault::Cycle(format!("{} > {partial}", path[start..].join(" > ")))));
        } else if names.contains(partial.as_str()) {
            visit(set, names, &partial, path, finished, faults);
        } else {
            let known = names.iter().filter(|name| name.starts_with("layouts/")).map(|name| (*name).to_owned());
            faults.push(TemplateError { known: known.collect(), ..fault(Fault::UnknownPartial(partial)) });
        }
    }
    path.pop();
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
