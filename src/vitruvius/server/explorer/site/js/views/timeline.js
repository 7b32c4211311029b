// The models by date: as points, each a link, with as many names as there is room for.
import { html, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { href, update } from "../route.js";
import { bytes, count, month, tokens } from "../format.js";
import { FACETS, chosen, filtered, months } from "../filters.js";
import { Field, Select } from "../parts/common.js";

const MEASURES = {
  parameters: ["parameters", "Parameters", count],
  active: ["active", "Active parameters", count],
  state: ["state_per_token", "State per token", bytes],
  context: ["context", "Context", tokens],
};
const KINDS = ["dense", "MoE", "hybrid dense", "hybrid MoE"];
const [LEFT, RIGHT, TOP, BOTTOM, HEIGHT, NARROWEST] = [64, 120, 20, 34, 820, 860];
const APART = 12; // two points of about one date and size
const [LETTER, LINE] = [6.4, 15]; // of a name's text, at most

export function Timeline({ index, query }) {
  const frame = useRef(null);
  const [width, setWidth] = useState(1100);
  useLayoutEffect(() => {
    const watching = new ResizeObserver(() => setWidth(Math.max(NARROWEST, frame.current.clientWidth)));
    watching.observe(frame.current);
    return () => watching.disconnect();
  }, []);
  const measure = query.y in MEASURES ? query.y : "parameters";
  const since = /^\d{4}$/.test(query.since ?? "") ? Number(query.since) : 2024;
  const dated = filtered(index.architectures, query).filter((card) => card.released);
  const cards = dated.filter((card) => Number(card.released.slice(0, 4)) >= since);
  const left = filtered(index.architectures, query).filter((card) => !card.released);
  const family = FACETS.find(({ key }) => key === "family");
  const families = [...new Set(index.architectures.flatMap(family.of))].filter(Boolean);
  return html`
    <div class="hero"><h1>Timeline</h1><p>How large open models became, and how little they remember.</p></div>
    <div class="bar">
      <${Field} label="Height"><${Select} value=${measure}
        options=${Object.entries(MEASURES).map(([key, [, label]]) => [key, label])} onChange=${(y) => update({ y })} /><//>
      <${Field} label="Since"><${Select} value=${since} options=${[2019, 2021, 2023, 2024, 2025].map((year) => [year, year])}
        onChange=${(year) => update({ since: year })} /><//>
      <${Field} label="Family"><${Select} value=${chosen(query, "family")[0] ?? ""}
        options=${[["", "all"], ...families.map((each) => [each, each])]} onChange=${(each) => update({ family: each })} /><//>
      <ul class="legend">${KINDS.map((kind, i) => html`<li><svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">
        <circle class=${`kind-${i}`} cx="6" cy="6" r="5" /></svg>${kind}</li>`)}</ul>
    </div>
    <div class="panel timeline" ref=${frame} tabindex="0" role="region" aria-label="Timeline, scrolls sideways">
      ${cards.length ? html`<${Points} cards=${cards} measure=${measure}
        width=${width} />` : html`<p class="empty">No dated model here.</p>`}
    </div>
    ${left.length > 0 && html`<p class="hint">
      Without a date:${" "}
      ${left.map((card, i) => html`${i > 0 && ", "}<a href=${href("model", [card.id])}>${card.name}</a>`)}
    </p>`}
  `;
}

function Points({ cards, measure, width }) {
  const [key, label, say] = MEASURES[measure];
  const { x, y, years, steps, points } = useMemo(() => laid(cards, key, width), [cards, key, width]);
  return html`<svg width=${width} height=${HEIGHT} viewBox=${`0 0 ${width} ${HEIGHT}`} role="group"
    aria-label=${`${label} by date`}>
    ${steps.map((value) => html`<g><line class="grid" x1=${LEFT} x2=${width - 8} y1=${y(value)} y2=${y(value)} />
      <text class="axis" x=${LEFT - 10} y=${y(value) + 4} text-anchor="end">${say(value)}</text></g>`)}
    ${years.map((year) => html`<g><line class="grid" x1=${x(year * 12)} x2=${x(year * 12)} y1=${TOP} y2=${HEIGHT - BOTTOM} />
      <text class="axis" x=${x(year * 12) + 5} y=${HEIGHT - 12}>${year}</text></g>`)}
    ${points.map(
      ({
        card,
        px,
        py,
        name,
      }) => html`<a key=${card.id} href=${href("model", [card.id])} class="point"
        aria-label=${`${card.name}, ${month(card.released)}, ${say(card[key])}`}>
        <title>${card.name}, ${month(card.released)}, ${say(card[key])}</title>
        <circle class=${`kind-${KINDS.indexOf(card.kind)}`} cx=${px} cy=${py} r="6" />
        ${name && html`<text x=${name.x} y=${name.y} text-anchor=${name.anchor}>${card.name}</text>`}
      </a>`,
    )}
  </svg>`;
}

function laid(cards, key, width) {
  const when = cards.map((card) => months(card.released));
  const values = cards.map((card) => Math.max(card[key], 1));
  const base = key === "context" || key === "state_per_token" ? 4 : 10;
  const [low, high] = [Math.min(...values) / 1.4, Math.max(...values) * 1.4].map(Math.log);
  const [from, to] = [Math.floor(Math.min(...when) / 12) * 12, Math.max(...when) + 1];
  const x = (at) => LEFT + ((at - from) / (to - from)) * (width - LEFT - RIGHT);
  const y = (value) => TOP + ((high - Math.log(value)) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const years = Array.from({ length: Math.floor((to - from) / 12) + 1 }, (_, i) => from / 12 + i);
  const steps = [];
  for (let power = Math.ceil(low / Math.log(base)); power <= high / Math.log(base); power += 1)
    steps.push(base ** power);
  const places = apart(when.map((at, i) => [x(at), y(values[i])]));
  const taken = places.map(([px, py]) => ({ left: px - 6, right: px + 6, top: py - 6, bottom: py + 6 }));
  const order = cards.map((_, i) => i).sort((a, b) => values[b] - values[a]);
  const names = {};
  for (const i of order) names[i] = named(cards[i].name, ...places[i], taken, width);
  return {
    x,
    y,
    years,
    steps,
    points: cards.map((card, i) => ({ card, px: places[i][0], py: places[i][1], name: names[i] })),
  };
}

/** The points, each beside those that it would hide. */
function apart(points) {
  const placed = [];
  for (const [x, y] of points) {
    let step = 0;
    const hides = ([a, b]) => Math.hypot(a - x - step * APART, b - y) < APART - 1;
    while (placed.some(hides)) step = step > 0 ? -step : 1 - step;
    placed.push([x + step * APART, y]);
  }
  return placed;
}

/** A place for a name beside its point where nothing is yet; null if there is none. */
function named(name, px, py, taken, width) {
  const long = name.length * LETTER;
  const places = [
    { x: px + 10, y: py + 4, anchor: "start", left: px + 8 },
    { x: px - 10, y: py + 4, anchor: "end", left: px - 10 - long },
    { x: px, y: py - 11, anchor: "middle", left: px - long / 2 },
    { x: px, y: py + 20, anchor: "middle", left: px - long / 2 },
  ];
  for (const place of places) {
    const box = { left: place.left, right: place.left + long, top: place.y - LINE + 4, bottom: place.y + 3 };
    const free =
      box.left > LEFT &&
      box.right < width &&
      box.top > 0 &&
      taken.every(
        (each) => box.left > each.right || box.right < each.left || box.top > each.bottom || box.bottom < each.top,
      );
    if (free) {
      taken.push(box);
      return place;
    }
  }
  return null;
}
