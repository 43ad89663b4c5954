//! Circles in a graph of files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What each file imports: from a file to the files that it takes something from.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// The shortest way from `start` back to it, along the arrows of `graph`: all files on it, `start` first and last.
pub fn shortest_circle(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for next in graph.get(file).into_iter().flatten() {
            if next == start {
                let mut chain = vec![start.to_string(), file.to_string()];
                while chain.last().is_some_and(|last| last != start) {
                    chain.push(from[chain[chain.len() - 1].as_str()].to_string());
                }
                chain.reverse();
                // A file that imports itself: start, start, start.
                chain.dedup();
                if chain.len() == 1 {
                    chain.push(start.to_string());
                }
                return Some(chain);
            }
            if !from.contains_key(next.as_str()) {
                from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}

/// Circles that together go through every file that is on one: for each such file that none of the earlier circles
/// went through, its shortest.
pub fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for file in graph.keys() {
        if seen.contains(file) {
            continue;
        }
        if let Some(circle) = shortest_circle(graph, file) {
            seen.extend(circle.iter().cloned());
            found.push(circle);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(arrows: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in arrows {
            graph.entry((*from).into()).or_default().insert((*to).into());
            graph.entry((*to).into()).or_default();
        }
        graph
    }

    #[test]
    fn a_tree_has_none() {
        assert!(circles(&graph(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])).is_empty());
    }

    #[test]
    fn the_shortest_circle_of_each_file_is_found() {
        let graph = graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "c"), ("x", "a"), ("y", "y")]);
        assert_eq!(circles(&graph), [vec!["a", "b", "c", "a"], vec!["d", "c", "d"], vec!["y", "y"]]);
    }
}
