//! Where in the markup a value would stand. Escaping keeps a value inside text and inside an attribute between
//! quotes; elsewhere it does not, so that no value may be printed there.

/// Attributes that hold a link: a value at their start decides what the link does, `javascript:` too.
const LINKED: [&str; 6] = ["href", "src", "action", "formaction", "background", "poster"];
/// The values that were checked to be links.
const LINKS: [&str; 4] = ["link", "href", "support", "status_page"];
/// The value that is a colour of ours.
const COLOUR: &str = "accent";

/// How far the markup has been read. The order is that of harm: where branches end differently, the later counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Markup {
    state: State,
    /// The element's name in lower case, with its `/` when it ends here.
    element: String,
    /// The attribute's name in lower case.
    attribute: String,
    /// What was read last in a comment, a script or a style, in lower case: as much as it takes to see its end.
    tail: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    #[default]
    Text,
    Comment,
    /// Between quotes: which quote, and whether the value has begun.
    Quoted {
        quote: char,
        begun: bool,
    },
    /// In a tag, after a space or a value.
    Between,
    /// In the name of an attribute.
    Attribute,
    /// In the name of an element.
    Element,
    /// After `=`.
    Equals,
    Unquoted,
    /// In a script or a style.
    Code,
}

impl Markup {
    /// Reads on.
    pub fn read(&mut self, text: &str) {
        text.chars().for_each(|c| self.step(c));
    }

    fn step(&mut self, c: char) {
        self.state = match (self.state, c) {
            (State::Text, '<') => {
                self.element.clear();
                self.attribute.clear();
                State::Element
            }
            (State::Text, _) => State::Text,
            (State::Comment, _) => self.until(c, "-->".to_owned(), State::Text),
            (State::Code, _) => {
                let next = self.until(c, format!("</{}", self.element), State::Element);
                if next == State::Element {
                    self.element.insert(0, '/');
                }
                next
            }
            (State::Quoted { quote, .. }, _) if c == quote => State::Between,
            (State::Quoted { quote, .. }, _) => State::Quoted { quote, begun: true },
            (_, '>') => self.closed(),
            (State::Element, _) if self.element.is_empty() && !(c.is_ascii_alphabetic() || "/!?".contains(c)) => {
                State::Text
            }
            (State::Element, '/') if !self.element.is_empty() => State::Between,
            (State::Element, _) if !c.is_whitespace() => {
                self.element.push(c.to_ascii_lowercase());
                if self.element == "!--" { self.within(State::Comment) } else { State::Element }
            }
            (State::Equals, _) if c.is_whitespace() => State::Equals,
            (State::Equals, '"' | '\'') => State::Quoted { quote: c, begun: false },
            (State::Equals, _) => State::Unquoted,
            (State::Unquoted, _) if !c.is_whitespace() => State::Unquoted,
            (State::Between | State::Attribute, '=') => State::Equals,
            (_, '/') => State::Between,
            (_, _) if c.is_whitespace() => State::Between,
            (before, _) => {
                if before != State::Attribute {
                    self.attribute.clear();
                }
                self.attribute.push(c.to_ascii_lowercase());
                State::Attribute
            }
        };
    }

    /// After the `>` of a tag.
    fn closed(&mut self) -> State {
        if matches!(self.element.as_str(), "script" | "style") { self.within(State::Code) } else { State::Text }
    }

    fn within(&mut self, state: State) -> State {
        self.tail.clear();
        state
    }

    /// Stays where it is until `end` was read.
    fn until(&mut self, c: char, end: String, next: State) -> State {
        self.tail.push(c.to_ascii_lowercase());
        if self.tail.ends_with(&end) {
            return next;
        }
        // Only what `end` could begin with is kept.
        let keep = self.tail.char_indices().rev().nth(end.len()).map_or(0, |(at, _)| at);
        self.tail.drain(..keep);
        self.state
    }

    /// A value is printed here, or what is not known comes here (`None`): where that may not be, and what to do.
    pub fn print(&mut self, path: Option<&str>) -> Result<(), (&'static str, &'static str)> {
        let name = path.and_then(|path| path.rsplit('.').next());
        match self.state {
            State::Text | State::Comment => Ok(()),
            State::Code => Err(("inside <script> or <style>", "print it into the text, outside of this element")),
            State::Equals | State::Unquoted => {
                Err(("in an attribute without quotes", "put double quotes around the attribute's value"))
            }
            State::Element | State::Between | State::Attribute => Err((
                "inside a tag, outside of an attribute's value",
                "write the names of elements and attributes out, and print values between quotes",
            )),
            State::Quoted { quote, begun } => {
                self.state = State::Quoted { quote, begun: true };
                let attribute = self.attribute.as_str();
                if attribute.starts_with("on") {
                    Err(("in an event handler", "print it into the text; mail programs run no handlers"))
                } else if attribute == "style" && name != Some(COLOUR) {
                    Err(("in a style", "only {{accent}} can stand here: write the style out, or choose it with #if"))
                } else if LINKED.contains(&attribute) && !begun && !name.is_some_and(|name| LINKS.contains(&name)) {
                    let hint = "begin with a value that is a link, or write the link's beginning out";
                    Err(("at the beginning of a link", hint))
                } else {
                    Ok(())
                }
            }
        }
    }
}
