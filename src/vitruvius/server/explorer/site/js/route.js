// Where we are, all of it in the address: `#/compare/a,b?context=8192`. Sliders change it many times a second: what is
// shown follows at once, the address a moment later (browsers allow only so many changes of it).
import { useEffect, useState } from "./html.js";

const SETTLED = 250; // milliseconds
const listeners = new Set();
let route = parse(location.hash);
let writing = null;

function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view, ...args] = path.split("/").map(decoded);
  return { view: view || "wall", args, query: Object.fromEntries(new URLSearchParams(query)) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a view: `href("compare", ["a,b"], {context: 8192})`. */
export function href(view, args = [], query = {}) {
  const path = [view, ...args].map((each) => encodeURIComponent(each).replaceAll("%2C", ",")).join("/");
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const said = new URLSearchParams(kept).toString().replaceAll("%2C", ",");
  return `#/${path}${said ? `?${said}` : ""}`;
}

function tell() {
  for (const listener of listeners) listener(route);
}

/** Writes what is shown into the address, if that is still to be done. */
function write() {
  if (writing === null) return;
  clearTimeout(writing);
  writing = null;
  history.replaceState(history.state, "", href(route.view, route.args, route.query));
}

/** Goes to another view, which the back button leaves again. */
export function navigate(address) {
  write();
  location.hash = address;
}

/** Changes the query of this view; what is undefined or "" leaves it. */
export function update(changes) {
  const query = { ...route.query };
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined || value === null || value === "") delete query[key];
    else query[key] = String(value);
  }
  route = { ...route, query };
  tell();
  clearTimeout(writing);
  writing = setTimeout(write, SETTLED);
}

addEventListener("click", write, true); // before a link leaves this place
// Each place of the history has a number, and is left with where it was scrolled to.
const heights = new Map();
let place = 0;
history.scrollRestoration = "manual";
numbered();

function numbered() {
  const back = history.state?.place;
  place = back ?? Date.now() + Math.random();
  if (back === undefined) history.replaceState({ place }, "", location.href);
  return back !== undefined;
}

/** Where this place of the history was scrolled to when it was left; null for a new one. */
export let returned = null;

addEventListener("scroll", () => heights.set(place, scrollY), { passive: true });
addEventListener("hashchange", () => {
  clearTimeout(writing);
  writing = null;
  returned = numbered() ? (heights.get(place) ?? null) : null;
  route = parse(location.hash);
  tell();
});

/** The current route: {view, args, query}. */
export function useRoute() {
  const [now, set] = useState(route);
  useEffect(() => {
    listeners.add(set);
    set(route);
    return () => listeners.delete(set);
  }, []);
  return now;
}
