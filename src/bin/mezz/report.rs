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

/// A problem that the library found: its words are the tool's, but for what a shell can do about a packed file.
impl From<Problem> for Report {
    fn from(problem: Problem) -> Self {
        let help = unpacked(&problem).unwrap_or_else(|| problem.fix.as_str().to_owned());
        Self::new(problem.code, format!("{}: {}", problem.place, problem.what)).help(help)
    }
}

/// How to unpack a kernel's file that nobody else unpacks.
fn unpacked(problem: &Problem) -> Option<String> {
    if problem.code != "E0402" {
        return None;
    }
    if problem.place.as_str().ends_with(" unpacked kernel") {
        return Some(
            "only an Image may be packed; anything else, unpack it first: gunzip FILE.gz".to_owned(),
        );
    }
    let looks = problem.what.as_str().rsplit("it looks like ").next()?;
    let (_, command) = UNPACKERS.into_iter().find(|(kind, _)| *kind == looks)?;
    Some(format!("unpack it first: {command}; of packed kernels, only gzip is read"))
}

/// Kinds of packed files as the library calls them, and what unpacks them.
const UNPACKERS: [(&str, &str); 7] = [
    ("xz", "xz -d FILE.xz"),
    ("zstd", "zstd -d FILE.zst"),
    ("bzip2", "bzip2 -d FILE.bz2"),
    ("lz4", "lz4 -d FILE.lz4 Image"),
    ("an lz4 frame", "lz4 -d FILE.lz4 Image"),
    ("lzma", "xz -d FILE.lzma"),
    ("lzo", "lzop -d FILE.lzo"),
];

/// Where in the text of a command line the word is that a problem is about; all of it where that does not show.
pub(crate) fn word(text: &str, span: Range<usize>, problem: &Problem) -> Range<usize> {
    let what = problem.what.as_str();
    let words = match problem.code {
        "E0308" => vec![what.split(", and ").next().unwrap_or_default().to_owned()],
        "E0307" => what.strip_prefix("has the control character 0x").map(escapes).unwrap_or_default(),
        _ => return span,
    };
    let whole = text.get(span.clone()).unwrap_or_default();
    let found = words.iter().filter(|word| !word.is_empty()).find_map(|word| {
        let at = whole.find(word.as_str())?;
        Some(span.start + at..span.start + at + word.len())
    });
    found.unwrap_or(span)
}

/// How a character may be written in TOML, by its number in hexadecimal.
fn escapes(number: &str) -> Vec<String> {
    let Ok(number) = u32::from_str_radix(number, 16) else { return Vec::new() };
    let letter = match number {
        8 => "\\b",
        10 => "\\n",
        12 => "\\f",
        13 => "\\r",
        27 => "\\e",
        _ => "",
    };
    let long = [format!("\\u{number:04x}"), format!("\\u{number:04X}"), format!("\\x{number:02x}")];
    [letter.to_owned()].into_iter().chain(long).collect()
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
    fn the_word_is_shown_where_it_is_known() {
        let shown = |text: &str, code, what: &str| {
            let span = word(text, 2..text.len() - 1, &mezzanine::problem!(code, ("a"); ("{what}"); ("")));
            text[span].to_owned()
        };
        let line = "= \"quiet console=ttyS0,9600 console=hvc0\\n\" ";
        assert_eq!(shown(line, "E0308", "console=hvc0, and no device of it"), "console=hvc0");
        assert_eq!(shown(line, "E0307", "has the control character 0x0a"), "\\n");
        assert_eq!(shown(line, "E0307", "2048 bytes long"), &line[2..line.len() - 1]);
        assert_eq!(shown(line, "E0308", "console=gone, and"), &line[2..line.len() - 1]);
    }

    #[test]
    fn packed_kernels_are_to_be_unpacked() {
        use mezzanine::guest::linux::Header;
        let help = |file: &[u8], place| Report::from(Header::read(file, place).unwrap_err()).help.unwrap();
        for (file, command) in [
            (&b"\xfd7zXZ\0"[..], "xz -d"),
            (b"\x28\xb5\x2f\xfd", "zstd -d"),
            (b"\x02\x21\x4c\x18", "lz4 -d"),
            (b"\x04\x22\x4d\x18", "lz4 -d"),
            (b"BZh9", "bzip2 -d"),
            (b"\x5d\0\0\x80", "xz -d"),
            (b"\x89LZO\0", "lzop -d"),
        ] {
            let help = help(file, "vm.a");
            assert!(help.starts_with(&format!("unpack it first: {command} ")), "{help}");
        }
        assert!(help(b"\x7fELF", "vm.a unpacked").contains("only an Image may be packed"));
        assert!(help(b"PK\x03\x04", "vm.a").starts_with("Give an arm64 Linux Image"));
    }

    #[test]
    fn without_a_place_it_is_a_sentence() {
        let text = Reports::from(Report::new("E0509", "no image").help("run `make image`")).to_string();
        assert!(text.starts_with("error[E0509]: no image"), "{text}");
        assert!(text.contains("help: run `make image`"), "{text}");
    }
}
