//! Numbers that numpy takes without a copy.

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Rows of 32-bit floats. `numpy.asarray` makes an array of it that shares its memory.
///
/// (The buffer protocol is no part of Python's stable interface before 3.11; numpy's own is a dictionary.)
#[pyclass(frozen, module = "quipu._quipu")]
#[derive(Debug)]
pub struct Array {
    /// Row after row. Never changed, so whoever looks at it sees the same.
    values: Vec<f32>,
    shape: Vec<usize>,
}

impl Array {
    /// A row.
    pub fn row(values: Vec<f32>) -> Array {
        Array { shape: vec![values.len()], values }
    }

    /// Rows of `columns` numbers each.
    pub fn rows(values: Vec<f32>, columns: usize) -> Array {
        Array { shape: vec![values.len() / columns.max(1), columns], values }
    }
}

#[pymethods]
impl Array {
    /// Rows and columns, or the numbers of a single row.
    #[getter]
    fn shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    /// numpy's array interface, version 3.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("version", 3)?;
        dict.set_item("shape", pyo3::types::PyTuple::new(py, &self.shape)?)?;
        dict.set_item("typestr", if cfg!(target_endian = "little") { "<f4" } else { ">f4" })?;
        // The second says that it is not to be written to.
        dict.set_item("data", (self.values.as_ptr() as usize, true))?;
        Ok(dict)
    }

    fn __len__(&self) -> usize {
        self.shape[0]
    }

    /// Row number `row` as a list.
    fn row_list(&self, row: usize) -> PyResult<Vec<f32>> {
        let columns = self.shape.last().copied().unwrap_or_default();
        let found = self.values.chunks(columns.max(1)).nth(row);
        found.map(<[f32]>::to_vec).ok_or_else(|| PyIndexError::new_err(format!("there is no row {row}")))
    }
}
