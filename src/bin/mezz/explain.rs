//! `mezz explain`: what a code means, why, and what would be right.
//!
//! A code's line is in the table of docs/config-tree.md or docs/config.md, the rest in docs/codes.md. The manual is
//! what is printed: there is nothing here to fall behind it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;

use crate::report::{Report, Reports};

/// The manuals with a table of codes.
const TABLES: [&str; 2] =
    [include_str!("../../../docs/config-tree.md"), include_str!("../../../docs/config.md")];
/// What is said of each.
const MANUAL: &str = include_str!("../../../docs/codes.md");

/// Options of the verb.
#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// A code, such as E0305, or a word to look for; without it, all codes are listed
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

/// The verb.
pub(crate) fn explain(args: &ExplainArgs) -> Result<ExitCode, Reports> {
    let Some(wanted) = args.code.as_deref() else {
        print!("{}", list(rows()));
        return Ok(ExitCode::SUCCESS);
    };
    let code = code_of(wanted);
    if let Some((code, line)) = rows().find(|(have, _)| *have == code) {
        print!("{code}: {}\n\n{}", plain(line), section(code).map(indented).unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    let word = wanted.to_lowercase();
    let about: Vec<_> = rows().filter(|(_, line)| is_about(&line.to_lowercase(), &word)).collect();
    if !about.is_empty() {
        print!("{}", list(about.into_iter()));
        return Ok(ExitCode::SUCCESS);
    }
    Err(unknown(wanted, &code).into())
}

/// Whether a line has a word; fewer than three letters have to be a whole one, and a number is a code.
fn is_about(line: &str, word: &str) -> bool {
    if word.chars().count() >= 3 {
        return line.contains(word) && word.parse::<u64>().is_err();
    }
    let mut words = line.split(|c: char| !c.is_alphanumeric());
    word.chars().any(char::is_alphabetic) && words.any(|have| have == word)
}

fn unknown(wanted: &str, code: &str) -> Report {
    let report = Report::new("E0527", format!("there is no code `{wanted}`"));
    if !is_code(code) {
        return report.help("`mezz explain` lists all codes; a word finds those that have it");
    }
    let number = |code: &str| code.get(1..).and_then(|digits| digits.parse::<i32>().ok()).unwrap_or_default();
    let mut near: Vec<&str> = rows().map(|(code, _)| code).collect();
    near.sort_by_key(|have| (number(have) - number(code)).abs());
    near.truncate(3);
    near.sort_unstable();
    report.help(format!("near it are {}; `mezz explain` lists all", near.join(", ")))
}

/// A code as it is written: `305`, `e305` and `E0305` are all the same.
fn code_of(wanted: &str) -> String {
    let digits = wanted.trim().trim_start_matches(['e', 'E']);
    match digits.parse::<u16>() {
        Ok(number) => format!("E{number:04}"),
        Err(_) => wanted.to_uppercase(),
    }
}

fn is_code(text: &str) -> bool {
    text.len() == 5 && text.starts_with('E') && text.bytes().skip(1).all(|b| b.is_ascii_digit())
}

/// All codes with their lines, in order.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.into_iter().flat_map(str::lines).filter_map(|line| {
        let (code, meaning) = line.strip_prefix("| ")?.split_once(" | ")?;
        is_code(code).then_some((code, meaning.strip_suffix(" |")?))
    })
}

fn list<'r>(rows: impl Iterator<Item = (&'r str, &'r str)>) -> String {
    rows.fold(String::new(), |mut text, (code, line)| {
        let _ = writeln!(text, "{code}  {}", plain(line));
        text
    })
}

/// A line of the manual without its marks.
fn plain(line: &str) -> String {
    line.replace('`', "")
}

/// What the manual says of a code.
fn section(code: &str) -> Option<&'static str> {
    let (_, rest) = MANUAL.split_once(&format!("\n## {code}\n\n"))?;
    Some(rest.split("\n## ").next().unwrap_or(rest))
}

/// A section as text: examples indented in place of their fences.
fn indented(section: &str) -> String {
    let (mut text, mut example) = (String::new(), false);
    for line in section.trim_end().lines() {
        if line.starts_with("```") {
            example = !example;
        } else if example {
            let _ = writeln!(text, "    {line}");
        } else if matches!(line, "Wrong:" | "Right:") {
            // The example before it ended without a blank line.
            let gap = if text.ends_with("\n\n") { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{line}\n");
        } else {
            let _ = writeln!(text, "{}", plain(line));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_write_them() {
        for wanted in ["E0305", "e0305", "305", "E305", " 0305"] {
            assert_eq!(code_of(wanted), "E0305", "{wanted}");
        }
        assert_eq!(code_of("memory"), "MEMORY");
    }

    #[test]
    fn words_are_looked_for_and_letters_are_not() {
        let line = "no virtual cpu, or 255 too many for el2";
        for word in ["virt", "cpu", "or", "el2"] {
            assert!(is_about(line, word), "{word}");
        }
        for word in ["e", "0", "pu", "255", "", ","] {
            assert!(!is_about(line, word), "{word}");
        }
    }

    #[test]
    fn every_code_has_a_section_and_every_section_a_code() {
        let codes: Vec<&str> = rows().map(|(code, _)| code).collect();
        assert!(codes.len() > 70 && codes.is_sorted(), "{codes:?}");
        let mut sections: Vec<&str> = MANUAL.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let missing: Vec<_> = codes.iter().filter(|code| !sections.contains(code)).collect();
        assert!(missing.is_empty(), "no section in docs/codes.md: {missing:?}");
        sections.retain(|section| !codes.contains(section));
        assert!(sections.is_empty(), "in docs/codes.md, and in no table: {sections:?}");
    }

    #[test]
    fn every_section_says_why_and_shows_wrong_and_right() {
        for (code, _) in rows() {
            let text = section(code).unwrap();
            let examples = text.matches("\nWrong:\n```").count() + text.matches("\nRight:\n```").count();
            let bug = text.contains("bug of Mezzanine's");
            assert_eq!(examples, if bug { 0 } else { 2 }, "{code}");
            assert_eq!(text.matches("```").count(), examples * 2, "{code}");
            assert!(text.split("\nWrong:").next().unwrap().len() > 30, "{code}");
            assert!(!indented(text).contains("```"), "{code}");
        }
    }
}
