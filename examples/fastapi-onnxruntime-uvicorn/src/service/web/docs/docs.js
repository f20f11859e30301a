const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
const JSON_TYPE = "application/json";
const FORM_TYPE = "multipart/form-data";
const base = new URL(".", location.href);
const apiKey = document.getElementById("api-key");
let api;

/** Make an element: attributes as in HTML, functions as listeners, strings as text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== ""));
  return made;
}

function resolve(part) {
  if (!part?.$ref) return part ?? {};
  const keys = part.$ref.slice(2).split("/");
  return resolve(keys.reduce((found, key) => found?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], api));
}

function schemaName(schema) {
  return schema?.$ref?.split("/").pop();
}

function typeOf(part) {
  const schema = resolve(part);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(typeOf).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `${typeOf(schema.items)}[]`;
  if (schema.properties) return schemaName(part) ?? "object";
  if (schema.additionalProperties?.type) return `object of ${typeOf(schema.additionalProperties)}`;
  return [schema.type ?? "any"].flat().join(" | ");
}

function boundsOf(part) {
  const schema = resolve(part);
  const bounds = [
    ["exclusiveMinimum", "> "], ["minimum", "≥ "], ["exclusiveMaximum", "< "], ["maximum", "≤ "],
    ["multipleOf", "multiple of "], ["minLength", "length ≥ "], ["maxLength", "length ≤ "],
    ["minItems", "items ≥ "], ["maxItems", "items ≤ "], ["pattern", "matches "], ["format", ""],
  ];
  return bounds.filter(([key]) => schema[key] !== undefined).map(([key, text]) => text + schema[key]).join(", ");
}

/** List the fields of a schema, those of nested ones under paths such as instances[].width. */
function fieldsOf(part, path = "", parents = []) {
  const schema = resolve(part);
  if (parents.includes(schema)) return [];
  const known = [...parents, schema];
  const fields = Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const field = { path: path ? `${path}.${name}` : name, property, required: schema.required?.includes(name) };
    return [field, ...fieldsOf(property, field.path, known)];
  });
  const nested = schema.anyOf ?? schema.oneOf ?? schema.allOf ?? [];
  return [
    ...fields,
    ...nested.flatMap((choice) => fieldsOf(choice, path, known)),
    ...(schema.items ? fieldsOf(schema.items, `${path}[]`, known) : []),
    ...(schema.additionalProperties?.$ref ? fieldsOf(schema.additionalProperties, `${path}.*`, known) : []),
  ];
}

/** Make a value that follows a schema, from its examples where it has some. */
function sample(part, depth = 0) {
  const schema = resolve(part);
  const given = schema.example ?? schema.examples?.[0] ?? schema.default ?? schema.const ?? schema.enum?.[0];
  if (given !== undefined) return given;
  const choice = (schema.anyOf ?? schema.oneOf ?? schema.allOf)?.[0];
  if (choice) return sample(choice, depth);
  const type = [schema.type].flat()[0];
  if (type === "array") return depth < 8 && schema.items ? [sample(schema.items, depth + 1)] : [];
  if (type === "object" || schema.properties) {
    const required = Object.entries(schema.properties ?? {}).filter(([name]) => schema.required?.includes(name));
    return Object.fromEntries(depth < 8 ? required.map(([name, each]) => [name, sample(each, depth + 1)]) : []);
  }
  return { string: "", integer: schema.minimum ?? 0, number: schema.minimum ?? 0, boolean: false }[type] ?? null;
}

/** Indent JSON without touching its numbers, which JavaScript could not all hold. */
function indent(json) {
  const tokens = json.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  let depth = 0;
  let flat = false;
  const line = () => "\n" + "  ".repeat(depth);
  return tokens.map((token, index) => {
    if (token === ":") return ": ";
    if (token === ",") return flat ? ", " : "," + line();
    if (token === "{" || token === "[") {
      const rest = tokens.slice(index + 1, index + 4000);
      const end = rest.findIndex((each) => "{}[]".includes(each));
      flat = token === "[" ? rest[end] === "]" : end === 0;
      depth += 1;
      return flat ? token : token + line();
    }
    if (token === "}" || token === "]") {
      depth -= 1;
      const closed = flat ? token : line() + token;
      flat = false;
      return closed;
    }
    return token;
  }).join("");
}

function table(headings, rows) {
  const cells = (tag, values) => element("tr", {}, values.map((value) => element(tag, {}, value ?? "")));
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, cells("th", headings)), element("tbody", {}, rows.map((row) => cells("td", row)))));
}

function schemaTable(schema) {
  const fields = fieldsOf(schema);
  if (!fields.length) return element("p", {}, element("code", {}, typeOf(schema)));
  return table(["Name", "Type", "Bounds", "Description"], fields.map(({ path, property, required }) => [
    element("code", {}, path + (required ? "" : "?")), typeOf(property), boundsOf(property),
    property.description ?? resolve(property).description,
  ]));
}

function contents(content, open) {
  return Object.entries(content ?? {}).map(([type, { schema }], index) =>
    element("details", { "data-media-type": type, open: open && index === 0 },
      element("summary", {}, element("code", {}, type), " ", schemaName(schema) ?? ""),
      schema ? schemaTable(schema) : ""));
}

/** Show what each status means; statuses with the same content share its description. */
function responsesOf(responses) {
  const groups = Map.groupBy(Object.entries(responses), ([, response]) => JSON.stringify(resolve(response).content));
  return [...groups.values()].map((group) => element("div", { class: "response" },
    group.map(([status, response]) => element("p", { "data-status": status },
      element("code", {}, status), " ", resolve(response).description)),
    contents(resolve(group[0][1]).content, group[0][0].startsWith("2"))));
}

function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

class Operation {
  constructor(path, method, described, shared) {
    Object.assign(this, { path, method: method.toUpperCase(), described });
    this.id = described.operationId ?? `${method}-${path}`;
    this.parameters = [...shared, ...(described.parameters ?? [])].map(resolve);
    this.body = resolve(described.requestBody);
    this.json = this.body.content?.[JSON_TYPE];
    this.form = this.json && this.body.content[FORM_TYPE];
    this.secured = (described.security ?? api.security ?? []).length > 0;
  }

  render() {
    const { described } = this;
    this.curl = element("pre", { class: "curl" });
    this.answer = element("div", { class: "answer", "aria-live": "polite" });
    return element("details", { class: "operation", id: this.id, "data-operation": this.id },
      element("summary", {},
        element("span", { class: "method" }, this.method),
        element("span", { class: "path" }, this.path),
        element("span", { class: "muted" }, described.summary)),
      element("div", {},
        element("p", { class: "prose" }, described.description),
        this.body.content && [element("h3", {}, "Request body"), contents(this.body.content, true)],
        this.renderForm(),
        element("h3", {}, "Responses"), responsesOf(described.responses ?? {})));
  }

  renderForm() {
    const update = () => { this.curl.textContent = this.curlCommand(); };
    this.inputs = this.parameters.map((parameter) => [parameter, element("input", {
      id: `${this.id}.${parameter.name}`, "data-parameter": parameter.name, required: parameter.required,
      value: parameter.example ?? parameter.schema?.default, spellcheck: "false", autocomplete: "off", input: update,
    })]);
    if (this.json) {
      const { example, examples, schema } = this.json;
      const value = example ?? resolve(Object.values(examples ?? {})[0]).value ?? sample(schema);
      this.text = element("textarea", { class: "body", id: `${this.id}.body`, spellcheck: "false", input: update });
      this.text.value = JSON.stringify(value, null, 2);
      this.text.rows = Math.min(24, this.text.value.split("\n").length);
    }
    const body = this.text && element("div", {}, element("label", { for: this.text.id }, "Body"), this.text);
    const parts = this.form && element("div", {}, this.renderParts(update));
    if (this.form) this.addChoice(body, parts, update);
    this.button = element("button", { class: "send", type: "submit" }, "Send");
    const form = element("form", { submit: (event) => { event.preventDefault(); this.send(); } },
      element("h3", {}, "Try it out"),
      this.inputs.map(([parameter, input]) => element("p", {},
        element("label", { for: input.id }, element("code", {}, parameter.name),
          ` (${parameter.in}) ${parameter.description ?? typeOf(parameter.schema)}`),
        input)),
      this.choice && element("p", {}, element("label", { for: this.choice.id }, "Send as"), this.choice),
      parts, body,
      element("div", {}, this.button),
      this.answer,
      element("h3", {}, "The same with curl"), this.curl,
      element("button", {
        class: "copy", type: "button", click: (event) => copy(event.target, this.curl.textContent),
      }, "Copy"));
    update();
    return form;
  }

  /** Let the reader choose between a form and JSON, and show what belongs to it. */
  addChoice(body, parts, update) {
    const show = () => {
      body.hidden = this.asForm();
      parts.hidden = !this.asForm();
    };
    this.choice = element("select", {
      id: `${this.id}.type`, class: "type", change: () => { show(); update(); },
    }, [FORM_TYPE, JSON_TYPE].map((type) => element("option", {}, type)));
    show();
  }

  /** Make an input for each field of the form. */
  renderParts(update) {
    this.parts = Object.entries(resolve(this.form.schema).properties).map(([name, part]) => {
      const property = resolve(part);
      const file = property.items ? resolve(property.items) : property;
      const isFile = file.format === "binary";
      const value = isFile ? {} : { value: property.default, spellcheck: "false", autocomplete: "off" };
      return { name, property, isFile, input: element("input", {
        id: `${this.id}.form.${name}`, "data-field": name, type: isFile ? "file" : "text", multiple: isFile, input: update,
        accept: isFile && file.contentMediaType, ...value,
      }) };
    });
    return this.parts.map(({ name, property, input }) => element("p", {},
      element("label", { for: input.id }, element("code", {}, name), ` ${property.description ?? typeOf(property)}`), input));
  }

  asForm() {
    return this.choice?.value === FORM_TYPE;
  }

  formBody() {
    const body = new FormData();
    for (const { name, isFile, input } of this.parts) {
      if (isFile) for (const file of input.files) body.append(name, file);
      else if (input.value !== "") body.append(name, input.value);
    }
    return body;
  }

  /** List the options of curl for the form. Before a file is chosen, they show where it goes. */
  curlParts() {
    return this.parts.flatMap(({ name, isFile, input }) => {
      if (!isFile) return input.value === "" ? [] : [`--form-string ${quote(`${name}=${input.value}`)}`];
      const names = [...input.files].map((file) => file.name);
      const quoted = (file) => (/[",;\\]/.test(file) ? `"${file.replace(/["\\]/g, "\\$&")}"` : file);
      return (names.length ? names : ["FILE"]).map((file) => `-F ${quote(`${name}=@${quoted(file)}`)}`);
    });
  }

  values(place) {
    return this.inputs.filter(([parameter, input]) => parameter.in === place && input.value !== "")
      .map(([parameter, input]) => [parameter.name, input.value]);
  }

  url() {
    const values = Object.fromEntries(this.values("path"));
    const path = this.path.replace(/\{([^{}]+)\}/g, (whole, name) =>
      (name in values ? encodeURIComponent(values[name]) : whole));
    const query = new URLSearchParams(this.values("query")).toString();
    return base.href.replace(/\/$/, "") + path + (query && `?${query}`);
  }

  headers() {
    return [...this.values("header"), ...(this.text && !this.asForm() ? [["Content-Type", JSON_TYPE]] : [])];
  }

  curlCommand() {
    const lines = [`curl -X ${this.method} ${quote(this.url())}`];
    lines.push(...this.headers().map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`));
    if (this.secured) lines.push('-H "Authorization: Bearer $API_KEY"');
    if (this.asForm()) lines.push(...this.curlParts());
    else if (this.text) lines.push(`-d ${quote(this.text.value)}`);
    return lines.join(" \\\n  ");
  }

  async send() {
    const headers = new Headers(this.headers());
    if (this.secured && apiKey.value) headers.set("Authorization", `Bearer ${apiKey.value}`);
    this.button.disabled = true;
    const began = performance.now();
    try {
      const body = this.asForm() ? this.formBody() : this.text?.value;
      const response = await fetch(this.url(), { method: this.method, headers, body });
      const text = await response.text();
      const type = response.headers.get("content-type") ?? "";
      const status = `${response.status} ${response.statusText}`;
      this.show(status, response.ok, performance.now() - began, /json/.test(type) ? indent(text) : text);
    } catch (error) {
      this.show(error.message, false, performance.now() - began, "");
    }
    this.button.disabled = false;
  }

  show(status, good, milliseconds, text) {
    this.answer.replaceChildren(
      element("p", {},
        element("strong", { class: `status ${good ? "good" : "bad"}` }, status),
        element("span", { class: "muted" }, ` in ${milliseconds.toFixed(0)} ms`)),
      element("pre", { class: "text", tabindex: "0" }, text));
  }
}

function render() {
  const { title, description, version } = api.info;
  document.title = title;
  document.getElementById("title").textContent = title;
  document.getElementById("description").textContent = description ?? "";
  document.getElementById("version").textContent = `version ${version}`;
  document.getElementById("key").hidden = !api.components?.securitySchemes;
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method])
      .map((method) => new Operation(path, method, item[method], item.parameters ?? [])));
  const tags = new Map((api.tags ?? []).map(({ name, description }) => [name, description]));
  const byTag = Map.groupBy(operations, ({ described }) => described.tags?.[0] ?? "other");
  const sections = [...new Set([...tags.keys(), ...byTag.keys()])].filter((tag) => byTag.has(tag));
  document.getElementById("operations").replaceChildren(...sections.map((tag) =>
    element("section", { "data-tag": tag },
      element("h2", {}, tag), element("p", { class: "muted" }, tags.get(tag)),
      byTag.get(tag).map((operation) => operation.render()))));
  const chosen = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  (chosen ?? document.querySelector(".operation"))?.setAttribute("open", "");
}

try {
  const response = await fetch(new URL("openapi.json", base));
  if (!response.ok) throw new Error(`status ${response.status}`);
  api = await response.json();
  render();
} catch (error) {
  document.getElementById("operations").replaceChildren(
    element("p", { role: "alert" }, `openapi.json could not be read: ${error.message}`));
}
