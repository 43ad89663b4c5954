
// What the user does, and how the page begins.

function showView(name) {
  for (const view of ["chat", "live"]) {
    $(view).hidden = view !== name;
    $(`show-${view}`).setAttribute("aria-pressed", String(view === name));
  }
  if (name === "live") live.open();
  else live.close();
}

/** The box grows with its text. */
function fit() {
  const box = $("text");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, innerHeight * 0.4)}px`;
}

function showFiles() {
  const { files } = conversation;
  $("files").replaceChildren(
    ...files.map((file) =>
      el("li", null, file.name, iconButton("close", `Leave out ${file.name}`, () => {
        files.splice(files.indexOf(file), 1);
        showFiles();
        $("text").focus();
      })),
    ),
  );
}

const MOST_BYTES = 1 << 20;

async function attach(list) {
  for (const file of list) {
    const problem = (why) => notice(`${file.name} is not attached: ${why}.`, { seconds: 12 });
    if (file.size > MOST_BYTES) {
      problem(`it has ${whole.format(file.size)} bytes, and this page takes ${whole.format(MOST_BYTES)}`);
      continue;
    }
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      if (text.includes("\0")) problem("it is no text");
      else conversation.files.push({ name: file.name, text });
    } catch {
      problem("it is no text in UTF-8");
    }
  }
  showFiles();
  $("text").focus();
}

function send() {
  const text = $("text").value.trim();
  if (conversation.run || (!text && !conversation.files.length)) return;
  conversation.send(text);
  $("text").value = "";
  fit();
  showFiles();
}

function start() {
  for (const node of document.querySelectorAll("[data-icon]")) node.prepend(icon(node.dataset.icon));
  settings.start();
  sidebar.start();
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  $("text").addEventListener("input", fit);
  $("text").addEventListener("keydown", (event) => {
    // An input method takes Enter for itself while it composes.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  $("stop").addEventListener("click", () => {
    conversation.stop();
    $("text").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (document.body.classList.contains("menu-open")) {
      sidebar.close();
      $("menu").focus();
    } else conversation.stop();
  });
  $("attach").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", async ({ target }) => {
    await attach(target.files);
    target.value = "";
  });
  // Files can be dropped anywhere, so that none that misses opens in place of the page.
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    attach(event.dataTransfer.files);
  });
  $("show-chat").addEventListener("click", () => showView("chat"));
  $("show-live").addEventListener("click", () => showView("live"));
  addEventListener("pagehide", () => {
    if (conversation.run) keep(conversation.run.chat);
  });
  conversation.open(sidebar.chats[0] ?? conversation.chat);
  sidebar.show();
  findModels();
  $("text").focus();
}

start();
