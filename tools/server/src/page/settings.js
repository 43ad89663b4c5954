
// What answers are like, and the colours of the page.

const SAMPLING = [
  { name: "temperature", label: "Temperature", min: 0, step: 0.05, hint: "0 takes the likeliest token always" },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: 0.01 },
  { name: "top_k", label: "Top k", min: 0, step: 1 },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01 },
  { name: "max_tokens", label: "Longest answer", min: 1, step: 1, hint: "in tokens" },
  { name: "seed", label: "Seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, hint: "the same one gives the same answer" },
];

const settings = {
  values: keptValue("settings", {}),

  /** The fields of a request. */
  fields() {
    const fields = {};
    for (const { name } of SAMPLING) if (Number.isFinite(this.values[name])) fields[name] = this.values[name];
    const stops = String(this.values.stop ?? "").split("\n").filter(Boolean);
    if (stops.length) fields.stop = stops;
    const schema = this.schema();
    if (schema) fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
    return fields;
  },

  /** The schema of the box, if it holds one and the server can use it. */
  schema() {
    if (this.refused || !this.values.schema?.trim()) return null;
    try {
      return JSON.parse(this.values.schema);
    } catch {
      return null;
    }
  },

  keep() {
    keepValue("settings", this.values);
  },

  fill() {
    for (const { name } of SAMPLING) $(`set-${name}`).value = this.values[name] ?? "";
    $("stops").value = this.values.stop ?? "";
    $("schema").value = this.values.schema ?? "";
    $("system").value = conversation.chat.system;
    this.tellSchema();
  },

  tellSchema() {
    let state = "";
    if (this.refused) state = this.refused;
    else if (this.values.schema?.trim() && !this.schema()) state = "This is no JSON yet; answers are free until it is.";
    $("schema").disabled = Boolean(this.refused);
    $("schema-state").textContent = state;
  },

  /** Whether answers can keep to a schema. A request without messages is refused in any case, and costs nothing. */
  async probe() {
    const body = { model: models.chosen?.id, messages: [], max_tokens: 1, response_format: { type: "json_object" } };
    try {
      await call("/v1/chat/completions", { body, quiet: true });
      this.refused = null;
    } catch (error) {
      if (error.kind === "lost" || error.kind === "loading" || error.kind === "busy") return;
      this.refused = /^(response_format|type$)/.test(error.param ?? "") ? error.message : null;
    }
    this.tellSchema();
  },

  open() {
    this.fill();
    this.probe();
    $("settings-dialog").showModal();
  },

  start() {
    for (const { name, label, hint, ...attributes } of SAMPLING) {
      const field = el("input", { id: `set-${name}`, type: "number", inputmode: "decimal", ...attributes });
      field.addEventListener("input", () => {
        // What is no number, or none of those that are allowed, is not kept; the browser marks it.
        this.values[name] = field.validity.badInput || field.value === "" || !(field.valueAsNumber >= field.min) ? undefined : field.valueAsNumber;
        this.keep();
      });
      $("sampling").append(el("div", { class: "field" }, el("label", { for: field.id }, label), field, hint && el("span", { class: "hint" }, hint)));
    }
    $("stops").addEventListener("input", () => {
      this.values.stop = $("stops").value;
      this.keep();
    });
    $("schema").addEventListener("input", () => {
      this.values.schema = $("schema").value;
      this.keep();
      this.tellSchema();
    });
    $("system").addEventListener("input", () => {
      conversation.chat.system = $("system").value;
      if (conversation.chat.nodes.length) conversation.keep(conversation.chat);
    });
    $("reset").addEventListener("click", () => {
      this.values = { schema: this.values.schema };
      this.keep();
      this.fill();
    });
    $("settings").addEventListener("click", () => this.open());
    $("change-key").addEventListener("click", async () => {
      if (await askKey()) findModels();
    });
    $("model").addEventListener("change", () => {
      if (models.chosen) keepValue("model", models.chosen.id);
      conversation.showContext();
    });
    this.colours(keptValue("theme", "auto"));
    $("theme").addEventListener("click", () => {
      const order = ["auto", "light", "dark"];
      const next = order[(order.indexOf(this.theme) + 1) % order.length];
      this.colours(next);
      keepValue("theme", next);
    });
  },

  colours(theme) {
    this.theme = ["light", "dark"].includes(theme) ? theme : "auto";
    const root = document.documentElement;
    if (this.theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = this.theme;
    const label = { auto: "Colours: as the system", light: "Colours: light", dark: "Colours: dark" }[this.theme];
    $("theme").replaceChildren(icon({ auto: "auto", light: "sun", dark: "moon" }[this.theme]));
    $("theme").setAttribute("aria-label", label);
    $("theme").title = label;
  },
};
