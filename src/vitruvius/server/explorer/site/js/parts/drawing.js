// A drawing in the page: its parts can be pointed at, focused and chosen; it zooms, and scrolls where it is larger.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { copyPng, copyText, png, save, standalone } from "../copy.js";
import { Doing, Icon } from "./common.js";

const ALLOWED = new Set(["svg", "g", "rect", "circle", "path", "text", "title", "desc"]);
const STEP = 1.3;
const SHAPE = ":scope > rect:not(.panel, [class*=rule-]), :scope > circle"; // of a part itself

/** The element of a drawing's SVG. Only shapes and text are taken over. */
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
      group.setAttribute("tabindex", "0");
      group.setAttribute("role", "button");
      group.setAttribute(
        "aria-label",
        [about?.textContent, parts[path].title, ...parts[path].facts].filter(Boolean).join(", "),
      );
    }
  }
  return document.importNode(root, true);
}

/** The nearest path at or above this one that something is known about. */
export function known(parts, path) {
  while (path && !(path in parts)) path = path.slice(0, Math.max(0, path.lastIndexOf(".")));
  return path || null;
}

/**
 * drawing: {svg, width, height}; parts: what is known by path; on(path, kept) is told what is pointed at (kept: chosen);
 * chosen: the path that is chosen; marks: {path: "whole" | "detail"} to highlight; tallest: of the window's height;
 * least: the scale below which its text, of at least 11 px, could not be read.
 */
export function Drawing({ name, drawing, parts, on, chosen, marks, tallest = 0.82, least = innerWidth < 700 ? 0.75 : 1 }) {
  const frame = useRef(null);
  const svg = useRef(null);
  const [zoom, setZoom] = useState(1);
  useLayoutEffect(() => {
    svg.current = parsed(drawing.svg, parts);
    frame.current.replaceChildren(svg.current);
  }, [drawing.svg]);
  useLayoutEffect(() => {
    const lay = () => {
      const room = frame.current.clientWidth;
      const scale = Math.max(least, Math.min(room / drawing.width, 1.15));
      const width = drawing.width * scale * zoom;
      svg.current.style.width = `${width}px`;
      svg.current.style.height = `${(width / drawing.width) * drawing.height}px`;
      frame.current.style.maxHeight = zoom > 1 ? `${innerHeight * tallest}px` : "";
    };
    lay();
    const watching = new ResizeObserver(lay);
    watching.observe(frame.current);
    return () => watching.disconnect();
  }, [drawing, zoom]);
  useEffect(() => mark(svg.current, marks), [drawing.svg, marks]);
  useEffect(() => {
    for (const group of svg.current.querySelectorAll("g.on")) group.classList.remove("on");
    if (!chosen) return;
    for (const group of svg.current.querySelectorAll("g[data-path]"))
      if (group.dataset.path === chosen) group.classList.add("on");
  }, [drawing.svg, chosen]);
  const pointed = (kept) => (event) => {
    const group = event.target.closest?.("g[data-path]");
    const path = group && known(parts, group.dataset.path);
    if (path) on?.(path, kept);
    else if (kept) on?.(null, true);
  };
  const keys = (event) => {
    if (event.key === "Enter" || event.key === " ") pointed(true)(event);
    else if (event.key === "+" || event.key === "=") setZoom(zoom * STEP);
    else if (event.key === "-") setZoom(Math.max(1, zoom / STEP));
    else if (event.key === "0") setZoom(1);
    else if (event.key === "Escape") on?.(null, true);
    else return;
    event.preventDefault();
  };
  const wheel = (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    setZoom(Math.min(6, Math.max(1, zoom * (event.deltaY < 0 ? 1.1 : 1 / 1.1))));
  };
  return html`<div class="drawing-block">
    <div class="drawing">
      <div class="drawing-frame" ref=${frame} tabindex="0" role="group" aria-label=${`Drawing of ${name}; plus and minus zoom`}
        onPointerOver=${pointed(false)} onFocusIn=${pointed(false)} onClick=${pointed(true)} onKeyDown=${keys} onWheel=${wheel} ...${dragging(frame)}></div>
      <div class="drawing-tools">
        <button type="button" class="icon-button" aria-label="Zoom out" disabled=${zoom <= 1}
          onClick=${() => setZoom(Math.max(1, zoom / STEP))}><${Icon} name="minus" /></button>
        <button type="button" class="icon-button" aria-label="Fit the drawing" onClick=${() => setZoom(1)}><${Icon} name="fit" />
        </button>
        <button type="button" class="icon-button" aria-label="Zoom in" onClick=${() => setZoom(Math.min(6, zoom * STEP))}>
        <${Icon} name="plus" /></button>
      </div>
    </div>
    <div class="row drawing-copies">
      <${Doing} label=${`Copy the drawing of ${name} as SVG`}
        does=${async () => copyText(await standalone(svg.current), `${name}.svg`)}>Copy SVG<//>
      <${Doing} label=${`Copy the drawing of ${name} as PNG`}
        does=${async () => copyPng(await png(await standalone(svg.current)), `${name}.png`)}>Copy PNG<//>
      <${Doing} icon="drop" label=${`Save the drawing of ${name} as SVG`}
        does=${async () => save(new Blob([await standalone(svg.current)], { type: "image/svg+xml" }), `${name}.svg`)}>Save SVG<//>
    </div>
  </div>`;
}

/** Dragging with a mouse scrolls; fingers scroll by themselves. */
function dragging(frame) {
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
function mark(svg, marks = {}) {
  for (const element of svg.querySelectorAll(".whole, .detail")) element.classList.remove("whole", "detail");
  for (const group of svg.querySelectorAll("g[data-path]")) {
    const how = marks[group.dataset.path];
    const shape = how && group.querySelector(SHAPE);
    if (shape) shape.classList.add(how);
  }
}
