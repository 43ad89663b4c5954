//! Models written anew: `quantize` and `convert`.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use quipu_formats::convert::{Mix, Rounding, TensorRule, TypeRule};
use quipu_formats::imatrix::Imatrix;
use quipu_measure::{CalibrateOn, Monitor, QuantizeOptions, Types, quantize};
use quipu_quant::TensorType;
use quipu_runtime::Cancel;

use crate::failure::{Error, failure};
use crate::options::Given;
use crate::wait::apart;

/// The type of a matrix by any case of its name.
fn tensor_type(name: &str) -> PyResult<TensorType> {
    TensorType::from_name(name).ok_or_else(|| {
        let names: Vec<_> = TensorType::ALL.iter().map(|ty| ty.name().to_lowercase()).collect();
        Error::new_err(format!("there is no type {name}; there are {}", names.join(", ")))
    })
}

/// A type or mix by any case of its name.
fn type_rule(name: &str) -> PyResult<TypeRule> {
    let mix = Mix::from_name(name).map(TypeRule::Mix);
    mix.or_else(|| TensorType::from_name(name).map(TypeRule::To)).ok_or_else(|| {
        let alone = TensorType::ALL.iter().map(|ty| ty.name()).filter(|name| Mix::from_name(name).is_none());
        let names: Vec<_> = alone.chain(Mix::ALL.iter().map(|mix| mix.name())).map(str::to_lowercase).collect();
        Error::new_err(format!("there is no type {name}; there are {}", names.join(", ")))
    })
}

/// What is to be written.
fn options(given: &Given<'_>) -> PyResult<QuantizeOptions> {
    let text = |name| given.take::<String>(name, "a text");
    let types = match (text("type")?, given.take::<f64>("target_bits", "a number")?) {
        (Some(_), Some(_)) => return Err(Error::new_err("type and target_bits cannot be asked for together")),
        (Some(name), None) => Types::Rule(type_rule(&name)?),
        (None, Some(bits)) if bits > 0.0 && bits.is_finite() => Types::Bits(bits),
        (None, Some(bits)) => return Err(Error::new_err(format!("target_bits must be above 0, not {bits}"))),
        (None, None) => Types::Rule(TypeRule::Keep),
    };
    let mut options = QuantizeOptions::new(types);
    options.packed = given.take("packed", "True or False")?.unwrap_or(false);
    options.part_bytes = given.take("split_size", "a number of bytes")?;
    for (pattern, ty) in
        given.take::<Vec<(String, String)>>("tensors", "pairs of a pattern and a type")?.unwrap_or_default()
    {
        options.tensors.push(TensorRule { pattern, ty: tensor_type(&ty)? });
    }
    options.rounding = match text("rounding")?.as_deref() {
        None | Some("search") => Rounding::Search,
        Some("plain") => Rounding::Plain,
        Some(other) => return Err(Error::new_err(format!("rounding must be search or plain, not {other}"))),
    };
    let imatrix = given.take::<PathBuf>("imatrix", "a path")?;
    let calibrate = text("calibrate")?;
    options.calibrate_on = match (imatrix, calibrate.as_deref(), text("calibration_text")?) {
        (Some(path), ..) => {
            options.reads.add(&path);
            CalibrateOn::Imatrix(Imatrix::read(&path).map_err(failure)?.into())
        }
        (None, _, Some(text)) => CalibrateOn::Text(text),
        (None, None | Some("random"), None) => CalibrateOn::RandomTokens,
        (None, Some("own"), None) => CalibrateOn::OwnText,
        (None, Some("none"), None) => CalibrateOn::Nothing,
        (None, Some(other), None) => {
            return Err(Error::new_err(format!("calibrate must be random, own or none, not {other}")));
        }
    };
    Ok(options)
}

/// Writes the model `input` to `output`, with weights of other types or in another form.
#[pyfunction]
pub fn write<'py>(
    py: Python<'py>,
    input: String,
    output: PathBuf,
    given: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let given = Given::new(given)?;
    let options = options(&given)?;
    given.finish()?;
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let source = quipu_runtime::open(&input).map_err(failure)?;
    let work = move || quantize(source, output, &options, &Monitor::new(stop, &|_| {}));
    let written = apart(py, &cancel, work)?.map_err(failure)?;
    let mut warnings: Vec<_> = written.file.warnings.iter().map(ToString::to_string).collect();
    warnings.extend(written.not_calibrated.map(|error| {
        format!("rounded without knowing what the matrices meet, since the model does not run here: {error}")
    }));
    let types: Vec<_> = written.file.types.iter().map(|(ty, count)| (ty.to_string(), *count)).collect();
    let dict = PyDict::new(py);
    dict.set_item("files", written.file.files.clone())?;
    dict.set_item("bytes", written.file.bytes)?;
    dict.set_item("types", types)?;
    dict.set_item("warnings", warnings)?;
    Ok(dict)
}
