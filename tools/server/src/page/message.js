
// One message on the screen.

/** What the server is told of a message: its text, and the files that go with it. */
function contentOf(node) {
  const files = (node.files ?? []).map(({ name, text }) => {
    // A fence that the file itself does not contain.
    const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
    const fence = "`".repeat(longest + 1);
    return `${name}:\n${fence}\n${text}\n${fence}`;
  });
  return [...files, node.text].filter(Boolean).join("\n\n");
}

const duration = (seconds) => (seconds < 1 ? `${Math.max(Math.round(seconds * 1000), 1)} ms` : `${rate(seconds)} s`);

/** How an answer was written, in a line. */
function statsLine(stats) {
  const parts = [];
  if (stats.written !== undefined) parts.push(plural(stats.written, "token"));
  if (stats.perSecond) parts.push(`${rate(stats.perSecond)} tokens/s`);
  if (stats.prompt !== undefined) {
    const cached = stats.cached ? ` (${whole.format(stats.cached)} cached)` : "";
    const time = stats.promptSeconds ? ` in ${duration(stats.promptSeconds)}` : "";
    parts.push(`prompt ${whole.format(stats.prompt)}${cached}${time}`);
  }
  return parts.join(" · ");
}

class MessageView {
  /** `does` has what the buttons do: show, edit, answer, goOn. */
  constructor(node, does) {
    this.node = node;
    this.does = does;
    this.versions = [node];
    this.body = el("div", { class: "body" });
    this.files = el("ul", { class: "files" });
    this.progress = el("p", { class: "progress", hidden: true });
    this.note = el("p", { class: "note", hidden: true });
    this.tools = el("div", { class: "tools" });
    this.calls = el("ul", { class: "files" });
    const who = node.role === "user" ? "You" : node.model || "Model";
    this.article = el("article", { class: `message ${node.role}`, "aria-label": who }, el("h3", null, who), this.files, this.body, this.calls, this.progress, this.note, this.tools);
    this.growing = new Growing(this.body);
    for (const { name, text } of node.files ?? []) {
      const lines = plural(text.replace(/\n$/, "").split("\n").length, "line");
      this.files.append(el("li", null, el("details", null, el("summary", null, `${name} (${lines})`), el("pre", { tabindex: "0" }, text))));
    }
    this.files.hidden = !this.files.children.length;
  }

  /** Shows what the message is now. `run` is how it is being written, if it is. */
  update(versions, run) {
    const { node } = this;
    if (versions) this.versions = versions;
    if (!this.editor) {
      if (node.role === "user") this.body.textContent = node.text;
      else this.growing.show(node.text);
      this.body.hidden = !node.text;
    }
    this.showCalls(run);
    this.article.classList.toggle("writing", Boolean(run));
    this.article.setAttribute("aria-busy", String(Boolean(run)));
    this.showProgress(run);
    this.note.hidden = !node.note;
    this.note.replaceChildren(...(node.note ? [icon("attention"), el("span", null, node.note)] : []));
    const state = run ? "run" : JSON.stringify([this.versions.map(({ id }) => id), node.end, node.note, node.stats]);
    if (run) this.showRate(run);
    if (state === this.state) return;
    this.state = state;
    this.tools.replaceChildren(...(run ? [this.rate] : this.buttons()));
  }

  showCalls(run) {
    const state = JSON.stringify([Boolean(run), this.node.items]);
    if (state === this.callsState) return;
    this.callsState = state;
    const rows = callsOf(this.node, this.does.decide);
    // Only when the answer rests is there something to decide.
    if (run) rows.forEach((row) => row.querySelectorAll("button").forEach((button) => (button.disabled = true)));
    this.calls.replaceChildren(...rows);
    this.calls.hidden = !rows.length;
  }

  showProgress(run) {
    const waits = Boolean(run) && !this.node.text;
    this.progress.hidden = !waits;
    if (!waits) {
      this.progress.replaceChildren();
      this.bar = null;
      return;
    }
    const { read, total } = run.progress ?? {};
    const text = total ? `Reading the prompt: ${whole.format(read)} of ${plural(total, "token")}` : "Waiting for the server";
    if (!this.bar) this.progress.append((this.bar = el("progress", { max: 1, "aria-label": "Prompt" })), (this.barText = el("span")));
    this.barText.textContent = text;
    if (total) this.bar.value = read / total;
  }

  showRate(run) {
    this.rate ??= el("span", { class: "stats" });
    const seconds = run.since ? (performance.now() - run.since) / 1000 : 0;
    const speed = seconds > 0.5 ? ` · ${rate((run.pieces - 1) / seconds)} tokens/s` : "";
    this.rate.textContent = run.pieces ? `${plural(run.pieces, "token")}${speed}` : "";
  }

  buttons() {
    const { node, does, versions } = this;
    const tools = [];
    if (versions.length > 1) {
      const at = versions.indexOf(node);
      const move = (name, label, to) => iconButton(name, label, () => does.show(to, name), { disabled: !to, "data-move": name });
      const count = el("span", null, `${at + 1}/${versions.length}`);
      const group = el("span", { class: "versions", role: "group", "aria-label": `Version ${at + 1} of ${versions.length}` });
      group.append(move("previous", "Previous version", versions[at - 1]), count, move("next", "Next version", versions[at + 1]));
      tools.push(group);
    }
    if (node.text) tools.push(copyButton(() => node.text));
    tools.push(iconButton("edit", "Edit", () => this.edit(), { "data-do": "edit" }));
    if (node.role === "assistant") {
      tools.push(iconButton("repeat", node.note ? "Try again" : "Write another answer", () => does.answer(node), { "data-do": "again" }));
      if (node.text && node.end !== "stop") tools.push(iconButton("more", "Go on", () => does.goOn(node), { "data-do": "more" }));
    } else if (does.isLast(node)) {
      tools.push(iconButton("repeat", "Have it answered", () => does.answerTo(node), { "data-do": "again" }));
    }
    if (node.stats) tools.push(el("span", { class: "stats" }, statsLine(node.stats)));
    if (node.end === "length") tools.push(el("span", { class: "stats" }, "ended by the limit"));
    if (node.end === "stopped") tools.push(el("span", { class: "stats" }, "stopped"));
    return tools;
  }

  /** Lets the user change the text: that makes a version of its own. */
  edit() {
    if (this.editor) return;
    const area = el("textarea", { rows: Math.min(this.node.text.split("\n").length + 1, 12), "aria-label": "New text of the message" });
    area.value = this.node.text;
    const close = () => {
      this.editor.remove();
      this.editor = null;
      this.tools.hidden = false;
      this.update();
      this.tools.querySelector("[data-do=edit]")?.focus();
    };
    const done = () => {
      const text = area.value.trim();
      close();
      if (text && text !== this.node.text) this.does.edit(this.node, text);
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && this.node.role === "user") {
        event.preventDefault();
        done();
      }
    });
    const word = this.node.role === "user" ? "Send" : "Keep";
    const cancel = el("button", { type: "button", onclick: close }, "Cancel");
    const keepIt = el("button", { type: "button", class: "strong", onclick: done }, word);
    this.editor = el("div", { class: "editor" }, area, el("div", { class: "actions" }, cancel, keepIt));
    this.body.hidden = this.tools.hidden = true;
    this.body.after(this.editor);
    area.focus();
  }
}
