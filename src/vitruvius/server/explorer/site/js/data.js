// What the page shows, from `data/`; and the architectures that were dropped on it, which stay in this tab.
import { useEffect, useState } from "./html.js";

const OWN = "own:"; // before the ids of dropped architectures
const asked = new Map();

/** The JSON of a file of `data/`, asked for once. */
export function load(path) {
  if (!asked.has(path)) {
    const answer = fetch(`data/${path}`).then((response) => {
      if (!response.ok) throw new Error(`data/${path} could not be loaded (${response.status})`);
      return response.json();
    });
    answer.catch(() => asked.delete(path));
    asked.set(path, answer);
  }
  return asked.get(path);
}

/** The wall's index, with this tab's own architectures at its end. */
export async function index() {
  const found = await load("index.json");
  return { ...found, architectures: [...found.architectures, ...own()] };
}

/** Everything about one architecture. */
export async function architecture(id) {
  const found = id.startsWith(OWN) ? stored(id) : await listed(id);
  if (!found) throw new Error(`There is no architecture “${id}” here.`);
  return found;
}

async function listed(id) {
  const { architectures } = await load("index.json");
  return architectures.some((card) => card.id === id) && load(`arch/${encodeURIComponent(id)}.json`);
}

/** Keeps a dropped architecture for this tab, and gives it an id. */
export function keep(found) {
  const id = `${OWN}${found.name}`;
  const record = { ...found, id };
  memory.set(id, record);
  try {
    sessionStorage.setItem(id, JSON.stringify(record));
  } catch {
    // full or forbidden: it lives until the page is reloaded
  }
  return id;
}

const memory = new Map();

function stored(id) {
  if (!memory.has(id)) {
    try {
      memory.set(id, JSON.parse(sessionStorage.getItem(id)));
    } catch {
      return null;
    }
  }
  return memory.get(id);
}

function own() {
  try {
    const ids = new Set([...Object.keys(sessionStorage).filter((key) => key.startsWith(OWN)), ...memory.keys()]);
    return [...ids].map(stored).filter(Boolean);
  } catch {
    return [...memory.values()];
  }
}

/** The value of a promise: {value, error}, both undefined while it is under way. Asked again when `keys` change. */
export function usePromise(ask, keys) {
  const asked = keys.join("\n");
  const [state, set] = useState({});
  useEffect(() => {
    let here = true;
    ask().then(
      (value) => here && set({ asked, value }),
      (error) => here && set({ asked, error }),
    );
    return () => {
      here = false;
    };
  }, [asked]);
  return state.asked === asked ? state : {};
}
