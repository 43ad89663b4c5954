//! Calls of tools in templates that have no place for them.
//!
//! Some templates refuse several calls in one message, Llama 3.1's among them; many know no tools at all; Mistral's are
//! strict about whose turn it is. All are told the same in a form that they can render.

use serde_json::{Value as Json, json};

use super::answer::Tool;
use super::message::Message;
use super::template::ChatTemplate;

/// A conversation with these tools as `template` can take it, and what it is told of them (`tools` of
/// [`RenderOptions`](super::RenderOptions)): [`in_words`] if it knows no tools.
pub fn fitted(template: &ChatTemplate, messages: &[Message], tools: &[Tool]) -> (Vec<Message>, Option<Json>) {
    let has_calls = messages.iter().any(|message| message.role == "tool" || !calls(message).is_empty());
    if (has_calls || !tools.is_empty()) && !template.source().contains("tools") {
        return (in_words(messages, tools), None);
    }
    let told = (!tools.is_empty()).then(|| tools.iter().map(Tool::to_json).collect());
    (messages.to_vec(), told)
}

/// The same conversation with one call in each message, and each result right after its call; none if there is no
/// message with several.
pub fn one_call_each(messages: &[Message]) -> Option<Vec<Message>> {
    if !messages.iter().any(|message| calls(message).len() > 1) {
        return None;
    }
    let mut split = Vec::new();
    let mut rest = messages;
    while let Some((message, after)) = rest.split_first() {
        rest = after;
        let calls = calls(message);
        if calls.len() < 2 {
            split.push(message.clone());
            continue;
        }
        let results = after.iter().take_while(|result| result.role == "tool").count();
        let (results, after) = after.split_at(results);
        rest = after;
        let mut results: Vec<&Message> = results.iter().collect();
        for (number, call) in calls.iter().enumerate() {
            let mut one = message.clone();
            one.extra.insert("tool_calls".into(), json!([call]));
            if number > 0 {
                one.content = Json::Null;
            }
            split.push(one);
            // By their ids, or else by their order.
            let answers = |result: &&Message| match result.extra.get("tool_call_id") {
                Some(id) if !call["id"].is_null() => *id == call["id"],
                _ => true,
            };
            if let Some(place) = results.iter().position(answers) {
                split.push(results.remove(place).clone());
            }
        }
        split.extend(results.into_iter().cloned());
    }
    Some(split)
}

/// The same conversation for a template that is strict about turns: the system speaks first and once, what the user
/// says in several messages is one, and calls have ids of nine digits (Mistral's templates want nine letters or
/// digits). None if all of this is so already.
pub fn in_turns(messages: &[Message]) -> Option<Vec<Message>> {
    let is_system = |message: &&Message| message.role == "system";
    let (system, others): (Vec<_>, Vec<_>) = messages.iter().partition(is_system);
    let mut told: Vec<Message> = Vec::new();
    for message in system.into_iter().chain(others) {
        match told.last_mut() {
            Some(last) if last.role == message.role && ["system", "user"].contains(&message.role.as_str()) => {
                last.content = format!("{}\n\n{}", text(&last.content), text(&message.content)).into();
            }
            _ => told.push(message.clone()),
        }
    }
    let mut ids: Vec<Json> = Vec::new();
    let mut short = |id: &mut Json| {
        if id.is_null() {
            return;
        }
        let place = ids.iter().position(|known| known == id).unwrap_or(ids.len());
        if place == ids.len() {
            ids.push(id.clone());
        }
        *id = format!("{place:09}").into();
    };
    for message in &mut told {
        for call in message.extra.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten() {
            if let Some(id) = call.get_mut("id") {
                short(id);
            }
        }
        if let Some(id) = message.extra.get_mut("tool_call_id") {
            short(id);
        }
    }
    (told != messages).then_some(told)
}

/// The same conversation in plain words, for a template that knows no tools: the system says which there are and how
/// they are called, calls are the text that was written, and results are told by the user.
pub fn in_words(messages: &[Message], tools: &[Tool]) -> Vec<Message> {
    let mut told: Vec<Message> = Vec::new();
    for message in messages {
        if message.role == "tool" {
            let result = format!("Result of the call: {}", text(&message.content));
            match told.last_mut() {
                // Roles take turns in many templates.
                Some(last) if last.role == "user" => last.content = format!("{}\n{result}", text(&last.content)).into(),
                _ => told.push(Message::new("user", result)),
            }
            continue;
        }
        let mut message = message.clone();
        let calls = calls(&message).iter().map(written).collect::<Vec<_>>().join("\n");
        if !calls.is_empty() {
            let said = text(&message.content);
            message.content = if said.is_empty() { calls } else { format!("{said}\n{calls}") }.into();
            message.tokens.clear();
        }
        message.extra.remove("tool_calls");
        told.push(message);
    }
    if !tools.is_empty() {
        let offer = offer(tools);
        match told.first_mut() {
            Some(first) if first.role == "system" => {
                first.content = format!("{}\n\n{offer}", text(&first.content)).into()
            }
            _ => told.insert(0, Message::new("system", offer)),
        }
    }
    told
}

fn offer(tools: &[Tool]) -> String {
    let mut offer = String::from(
        "You can call functions. To call one, answer with nothing but a JSON object of this form: \
         {\"name\": \"the function's name\", \"parameters\": {its arguments}}. Its result will be told to you. Call one \
         only if you need it.\nThe functions:",
    );
    for tool in tools {
        offer.push('\n');
        offer.push_str(&tool.to_json()["function"].to_string());
    }
    offer
}

fn calls(message: &Message) -> &[Json] {
    message.extra.get("tool_calls").and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// A call as a model writes it.
fn written(call: &Json) -> String {
    let function = &call["function"];
    json!({"name": function["name"], "parameters": function["arguments"]}).to_string()
}

fn text(content: &Json) -> String {
    match content {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calling(ids: &[&str]) -> Message {
        let call = |id: &&str| json!({"id": id, "type": "function", "function": {"name": id, "arguments": {"x": 1}}});
        let mut message = Message::new("assistant", "Well.");
        message.extra.insert("tool_calls".into(), ids.iter().map(call).collect::<Vec<_>>().into());
        message
    }

    fn result(id: Option<&str>, text: &str) -> Message {
        let mut message = Message::new("tool", text);
        message.extra.extend(id.map(|id| ("tool_call_id".to_string(), id.into())));
        message
    }

    fn shape(messages: &[Message]) -> Vec<String> {
        let one = |message: &Message| {
            let names: Vec<&str> = calls(message).iter().filter_map(|call| call["id"].as_str()).collect();
            format!("{} {}{}", message.role, text(&message.content), names.join("+"))
        };
        messages.iter().map(one).collect()
    }

    #[test]
    fn results_follow_their_calls() {
        let question = Message::new("user", "?");
        let one = [question.clone(), calling(&["a"]), result(Some("a"), "1")];
        assert_eq!(one_call_each(&one), None);
        let by_id =
            [question.clone(), calling(&["a", "b"]), result(Some("b"), "2"), result(Some("a"), "1"), question.clone()];
        let expected = ["user ?", "assistant Well.a", "tool 1", "assistant b", "tool 2", "user ?"];
        assert_eq!(shape(&one_call_each(&by_id).unwrap()), expected);
        let by_order = [question.clone(), calling(&["a", "b"]), result(None, "1"), result(None, "2"), question];
        assert_eq!(shape(&one_call_each(&by_order).unwrap()), expected);
        // One is missing, one is too many: nothing is lost.
        let odd = [calling(&["a", "b"]), result(Some("b"), "2"), result(Some("c"), "3")];
        assert_eq!(shape(&one_call_each(&odd).unwrap()), ["assistant Well.a", "assistant b", "tool 2", "tool 3"]);
    }

    #[test]
    fn turns_are_taken() {
        let (one, two) = (Message::new("user", "One."), Message::new("user", "Two."));
        let system = |text: &str| Message::new("system", text);
        let long = ["call_of_some_length", "another"];
        let messages = [
            system("A."),
            one.clone(),
            two,
            system("B."),
            calling(&long),
            result(Some(long[1]), "2"),
            result(Some(long[0]), "1"),
        ];
        let told = in_turns(&messages).unwrap();
        let expected =
            ["system A.\n\nB.", "user One.\n\nTwo.", "assistant Well.000000000+000000001", "tool 2", "tool 1"];
        assert_eq!(shape(&told), expected);
        assert_eq!(
            (&told[3].extra["tool_call_id"], &told[4].extra["tool_call_id"]),
            (&json!("000000001"), &json!("000000000"))
        );
        assert_eq!(in_turns(&told), None);
        assert_eq!(in_turns(&[system("A."), one]), None);
    }

    #[test]
    fn a_template_without_tools_is_told_in_words() {
        let tool =
            Tool { name: "time".into(), description: Some("Tells it.".into()), parameters: Json::Null, strict: false };
        let messages = [Message::new("user", "?"), calling(&["a"]), result(None, "1"), result(None, "2")];
        let told = in_words(&messages, &[tool]);
        assert_eq!(
            shape(&told)[1..],
            [
                "user ?",
                "assistant Well.\n{\"name\":\"a\",\"parameters\":{\"x\":1}}",
                "user Result of the call: 1\nResult of the call: 2"
            ]
        );
        assert!(
            told[0].role == "system"
                && text(&told[0].content).contains("\"name\":\"time\",\"description\":\"Tells it.\"")
        );
        assert_eq!(shape(&in_words(&messages[..1], &[])), ["user ?"]);
    }
}
