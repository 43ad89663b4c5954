//! The choice itself: the least loss within a budget of bytes.

/// Picks for each matrix one of its `(bytes, loss)` and returns their numbers: together they have at most `budget`
/// bytes and lose as little as steps along the lower convex hulls allow. `None` when even the smallest are too large. A
/// larger budget never gives a larger loss.
///
/// Each matrix begins with the smallest; then the steps are taken that gain most for a byte, as far as they fit (the
/// Lagrangian relaxation of the knapsack problem: Everett 1963; the last bytes go to smaller steps).
pub(super) fn choose(matrices: &[Vec<(u64, f64)>], budget: u64) -> Option<Vec<usize>> {
    let hulls: Vec<Vec<usize>> = matrices.iter().map(|m| hull(m)).collect();
    let first = |(m, hull): (&Vec<(u64, f64)>, &Vec<usize>)| Some(m[*hull.first()?].0);
    let mut left = budget;
    for bytes in matrices.iter().zip(&hulls).map(first) {
        left = left.checked_sub(bytes?)?;
    }
    let mut steps = Vec::new();
    for (i, (matrix, hull)) in matrices.iter().zip(&hulls).enumerate() {
        for (n, pair) in hull.windows(2).enumerate() {
            let ((bytes, loss), (more, less)) = (matrix[pair[0]], matrix[pair[1]]);
            steps.push(((loss - less) / (more - bytes) as f64, i, n + 1, more - bytes));
        }
    }
    // Along a hull gains fall, so the steps of a matrix stay in their order; equal ones do by their numbers.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut at = vec![0; matrices.len()];
    for (_, i, to, bytes) in steps {
        // A matrix takes no step after one that did not fit.
        if at[i] + 1 == to && bytes <= left {
            (at[i], left) = (to, left - bytes);
        }
    }
    Some(at.iter().zip(&hulls).map(|(&at, hull)| hull[at]).collect())
}

/// The numbers of the choices on the lower convex hull, from the smallest to the one with the least loss.
fn hull(choices: &[(u64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by(|&a, &b| choices[a].0.cmp(&choices[b].0).then(choices[a].1.total_cmp(&choices[b].1)));
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        let (bytes, loss) = choices[next];
        if hull.last().is_some_and(|&last| loss >= choices[last].1) {
            continue;
        }
        let slope = |from: usize| (choices[from].1 - loss) / (bytes - choices[from].0) as f64;
        while let [.., before, last] = hull[..] {
            let kept = (choices[before].1 - choices[last].1) / (choices[last].0 - choices[before].0) as f64;
            if kept > slope(last) {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrices() -> impl Strategy<Value = Vec<Vec<(u64, f64)>>> {
        prop::collection::vec(prop::collection::vec((1_u64..100, 0.0..10.0), 1..6), 1..5)
    }

    fn totals(matrices: &[Vec<(u64, f64)>], chosen: &[usize]) -> (u64, f64) {
        let pick = |(m, &c): (&Vec<(u64, f64)>, &usize)| m[c];
        let all = matrices.iter().zip(chosen).map(pick);
        all.fold((0, 0.0), |(bytes, loss), (b, l)| (bytes + b, loss + l))
    }

    /// The least loss for a budget, by trying everything.
    fn best(matrices: &[Vec<(u64, f64)>], budget: u64) -> Option<f64> {
        let Some((first, rest)) = matrices.split_first() else { return Some(0.0) };
        let with = |&(bytes, loss): &(u64, f64)| Some(loss + best(rest, budget.checked_sub(bytes)?)?);
        first.iter().filter_map(with).min_by(f64::total_cmp)
    }

    /// The least loss if one step of the hulls may be taken in part, and what this part gains. Nothing beats such a
    /// choice (Dantzig 1957); without a part it is one that can be made.
    fn relaxed(matrices: &[Vec<(u64, f64)>], budget: u64) -> (f64, f64) {
        let hulls: Vec<_> = matrices.iter().map(|m| hull(m).into_iter().map(|c| m[c]).collect::<Vec<_>>()).collect();
        let (bytes, mut loss) =
            hulls.iter().fold((0, 0.0), |(bytes, loss), hull| (bytes + hull[0].0, loss + hull[0].1));
        let step = |pair: &[(u64, f64)]| (pair[0].1 - pair[1].1, pair[1].0 - pair[0].0);
        let mut steps: Vec<_> = hulls.iter().flat_map(|hull| hull.windows(2).map(step)).collect();
        steps.sort_by(|a, b| (b.0 / b.1 as f64).total_cmp(&(a.0 / a.1 as f64)));
        let mut left = budget - bytes;
        for (gain, bytes) in steps {
            if bytes > left {
                let part = gain * left as f64 / bytes as f64;
                return (loss - part, part);
            }
            (loss, left) = (loss - gain, left - bytes);
        }
        (loss, 0.0)
    }

    proptest! {
        #[test]
        fn never_over_the_budget_and_never_worse_with_more(matrices in matrices()) {
            let mut last = f64::INFINITY;
            for budget in 0..500 {
                let (found, least) = (choose(&matrices, budget), best(&matrices, budget));
                prop_assert_eq!(found.is_some(), least.is_some(), "{}", budget);
                let Some(found) = found else { continue };
                let (bytes, loss) = totals(&matrices, &found);
                prop_assert!(bytes <= budget);
                prop_assert!(loss <= last + 1e-9 && loss >= least.unwrap() - 1e-9, "{} {} {:?}", budget, loss, least);
                last = loss;
            }
            // With room for all, each takes its best.
            let finest: f64 = matrices.iter().map(|m| m.iter().map(|c| c.1).fold(f64::INFINITY, f64::min)).sum();
            prop_assert!((last - finest).abs() < 1e-9);
        }

        #[test]
        fn a_budget_that_is_used_up_is_used_best(matrices in matrices(), budget in 0_u64..500) {
            let Some(found) = choose(&matrices, budget) else { return Ok(()) };
            let (least, part) = relaxed(&matrices, budget);
            prop_assert!(least <= best(&matrices, budget).unwrap() + 1e-9);
            prop_assert!(totals(&matrices, &found).1 <= least + part + 1e-9);
        }
    }
}
