// OpenAI's client for Node. Writes a line of JSON for each thing that was tried: its name, whether it went well, what was
// seen. Where and with which key stands in OPENAI_BASE_URL and OPENAI_API_KEY.

import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "Tell me of the old king." }];
const asked = { model: "demo", messages, max_tokens: 16, temperature: 0 };
const check = (name, good, seen = null) => console.log(JSON.stringify({ name, good: Boolean(good), seen }));

const models = [];
for await (const model of client.models.list()) models.push(model.id);
check("models", models.join() === "demo", models);

const whole = await client.chat.completions.create(asked);
const text = whole.choices[0].message.content;
check("chat", text.length > 0 && whole.usage.completion_tokens > 0, whole);

let streamed = "";
let usage = null;
for await (const piece of await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) {
  streamed += piece.choices[0]?.delta?.content ?? "";
  usage = piece.usage ?? usage;
}
check("a stream is the whole", streamed === text && usage?.total_tokens === whole.usage.total_tokens, streamed);

const vectors = await client.embeddings.create({ model: "demo", input: ["a king", "a miller"] });
check("embeddings", vectors.data.length === 2 && vectors.data[0].embedding.length > 0);

const request = { model: "demo", input: "Tell me of the old king.", max_output_tokens: 16, temperature: 0 };
const response = await client.responses.create(request);
let delta = "";
for await (const event of await client.responses.create({ ...request, stream: true })) {
  if (event.type === "response.output_text.delta") delta += event.delta;
}
check("responses", delta.length > 0 && delta === response.output_text, response);

const wrong = await client.chat.completions.create({ ...asked, temperature: "hot" }).catch((error) => error);
check("a wrong value", wrong instanceof OpenAI.BadRequestError && wrong.param === "temperature", String(wrong));

const stream = await client.chat.completions.create({ ...asked, max_tokens: undefined, ignore_eos: true, stream: true });
for await (const _ of stream) break;
stream.controller.abort();
check("a stream can be left", true);
