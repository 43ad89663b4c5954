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
    rounded: BTreeMap<usize, Rounding>,
}

/// How a matrix was rounded.
struct Rounding {
    ty: TensorType,
    /// By expert; of a matrix of none, one.
    calibrations: Vec<Option<Calibration>>,
    /// Rows that each of them is for.
    unit: usize,
}

impl Rounding {
    fn new(info: &TensorInfo, ty: TensorType, options: &ConvertOptions) -> Rounding {
        let unit = if info.shape.len() == 3 { info.shape[1] } else { info.rows() };
        let of = |row| options.imatrix.as_ref()?.find_row(info, row).map(|statistics| statistics.calibration());
        Rounding { ty, calibrations: (0..info.rows()).step_by(unit).map(of).collect(), unit }
    }

    /// The values of `rows` of the matrix `info`, rounded.
    fn values(&self, info: &TensorInfo, mut rows: Range<usize>, values: &[f32]) -> Vec<f32> {
        let (cols, first) = (info.cols(), rows.start);
        let mut all = Vec::with_capacity(values.len());
        while !rows.is_empty() {
            let expert = rows.start / self.unit;
            let end = rows.end.min((expert + 1) * self.unit);
            let part = &values[(rows.start - first) * cols..(end - first) * cols];
            all.extend(rounded(self.ty, cols, part, self.calibrations[expert].as_ref()));
            rows.start = end;
        }
        all
    }
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
            Ok((index, Rounding::new(info, ty, options)))
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
        let Some(rounding) = self.rounded.get(&index) else { return self.source.rows(index, rows) };
        let values = rounding.values(&self.infos[index], rows.clone(), &self.source.values(index, rows));
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
