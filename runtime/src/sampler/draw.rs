//! The end of the chain: the draw.

use super::candidates::Candidates;
use super::random::Xoshiro256PlusPlus;

/// A token that was drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    pub(super) id: u32,
    /// Its probability among the candidates.
    pub(super) probability: f64,
}

/// One of the candidates, with its probability; `None` when there is none. A draw takes one random number; where the
/// likeliest is taken, there is no draw.
pub(super) fn draw(candidates: &mut Candidates<'_>, random: &mut Xoshiro256PlusPlus) -> Option<Drawn> {
    if candidates.is_decided() {
        return candidates.likeliest().map(|id| Drawn { id, probability: 1.0 });
    }
    let softmax = candidates.softmax();
    let list = candidates.sorted();
    let total: f64 = list.iter().map(|c| softmax.weight(c)).sum();
    let target = random.uniform() * total;
    let mut sum = 0.0;
    let drawn = list.iter().find(|c| {
        sum += softmax.weight(c);
        sum > target
    });
    // Rounding may leave the sum a hair below the target; then it is the last one's turn.
    let drawn = drawn.or(list.last())?;
    Some(Drawn { id: drawn.id, probability: softmax.weight(drawn) / total })
}
