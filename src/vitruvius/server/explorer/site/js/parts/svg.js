// What a drawing does with the elements of its SVG.

const ALLOWED = new Set(["svg", "g", "rect", "circle", "path", "text", "title", "desc"]);
const SHAPE = ":scope > rect:not(.panel, [class*=rule-]), :scope > circle"; // of a part itself

/** The element of a drawing's SVG. Only shapes and text are taken over. Of its parts one is a tab stop. */
export function parsed(svg, parts) {
  const root = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  for (const element of [...root.querySelectorAll("*")]) {
    if (!ALLOWED.has(element.tagName)) element.remove();
    for (const { name } of [...element.attributes])
      if (name.startsWith("on") || name.endsWith("href")) element.removeAttribute(name);
  }
  const seen = new Set();
  for (const group of root.querySelectorAll("g[data-path]")) {
    const about = group.querySelector(":scope > title");
    const path = known(parts, group.dataset.path);
    if (!path) continue;
    about?.remove();
    const once = !seen.has(group.dataset.path) && group.querySelector(":scope > rect, :scope > circle");
    if (once) {
      seen.add(group.dataset.path);
      group.setAttribute("tabindex", "-1");
      group.setAttribute("role", "button");
      const shown = [...group.querySelectorAll("text")].map((text) => text.textContent).join(" ");
      const told = [shown, about?.textContent, parts[path].title, ...parts[path].facts];
      group.setAttribute("aria-label", [...new Set(told.filter(Boolean))].join(", "));
    }
  }
  for (const group of root.querySelectorAll("g[tabindex]")) // what holds others is none itself: see the list of layers
    if (group.querySelector("g[tabindex]"))
      for (const name of ["tabindex", "role", "aria-label"]) group.removeAttribute(name);
  root.querySelector("g[tabindex]")?.setAttribute("tabindex", "0");
  return document.importNode(root, true);
}

/** The nearest path at or above this one that something is known about. */
export function known(parts, path) {
  while (path && !(path in parts)) path = path.slice(0, Math.max(0, path.lastIndexOf(".")));
  return path || null;
}

/** The part that has the focus is the one that Tab comes back to. */
export function roving(svg, target) {
  const part = target.closest?.("g[tabindex]");
  if (!part) return;
  for (const other of svg.querySelectorAll('g[tabindex="0"]')) other.setAttribute("tabindex", "-1");
  part.setAttribute("tabindex", "0");
}

/** The next part in a direction: the nearest one, where one step aside counts as three ahead. */
export function near(svg, target, dx, dy) {
  const here = middle(target);
  let best = null;
  for (const part of svg.querySelectorAll("g[tabindex]")) {
    if (part === target) continue;
    const [x, y] = middle(part).map((value, i) => value - here[i]);
    const ahead = x * dx + y * dy;
    const distance = ahead + 3 * Math.abs(x * dy + y * dx);
    if (ahead > 1 && (!best || distance < best.distance)) best = { part, distance };
  }
  return best?.part;
}

function middle(part) {
  const box = (part.querySelector(":scope > rect, :scope > circle") ?? part).getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
}

/** Dragging with a mouse scrolls; fingers scroll by themselves. */
export function dragging(frame) {
  let from = null;
  return {
    onPointerDown: (event) => {
      if (event.pointerType === "mouse" && event.button === 0) from = [event.clientX, event.clientY];
    },
    onPointerMove: (event) => {
      if (!from || !event.buttons) return;
      frame.current.scrollBy(from[0] - event.clientX, from[1] - event.clientY);
      from = [event.clientX, event.clientY];
    },
    onPointerUp: () => {
      from = null;
    },
  };
}

/** Highlights shapes and texts: {path: "whole" | "detail"}. */
export function mark(svg, marks = {}) {
  for (const element of svg.querySelectorAll(".whole, .detail")) element.classList.remove("whole", "detail");
  for (const group of svg.querySelectorAll("g[data-path]")) {
    const how = marks[group.dataset.path];
    const shape = how && group.querySelector(SHAPE);
    if (shape) shape.classList.add(how);
  }
}
