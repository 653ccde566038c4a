//! The last touch on a text part: lines wrapped, blank lines folded.

const WIDTH: usize = 76;

/// Wraps long lines at blanks, list items under their text, and keeps at most one blank line in a
/// row. A word longer than a line, such as a link, is never cut.
pub(super) fn tidy(rendered: &str) -> String {
    let mut out = String::with_capacity(rendered.len() + rendered.len() / 32);
    let mut blank = true;
    for line in rendered.lines() {
        // A command that is broken over two lines would run as two.
        if line == "-- " || line.trim_start().starts_with("allclear ") {
            out.push_str(line);
            out.push('\n');
        } else if line.trim().is_empty() {
            if !blank {
                out.push('\n');
            }
            blank = true;
            continue;
        } else {
            wrap(line, &mut out);
        }
        blank = false;
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn wrap(line: &str, out: &mut String) {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let hanging = indent + if line[indent..].starts_with("- ") { 2 } else { 0 };
    out.push_str(&line[..indent]);
    let mut column = indent;
    let mut first = true;
    for word in line.split_whitespace() {
        let length = word.chars().count();
        if first {
            first = false;
        } else if column + 1 + length > WIDTH && column > hanging {
            out.push('\n');
            out.push_str(&" ".repeat(hanging));
            column = hanging;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_wrap_at_blanks_and_links_stay_whole() {
        let url = format!("https://a.example/{}", "x".repeat(100));
        let text = tidy(&format!("{} {url} {}", "word ".repeat(40), "word ".repeat(5)));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH || line == url), "{text}");
        assert!(text.contains(&url));
    }

    #[test]
    fn a_command_stays_on_its_line() {
        let command = format!("  allclear surge release srg_{} --reason '...'", "0".repeat(60));
        assert_eq!(tidy(&command), format!("{command}\n"));
    }

    #[test]
    fn list_items_hang_and_blank_lines_fold() {
        let text = tidy(&format!("\n\nHead\n\n\n  - {}\n\n\n-- \nPage  \n\n", "word ".repeat(20)));
        assert!(text.starts_with("Head\n\n  - word"));
        assert!(text.contains("\n    word"));
        assert!(text.ends_with("\n\n-- \nPage\n"));
    }
}
