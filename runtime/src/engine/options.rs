//! How a model is loaded.

use quipu_kernels::Isa;

use crate::kv::KvType;
use crate::model::Residence;
use crate::setters::setters;
use crate::tuning::TuningChoice;

/// How a model is to be loaded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Worker threads; `None` for one on each fast core that this process may use ([`crate::host::cores`]).
    pub threads: Option<usize>,
    /// Instruction set; `None` for the best of this CPU.
    pub isa: Option<Isa>,
    /// The context length, in positions; `None` for the one that the model was trained for.
    pub context: Option<usize>,
    /// The number type of the KV cache.
    pub kv_type: KvType,
    /// The most prompt tokens that go through the model at once.
    pub batch: usize,
    /// Whether the weights stay mapped, and whether they are locked in memory.
    pub residence: Residence,
    /// How the kernels are tuned to the machine. It changes no bit of any result.
    pub tuning: TuningChoice,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        let residence = Residence { mmap: true, mlock: false };
        LoadOptions {
            threads: None,
            isa: None,
            context: None,
            kv_type: KvType::F16,
            batch: 512,
            residence,
            tuning: TuningChoice::default(),
        }
    }
}

setters!(LoadOptions {
    threads: impl Into<Option<usize>>,
    isa: impl Into<Option<Isa>>,
    context: impl Into<Option<usize>>,
    kv_type: KvType,
    batch: usize,
    residence: Residence,
    tuning: TuningChoice,
});
