//! Lists of CPU numbers as Linux writes them.

use std::collections::BTreeSet;

/// CPU numbers in a list such as `0-3,8`; `None` if it is none.
pub(super) fn parse_list(list: &str) -> Option<BTreeSet<usize>> {
    /// More than any system has; a file that says otherwise is not believed.
    const MOST: usize = 1 << 16;
    let mut cpus = BTreeSet::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let cpus = |list| parse_list(list).map(|cpus| cpus.into_iter().collect::<Vec<_>>());
        assert_eq!(cpus("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        for bad in ["", "3-1", "0-", "x", "0-70000"] {
            assert_eq!(cpus(bad), None, "{bad}");
        }
    }
}
