// Reads the document beside this folder and lays it out. Whatever comes from it is text, never markup.

const METHODS = ["get", "post", "put", "patch", "delete"];

const make = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
};

const nameOf = (reference) => reference.slice(reference.lastIndexOf("/") + 1);

/** What a schema stands for, in a few words. */
const typeOf = (schema) => {
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.allOf) return typeOf(schema.allOf[0]);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.type === "array") return `list of ${schema.items ? typeOf(schema.items) : "anything"}`;
  return schema.type ?? "anything";
};

const boundsOf = (schema) => {
  const named = { minimum: "at least", maximum: "at most", maxLength: "characters at most", maxItems: "entries at most" };
  const bounds = Object.entries(named).filter(([key]) => key in schema).map(([key, words]) => `${words} ${schema[key]}`);
  if (schema.default !== undefined && schema.default !== null) bounds.push(`${JSON.stringify(schema.default)} by default`);
  return bounds.join(", ");
};

const tableOf = (rows) =>
  make("table", {}, make("tbody", {}, ...rows.map(([name, type, says]) =>
    make("tr", {}, make("td", {}, make("code", { textContent: name })), make("td", { textContent: type }),
      make("td", { textContent: says })))));

/** The fields of a schema; those that are objects of their own open below, once each. */
const schemaOf = (schema, components, seen = new Set()) => {
  const names = [...JSON.stringify(schema).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map((found) => found[1]);
  return [...new Set(names)].filter((name) => !seen.has(name)).map((name) => {
    const known = components.schemas[name];
    const inner = make("details", { open: seen.size === 0 }, make("summary", {}, make("code", { textContent: name })));
    const next = new Set([...seen, ...names]);
    const fill = () => {
      if (inner.childElementCount > 1) return;
      if (known.description) inner.append(make("p", { className: "says", textContent: known.description }));
      const required = new Set(known.required ?? []);
      const rows = Object.entries(known.properties ?? {}).map(([field, kind]) =>
        [field + (required.has(field) ? " *" : ""), typeOf(kind), boundsOf(kind)]);
      inner.append(rows.length ? tableOf(rows) : make("p", { textContent: typeOf(known) }));
      inner.append(...schemaOf(known, components, next));
    };
    if (inner.open) fill();
    inner.addEventListener("toggle", fill, { once: true });
    return inner;
  });
};

const curlOf = (method, path, operation, parameters) => {
  let address = path;
  const query = new URLSearchParams();
  for (const parameter of parameters) {
    if (parameter.in === "path") address = address.replace(`{${parameter.name}}`, parameter.example);
    if (parameter.in === "query" && parameter.example !== undefined) query.set(parameter.name, parameter.example);
  }
  const asked = query.size ? `?${query}` : "";
  const lines = [`curl -X ${method.toUpperCase()} '${location.origin}${address}${asked}'`];
  if (!operation.security.some((one) => Object.keys(one).length === 0)) lines.push(`-H "authorization: Bearer $TOKEN"`);
  const body = operation.requestBody?.content["application/json"]?.example;
  if (body) lines.push("-H 'content-type: application/json'", `-d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`);
  return lines.join(" \\\n  ");
};

const detailsOf = ({ method, path, operation, servers }, components) => {
  const parts = [];
  if (operation.description !== operation.summary) parts.push(make("p", { textContent: operation.description }));
  const parameters = operation.parameters.map((one) => (one.$ref ? components.parameters[nameOf(one.$ref)] : one));
  const scopes = [...new Set(operation.security.flatMap((one) => Object.values(one).flat()))];
  const needs = scopes.length ? `Needs the scope ${scopes.join(", ")}.` : "Needs no sign-in.";
  const where = servers ? ` Also under ${servers.filter((one) => one !== "/").map((one) => one + path).join(" and ")}.` : "";
  parts.push(make("p", { className: "says", textContent: needs + where }));
  parts.push(make("pre", { textContent: curlOf(method, path, operation, parameters) }));
  if (parameters.length) {
    parts.push(make("h3", { textContent: "Parameters" }), tableOf(parameters.map((one) =>
      [one.name + (one.required ? " *" : ""), `${one.in}, ${typeOf(one.schema)}`, one.description ?? boundsOf(one.schema)])));
  }
  if (operation.requestBody) {
    parts.push(make("h3", { textContent: "Body" }));
    for (const [media, { schema }] of Object.entries(operation.requestBody.content)) {
      parts.push(make("p", {}, make("code", { textContent: media })), ...(schema ? schemaOf(schema, components) : []));
    }
  }
  parts.push(make("h3", { textContent: "Answers" }));
  for (const [status, one] of Object.entries(operation.responses)) {
    const known = one.$ref ? components.responses[nameOf(one.$ref)] : one;
    parts.push(make("p", {}, make("code", { textContent: status }), ` ${known.description}`));
    if (one.$ref) continue;
    for (const [media, { schema }] of Object.entries(known.content ?? {})) {
      parts.push(make("p", { className: "says" }, make("code", { textContent: media })), ...schemaOf(schema, components));
    }
  }
  return make("div", {}, ...parts);
};

const operationsOf = (api) =>
  Object.entries(api.paths).flatMap(([path, at]) =>
    METHODS.filter((method) => at[method]).map((method) => {
      const operation = at[method];
      const fields = JSON.stringify(operation.requestBody ?? "") + JSON.stringify(operation.parameters);
      const text = `${method} ${path} ${operation.summary} ${operation.description} ${fields}`.toLowerCase();
      return { method, path, operation, text, servers: at.servers?.map((one) => one.url) };
    }));

const show = (api) => {
  const main = document.querySelector("#operations");
  const areas = document.querySelector("#areas");
  const cards = [];
  const all = operationsOf(api);
  for (const { name } of api.tags) {
    const id = name.toLowerCase().replaceAll(/\W+/g, "-");
    const section = make("section", { id }, make("h2", { textContent: name }));
    for (const one of all.filter(({ operation }) => operation.tags.includes(name))) {
      const upper = one.method.toUpperCase();
      const card = make("details", { className: "operation", id: one.operation.operationId }, make("summary", {},
        make("span", { className: `method ${upper}`, textContent: upper }), make("code", { textContent: one.path }),
        make("span", { className: "says", textContent: one.operation.summary })));
      card.addEventListener("toggle", () => card.append(detailsOf(one, api.components)), { once: true });
      section.append(card);
      cards.push({ card, section, text: one.text });
    }
    main.append(section);
    areas.append(make("a", { href: `#${id}`, textContent: name }));
  }
  document.querySelector("#about").replaceChildren(`${api.info.title} ${api.info.version}. ${api.info.description}\n`,
    make("a", { href: "../openapi.json", textContent: "openapi.json" }));
  return cards;
};

const search = (cards, words) => {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const section of new Set(cards.map((one) => one.section))) section.hidden = true;
  for (const { card, section, text } of cards) {
    card.hidden = !wanted.every((word) => text.includes(word));
    if (!card.hidden) {
      section.hidden = false;
      count += 1;
    }
  }
  document.querySelector("#count").textContent = `${count} of ${cards.length} operations`;
};

const answer = await fetch("../openapi.json");
const cards = show(await answer.json());
const field = document.querySelector("#search");
field.addEventListener("input", () => search(cards, field.value));
search(cards, field.value);
const named = location.hash && document.getElementById(location.hash.slice(1));
if (named) {
  named.open = true;
  named.scrollIntoView();
}
