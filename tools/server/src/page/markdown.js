
// Markdown as models write it, into nodes. What is not understood stays as it was written; HTML is text.

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const ITEM = /^( {0,3})(?:([-*+])|(\d{1,9})[.)])(\s+|$)/;
const QUOTE = /^ {0,3}> ?/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
/** How deep lists, quotes and emphasis may lie in each other; beyond it they are text. */
const DEPTH = 8;

/** Cuts a text into blocks: `{kind, start, …}`, where `start` is the line that a block begins with. */
function blocks(lines) {
  const found = [];
  let at = 0;
  const startsBlock = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
  while (at < lines.length) {
    const start = at, line = lines[at];
    let match;
    if (!line.trim()) {
      at++;
    } else if ((match = FENCE.exec(line))) {
      const [, indent, mark, info] = match;
      const end = new RegExp(`^ {0,3}${mark[0]}{${mark.length},}\\s*$`);
      const code = [];
      for (at++; at < lines.length && !end.test(lines[at]); at++) {
        code.push(indent && lines[at].startsWith(indent) ? lines[at].slice(indent.length) : lines[at]);
      }
      at++;
      found.push({ kind: "code", start, language: info.trim().split(/\s/)[0], text: code.join("\n") });
    } else if ((match = HEADING.exec(line))) {
      at++;
      found.push({ kind: "heading", start, level: match[1].length, text: match[2] });
    } else if (RULE.test(line)) {
      at++;
      found.push({ kind: "rule", start });
    } else if (QUOTE.test(line)) {
      const inner = [];
      for (; at < lines.length && lines[at].trim() && (QUOTE.test(lines[at]) || !startsBlock(lines[at])); at++) {
        inner.push(lines[at].replace(QUOTE, ""));
      }
      found.push({ kind: "quote", start, lines: inner });
    } else if (ITEM.test(line)) {
      const list = listFrom(lines, at, startsBlock);
      at = list.end;
      found.push({ ...list, start });
    } else if (line.includes("|") && TABLE_RULE.test(lines[at + 1] ?? "") && cells(line).length === cells(lines[at + 1]).length) {
      const rows = [];
      const aligns = cells(lines[at + 1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : ""));
      for (at += 2; at < lines.length && lines[at].trim() && lines[at].includes("|"); at++) rows.push(cells(lines[at]));
      found.push({ kind: "table", start, head: cells(line), aligns, rows });
    } else {
      const text = [];
      for (; at < lines.length && lines[at].trim() && !(at > start && startsBlock(lines[at])); at++) {
        if (at > start && lines[at].includes("|") && TABLE_RULE.test(lines[at + 1] ?? "")) break;
        text.push(lines[at].trimStart());
      }
      found.push({ kind: "paragraph", start, text: text.join("\n") });
    }
  }
  return found;
}

/** The list that begins at a line. Its items have the lines that are indented as its text is, and lazy ones. */
function listFrom(lines, at, startsBlock) {
  const [, , bullet, number] = ITEM.exec(lines[at]);
  const same = (match) => (bullet ? match[2] === bullet : match[3] !== undefined);
  const items = [];
  const outer = lines[at].search(/\S/);
  let loose = false, blank = false, width = 0;
  for (; at < lines.length; at++) {
    const line = lines[at];
    const indent = line.search(/\S/);
    if (indent < 0) {
      blank = true;
      items.at(-1).push("");
      continue;
    }
    const match = ITEM.exec(line);
    if (items.length && indent >= outer + 2) {
      items.at(-1).push(line.slice(Math.min(indent, width)));
    } else if (match && same(match) && !RULE.test(line)) {
      loose ||= blank && items.length > 0;
      width = match[0].length - (match[4].length > 4 ? match[4].length - 1 : 0);
      items.push([line.slice(width)]);
    } else if (!blank && !startsBlock(line)) {
      items.at(-1).push(line);
    } else {
      break;
    }
    blank = false;
  }
  return { kind: "list", ordered: !bullet, first: Number(number ?? 1), items, loose, end: at };
}

/** The cells of a table's row; `\|` is no border. */
function cells(line) {
  const parts = line.trim().replace(/^\|/, "").split(/(?<!\\)\|/);
  if (parts.length > 1 && !parts.at(-1).trim()) parts.pop();
  return parts.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** The node of a block. */
function blockNode(block, depth) {
  switch (block.kind) {
    case "code": {
      const code = el("code", null, block.text);
      const head = el("figcaption", null, el("span", null, block.language), copyButton(() => code.textContent));
      return el("figure", { class: "code" }, head, el("pre", { tabindex: "0", "aria-label": `Code ${block.language}`.trim() }, code));
    }
    case "heading":
      // The page's own headings go to the third level.
      return el(`h${Math.min(block.level + 3, 6)}`, { class: `level${block.level}` }, ...inline(block.text));
    case "rule":
      return el("hr");
    case "quote":
      return el("blockquote", null, ...markdown(block.lines, depth + 1));
    case "list": {
      const items = block.items.map((lines) => {
        const task = /^\[([ xX])\]\s/.exec(lines[0]);
        const inner = blocksOrText(task ? [lines[0].slice(task[0].length), ...lines.slice(1)] : lines, depth + 1);
        const nodes = inner.flatMap((part) => (!block.loose && part.kind === "paragraph" ? inline(part.text) : [blockNode(part, depth + 1)]));
        if (task) nodes.unshift(task[1] === " " ? "☐ " : "☑ ");
        return el("li", task ? { class: "task" } : null, ...nodes);
      });
      return el(block.ordered ? "ol" : "ul", block.ordered && block.first !== 1 ? { start: block.first } : null, ...items);
    }
    case "table": {
      const row = (name, row) => el("tr", null, ...block.head.map((_, i) => el(name, { class: block.aligns[i] }, ...inline(row[i] ?? ""))));
      const table = el("table", null, el("thead", null, row("th", block.head)), el("tbody", null, ...block.rows.map((cells) => row("td", cells))));
      return el("div", { class: "wide-table", tabindex: "0", role: "region", "aria-label": "Table" }, table);
    }
    default:
      return el("p", null, ...inline(block.text));
  }
}

const blocksOrText = (lines, depth) =>
  depth > DEPTH ? [{ kind: "paragraph", start: 0, text: lines.join("\n") }] : blocks(lines);

const markdown = (lines, depth = 0) => blocksOrText(lines, depth).map((block) => blockNode(block, depth));

const LINK = /!?\[([^[\]\n]*)\]\(\s*<?([^\s()<>]*(?:\([^\s()]*\)[^\s()<>]*)*)>?(?:\s+"[^"\n]*")?\s*\)/y;
const BARE = /https?:\/\/[^\s<>"'`|\\^{}[\]]+/y;
const WORD = /[\p{L}\p{N}_]/u;

/** A link, if it leads to the web; otherwise nothing. */
function link(text, address) {
  if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) return null;
  return el("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, ...text);
}

/**
 * The nodes of a line of text. Every mark is looked for at most once more than it is found, and emphasis lies in emphasis
 * at most `DEPTH` deep, so that the time is linear in the text.
 */
function inline(text, depth = 0) {
  const nodes = [], missing = new Set();
  let plain = "", at = 0;
  const put = (node, end) => {
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(node);
    at = end;
  };
  while (at < text.length) {
    const c = text[at];
    if (c === "\\" && at + 1 < text.length && /[!-/:-@[-`{-~\n]/.test(text[at + 1])) {
      if (text[at + 1] === "\n") put(el("br"), at + 2);
      else {
        plain += text[at + 1];
        at += 2;
      }
      continue;
    }
    if (c === "\n") {
      if (plain.endsWith("  ")) put(el("br"), at + 1);
      else {
        plain += "\n";
        at++;
      }
      continue;
    }
    let run = 1;
    while ((c === "`" || c === "*" || c === "_" || c === "~") && text[at + run] === c) run++;
    const mark = c.repeat(run);
    if (c === "`") {
      const end = missing.has(mark) ? -1 : codeEnd(text, at + run, run);
      if (end >= 0) {
        const code = text.slice(at + run, end).replaceAll("\n", " ");
        put(el("code", null, /^ .*[^ ].* $/.test(code) ? code.slice(1, -1) : code), end + run);
        continue;
      }
      missing.add(mark);
    } else if ((c === "*" || c === "_" || (c === "~" && run === 2)) && run <= 3 && depth < DEPTH && !missing.has(mark)) {
      const opens = /\S/.test(text[at + run] ?? " ") && !(c === "_" && at > 0 && WORD.test(text[at - 1]));
      const end = opens ? emphasisEnd(text, at + run, c, run) : -1;
      if (end >= 0) {
        let inner = inline(text.slice(at + run, end), depth + 1);
        if (c === "~") inner = [el("del", null, ...inner)];
        if (c !== "~" && run !== 2) inner = [el("em", null, ...inner)];
        if (c !== "~" && run !== 1) inner = [el("strong", null, ...inner)];
        put(inner[0], end + run);
        continue;
      }
      if (opens) missing.add(mark);
    } else if (c === "[" || (c === "!" && text[at + 1] === "[")) {
      LINK.lastIndex = at;
      const match = LINK.exec(text);
      const node = match && depth < DEPTH && link(inline(match[1] || match[2], depth + 1), match[2]);
      if (node) {
        put(node, LINK.lastIndex);
        continue;
      }
    } else if (c === "h" && !(at > 0 && WORD.test(text[at - 1]))) {
      BARE.lastIndex = at;
      // The dot that ends a sentence, and the bracket that the address stands in, are none of its own.
      let address = BARE.exec(text)?.[0].replace(/[.,;:!?*_~]+$/, "") ?? "";
      if (address.endsWith(")") && !address.includes("(")) address = address.slice(0, -1);
      const node = link([address], address);
      if (node) {
        put(node, at + address.length);
        continue;
      }
    }
    plain += mark;
    at += run;
  }
  if (plain) nodes.push(plain);
  return nodes;
}

/** Where the run of backticks of this length begins that ends a piece of code; −1 if there is none. */
function codeEnd(text, at, run) {
  for (;;) {
    const start = text.indexOf("`", at);
    if (start < 0) return -1;
    at = start;
    while (text[at] === "`") at++;
    if (at - start === run) return start;
  }
}

/** Where the run begins that ends an emphasis; −1 if there is none. */
function emphasisEnd(text, at, c, run) {
  for (;;) {
    const start = text.indexOf(c, at);
    if (start < 0) return -1;
    at = start;
    while (text[at] === c) at++;
    const length = at - start;
    const closes = /\S/.test(text[start - 1]) && text[start - 1] !== "\\" && !(c === "_" && WORD.test(text[at] ?? " "));
    if (closes && (length === run || (length === 3 && run < 3))) return at - run;
  }
}

/** Shows a text that grows: only blocks that have changed are made anew. */
class Growing {
  constructor(parent) {
    this.parent = parent;
    this.clear();
  }

  clear() {
    this.parent.replaceChildren();
    this.text = "";
    // The source of each block. A line that is not whole yet may change its own block and the one before; what lies
    // before both is settled: so many blocks, and so many characters.
    this.sources = [];
    this.settled = 0;
    this.from = 0;
  }

  show(text) {
    if (text === this.text) return;
    if (!text.startsWith(this.text)) this.clear();
    this.text = text;
    const lines = text.slice(this.from).split("\n");
    const parts = blocks(lines);
    parts.forEach((part, i) => {
      const source = lines.slice(part.start, parts[i + 1]?.start).join("\n");
      const place = this.settled + i, old = this.parent.children[place];
      if (this.sources[place] === source) return;
      this.sources[place] = source;
      // Code that grows keeps its node, and with it the selection and the button.
      if (part.kind === "code" && old?.dataset.language === part.language) {
        old.querySelector("code").textContent = part.text;
        return;
      }
      const node = blockNode(part, 0);
      if (part.kind === "code") node.dataset.language = part.language;
      if (old) old.replaceWith(node);
      else this.parent.append(node);
    });
    const all = this.settled + parts.length;
    while (this.parent.children.length > all) this.parent.lastChild.remove();
    this.sources.length = all;
    if (parts.length > 2) {
      const first = parts.at(-2).start;
      for (let i = 0; i < first; i++) this.from += lines[i].length + 1;
      this.settled = all - 2;
    }
  }
}
