// What is shown of the wall, and in which order, as the address says it.
import { bytes, count, month } from "./format.js";

/** Choices: query key -> the card's value or values, and the label. */
export const FACETS = [
  { key: "kind", label: "Kind", of: (card) => [card.kind] },
  { key: "attention", label: "Sequence mixing", of: (card) => card.attention },
  { key: "features", label: "Has", of: (card) => card.features },
  { key: "family", label: "Family", of: (card) => [card.family], long: true },
  { key: "license", label: "Licence", of: (card) => [card.license ?? "unknown"], long: true },
];

/** Ranges on a logarithmic scale, but for the date. */
export const RANGES = [
  { key: "parameters", label: "Parameters", of: (card) => card.parameters, say: count },
  { key: "active", label: "Active parameters", of: (card) => card.active, say: count },
  { key: "state", label: "State per token", of: (card) => card.state_per_token, say: bytes },
  {
    key: "released",
    label: "Released",
    of: (card) => months(card.released),
    say: (value) => month(dated(value)),
    linear: true,
  },
];

export const SORTS = [
  ["-released", "newest first"],
  ["released", "oldest first"],
  ["-parameters", "most parameters"],
  ["parameters", "fewest parameters"],
  ["-active", "most active"],
  ["active", "fewest active"],
  ["-state_per_token", "most state per token"],
  ["state_per_token", "least state per token"],
  ["-context", "longest context"],
  ["name", "name"],
];
export const SORT = "-released";

/** Months since year 0; null for an unknown date. */
export function months(released) {
  if (!released) return null;
  const [year, number] = released.split("-").map(Number);
  return year * 12 + (number || 1) - 1;
}

const dated = (value) => `${Math.floor(value / 12)}-${String((value % 12) + 1).padStart(2, "0")}`;

/** The chosen values of a facet. */
export const chosen = (query, key) => (query[key] ? query[key].split(",") : []);

/** [low, high] of a range, null where it is open. */
export function limits(query, key) {
  const [low, high] = (query[key] ?? "").split("..");
  return [low, high].map((each) => (each && Number.isFinite(Number(each)) ? Number(each) : null));
}

/** The cards that pass everything; `but` leaves one key out, to count what choosing there would give. */
export function filtered(cards, query, but = null, search = null) {
  const words = asked(query.q ?? "");
  return cards.filter(
    (card) =>
      words.every((word) => [word, search?.also[word] ?? word].some((each) => searched(card, search).includes(plain(each)))) &&
      FACETS.every(({ key, of }) => key === but || passes(chosen(query, key), of(card), key)) &&
      RANGES.every(({ key, of }) => within(of(card), limits(query, key))),
  );
}

// As views/search.py does it, for the command line.
const plain = (text) => text.toLowerCase().replaceAll(",", "").replace(/[-_\s]+/g, " ");
const asked = (text) =>
  text
    .split(/\s+/)
    .map((word) => plain(word).trim().replaceAll(" ", "_"))
    .join(" ")
    .replace(/(?<!\S)(\d+) (?=[a-z])/g, "$1_")
    .split(" ")
    .filter(Boolean)
    .map((word) => word.replaceAll("_", " "));

/** All that is said of a model, once that is loaded; of one that was dropped here, what its card says. */
const searched = (card, search) =>
  search?.said[card.id] ??
  plain(
    [card.id, card.name, card.family, card.kind, card.license, ...card.attention, ...card.features].join(" "),
  );

// Of kinds and families any may hold, of features all must.
const passes = (wanted, values, key) =>
  !wanted.length ||
  (key === "features" ? wanted.every((each) => values.includes(each)) : wanted.some((each) => values.includes(each)));

function within(value, [low, high]) {
  if (low === null && high === null) return true;
  return value !== null && (low === null || value >= low) && (high === null || value <= high);
}

/** In order; cards without the value come last. */
export function sorted(cards, sort = SORT) {
  const down = sort.startsWith("-");
  const key = sort.replace("-", "");
  const rank = (a, b) => {
    const [x, y] = [a[key], b[key]];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return (down ? -order : order) || a.name.localeCompare(b.name, "en", { numeric: true });
  };
  return [...cards].sort(rank);
}
