
// Conversations, kept in this browser: one entry of localStorage for each. A conversation is a tree of messages, for a
// message that is edited and an answer that is written again get a new version beside the old one.

const CHAT = "quipu.chat.";

const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const newChat = () => ({ id: newId(), title: "", changed: Date.now(), system: "", pick: null, nodes: [] });

/** Adds a message behind `parent`, which is null at the beginning, and chooses it among its versions. */
function addNode(chat, parent, role, text, more) {
  const node = { id: newId(), parent: parent?.id ?? null, role, text, pick: null, ...more };
  chat.nodes.push(node);
  pick(chat, node);
  return node;
}

/** Makes a message the one that is shown among its versions. */
function pick(chat, node) {
  const parent = chat.nodes.find((other) => other.id === node.parent);
  (parent ?? chat).pick = node.id;
}

/** The messages that are shown, each with its versions. */
function shown(chat) {
  const after = new Map();
  for (const node of chat.nodes) {
    if (after.has(node.parent)) after.get(node.parent).push(node);
    else after.set(node.parent, [node]);
  }
  const path = [];
  for (let from = chat, key = null; ; ) {
    const versions = after.get(key);
    if (!versions) return path;
    const node = versions.find((version) => version.id === from.pick) ?? versions.at(-1);
    path.push({ node, versions });
    [from, key] = [node, node.id];
  }
}

/** What a conversation is called: its first words, unless the user has said something else. */
function titleOf(chat) {
  const first = chat.title || chat.nodes[0]?.text || chat.nodes[0]?.files?.[0]?.name || "";
  const line = first.trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 59)}…` : line || "New conversation";
}

/** Keeps a conversation. Returns whether there was room. */
function keep(chat) {
  try {
    localStorage.setItem(CHAT + chat.id, JSON.stringify(chat));
    return true;
  } catch {
    return false;
  }
}

const forget = (chat) => localStorage.removeItem(CHAT + chat.id);

/** All conversations that are kept, the last one first. */
function keptChats() {
  const chats = [];
  for (let i = 0; i < localStorage.length; i++) {
    const key = localStorage.key(i);
    const chat = key.startsWith(CHAT) ? keptChat(key) : null;
    if (chat) chats.push(chat);
  }
  return chats.sort((a, b) => b.changed - a.changed);
}

function keptChat(key) {
  try {
    return readChat(JSON.parse(localStorage.getItem(key)));
  } catch {
    // Written by something else; it stays where it is.
    return null;
  }
}

const exported = (chats) => JSON.stringify({ format: "quipu-conversations", version: 1, chats }, null, 1);

/** The conversations of an exported file. Throws a sentence. */
function imported(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("The file is no JSON, so nothing was imported.");
  }
  if (file?.format !== "quipu-conversations" || !Array.isArray(file.chats)) {
    throw new Error("The file holds no conversations of this page, so nothing was imported.");
  }
  if (file.version !== 1) throw new Error(`The file has version ${file.version} of its format and this page reads 1, so nothing was imported.`);
  // None replaces one that is here.
  return file.chats.map((chat) => ({ ...readChat(chat), id: newId() }));
}

/** Takes of a value what a conversation has, and nothing else. Throws a sentence. */
function readChat(value) {
  const wrong = (what) => new Error(`A conversation of the file has no usable ${what}, so nothing was imported.`);
  const text = (value, what) => {
    if (typeof value !== "string") throw wrong(what);
    return value;
  };
  const optional = (value) => (typeof value === "string" ? value : null);
  const number = (value) => (Number.isFinite(value) ? value : undefined);
  if (!Array.isArray(value?.nodes)) throw wrong("messages");
  const nodes = value.nodes.map((node) => {
    if (node?.role !== "user" && node?.role !== "assistant") throw wrong("role of a message");
    return {
      id: text(node.id, "name of a message"),
      parent: optional(node.parent),
      role: node.role,
      text: text(node.text, "text of a message"),
      pick: optional(node.pick),
      model: optional(node.model) ?? undefined,
      end: optional(node.end) ?? undefined,
      note: optional(node.note) ?? undefined,
      files: Array.isArray(node.files) ? node.files.map((file) => ({ name: text(file?.name, "name of a file"), text: text(file?.text, "text of a file") })) : undefined,
      items: node.role === "assistant" ? readItems(node.items) : undefined,
      stats: node.stats && Object.fromEntries(STATS.map((name) => [name, number(node.stats[name])])),
    };
  });
  if (new Set(nodes.map((node) => node.id)).size < nodes.length) throw wrong("names of messages");
  return {
    id: text(value.id, "name"),
    title: text(value.title ?? "", "title"),
    changed: number(value.changed) ?? Date.now(),
    system: text(value.system ?? "", "system prompt"),
    pick: optional(value.pick),
    nodes,
  };
}

/** What is known of how an answer was written. */
const STATS = ["prompt", "cached", "written", "promptSeconds", "perSecond", "context"];

/** A JSON value of localStorage that is no conversation. */
function keptValue(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`quipu.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function keepValue(name, value) {
  try {
    localStorage.setItem(`quipu.${name}`, JSON.stringify(value));
  } catch {
    notice("The browser's storage is full or closed to this page: settings last until the page is closed.", { seconds: 10 });
  }
}
