//! What the tool says when something is wrong: what, where, what would be right.
//!
//! A [`Report`] about a configuration is drawn at its line, as compilers do; one about the command line or a
//! file is a sentence with a help line under it. A person puts right what they can see, so a
//! configuration's mistakes are all told at once: [`Reports`].

use std::fmt;
use std::io::IsTerminal;
use std::ops::Range;
use std::rc::Rc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use mezzanine::problem::Problem;

/// A text that a person wrote, and its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// As the person called it.
    pub(crate) path: String,
    /// All of it; spans count its bytes.
    pub(crate) text: String,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    code: &'static str,
    title: String,
    only_looks_wrong: bool,
    place: Option<(Rc<Source>, Range<usize>, String)>,
    help: Option<String>,
}

impl Report {
    /// `code` is explained in docs/codes.md.
    pub(crate) fn new(code: &'static str, title: impl Into<String>) -> Self {
        Self { code, title: title.into(), only_looks_wrong: false, place: None, help: None }
    }

    /// What would be right.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Makes it one that does not stop anything.
    pub(crate) fn warning(mut self) -> Self {
        self.only_looks_wrong = true;
        self
    }

    /// Where it stands, with what to write under the caret.
    pub(crate) fn at(mut self, source: &Rc<Source>, span: Range<usize>, label: impl Into<String>) -> Self {
        let end = source.text.len();
        let span = span.start.min(end)..span.end.min(end);
        self.place = Some((Rc::clone(source), span, label.into()));
        self
    }

    /// Whether it only looks wrong.
    pub(crate) fn is_warning(&self) -> bool {
        self.only_looks_wrong
    }

    fn start(&self) -> usize {
        self.place.as_ref().map_or(0, |(_, span, _)| span.start)
    }

    fn draw(&self, renderer: &Renderer) -> String {
        let level = if self.only_looks_wrong { Level::WARNING } else { Level::ERROR };
        let title = level.primary_title(self.title.as_str()).id(self.code);
        let mut group = match &self.place {
            Some((source, span, label)) => title.element(
                Snippet::source(source.text.as_str())
                    .line_start(1)
                    .path(source.path.as_str())
                    .annotation(AnnotationKind::Primary.span(span.clone()).label(label.as_str())),
            ),
            None => title.elements(None::<Snippet<'_, annotate_snippets::Annotation<'_>>>),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

/// A problem that the library found: its words are the tool's.
impl From<Problem> for Report {
    fn from(problem: Problem) -> Self {
        Self::new(problem.code, format!("{}: {}", problem.place, problem.what)).help(problem.fix.as_str())
    }
}

/// All that is wrong; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reports(Vec<Report>);

impl Reports {
    /// Ok when nothing is wrong, and what only looks so is shown then; else all of it, by line.
    pub(crate) fn settle(mut reports: Vec<Report>) -> Result<(), Self> {
        reports.sort_by_key(Report::start);
        let reports = Self(reports);
        if reports.0.iter().any(|report| !report.only_looks_wrong) {
            return Err(reports);
        }
        if !reports.0.is_empty() {
            reports.show();
        }
        Ok(())
    }

    /// Shows any number of them, by line.
    pub(crate) fn show_all(mut reports: Vec<Report>) {
        reports.sort_by_key(Report::start);
        if !reports.is_empty() {
            Self(reports).show();
        }
    }

    /// Writes them to standard error, coloured when that is a terminal.
    pub(crate) fn show(&self) {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        eprintln!("{}", self.draw(&renderer.decor_style(DecorStyle::Ascii)));
    }

    fn draw(&self, renderer: &Renderer) -> String {
        let drawn: Vec<String> = self.0.iter().map(|report| report.draw(renderer)).collect();
        drawn.join("\n\n")
    }
}

impl From<Report> for Reports {
    fn from(report: Report) -> Self {
        Self(vec![report])
    }
}

impl fmt::Display for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.draw(&Renderer::plain().decor_style(DecorStyle::Ascii)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_the_line_and_the_caret() {
        let source = Rc::new(Source { path: "vms.toml".into(), text: "[vm.a]\nkernle = \"Image\"\n".into() });
        let report =
            Report::new("E0502", "unknown key `kernle`").at(&source, 7..13, "no such key").help("try it");
        let text = Reports::from(report).to_string();
        assert!(text.contains("error[E0502]: unknown key `kernle`"), "{text}");
        assert!(text.contains("vms.toml:2:1"), "{text}");
        assert!(text.contains("2 | kernle = \"Image\""), "{text}");
        assert!(text.contains("^^^^^^ no such key"), "{text}");
        assert!(text.contains("help: try it"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn a_span_past_the_end_is_drawn_at_the_end() {
        let source = Rc::new(Source { path: "x.toml".into(), text: "a".into() });
        let text = Reports::from(Report::new("E0501", "t").at(&source, 5..9, "here")).to_string();
        assert!(text.contains("x.toml:1:"), "{text}");
    }

    #[test]
    fn without_a_place_it_is_a_sentence() {
        let text = Reports::from(Report::new("E0509", "no image").help("run `make image`")).to_string();
        assert!(text.starts_with("error[E0509]: no image"), "{text}");
        assert!(text.contains("help: run `make image`"), "{text}");
    }
}
