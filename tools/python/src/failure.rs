//! Errors as Python's exceptions, with the same sentences.

use std::error::Error as StdError;

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use quipu_runtime::generate::GenerateError;
use quipu_server::error::ApiError;

create_exception!(
    quipu,
    Error,
    PyValueError,
    "What Quipu cannot do, in one sentence: a file that is no model, a prompt that does not fit, a schema that cannot be \
     kept to."
);

/// The exception for an error: its sentence, and those of its causes that it does not tell itself.
pub fn failure(error: impl StdError) -> PyErr {
    let (mut sentence, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let more = error.to_string();
        if !sentence.contains(&more) {
            sentence = format!("{sentence}: {more}");
        }
        cause = error.source();
    }
    Error::new_err(sentence)
}

/// What an exception says, without its type.
pub fn sentence(error: &PyErr) -> String {
    Python::attach(|py| error.value(py).to_string())
}

/// The exception for what the server's code refuses; there is no server here.
pub fn refused(error: ApiError) -> PyErr {
    match error.exceeds.as_deref() {
        Some(&(tokens, context)) => failure(GenerateError::PromptTooLong { tokens, context }),
        None => Error::new_err(error.message),
    }
}
