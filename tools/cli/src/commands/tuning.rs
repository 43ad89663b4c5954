//! What `quipu doctor` says of how kernels are tuned.

use quipu_quant::TensorType;
use quipu_runtime::tuning::{Found, TypeTuning};
use quipu_runtime::{Isa, Tuning, TuningChoice};
use serde_json::{Value as Json, json};

/// A choice of the user, and the option or variable that made it.
type Asked = (TuningChoice, &'static str);

/// The tuning in use, what it comes from, and what was found on this machine, if that counts.
fn state(asked: Option<&Asked>, isa: Isa, threads: usize) -> (Tuning, &'static str, Option<Found>) {
    let defaults = isa.tuning();
    let choice = asked.map_or_else(TuningChoice::default, |(choice, _)| choice.clone());
    match choice {
        TuningChoice::Given(tuning) => (tuning, "given", None),
        TuningChoice::Measured(Some(directory)) => {
            let found = Found::read(&directory, isa, threads);
            let tuned = found.types.iter().fold(defaults, |tuning, found| tuning.with_ahead(found.ty, found.ahead));
            (tuned, "measured", Some(found))
        }
        TuningChoice::Measured(None) => (defaults, "measured", None),
        _ => (defaults, "defaults", None),
    }
}

/// Where the distance for a type comes from.
fn origin(found: Option<&TypeTuning>, given: bool) -> &'static str {
    match found {
        _ if given => "given",
        Some(found) if found.is_final => "cached",
        _ => "default",
    }
}

/// As JSON: how the tuning is chosen, by what, the file, the parameters, and the distances by type.
pub fn report(asked: Option<&Asked>, isa: Isa, threads: usize) -> Json {
    let (tuning, how, found) = state(asked, isa, threads);
    let parameters: serde_json::Map<_, _> =
        tuning.parameters().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let types = quantised().map(|ty| {
        let (ahead, found) = (tuning.ahead(ty), known(found.as_ref(), ty));
        let about = json!({
            "codes_ahead": ahead.codes,
            "scales_ahead": ahead.scales,
            "from": origin(found, how == "given"),
            "gain_percent": found.map(|found| found.gain_percent),
        });
        (ty.name().to_string(), about)
    });
    json!({
        "how": how,
        "chosen_by": asked.map_or("default", |(_, origin)| origin),
        "file": found.as_ref().map(|found| found.file.display().to_string()),
        "parameters": parameters,
        "types": types.collect::<serde_json::Map<_, _>>(),
    })
}

/// For people.
pub fn lines(asked: Option<&Asked>, isa: Isa, threads: usize) -> Vec<String> {
    let (tuning, how, found) = state(asked, isa, threads);
    let by = asked.map_or(String::new(), |(_, origin)| format!(", by {origin}"));
    let mut lines = vec![match (how, &found) {
        ("given", _) => format!("given{by}"),
        ("defaults", _) => format!("defaults of {isa}{by}"),
        (_, Some(found)) if found.types.is_empty() => format!(
            "measured on a model's weights when it first runs{by}; nothing yet for {isa} with {threads} threads in {}",
            found.file.display()
        ),
        (_, Some(found)) => format!("measured{by}, kept in {}", found.file.display()),
        (_, None) => format!("measured on a model's weights at every start{by}, since there is no place to keep it"),
    }];
    // Types with the same distances in one line.
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for ty in quantised() {
        let (ahead, known) = (tuning.ahead(ty), known(found.as_ref(), ty));
        let source = match known {
            Some(known) if known.is_final && known.gain_percent > 0.0 => {
                format!("{:.0} % faster than the default", known.gain_percent)
            }
            Some(known) if known.is_final => "the default, nothing was faster".to_string(),
            Some(_) => "the default until another look".to_string(),
            None if how == "given" => "given".to_string(),
            None => "default".to_string(),
        };
        let about = format!("weights {} bytes ahead, scales {}: {source}", ahead.codes, ahead.scales);
        match groups.iter_mut().find(|(text, _)| *text == about) {
            Some((_, types)) => types.push(ty.name()),
            None => groups.push((about, vec![ty.name()])),
        }
    }
    let all = quantised().count();
    lines.extend(groups.into_iter().map(|(about, types)| {
        if types.len() == all { format!("all types: {about}") } else { format!("{}: {about}", types.join(", ")) }
    }));
    let parameters: Vec<_> = tuning.parameters().iter().map(|(name, value)| format!("{name}={value}")).collect();
    lines.push(parameters.join(" "));
    lines
}

fn quantised() -> impl Iterator<Item = TensorType> {
    TensorType::ALL.into_iter().filter(|ty| !ty.is_float())
}

fn known(found: Option<&Found>, ty: TensorType) -> Option<&TypeTuning> {
    found?.types.iter().find(|found| found.ty == ty)
}
