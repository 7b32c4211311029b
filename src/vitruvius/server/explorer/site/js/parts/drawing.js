// A drawing in the page: its parts can be pointed at, walked through with the arrow keys and chosen; it zooms where the
// pointer is, fills the screen, and scrolls where it is larger.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { copyPng, copyText, png, save, standalone } from "../copy.js";
import { Doing, Icon } from "./common.js";
import { dragging, known, mark, near, parsed, roving } from "./svg.js";

const STEP = 1.3;
const LARGEST = 6; // times the size that fits
const RESTS = 90; // milliseconds after which a pointer points at what is below it

/**
 * drawing: {svg, width, height}; parts: what is known by path; on(path, kept) is told what is pointed at (kept: chosen);
 * chosen: the path that is chosen; marks: {path: "whole" | "detail"} to highlight; tallest: of the window's height;
 * fold: {on, set}: whether the insides are folded away, and what is told otherwise;
 * least: the scale below which its text, of at least 11 px, could not be read.
 */
export function Drawing({ name, drawing, parts, on, chosen, marks, fold, tallest = 0.82, least = innerWidth < 700 ? 0.75 : 1 }) {
  const block = useRef(null);
  const frame = useRef(null);
  const svg = useRef(null);
  const at = useRef(null); // the point that stays where it is when the zoom changes
  const resting = useRef(0);
  const [zoom, setZoom] = useState(1);
  const [full, setFull] = useState(false);
  useLayoutEffect(() => {
    svg.current = parsed(drawing.svg, parts);
    frame.current.replaceChildren(svg.current);
  }, [drawing.svg]);
  useLayoutEffect(() => {
    const lay = () => {
      const { clientWidth: room, clientHeight: high } = frame.current;
      const fits = full ? Math.min(room / drawing.width, high / drawing.height) : room / drawing.width;
      const scale = full ? fits : Math.max(least, Math.min(fits, 1.15));
      const before = svg.current.getBoundingClientRect().width;
      const width = drawing.width * scale * zoom;
      svg.current.style.width = `${width}px`;
      svg.current.style.height = `${(width / drawing.width) * drawing.height}px`;
      frame.current.style.maxHeight = zoom > 1 && !full ? `${innerHeight * tallest}px` : "";
      if (at.current && before) {
        const { x, y } = at.current;
        frame.current.scrollLeft = ((frame.current.scrollLeft + x) * width) / before - x;
        frame.current.scrollTop = ((frame.current.scrollTop + y) * width) / before - y;
        at.current = null;
      }
    };
    lay();
    const watching = new ResizeObserver(lay);
    watching.observe(frame.current);
    return () => watching.disconnect();
  }, [drawing, zoom, full]);
  useEffect(() => mark(svg.current, marks), [drawing.svg, marks]);
  useEffect(() => {
    for (const group of svg.current.querySelectorAll("g.on")) group.classList.remove("on");
    if (!chosen) return;
    for (const group of svg.current.querySelectorAll("g[data-path]"))
      if (group.dataset.path === chosen) group.classList.add("on");
  }, [drawing.svg, chosen]);
  useEffect(() => {
    const left = () => !document.fullscreenElement && setFull(false);
    document.addEventListener("fullscreenchange", left);
    return () => document.removeEventListener("fullscreenchange", left);
  }, []);
  useEffect(() => () => clearTimeout(resting.current), []);
  const path = (event) => {
    const group = event.target.closest?.("g[data-path]");
    return group && known(parts, group.dataset.path);
  };
  const point = (event) => {
    const here = path(event);
    clearTimeout(resting.current);
    if (here) resting.current = setTimeout(() => on?.(here, false), event.type === "focusin" ? 0 : RESTS);
  };
  const choose = (event) => on?.(path(event) || null, true);
  /** Zooms about a point of the frame, its middle if none is given. */
  const magnify = (factor, x = frame.current.clientWidth / 2, y = frame.current.clientHeight / 2) => {
    const next = Math.min(LARGEST, Math.max(1, zoom * factor));
    if (next === zoom) return;
    at.current = { x, y };
    setZoom(next);
  };
  const fill = async () => {
    setZoom(1);
    if (full) {
      if (document.fullscreenElement) await document.exitFullscreen();
      setFull(false);
      return;
    }
    setFull(true); // over the page at least, where a browser grants no more
    await block.current.requestFullscreen?.().catch(() => {});
  };
  const keys = (event) => {
    const [forwards, across] = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key] ?? [];
    if (forwards !== undefined) near(svg.current, event.target, forwards, across)?.focus();
    else if (event.key === "Enter" || event.key === " ") choose(event);
    else if (event.key === "+" || event.key === "=") magnify(STEP);
    else if (event.key === "-") magnify(1 / STEP);
    else if (event.key === "0") setZoom(1);
    else if (event.key === "f") fill();
    else if (event.key === "Escape") full && !document.fullscreenElement ? setFull(false) : on?.(null, true);
    else return;
    event.preventDefault();
  };
  const wheel = (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = frame.current.getBoundingClientRect();
    magnify(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - box.left, event.clientY - box.top);
  };
  useEffect(() => {
    const target = frame.current;
    target.addEventListener("wheel", wheel, { passive: false }); // a passive one could not keep the page from zooming
    return () => target.removeEventListener("wheel", wheel);
  });
  return html`<div class="drawing-block">
    <div class=${full ? "drawing full" : "drawing"} ref=${block}>
      <div class="drawing-frame" ref=${frame} role="group"
        aria-label=${`Drawing of ${name}: arrow keys walk through its parts, plus and minus zoom, f fills the screen`}
        onPointerOver=${point} onPointerLeave=${() => clearTimeout(resting.current)}
        onFocusIn=${(event) => (roving(svg.current, event.target), point(event))}
        onClick=${choose} onKeyDown=${keys} ...${dragging(frame)}></div>
      <div class="drawing-tools">
        ${fold && html`<button type="button" class="icon-button" aria-pressed=${fold.on} onClick=${() => fold.set(!fold.on)}
          aria-label=${fold.on ? "Show the insides" : "Fold the insides"} title=${fold.on ? "Show the insides" : "Fold the insides"}>
          <${Icon} name=${fold.on ? "unfold" : "fold"} /></button>`}
        <button type="button" class="icon-button" aria-label="Zoom out" disabled=${zoom <= 1}
          onClick=${() => magnify(1 / STEP)}><${Icon} name="minus" /></button>
        <button type="button" class="icon-button" aria-label="Zoom in" disabled=${zoom >= LARGEST}
          onClick=${() => magnify(STEP)}><${Icon} name="plus" /></button>
        <button type="button" class="icon-button" aria-label=${full ? "Leave full screen" : "Full screen"} aria-pressed=${full}
          onClick=${fill}><${Icon} name=${full ? "close" : "fit"} /></button>
      </div>
    </div>
    <div class="row drawing-copies">
      <${Doing} label=${`Copy SVG of the drawing of ${name}`}
        does=${async () => copyText(await standalone(svg.current), `${name}.svg`)}>Copy SVG<//>
      <${Doing} label=${`Copy PNG of the drawing of ${name}`}
        does=${async () => copyPng(await png(await standalone(svg.current)), `${name}.png`)}>Copy PNG<//>
      <${Doing} icon="drop" label=${`Save SVG of the drawing of ${name}`}
        does=${async () => save(new Blob([await standalone(svg.current)], { type: "image/svg+xml" }), `${name}.svg`)}>Save SVG<//>
    </div>
  </div>`;
}
