//! A stranger's text in HTML and XML.

use maud::PreEscaped;
use maud::Render;

use crate::cli::output::one_line;

/// Text from evidence, names or files: shown as it is, whatever it holds.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl Render for Text<'_> {
    fn render_to(&self, buffer: &mut String) {
        escaped(&one_line(self.0)).render_to(buffer);
    }
}

/// Several lines of text, which were made safe one by one.
pub(crate) fn lines(text: &str) -> PreEscaped<String> {
    let lines: Vec<_> = text.lines().map(|line| Text(line).render().0).collect();
    PreEscaped(lines.join("\n"))
}

/// Without what XML 1.0 cannot hold in any form (section 2.2, production 2); control characters are gone already.
fn escaped(text: &str) -> String {
    text.replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}")
}
