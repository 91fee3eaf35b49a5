// Asks the graph what it offers and shows it: a list of types, each with its fields and their descriptions.

const TYPE = "kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
const VALUE = `name description defaultValue type { ${TYPE} }`;

export const INTROSPECTION = `query Introspection {
  __schema {
    queryType { name }
    mutationType { name }
    subscriptionType { name }
    types {
      kind name description specifiedByURL
      fields(includeDeprecated: true) { name description isDeprecated deprecationReason args { ${VALUE} } type { ${TYPE} } }
      inputFields { ${VALUE} }
      enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
      interfaces { name }
      possibleTypes { name }
    }
  }
}`;

const KINDS = { OBJECT: "type", INTERFACE: "interface", UNION: "union", ENUM: "enum", INPUT_OBJECT: "input", SCALAR: "scalar" };

function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

/** A type as it is written, with a button for its name. */
function typeNodes(type, goTo) {
  if (type.kind === "NON_NULL") return [...typeNodes(type.ofType, goTo), "!"];
  if (type.kind === "LIST") return ["[", ...typeNodes(type.ofType, goTo), "]"];
  const button = element("button", "type-name", type.name);
  button.type = "button";
  button.addEventListener("click", () => goTo(type.name));
  return [button];
}

function argumentNodes(args, goTo) {
  if (!args?.length) return [];
  const list = element("ul", "arguments");
  for (const one of args) {
    const initial = one.defaultValue == null ? [] : [` = ${one.defaultValue}`];
    const line = element("code", "", `${one.name}: `, ...typeNodes(one.type, goTo), ...initial);
    list.append(element("li", "", line, ...described(one)));
  }
  return [list];
}

function described({ description, isDeprecated, deprecationReason }) {
  const lines = description ? [element("p", "quiet", description)] : [];
  if (isDeprecated) lines.push(element("p", "error", `Deprecated: ${deprecationReason}`));
  return lines;
}

function memberRow(member, goTo) {
  const initial = member.defaultValue == null ? [] : [` = ${member.defaultValue}`];
  const type = member.type ? [": ", ...typeNodes(member.type, goTo), ...initial] : [];
  const row = element("li", "member", element("code", "", element("b", "", member.name), ...type));
  row.append(...described(member), ...argumentNodes(member.args, goTo));
  row.dataset.text = `${member.name} ${member.description ?? ""}`.toLowerCase();
  return row;
}

function typeCard(type, goTo) {
  const card = element("details", "type");
  card.id = `type-${type.name}`;
  card.dataset.text = `${type.name} ${type.description ?? ""}`.toLowerCase();
  card.append(element("summary", "", element("span", "kind", KINDS[type.kind]), " ", element("b", "", type.name)));
  card.append(...described(type));
  const related = [
    ["Implements", type.interfaces],
    [type.kind === "UNION" ? "One of" : "Implemented by", type.kind === "OBJECT" ? [] : type.possibleTypes],
  ];
  for (const [label, types] of related) {
    if (!types?.length) continue;
    const names = types.flatMap(({ name }) => [" ", ...typeNodes({ kind: "OBJECT", name }, goTo)]);
    card.append(element("p", "quiet", label, ...names));
  }
  const members = [...(type.fields ?? []), ...(type.inputFields ?? []), ...(type.enumValues ?? [])];
  if (members.length) card.append(element("ul", "members", ...members.map((member) => memberRow(member, goTo))));
  return card;
}

/** Fills `place` with the types of an introspection answer, the roots first; answers a function that filters them. */
export function showSchema(place, schema, clearFilter) {
  const roots = [schema.queryType, schema.mutationType, schema.subscriptionType].filter(Boolean).map(({ name }) => name);
  const rank = ({ name }) => (roots.includes(name) ? roots.indexOf(name) : roots.length);
  const types = schema.types
    .filter(({ name }) => !name.startsWith("__"))
    .sort((one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name));
  const goTo = (name) => {
    clearFilter();
    const card = place.querySelector(`#type-${CSS.escape(name)}`);
    if (!card) return;
    card.open = true;
    card.scrollIntoView({ block: "start" });
    card.querySelector("summary").focus({ preventScroll: true });
  };
  const cards = types.map((type) => typeCard(type, goTo));
  place.replaceChildren(...cards);
  if (cards[0]) cards[0].open = true;
  return (words) => filter(cards, words.trim().toLowerCase());
}

function filter(cards, wanted) {
  for (const card of cards) {
    const rows = [...card.querySelectorAll(".member")];
    const isNamed = card.dataset.text.includes(wanted);
    const fitting = rows.filter((row) => row.dataset.text.includes(wanted));
    // A type that fits by its own name is shown whole; else only with the fields that fit.
    for (const row of rows) row.hidden = !isNamed && !fitting.includes(row);
    card.hidden = !isNamed && fitting.length === 0;
    if (wanted) card.open = fitting.length > 0;
  }
  const shown = cards.filter((card) => !card.hidden);
  if (shown.length === 1) shown[0].open = true;
  return shown.length;
}
