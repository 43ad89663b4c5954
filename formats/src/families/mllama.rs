//! Llama 3.2-Vision and Llama Guard 3 Vision: their text.
//!
//! ```text
//! x = E[t]
//! per layer:  a Llama 3.1's, or one that looks at an image, with gates g_a and g_f:
//!             u = R(x)            q = R(W_q u), of each head; k, v are made of the image once
//!             x = x + tanh(g_a) · W_o · softmax(q·k / √h) v
//!             x = x + tanh(g_f) · SwiGLU(R(x))
//! logits = W_out · R(x)
//! ```
//!
//! Meta 2024. Where there is no image, layers that look at one are skipped whole, as in transformers: what is left is a
//! [Llama](super::llama) with fewer layers, and so it is read, from Hugging Face's layout and from ollama's GGUF, and
//! written. The embedding has eight rows more than the output matrix, for the mark of an image; these are left out,
//! too.

/// The layers of a model that look at an image, of its `layers` in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossLayers {
    layers: usize,
    cross: Vec<usize>,
}

impl CrossLayers {
    /// Those with the numbers `listed`, of `layers` in all. `None` where one is beyond the last, stands there twice, or
    /// no other is left.
    pub fn new(listed: &[u64], layers: usize) -> Option<CrossLayers> {
        let mut cross: Vec<usize> = listed.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<_>>()?;
        cross.sort_unstable();
        let good = cross.last().is_none_or(|&last| last < layers) && cross.windows(2).all(|pair| pair[0] < pair[1]);
        (good && cross.len() < layers).then_some(CrossLayers { layers, cross })
    }

    /// How many layers look at an image.
    pub fn count(&self) -> usize {
        self.cross.len()
    }

    /// How many do not.
    pub fn others(&self) -> usize {
        self.layers - self.cross.len()
    }

    /// The number of `layer` among those that do not look at an image; `None` if it does.
    pub fn number(&self, layer: usize) -> Option<usize> {
        self.cross.binary_search(&layer).err().map(|before| layer - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_layers_are_counted_on() {
        let cross = CrossLayers::new(&[4, 1], 6).unwrap();
        let numbers = (0..6).map(|layer| cross.number(layer)).collect::<Vec<_>>();
        assert_eq!(numbers, [Some(0), None, Some(1), Some(2), None, Some(3)]);
        assert_eq!((cross.count(), cross.others()), (2, 4));
        for wrong in [&[6][..], &[1, 1], &[0, 1, 2, 3, 4, 5], &[u64::MAX]] {
            assert_eq!(CrossLayers::new(wrong, 6), None, "{wrong:?}");
        }
    }
}
