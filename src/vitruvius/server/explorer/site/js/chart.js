// Charts: the descriptions of `vitruvius.views.charts`, drawn by Vega, which is loaded when the first is shown. Its
// expressions are interpreted, since the page's policy allows no `eval`.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { copyPng, copyText, png } from "./copy.js";
import { load } from "./data.js";
import { Doing, Failure } from "./parts/common.js";

let library = null;

function vega() {
  library ??= (async () => {
    await script("vendor/vega.min.js");
    await script("vendor/vega-lite.min.js");
    const { expressionInterpreter } = await import("../vendor/vega-interpreter.mjs");
    return { ...globalThis.vega, compile: globalThis.vegaLite.compile, interpreter: expressionInterpreter };
  })();
  return library;
}

function script(source) {
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = source;
    element.onload = resolve;
    element.onerror = () => reject(new Error(`${source} could not be loaded`));
    document.head.append(element);
  });
}

/** name: of the description; data: {rows: […], …}; about: what it shows, in words; unnamed: channels without a legend. */
export function Chart({ name, title, data, about, unnamed = [] }) {
  const place = useRef(null);
  const view = useRef(null);
  const latest = useRef(data);
  latest.current = data;
  const [error, fail] = useState(null);
  const [paint, repaint] = useState(0);
  useLayoutEffect(() => {
    const again = () => repaint((count) => count + 1);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    let width = place.current.clientWidth;
    const resized = new ResizeObserver(() => {
      if (Math.abs(place.current.clientWidth - width) < 2) return;
      width = place.current.clientWidth;
      again();
    });
    resized.observe(place.current);
    addEventListener("themechange", again);
    scheme.addEventListener("change", again);
    return () => {
      resized.disconnect();
      removeEventListener("themechange", again);
      scheme.removeEventListener("change", again);
    };
  }, []);
  useEffect(() => {
    let here = true;
    drawn({ name, about, unnamed }, place.current, latest.current).then(
      (made) => {
        if (!here) return made.finalize();
        view.current?.finalize();
        view.current = made;
      },
      (problem) => here && fail(problem),
    );
    return () => {
      here = false;
    };
  }, [name, paint]);
  useEffect(() => {
    const made = view.current;
    if (!made) return;
    for (const [set, rows] of Object.entries(data)) made.data(set, rows);
    made.runAsync();
  }, [data]);
  useEffect(() => () => view.current?.finalize(), []);
  const svg = () => view.current.toSVG();
  return html`<figure class="panel chart-panel">
    <div class="row spread">
      <h3>${title}</h3>
      <span class="row">
        <${Doing} label=${`Copy the chart ${title} as SVG`} does=${async () => copyText(await svg(), `${title}.svg`)}>SVG<//>
        <${Doing} label=${`Copy the chart ${title} as PNG`}
          does=${async () => copyPng(await png(await svg()), `${title}.png`)}>PNG<//>
      </span>
    </div>
    ${error && html`<${Failure} error=${error} />`}
    <div class="chart" ref=${place}></div>
    <figcaption class="hint">${about}</figcaption>
  </figure>`;
}

async function drawn({ name, about, unnamed }, place, data) {
  const [{ compile, interpreter, ...v }, specs] = await Promise.all([vega(), load("charts.json")]);
  if (!(name in specs)) throw new Error(`there is no chart “${name}”`);
  const spec = structuredClone(specs[name]);
  for (const channel of unnamed) spec.encoding[channel].legend = null;
  const { vgSpec } = compilation(compile, spec, about, place.clientWidth);
  const made = new v.View(v.parse(vgSpec, null, { ast: true }), { renderer: "svg", expr: interpreter, hover: true });
  for (const [set, rows] of Object.entries(data)) made.data(set, rows);
  made.tooltip(tip);
  await made.runAsync();
  place.replaceChildren();
  made.initialize(place);
  return made.runAsync();
}

function compilation(compile, { title, ...spec }, about, width) {
  const paint = getComputedStyle(document.documentElement);
  const colour = (variable) => paint.getPropertyValue(variable).trim();
  const text = {
    labelColor: colour("--muted"),
    titleColor: colour("--ink"),
    gridColor: colour("--edge"),
    labelFontSize: 12,
    labelOverlap: "greedy",
    labelSeparation: 6,
  };
  const base = spec.config;
  const config = {
    ...base,
    font: "Inter, system-ui, sans-serif",
    background: colour("--raised"),
    padding: { left: 4, right: 12, top: 8, bottom: 4 },
    axis: { ...base.axis, ...text },
    legend: { ...base.legend, ...text, columns: width < 480 ? 1 : 4 },
    text: { ...base.text, color: colour("--ink") },
  };
  const autosize = { type: "fit-x", contains: "padding" };
  const { spec: vgSpec } = compile({ ...spec, width, autosize, description: about, config }, { logger: quiet });
  return { vgSpec };
}

const quiet = {
  level: () => quiet,
  warn: () => quiet,
  info: () => quiet,
  debug: () => quiet,
  error: (...said) => (console.error(...said), quiet),
};

// A tooltip of text only: names of models are shown, never taken for markup.
let bubble = null;

function tip(handler, event, item, value) {
  bubble?.remove();
  bubble = null;
  if (!value) return;
  bubble = document.createElement("div");
  bubble.className = "chart-tip";
  const list = bubble.appendChild(document.createElement("dl"));
  for (const [term, said] of Object.entries(value)) {
    list.appendChild(document.createElement("dt")).textContent = term;
    list.appendChild(document.createElement("dd")).textContent = said;
  }
  document.body.append(bubble);
  bubble.style.left = `${Math.min(event.clientX + 14, innerWidth - bubble.offsetWidth - 8)}px`;
  bubble.style.top = `${Math.min(event.clientY + 14, innerHeight - bubble.offsetHeight - 8)}px`;
}
