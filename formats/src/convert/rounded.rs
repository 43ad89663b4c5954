//! A model as it is after some of its matrices were rounded, without a file of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quipu_quant::TensorType::{self, F32};
use quipu_quant::blocks::dequantize;
use quipu_quant::search::{self, Calibration};

use super::options::ConvertOptions;
use super::outcome::ConvertError;
use super::plan::is_calibrated;
use crate::gguf::Metadata;
use crate::imatrix::Statistics;
use crate::source::{Encoding, SharedBytes, Source, TensorInfo};

/// The values of whole rows after they were rounded to type `ty`.
pub(super) fn rounded(ty: TensorType, cols: usize, values: &[f32], calibration: Option<&Calibration>) -> Vec<f32> {
    let mut bytes = vec![0; values.len() / ty.block_len() * ty.block_bytes()];
    let mut back = vec![0.0; values.len()];
    search::quantize(ty, cols, values, calibration, &mut bytes)
        .and_then(|()| dequantize(ty, &bytes, &mut back))
        .expect("whole rows, of a type whose blocks divide them, and their calibration");
    back
}

/// A model of which some matrices were rounded: their values as F32, so that nothing but the rounding of weights
/// differs.
pub struct Rounded {
    source: Arc<dyn Source>,
    infos: Vec<TensorInfo>,
    rounded: BTreeMap<usize, (TensorType, Option<Calibration>)>,
}

impl Rounded {
    /// `source` with the matrices of these numbers rounded to these types, by the importance matrix of `options` if
    /// there is one.
    ///
    /// # Errors
    /// When the importance matrix is of another model.
    pub fn new(
        source: Arc<dyn Source>,
        options: &ConvertOptions,
        types: &[(usize, TensorType)],
    ) -> Result<Rounded, ConvertError> {
        let mut infos = source.tensors().to_vec();
        let round = |&(index, ty): &(usize, TensorType)| {
            let info: &mut TensorInfo = &mut infos[index];
            is_calibrated(options, info)?;
            info.encoding = Encoding::Plain(F32);
            let statistics = options.imatrix.as_ref().and_then(|imatrix| imatrix.find(&info.name));
            Ok((index, (ty, statistics.map(Statistics::calibration))))
        };
        let rounded = types.iter().map(round).collect::<Result<_, ConvertError>>()?;
        Ok(Rounded { source, infos, rounded })
    }
}

impl Source for Rounded {
    fn path(&self) -> &Path {
        self.source.path()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.source.files()
    }

    fn metadata(&self) -> &Metadata {
        self.source.metadata()
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn rows(&self, index: usize, rows: Range<usize>) -> Cow<'_, [u8]> {
        let Some((ty, calibration)) = self.rounded.get(&index) else { return self.source.rows(index, rows) };
        let values = self.source.values(index, rows);
        let values = rounded(*ty, self.infos[index].cols(), &values, calibration.as_ref());
        Cow::Owned(bytemuck::cast_slice(&values).to_vec())
    }

    fn mapped(&self, index: usize) -> Option<&[u8]> {
        if self.rounded.contains_key(&index) { None } else { self.source.mapped(index) }
    }

    fn shared(self: Arc<Self>, index: usize) -> Option<SharedBytes> {
        if self.rounded.contains_key(&index) { None } else { self.source.clone().shared(index) }
    }

    fn release(&self, index: usize) {
        self.source.release(index);
    }

    fn read_ahead(&self, index: usize) {
        self.source.read_ahead(index);
    }

    fn lock(&self) -> std::io::Result<()> {
        self.source.lock()
    }
}
