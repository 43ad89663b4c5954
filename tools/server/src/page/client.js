
// The server, as any client sees it.

/** Why something could not be done, in a sentence. `kind` is what is to be done about it. */
class Failure extends Error {
  constructor(sentence, { kind = "error", param = null } = {}) {
    super(sentence);
    this.kind = kind;
    this.param = param;
  }
}

const UNREACHABLE = "The server cannot be reached. Is it still running? Nothing that was written is lost.";
const CUT = "The connection was lost before the answer was complete. What had come by then is kept.";

let key = sessionStorage.getItem("quipu.key");

/** Asks the user for the key. Returns whether there is one now. */
let asking = null;
function askKey(why) {
  asking ??= new Promise((resolve) => {
    const dialog = $("key-dialog");
    dialog.returnValue = "";
    $("key").value = "";
    if (why) $("key-why").textContent = why;
    $("key-cancel").onclick = () => dialog.close("cancel");
    dialog.onclose = () => {
      asking = null;
      const given = dialog.returnValue !== "cancel" && $("key").value.trim();
      $("key").value = "";
      if (given) {
        key = given;
        sessionStorage.setItem("quipu.key", key);
      }
      resolve(Boolean(given));
    };
    dialog.showModal();
    $("key").focus();
  });
  return asking;
}

/** Calls the server; asks for the key if it wants one. Throws a Failure unless it says 2xx. */
async function call(path, { body, signal, quiet } = {}) {
  for (;;) {
    const used = key;
    const headers = { Accept: "application/json, text/event-stream, text/plain" };
    if (used) headers.Authorization = `Bearer ${used}`;
    if (body) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(path, {
        method: body ? "POST" : "GET",
        body: body && JSON.stringify(body),
        headers,
        signal,
        cache: "no-store",
        credentials: "omit",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Failure(UNREACHABLE, { kind: "lost" });
    }
    if (response.ok) return response;
    if (response.status === 401 && !quiet) {
      if (used !== key) continue;
      if (await askKey(used ? "The server does not know that key. Another one?" : null)) continue;
      throw new Failure("The server wants a key and has got none.", { kind: "key" });
    }
    throw await failureOf(response);
  }
}

async function failureOf(response) {
  let error;
  try {
    error = (await response.json()).error;
  } catch {
    // Not one of its own answers.
  }
  const seconds = Number(response.headers.get("Retry-After")) || null;
  return failure(error ?? {}, response.status, seconds);
}

/** The sentence for an error of the server's. */
function failure(error, status, seconds) {
  const said = typeof error === "string" ? error : error.message;
  const param = error.param ?? null;
  if (error.n_prompt_tokens) {
    const { n_prompt_tokens: has, n_ctx: takes } = error;
    return new Failure(
      `The conversation has ${whole.format(has)} tokens, and this model takes ${whole.format(takes)}. Nothing was cut off. Shorten a message, ` +
        "go back to an earlier one, or begin a new conversation.",
      { kind: "context", param },
    );
  }
  if (status === 503) {
    if (said === "Loading model") return new Failure("The model is still being loaded.", { kind: "loading" });
    const when = seconds ? ` Try again in ${plural(seconds, "second")}.` : " Try again later.";
    const why = error.code === "overloaded" ? "The server has as many requests waiting as it takes." : `The server says: ${said ?? "not now"}.`;
    return new Failure(why + when, { kind: "busy", param });
  }
  if (status === 404 && !said) return new Failure("The server has nothing there.", { kind: "absent" });
  return new Failure(said ? `The server says: ${said}.` : `The server answered with the status ${status}.`, {
    kind: status === 404 ? "absent" : "error",
    param,
  });
}

/** The data of the events of a response, as they come. */
async function* events(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "", data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (!line && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Has an answer written: `hear` gets every piece. Throws a Failure, or what an aborted signal throws.
 */
async function complete(body, signal, hear) {
  const response = await call("/v1/chat/completions", { body, signal });
  try {
    for await (const data of events(response)) {
      if (data === "[DONE]") return;
      const piece = JSON.parse(data);
      if (piece.error) throw failure(piece.error, piece.error.type === "unavailable_error" ? 503 : 500);
      hear(piece);
    }
  } catch (error) {
    if (signal.aborted || error instanceof Failure) throw error;
    throw new Failure(CUT, { kind: "lost" });
  }
  throw new Failure(CUT, { kind: "lost" });
}

/** The models, as the server lists them, and the one that is chosen. */
const models = {
  list: [],
  get chosen() {
    return this.list.find((model) => model.id === $("model").value) ?? this.list[0];
  },
  get context() {
    return this.chosen?.meta?.n_ctx;
  },
};

/** Asks for the models until there are some. */
async function findModels() {
  let remove = null, said = "";
  for (;;) {
    try {
      models.list = (await (await call("/v1/models")).json()).data;
      remove?.();
      break;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (said !== error.message) {
        remove?.();
        said = error.message;
        remove = notice(said, error.kind === "key" ? { action: "Enter a key", press: findModels } : {});
      }
      if (error.kind === "key") return;
      await new Promise((resolve) => setTimeout(resolve, error.kind === "loading" ? 500 : 3000));
    }
  }
  const select = $("model"), wish = keptValue("model", null);
  select.replaceChildren(...models.list.map((model) => el("option", { value: model.id }, model.id)));
  if (models.list.some((model) => model.id === wish)) select.value = wish;
  select.disabled = models.list.length === 0;
  select.dispatchEvent(new Event("change"));
  tools.find();
}
