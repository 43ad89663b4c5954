
// The conversation that is open, and the answer that is being written.

const conversation = {
  chat: newChat(),
  views: new Map(),
  /** The answer that is being written: {chat, node, abort, pieces, since, progress}. */
  run: null,
  files: [],
  /** Called when a list of conversations would look different. */
  changed: () => {},

  open(chat) {
    this.chat = chat;
    this.views.clear();
    // A screen reader need not read out a whole conversation.
    $("log").setAttribute("aria-live", "off");
    this.show();
    requestAnimationFrame(() => $("log").setAttribute("aria-live", "polite"));
    $("scroll").scrollTop = $("scroll").scrollHeight;
  },

  /** Keeps a conversation after a change. */
  keep(chat) {
    chat.changed = Date.now();
    const kept = keep(chat);
    if (!kept && !this.full) {
      this.full = true;
      notice(
        "The browser's storage is full or closed to this page: what is written now is lost when the page is closed. Export it, or delete old conversations.",
        { action: "Export this one", press: () => download("quipu-conversation.json", exported([chat])) },
      );
    }
    if (kept) this.full = false;
    this.changed();
  },

  show() {
    const path = shown(this.chat);
    const articles = path.map(({ node, versions }) => {
      if (!this.views.has(node.id)) this.views.set(node.id, new MessageView(node, this.does));
      const view = this.views.get(node.id);
      view.update(versions, this.run?.node === node ? this.run : null);
      return view.article;
    });
    arrange($("log"), articles);
    $("empty").hidden = articles.length > 0;
    $("title").textContent = titleOf(this.chat);
    document.title = articles.length ? `${titleOf(this.chat)} – Quipu` : "Quipu";
    $("send").hidden = Boolean(this.run);
    $("stop").hidden = !this.run;
    this.showContext();
  },

  /** How much of the context the conversation takes, as far as that is known. */
  showContext() {
    const stats = shown(this.chat).findLast(({ node }) => node.stats)?.node.stats;
    const used = stats && (stats.prompt ?? 0) + (stats.written ?? 0);
    const all = models.context;
    $("context").textContent = used && all ? `Context: ${whole.format(used)} of ${whole.format(all)}` : "";
    $("context-bar").hidden = !(used && all);
    if (used && all) $("context-bar").value = Math.min(used / all, 1);
  },

  /** Runs `change` and follows the end of the conversation, if the user was there. */
  follow(change, always) {
    const scroll = $("scroll");
    const there = always || scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
    change();
    if (there) scroll.scrollTop = scroll.scrollHeight;
  },

  /** The user's message. */
  send(text) {
    const { chat, files } = this;
    const parent = shown(chat).at(-1)?.node ?? null;
    const node = addNode(chat, parent, "user", text, files.length ? { files } : {});
    this.files = [];
    this.keep(chat);
    this.answerTo(node);
  },

  answerTo(node) {
    const { chat } = this;
    this.write(chat, addNode(chat, node, "assistant", "", { model: models.chosen?.id }));
  },

  /** What the server is asked: what is shown up to `last`. */
  body(chat, last) {
    const messages = chat.system.trim() ? [{ role: "system", content: chat.system }] : [];
    for (const { node } of shown(chat)) {
      const content = contentOf(node), before = messages.at(-1);
      // An answer that failed has nothing to say; then two of the user's messages follow each other, which most
      // templates refuse.
      if (content && before?.role === "user" && node.role === "user") before.content += `\n\n${content}`;
      else if (content) messages.push({ role: node.role, content });
      if (node === last) break;
    }
    return {
      model: models.chosen?.id,
      messages,
      stream: true,
      stream_options: { include_usage: true },
      return_progress: true,
      ...settings.fields(),
    };
  },

  /** The same as items, for an answer that may use tools. */
  items(chat, last) {
    const items = chat.system.trim() ? [{ type: "message", role: "system", content: chat.system }] : [];
    for (const { node } of shown(chat)) {
      items.push(...itemsOf(node));
      if (node === last) break;
    }
    return items;
  },

  /** Has an answer written, from its beginning or from what there is of it. */
  async write(chat, node) {
    const run = { chat, node, abort: new AbortController(), pieces: 0, since: 0, progress: null };
    this.run = run;
    delete node.note;
    delete node.end;
    delete node.stats;
    const entries = tools.entries();
    prepareItems(node, entries.length > 0);
    const body = entries.length ? withTools(this.body(chat, node), entries, this.items(chat, node)) : this.body(chat, node);
    const update = () => {
      if (this.chat === chat) this.follow(() => this.views.get(node.id)?.update(null, this.run === run ? run : null));
    };
    let frame = 0, kept = performance.now();
    const soon = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        update();
      });
      // A page that is closed meanwhile finds the answer as far as it had come.
      if (performance.now() - kept > 2000) {
        kept = performance.now();
        this.keep(chat);
      }
    };
    this.follow(() => this.show(), true);
    const stats = {};
    try {
      await (entries.length ? completeWithTools : complete)(body, run.abort.signal, (piece) => {
        this.hear(piece, run, stats);
        soon();
      });
    } catch (error) {
      if (run.abort.signal.aborted) node.end = "stopped";
      else {
        node.end = "lost";
        node.note = error instanceof Failure ? error.message : `The page has a fault: ${error.message}`;
        if (!(error instanceof Failure)) console.error(error);
      }
      if (run.since && stats.written === undefined) stats.written = run.pieces;
    }
    cancelAnimationFrame(frame);
    if (Object.keys(stats).length) node.stats = stats;
    if (this.run === run) this.run = null;
    if (chat.nodes.includes(node)) {
      this.keep(chat);
      this.follow(() => {
        if (this.chat === chat) this.show();
      });
    }
  },

  hear(piece, run, stats) {
    const { node } = run;
    const choice = piece.choices?.[0];
    const text = choice?.delta?.content;
    if (piece.prompt_progress) {
      const { processed, total, cache } = piece.prompt_progress;
      run.progress = { read: processed, total };
      Object.assign(stats, { prompt: total, cached: cache });
    }
    if (piece.item) keepItem(node, piece.item);
    if (text) {
      run.since ||= performance.now();
      run.pieces++;
      node.text += text;
    }
    if (choice?.finish_reason) node.end = choice.finish_reason;
    if (piece.usage) {
      stats.prompt = piece.usage.prompt_tokens;
      stats.cached = piece.usage.prompt_tokens_details?.cached_tokens ?? 0;
      stats.written = piece.usage.completion_tokens;
    }
    if (piece.timings) {
      stats.promptSeconds = piece.timings.prompt_ms / 1000;
      stats.perSecond = piece.timings.predicted_per_second;
    }
  },

  stop() {
    this.run?.abort.abort();
  },
};

/** What the buttons of messages do. While an answer is written, they stop it first. */
conversation.does = {
  isLast: (node) => shown(conversation.chat).at(-1)?.node === node,

  show(node, move) {
    pick(conversation.chat, node);
    conversation.keep(conversation.chat);
    conversation.show();
    const tools = conversation.views.get(node.id).tools;
    (tools.querySelector(`[data-move=${move}]:not(:disabled)`) ?? tools.querySelector("[data-move]:not(:disabled)"))?.focus();
  },

  edit(node, text) {
    conversation.stop();
    const { chat } = conversation;
    const parent = chat.nodes.find((other) => other.id === node.parent) ?? null;
    const more = node.role === "user" ? { files: node.files } : { model: node.model, end: "stop" };
    const version = addNode(chat, parent, node.role, text, more);
    conversation.keep(chat);
    if (node.role === "user") conversation.answerTo(version);
    else conversation.show();
    $("text").focus();
  },

  answer(node) {
    conversation.stop();
    const { chat } = conversation;
    const parent = chat.nodes.find((other) => other.id === node.parent);
    // An answer of which nothing came is no version to go back to.
    if (!node.text && !chat.nodes.some((other) => other.parent === node.id)) chat.nodes.splice(chat.nodes.indexOf(node), 1);
    conversation.answerTo(parent);
    $("text").focus();
  },

  answerTo(node) {
    conversation.stop();
    conversation.answerTo(node);
  },

  decide(node, { id }, approve) {
    if (!tools.entries().length) return notice("Tools are turned off in the settings.", { seconds: 10 });
    conversation.stop();
    node.items.push({ type: "mcp_approval_response", approval_request_id: id, approve });
    const answered = new Set(node.items.map((item) => item.approval_request_id));
    const { chat } = conversation;
    conversation.keep(chat);
    if (node.items.every((item) => item.type !== "mcp_approval_request" || answered.has(item.id))) conversation.write(chat, node);
    else conversation.show();
    $("text").focus();
  },

  goOn(node) {
    conversation.stop();
    conversation.write(conversation.chat, node);
    $("text").focus();
  },
};
