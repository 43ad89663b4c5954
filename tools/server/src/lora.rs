//! The LoRA adapters of a model: what they are called, and which of them a request is answered with.
//!
//! A request says it with llama.cpp's field `lora`, or by an adapter's name in `model`. Else it is answered with those
//! that are applied at the moment, which llama.cpp's `/lora-adapters` tells and changes.

use std::sync::{Mutex, PoisonError};

use quipu_runtime::{AdapterId, Adapters};
use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::fields::Fields;

/// An adapter that a model was loaded with.
#[derive(Clone, Debug)]
pub struct Lora {
    /// What requests call it.
    pub name: String,
    /// Its file or directory.
    pub path: String,
    /// What the engine calls it.
    pub id: AdapterId,
    /// Times what it is added where only its name is said.
    pub scale: f32,
    /// Whether it is applied when nothing is said.
    pub applied: bool,
}

/// All adapters of a model. Their numbers are their places in the list.
#[derive(Debug, Default)]
pub struct Loras {
    list: Vec<Lora>,
    /// The scales that are applied where nothing is said.
    applied: Mutex<Vec<f32>>,
}

/// What a request says of adapters.
#[derive(Clone, Debug, Default)]
pub struct AskedLora {
    /// The name in `model`.
    pub model: Option<String>,
    /// Numbers and scales.
    scales: Option<Vec<(usize, f32)>>,
}

/// The most adapters that a request may name.
const MANY: usize = 256;

impl AskedLora {
    /// Reads the fields `model` and `lora`.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(fields: &Fields<'_>) -> Result<AskedLora, ApiError> {
        let list = fields.array("lora", MANY)?;
        let scales = list.map(|list| scales(list, &fields.name("lora"))).transpose()?;
        Ok(AskedLora { model: fields.str("model")?.map(str::to_string), scales })
    }
}

/// A list of `{"id": number, "scale": number}`.
fn scales(list: &[Json], name: &str) -> Result<Vec<(usize, f32)>, ApiError> {
    let one = |(i, entry)| {
        let fields = Fields::of(entry, format!("{name}[{i}]"))?;
        let id = fields.count("id", u32::MAX as usize)?.ok_or_else(|| fields.missing("id"))?;
        let scale = fields.number("scale", -1e6..=1e6)?.ok_or_else(|| fields.missing("scale"))?;
        Ok((id, scale))
    };
    list.iter().enumerate().map(one).collect()
}

impl Loras {
    /// These adapters, whose names differ.
    pub fn new(list: Vec<Lora>) -> Loras {
        let applied = list.iter().map(|lora| if lora.applied { lora.scale } else { 0.0 }).collect();
        Loras { list, applied: Mutex::new(applied) }
    }

    fn applied(&self) -> Vec<f32> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn named(&self, name: &Option<String>) -> Option<&Lora> {
        self.list.iter().find(|lora| Some(&lora.name) == name.as_ref())
    }

    /// Checks that there are adapters with these numbers. Each of the others has the scale 0, and of a number that
    /// comes twice the last scale counts.
    fn all(&self, scales: &[(usize, f32)], name: &str) -> Result<Vec<f32>, ApiError> {
        let mut all = vec![0.0; self.list.len()];
        for (i, &(id, scale)) in scales.iter().enumerate() {
            let there = match self.list.len() {
                0 => "this model has none".to_string(),
                n => format!("this model has those from 0 to {}", n - 1),
            };
            let unknown = || ApiError::field(format!("{name}[{i}].id"), format!("is no adapter; {there}"));
            *all.get_mut(id).ok_or_else(unknown)? = scale;
        }
        Ok(all)
    }

    /// The adapters of a text.
    ///
    /// # Errors
    /// 400 for a number that no adapter has.
    pub fn choose(&self, asked: &AskedLora) -> Result<Adapters, ApiError> {
        let scales = match (&asked.scales, self.named(&asked.model)) {
            (Some(scales), _) => self.all(scales, "lora")?,
            (None, Some(named)) => {
                return Ok(Adapters::new([(named.id, named.scale)]).unwrap_or_default());
            }
            (None, None) => self.applied(),
        };
        let all = self.list.iter().map(|lora| lora.id).zip(scales);
        Ok(Adapters::new(all).unwrap_or_default())
    }

    /// Refuses vectors of texts under an adapter's name: these are the model's own.
    ///
    /// # Errors
    /// 400.
    pub fn refuse_vectors(&self, model: Option<&str>) -> Result<(), ApiError> {
        match self.named(&model.map(str::to_string)) {
            Some(_) => Err(ApiError::field("model", "is an adapter; vectors are made by a model without adapters")),
            None => Ok(()),
        }
    }

    /// The adapters with the scales that are applied where nothing is said.
    pub fn told(&self) -> Json {
        let one = |((id, lora), scale): ((usize, &Lora), f32)| json!({"id": id, "name": lora.name, "path": lora.path, "scale": scale});
        self.list.iter().enumerate().zip(self.applied()).map(one).collect()
    }

    /// Applies adapters with these scales from now on, to requests that say nothing.
    ///
    /// # Errors
    /// 400 for what is no list of scales, or a number that no adapter has.
    pub fn apply(&self, body: &Json) -> Result<(), ApiError> {
        let list = body.as_array().filter(|list| list.len() <= MANY);
        let expected = || ApiError::bad_request("the body must be a list of {\"id\": number, \"scale\": number}");
        let scales = self.all(&scales(list.ok_or_else(expected)?, "")?, "")?;
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = scales;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_scales_is_read_strictly() {
        let read = |body: Json| {
            let read = AskedLora::read(&Fields::of_body(&body).unwrap());
            read.map(|asked| asked.scales).map_err(|error| error.param.unwrap_or_default())
        };
        assert_eq!(read(json!({})).unwrap(), None);
        assert_eq!(read(json!({"lora": []})).unwrap(), Some(vec![]));
        assert_eq!(read(json!({"lora": [{"id": 1, "scale": -0.5}]})).unwrap(), Some(vec![(1, -0.5)]));
        for (bad, name) in [
            (json!({"id": 0, "scale": 1}), "lora"),
            (json!([1]), "lora[0]"),
            (json!([{"id": 0}]), "lora[0].scale"),
            (json!([{"scale": 1}]), "lora[0].id"),
            (json!([{"id": -1, "scale": 1}]), "lora[0].id"),
            (json!([{"id": 0, "scale": 1}, {"id": 0, "scale": 1e9}]), "lora[1].scale"),
        ] {
            assert_eq!(read(json!({"lora": bad})), Err(name.to_string()));
        }
        // Of a model without adapters.
        let none = Loras::default();
        assert!(none.choose(&AskedLora::default()).unwrap().is_empty());
        let error = none.apply(&json!([{"id": 0, "scale": 1}])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("[0].id"));
        assert!(none.apply(&json!({})).is_err() && none.apply(&json!([])).is_ok());
    }
}
