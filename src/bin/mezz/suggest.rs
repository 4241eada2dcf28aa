//! "Did you mean": the known word nearest to one that is not.

/// The candidate that `word` was probably meant to be, if one is near enough to be worth naming.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let near = (word.chars().count() / 3).max(1);
    candidates
        .iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, _)| *distance <= near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits from one word to the other; exchanging two neighbours is one edit, since fingers do it most.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = ["kernel", "initrd", "cmdline", "memory", "vcpus", "gic"];

    #[test]
    fn finds_what_was_meant() {
        for (word, meant) in [
            ("memry", "memory"),
            ("kernle", "kernel"),
            ("Memory", "memory"),
            ("vcpu", "vcpus"),
            ("comdline", "cmdline"),
            ("gci", "gic"),
        ] {
            assert_eq!(nearest(word, &KEYS), Some(meant), "{word}");
        }
    }

    #[test]
    fn does_not_guess_wildly() {
        for word in ["disk", "network", "x", ""] {
            assert_eq!(nearest(word, &KEYS), None, "{word}");
        }
    }

    #[test]
    fn distances() {
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
