//! Which layers share their pages.

use super::page::{PageShape, Used};
use super::types::{KvType, PAGE};
use crate::config::Config;

/// The layers in groups. The layers of a group keep the same positions, so one page holds them all. Layers with sliding
/// windows or cross attention would be groups of their own.
#[derive(Debug)]
pub(crate) struct KvLayout {
    /// The shape of each group's pages.
    pub(crate) groups: Vec<PageShape>,
    /// For each layer its group, and its number there.
    places: Vec<(usize, usize)>,
    /// Bytes of all pages that were made with this layout: those of one engine.
    pub(crate) used: Used,
}

impl KvLayout {
    /// Llama: every layer keeps every position.
    pub(crate) fn new(config: &Config) -> KvLayout {
        let shape = PageShape { layers: config.layers, kv_heads: config.kv_heads, head_dim: config.head_dim };
        let places = (0..config.layers).map(|layer| (0, layer)).collect();
        KvLayout { groups: vec![shape], places, used: Used::default() }
    }

    /// The group of a layer, and the layer's number in it.
    pub(crate) fn place(&self, layer: usize) -> (usize, usize) {
        self.places[layer]
    }

    /// Bytes of one page of each group.
    pub(crate) fn page_bytes(&self, ty: KvType) -> usize {
        self.groups.iter().map(|shape| shape.bytes(ty)).sum()
    }

    /// The most numbers that the keys of one position have in any layer; its values have as many.
    pub(crate) fn widest(&self) -> usize {
        self.groups.iter().map(|shape| shape.kv_heads * shape.head_dim).max().unwrap_or(0)
    }
}

/// Bytes of keys and values that each position of a sequence adds.
pub fn bytes_per_position(config: &Config, kv_type: KvType) -> usize {
    KvLayout::new(config).page_bytes(kv_type) / PAGE
}

#[cfg(test)]
impl KvLayout {
    /// Any groups, for tests.
    pub(super) fn of(groups: Vec<PageShape>, places: Vec<(usize, usize)>) -> KvLayout {
        KvLayout { groups, places, used: Used::default() }
    }
}
