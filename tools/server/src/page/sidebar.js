
// The list of conversations.

const sidebar = {
  chats: keptChats(),

  show() {
    const open = conversation.chat;
    if (open.nodes.length && !this.chats.includes(open)) this.chats.unshift(open);
    this.chats.sort((a, b) => b.changed - a.changed);
    const state = JSON.stringify([open.id, this.chats.map((chat) => [chat.id, titleOf(chat)])]);
    if (state === this.state) return;
    this.state = state;
    arrange($("chats"), this.chats.map((chat) => this.line(chat)));
  },

  line(chat) {
    const title = titleOf(chat), current = chat === conversation.chat;
    const openIt = el("button", { type: "button", class: "chat", "aria-current": current ? "page" : null, title, onclick: () => this.open(chat) }, title);
    const line = el("li", { class: current ? "current" : null }, openIt);
    line.append(
      el("span", { class: "tools" },
        iconButton("edit", `Rename ${title}`, () => this.rename(chat, line), { "data-do": "rename" }),
        iconButton("download", `Export ${title}`, () => download("quipu-conversation.json", exported([chat])), { "data-do": "export" }),
        iconButton("trash", `Delete ${title}`, () => this.remove(chat), { "data-do": "delete" })),
    );
    return line;
  },

  open(chat) {
    conversation.open(chat);
    this.show();
    this.close();
    showView("chat");
    $("text").focus();
  },

  new() {
    const { chat } = conversation;
    if (!chat.nodes.length) chat.system = "";
    this.open(chat.nodes.length ? newChat() : chat);
  },

  rename(chat, line) {
    const field = el("input", { "aria-label": "Title", maxlength: 200 });
    field.value = titleOf(chat);
    let over = false;
    const end = (take) => {
      if (over) return;
      over = true;
      const title = field.value.trim();
      if (take && title && title !== titleOf(chat)) {
        chat.title = title;
        if (chat.nodes.length) keep(chat);
      }
      this.state = null;
      this.show();
      if (chat === conversation.chat) conversation.show();
      $("chats").querySelectorAll("li")[this.chats.indexOf(chat)]?.querySelector("[data-do=rename]")?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) {
        // Otherwise the button that gets the focus is pressed by the same key.
        event.preventDefault();
        end(true);
      }
      if (event.key === "Escape") {
        event.stopPropagation();
        end(false);
      }
    });
    field.addEventListener("blur", () => end(true));
    line.replaceChildren(field);
    field.focus();
    field.select();
  },

  remove(chat) {
    if (conversation.run?.chat === chat) conversation.stop();
    this.chats.splice(this.chats.indexOf(chat), 1);
    forget(chat);
    if (chat === conversation.chat) conversation.open(newChat());
    this.state = null;
    this.show();
    $("new").focus();
    notice(`“${titleOf(chat)}” is deleted.`, {
      action: "Undo",
      seconds: 15,
      press: () => {
        this.chats.push(chat);
        keep(chat);
        this.open(chat);
      },
    });
  },

  async import(file) {
    try {
      const chats = imported(await file.text());
      for (const chat of chats) {
        if (!keep(chat)) notice("The browser's storage is full: what was imported lasts until the page is closed.");
        this.chats.push(chat);
      }
      notice(`${plural(chats.length, "conversation")} imported.`, { seconds: 8 });
      this.state = null;
      this.show();
      if (chats.length) this.open(chats[0]);
    } catch (error) {
      notice(error.message);
    }
  },

  toggle(open) {
    document.body.classList.toggle("menu-open", open);
    $("shade").hidden = !open;
    $("menu").setAttribute("aria-expanded", String(open));
    if (open) $("new").focus();
  },

  close() {
    if (document.body.classList.contains("menu-open")) this.toggle(false);
  },

  start() {
    conversation.changed = () => this.show();
    $("new").addEventListener("click", () => this.new());
    $("menu").addEventListener("click", () => this.toggle(true));
    for (const id of ["close-menu", "shade"]) {
      $(id).addEventListener("click", () => {
        this.toggle(false);
        $("menu").focus();
      });
    }
    $("export").addEventListener("click", () => {
      if (this.chats.length) download("quipu-conversations.json", exported(this.chats));
      else notice("There is no conversation to export.", { seconds: 8 });
    });
    $("import").addEventListener("click", () => $("import-file").click());
    $("import-file").addEventListener("change", async ({ target }) => {
      if (target.files[0]) await this.import(target.files[0]);
      target.value = "";
    });
    // Another tab of this page has changed something.
    addEventListener("storage", ({ key }) => {
      if (!key?.startsWith(CHAT) || conversation.run) return;
      const open = conversation.chat;
      this.chats = keptChats();
      const kept = this.chats.find((chat) => chat.id === open.id);
      if (kept) conversation.open(kept);
      this.state = null;
      this.show();
    });
    this.show();
  },
};
