
// What the server does now, from its /metrics, asked once a second while this view is open.

const SECONDS = 120;
const EVERY = 1000;

/** The numbers of a text of Prometheus's, those of several models added. */
function readMetrics(text) {
  const numbers = new Map();
  for (const line of text.split("\n")) {
    const match = /^([A-Za-z_:][\w:]*)(\{[^}]*\})?\s+(\S+)/.exec(line);
    if (!match || match[1].endsWith("_bucket")) continue;
    const value = Number(match[3]);
    if (Number.isFinite(value)) numbers.set(match[1], (numbers.get(match[1]) ?? 0) + value);
  }
  return numbers;
}

/** What is drawn. `of` gets what has grown since the last look, the numbers themselves, and the seconds between. */
const CHARTS = [
  {
    title: "Throughput",
    unit: "tokens/s",
    lines: [
      // The times from token to token are counted as they pass; the totals of tokens when a text has ended.
      { label: "written", of: (grown, _, s) => add(grown("vllm:inter_token_latency_seconds_count"), grown("vllm:time_to_first_token_seconds_count"), s) },
      { label: "read", of: (grown, _, s) => add(grown("llamacpp:prompt_tokens_total"), 0, s) },
    ],
  },
  {
    title: "Texts",
    unit: "",
    lines: [
      { label: "being written", of: (_, now) => now("llamacpp:requests_processing") },
      { label: "waiting", of: (_, now) => now("llamacpp:requests_deferred") },
    ],
  },
  {
    title: "Prompt tokens from the cache",
    unit: "%",
    top: 100,
    lines: [
      {
        label: "cached",
        of: (grown) => {
          const cached = grown("llamacpp:prompt_tokens_cached_total"), read = grown("llamacpp:prompt_tokens_total");
          return cached + read > 0 ? (100 * cached) / (cached + read) : null;
        },
      },
    ],
  },
];

const add = (a, b, seconds) => (a === null || b === null ? null : (a + b) / seconds);

/** The smallest round number that is not less. */
function roundUp(n) {
  const ten = 10 ** Math.floor(Math.log10(Math.max(n, 1)));
  return [1, 2, 5, 10].map((x) => x * ten).find((x) => x >= n);
}

class Chart {
  constructor({ title, unit, top, lines }) {
    Object.assign(this, { title, unit, top, lines, points: [] });
    this.drawing = svg("svg", { viewBox: "0 0 600 180", role: "img" });
    this.values = lines.map(() => el("b", null, "–"));
    const legend = lines.map(({ label }, i) => el("span", { class: `line${i}` }, el("i", null), `${label} `, this.values[i]));
    this.node = el("figure", { class: "chart" }, el("figcaption", null, el("strong", null, unit ? `${title}, ${unit}` : title), el("span", { class: "legend" }, ...legend)), this.drawing);
  }

  put(values) {
    this.points.push(values);
    if (this.points.length > SECONDS) this.points.shift();
    this.draw();
  }

  draw() {
    const [left, right, high, low] = [44, 592, 12, 152];
    const seen = this.points.flat().filter((value) => value !== null);
    const top = this.top ?? roundUp(Math.max(...seen, this.unit ? 1 : 4));
    const x = (i) => right - ((this.points.length - 1 - i) * (right - left)) / (SECONDS - 1);
    const y = (value) => low - (value / top) * (low - high);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      parts.push(svg("path", { class: "grid", d: `M${left} ${y(top * share)}H${right}` }));
      parts.push(svg("text", { x: left - 8, y: y(top * share) + 4, class: "right" }, whole.format(top * share)));
    }
    for (const seconds of [120, 90, 60, 30]) {
      const text = `−${seconds} s`;
      parts.push(svg("text", { x: right - (seconds / SECONDS) * (right - left), y: 172, class: seconds === 120 ? "" : "middle" }, text));
    }
    parts.push(svg("text", { x: right, y: 172, class: "right" }, "now"));
    this.lines.forEach((_, line) => {
      let d = "", down = false;
      this.points.forEach((values, i) => {
        if (values[line] === null) down = false;
        else {
          d += `${down ? "L" : "M"}${x(i).toFixed(1)} ${y(values[line]).toFixed(1)}${down ? "" : "h.01"}`;
          down = true;
        }
      });
      if (d) parts.push(svg("path", { class: `curve line${line}`, d }));
    });
    this.drawing.replaceChildren(...parts);
    const last = this.lines.map(({ label }, i) => {
      const value = this.points.at(-1)?.[i] ?? null;
      const text = value === null ? "–" : this.unit === "tokens/s" ? rate(value) : whole.format(Math.round(value));
      this.values[i].textContent = text;
      return `${label} ${value === null ? "unknown" : text}`;
    });
    this.drawing.setAttribute("aria-label", `${this.title} of the last two minutes. Now: ${last.join(", ")} ${this.unit}`.trim());
  }
}

const live = {
  charts: [],
  last: null,
  timer: 0,

  async look() {
    let text;
    try {
      text = await (await call("/metrics")).text();
    } catch (error) {
      const absent = error instanceof Failure && error.kind === "absent";
      this.say(absent ? "This server tells no numbers: it has no /metrics." : error.message);
      this.last = null;
      // What is not there now will not come.
      return !absent && error.kind !== "key";
    }
    const now = { at: performance.now(), numbers: readMetrics(text) };
    if (this.last) {
      const seconds = (now.at - this.last.at) / 1000;
      const value = (name) => now.numbers.get(name) ?? null;
      // A server that was started anew counts from nothing.
      const grown = (name) => (now.numbers.has(name) && this.last.numbers.has(name) ? Math.max(value(name) - this.last.numbers.get(name), 0) : null);
      for (const chart of this.charts) chart.put(chart.lines.map(({ of }) => of(grown, value, seconds)));
    }
    this.tiles(now.numbers);
    this.say("");
    this.last = now;
    return true;
  },

  say(sentence) {
    if ($("live-state").textContent !== sentence) $("live-state").textContent = sentence;
    $("charts").hidden = $("tiles").hidden = Boolean(sentence) && !this.last;
  },

  tiles(numbers) {
    const mean = (name) => {
      const [sum, count] = [numbers.get(`${name}_sum`), numbers.get(`${name}_count`)];
      return count ? `${rate((1000 * sum) / count)} ms` : "–";
    };
    const count = (name) => (numbers.has(name) ? whole.format(Math.round(numbers.get(name))) : "–");
    const tiles = [
      ["Texts finished", count("llamacpp:requests_finished_total")],
      ["Cancelled", count("llamacpp:requests_cancelled_total")],
      ["Refused", count("llamacpp:requests_refused_total")],
      ["Mean time to the first token", mean("vllm:time_to_first_token_seconds")],
      ["Mean time between tokens", mean("vllm:inter_token_latency_seconds")],
    ];
    $("tiles").replaceChildren(...tiles.map(([label, value]) => el("div", { class: "tile" }, el("b", null, value), el("span", null, label))));
  },

  async run() {
    const turn = (this.turn = {});
    while (this.turn === turn) {
      if (!document.hidden && !(await this.look())) return;
      await new Promise((resolve) => setTimeout(resolve, EVERY));
    }
  },

  open() {
    if (!this.charts.length) {
      this.charts = CHARTS.map((chart) => new Chart(chart));
      $("charts").replaceChildren(...this.charts.map((chart) => chart.node));
      for (const chart of this.charts) chart.draw();
    }
    this.run();
  },

  close() {
    this.turn = null;
    this.last = null;
  },
};
