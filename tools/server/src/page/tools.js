
// Tools that the server runs itself. Answers that may use them come from /v1/responses, as items: what was said, calls
// with their results, and questions whether a call may run.

const tools = {
  /** What the server has: [{server_label, tools: [{name, description}]}]. */
  servers: [],
  chosen: keptValue("tools", {}),

  async find() {
    try {
      this.servers = (await (await call("/props", { quiet: true })).json()).mcp_servers ?? [];
    } catch {
      // Without them the page is a chat.
    }
    this.show();
  },

  /** The entries of a request, if tools are to be used. */
  entries() {
    const wanted = this.servers.filter(({ server_label: label }) => this.chosen[label]);
    const require_approval = this.chosen[" free"] ? "never" : "always";
    return wanted.map(({ server_label }) => ({ type: "mcp", server_label, require_approval }));
  },

  show() {
    $("tools-section").hidden = !this.servers.length;
    const box = (name, label) =>
      el("label", { class: "check" }, el("input", { type: "checkbox", checked: Boolean(this.chosen[name]), onchange: ({ target }) => this.choose(name, target.checked) }), label);
    $("tool-servers").replaceChildren(
      ...this.servers.map(({ server_label: label, tools: list }) => box(label, ` ${label}: ${list.map(({ name }) => name).join(", ")}`)),
      box(" free", " Run calls without asking"),
    );
  },

  choose(name, on) {
    this.chosen[name] = on;
    keepValue("tools", this.chosen);
  },
};

/** The body for /v1/responses that asks for the same as one for /v1/chat/completions, with these items in between. */
function withTools(body, entries, items) {
  const { messages: _messages, stream_options: _options, max_tokens, ...rest } = body;
  return { ...rest, input: items, tools: entries, max_output_tokens: max_tokens, timings_per_token: true };
}

/** The items by which the server is told of a message. */
function itemsOf(node) {
  if (node.items?.length) {
    // Texts that follow each other are one message: most templates refuse two.
    return node.items.reduce((items, item) => {
      const before = items.at(-1);
      if (item.type !== "message" || before?.type !== "message") return [...items, item];
      return [...items.slice(0, -1), { ...before, content: [...before.content, ...item.content] }];
    }, []);
  }
  const content = contentOf(node);
  return content ? [{ type: "message", role: node.role, content }] : [];
}

/** What is gone on with: the text so far is an item like those that follow, or, without tools, all that there is. */
function prepareItems(node, withTools) {
  if (!withTools) delete node.items;
  else if (node.text && !node.items?.length) {
    node.items = [{ type: "message", role: "assistant", content: [{ type: "output_text", text: node.text }] }];
  }
}

/** Has an answer written as [`complete`] does, with tools: pieces have `item` for what is no text. */
async function completeWithTools(body, signal, hear) {
  const response = await call("/v1/responses", { body, signal });
  try {
    for await (const data of events(response)) {
      const event = JSON.parse(data);
      const { item, timings } = event;
      switch (event.type) {
        case "response.output_item.added":
        case "response.output_item.done":
          if (item.type !== "reasoning" && item.type !== "mcp_list_tools") hear({ item });
          break;
        case "response.output_text.delta":
          hear({ choices: [{ delta: { content: event.delta } }], timings });
          break;
        case "response.in_progress":
          if (event.prompt_progress) hear({ prompt_progress: event.prompt_progress });
          break;
        case "response.failed":
          throw failure(event.response.error, 500);
        case "response.completed":
        case "response.incomplete": {
          const { usage, incomplete_details: cut } = event.response;
          const reason = cut ? (cut.reason === "max_output_tokens" ? "length" : cut.reason) : "stop";
          const told = { prompt_tokens: usage.input_tokens, completion_tokens: usage.output_tokens, prompt_tokens_details: usage.input_tokens_details };
          hear({ choices: [{ delta: {}, finish_reason: reason }], usage: told, timings });
          return;
        }
      }
    }
  } catch (error) {
    if (signal.aborted || error instanceof Failure) throw error;
    throw new Failure(CUT, { kind: "lost" });
  }
  throw new Failure(CUT, { kind: "lost" });
}

/** Keeps an item of an answer: a new one, or more of one that there is. */
function keepItem(node, item) {
  node.items ??= [];
  const at = node.items.findIndex(({ id }) => id && id === item.id);
  if (at >= 0) node.items[at] = item;
  else {
    // Two texts of an answer are two paragraphs.
    if (item.type === "message" && node.text && node.items.at(-1)?.type !== "message") node.text += "\n\n";
    node.items.push(item);
  }
}

/** Of a kept answer its items. Nobody has agreed to a call because a file says so: what was not run is asked again. */
function readItems(items) {
  if (!Array.isArray(items)) return undefined;
  const kinds = ["message", "mcp_call", "mcp_approval_request", "mcp_approval_response"];
  const ran = new Set(items.filter((item) => item?.type === "mcp_call").map((item) => item.approval_request_id));
  const usable = (item) => kinds.includes(item?.type) && !(item.type === "mcp_approval_response" && item.approve && !ran.has(item.approval_request_id));
  return items.filter(usable);
}

/** What an answer calls, for the reader; `decide` is told whether a call may run. */
function callsOf(node, decide) {
  const items = node.items ?? [];
  const answered = new Map(items.filter(({ type }) => type === "mcp_approval_response").map((item) => [item.approval_request_id, item.approve]));
  const row = (item, state, ...more) => {
    const parts = [el("pre", { tabindex: "0" }, String(item.arguments ?? "")), ...more];
    return el("li", null, el("details", { open: state === "asks" }, el("summary", null, `${item.name} of ${item.server_label}: ${state}`), ...parts));
  };
  const said = (text) => text && el("pre", { tabindex: "0" }, String(text));
  return items.flatMap((item) => {
    if (item.type === "mcp_call") {
      const error = item.error && (item.error.message ?? item.error.content?.[0]?.text ?? "");
      return [row(item, { completed: "done", in_progress: "runs" }[item.status] ?? item.status, said(item.output ?? error))];
    }
    if (item.type !== "mcp_approval_request") return [];
    if (answered.has(item.id)) return answered.get(item.id) ? [] : [row(item, "not allowed")];
    const button = (label, yes) => el("button", { type: "button", class: yes && "strong", "data-do": yes ? "allow" : "refuse", onclick: () => decide(node, item, yes) }, label);
    return [row(item, "asks", el("p", { class: "actions" }, button("Do not run it", false), button("Run it", true)))];
  });
}
