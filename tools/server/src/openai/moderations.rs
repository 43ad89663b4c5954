//! `POST /v1/moderations`: whether texts are safe, in OpenAI's words.

use quipu_runtime::chat::Message;
use serde_json::{Map, Value as Json, json};

use super::messages;
use crate::context::{Context, Moderation};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::moderation::moderator::{Moderator, turns};
use crate::moderation::policy::Category;
use crate::moderation::verdict::Verdict;
use crate::random;

/// OpenAI's categories, and the names of Llama Guard's that belong to each, in letters alone. What the two have not in
/// common is not guessed: `harassment`, `hate/threatening`, `violence/graphic`, `self-harm/intent` and
/// `self-harm/instructions` are never said, and most of Llama Guard's others have no name here.
const CATEGORIES: [(&str, &[&str]); 13] = [
    ("harassment", &[]),
    ("harassment/threatening", &[]),
    ("hate", &["hate", "violenceandhate"]),
    ("hate/threatening", &[]),
    (
        "illicit",
        &[
            "violentcrimes",
            "nonviolentcrimes",
            "sexcrimes",
            "sexrelatedcrimes",
            "childexploitation",
            "childsexualexploitation",
            "indiscriminateweapons",
            "codeinterpreterabuse",
            "criminalplanning",
            "gunsandillegalweapons",
            "regulatedorcontrolledsubstances",
        ],
    ),
    ("illicit/violent", &["violentcrimes", "indiscriminateweapons", "gunsandillegalweapons"]),
    ("self-harm", &["selfharm", "suicideselfharm"]),
    ("self-harm/intent", &[]),
    ("self-harm/instructions", &[]),
    ("sexual", &["sexualcontent", "sexcrimes", "sexrelatedcrimes", "childexploitation", "childsexualexploitation"]),
    ("sexual/minors", &["childexploitation", "childsexualexploitation"]),
    ("violence", &["violentcrimes", "violenceandhate"]),
    ("violence/graphic", &[]),
];

/// Reads `input`: a text, a list of texts, or one input as a list of parts (`{"type": "text", "text"}`). In its place
/// there may be `messages`, a conversation of which the last message is judged.
///
/// # Errors
/// What is wrong with the request.
pub fn moderations(context: &Context, moderator: &Moderator, body: &Json) -> Result<Moderation, ApiError> {
    let fields = Fields::of_body(body)?;
    let most = context.limits.prompts;
    let said = |text: &str| vec![Message::new("user", text)];
    let inputs: Vec<Vec<Message>> = match (fields.get("input"), fields.get("messages")) {
        (Some(_), Some(_)) => return Err(ApiError::field("messages", "cannot be asked for together with `input`")),
        (None, Some(_)) => vec![messages::read(&fields, &context.limits)?],
        (Some(Json::String(text)), None) => vec![said(text)],
        (Some(Json::Array(list)), None) if list.is_empty() => return Err(ApiError::field("input", "is empty")),
        (Some(Json::Array(list)), None) if list.iter().all(Json::is_string) => fields
            .array("input", most)?
            .unwrap_or_default()
            .iter()
            .map(|text| said(text.as_str().unwrap_or_default()))
            .collect(),
        (Some(Json::Array(parts)), None) => vec![said(&messages::text_of(parts, "input")?)],
        (Some(_), None) => return Err(fields.wrong("input", "a string, a list of strings or a list of parts")),
        (None, None) => return Err(fields.missing("input")),
    };
    let question = |messages: &Vec<Message>| {
        let by_assistant = messages.last().is_some_and(|last| last.role == "assistant");
        Ok(moderator.question(&turns(messages, by_assistant)?)?)
    };
    let questions = inputs.iter().map(question).collect::<Result<_, ApiError>>()?;
    let (name, categories) = (moderator.model().id().to_string(), moderator.policy().categories().to_vec());
    let tell = move |verdicts: &[Verdict]| {
        let results: Json = verdicts.iter().map(|verdict| result(verdict, &categories)).collect();
        json!({"id": random::id("modr-"), "model": name, "results": results})
    };
    Ok(Moderation { questions, tell: Box::new(tell) })
}

/// What is told of a text. Besides OpenAI's categories there are the guard's own, by their codes. The score of a
/// category is the probability of `unsafe` if the guard names it, having to name something, and otherwise 0.
fn result(verdict: &Verdict, categories: &[Category]) -> Json {
    let (mut flags, mut scores, mut types) = (Map::new(), Map::new(), Map::new());
    let mut tell = |name: &str, is_named: bool| {
        flags.insert(name.into(), (is_named && verdict.flagged).into());
        scores.insert(name.into(), json!(if is_named { verdict.probability } else { 0.0 }));
        types.insert(name.into(), json!(["text"]));
    };
    for (name, own) in CATEGORIES {
        tell(name, verdict.named.iter().any(|category| own.contains(&letters(category.name()).as_str())));
    }
    for category in categories {
        tell(&category.code, verdict.named.contains(category));
    }
    json!({
        "flagged": verdict.flagged,
        "categories": flags,
        "category_scores": scores,
        "category_applied_input_types": types,
        "guard": verdict.to_json(),
    })
}

/// The letters of a name, small.
fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::form::Form;

    /// Which of OpenAI's categories a category of a generation belongs to.
    fn told(form: Form, code: &str) -> Vec<String> {
        let policy = form.policy();
        let named = policy.categories().iter().filter(|category| category.code == code).cloned().collect();
        let told = result(&Verdict { probability: 0.75, flagged: true, named }, policy.categories());
        let names = told["categories"].as_object().unwrap().iter().filter(|(_, is)| **is == true);
        names.map(|(name, _)| name.clone()).inspect(|name| assert_eq!(told["category_scores"][name], 0.75)).collect()
    }

    #[test]
    fn categories_have_openais_names_where_they_mean_the_same() {
        assert_eq!(told(Form::One, "O1"), ["hate", "violence", "O1"]);
        assert_eq!(told(Form::One, "O6"), ["self-harm", "O6"]);
        assert_eq!(told(Form::Two, "S9"), ["hate", "S9"]);
        assert_eq!(told(Form::Three, "S9"), ["illicit", "illicit/violent", "S9"]);
        assert_eq!(told(Form::Three, "S4"), ["illicit", "sexual", "sexual/minors", "S4"]);
        assert_eq!(told(Form::Three, "S6"), ["S6"]);
        let none = result(&Verdict { probability: 0.25, flagged: false, named: Vec::new() }, &[]);
        assert!(none["categories"].as_object().unwrap().values().all(|is| *is == false));
    }
}
