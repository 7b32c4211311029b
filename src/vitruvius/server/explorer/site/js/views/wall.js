// The wall: every architecture as a card, to be searched, filtered, sorted and picked for a comparison.
import { html, useEffect, useMemo, useRef } from "../html.js";
import { load, usePromise } from "../data.js";
import { href, update } from "../route.js";
import { FACETS, RANGES, SORT, SORTS, chosen, filtered, limits, sorted } from "../filters.js";
import { byline, Field, figures, Icon, Select, Strip } from "../parts/common.js";

const MOST = 4; // models side by side

export function Wall({ index, query }) {
  const cards = index.architectures;
  const { value: search } = usePromise(async () => (query.q ? load("search.json") : null), [Boolean(query.q)]);
  const shown = useMemo(() => sorted(filtered(cards, query, null, search), query.sort), [cards, query, search]);
  const picked = chosen(query, "pick").filter((id) => cards.some((card) => card.id === id));
  const active = [...FACETS, ...RANGES].filter(({ key }) => query[key]).length;
  return html`
    <div class="hero">
      <h1>Open LLM architectures</h1>
      <p>${cards.length} models, each from one short definition: its drawing, exact size, cost and what changed since the last one.</p>
    </div>
    <div class="bar" role="search">
      <${Search} value=${query.q} />
      <${Field} label="Sort"><${Select} value=${query.sort ?? SORT} options=${SORTS}
        onChange=${(sort) => update({ sort: sort === SORT ? "" : sort })} /><//>
      <p class="found" role="status">${shown.length === cards.length ? `${cards.length} models` : `${shown.length} of ${cards.length} models`}</p>
    </div>
    <div class="wall">
      <${Filters} cards=${cards} query=${query} search=${search} active=${active} />
      <section aria-label="Architectures">
        ${
          shown.length
            ? html`<ul class="cards">${shown.map((card, i) => html`<${Card} key=${card.id} card=${card} picked=${picked}
              eager=${i < 6} />`)}</ul>`
            : html`<p class="empty">Nothing fits all of that. <button type="button" class="link"
              onClick=${clear}>Clear the filters</button></p>`
        }
      </section>
    </div>
    ${picked.length > 0 && html`<${Tray} picked=${picked} cards=${cards} />`}
  `;
}

function clear() {
  update(Object.fromEntries([...FACETS, ...RANGES, { key: "q" }].map(({ key }) => [key, ""])));
}

function Search({ value = "" }) {
  const input = useRef(null);
  useEffect(() => {
    const focus = (event) => {
      if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      event.preventDefault();
      input.current.focus();
    };
    addEventListener("keydown", focus);
    return () => removeEventListener("keydown", focus);
  }, []);
  return html`<label class="search">
    <${Icon} name="search" /><span class="hidden">Search models</span>
    <input ref=${input} type="search" placeholder="Search: nope, yarn, 128 experts, 2025 …" value=${value}
      onInput=${(event) => update({ q: event.target.value })} />
    <kbd aria-hidden="true">/</kbd>
  </label>`;
}

function Card({ card, picked, eager }) {
  const on = picked.includes(card.id);
  const pick = () => update({ pick: (on ? picked.filter((id) => id !== card.id) : [...picked, card.id]).join(",") });
  return html`<li class=${on ? "card picked" : "card"}>
    <a class="card-link" href=${href("model", [card.id])}>
      <${Thumbnail} card=${card} eager=${eager} />
      <h2>${card.name}</h2>
    </a>
    <p class="byline">${byline(card)}${card.unconfirmed && html` <abbr title="A value of its config is not confirmed by the vendor's own file">‡</abbr>`}</p>
    <dl class="figures">${figures(card).map(([label, value, about]) => html`<div title=${about}><dt>${label}</dt><dd>${value}</dd>
      </div>`)}</dl>
    <${Strip} strip=${card.strip} />
    <p class="tags"><span class="tag kind">${card.kind}</span>${card.attention.map((name) => html`<span class="tag">${name}</span>`)}</p>
    <label class="pick"><input type="checkbox" checked=${on} disabled=${!on && picked.length >= MOST}
      onChange=${pick} /> Compare<span class="hidden"> ${card.name}</span></label>
  </li>`;
}

function Thumbnail({ card, eager }) {
  if (card.id.includes(":")) return html`<span class="thumb thumb-none">yours</span>`;
  return html`<img class="thumb" src=${`data/thumbs/${encodeURIComponent(card.id)}.svg`} loading=${eager ? "eager" : "lazy"}
    decoding="async" alt="" width="300" height="190" />`;
}

function Tray({ picked, cards }) {
  const name = (id) => cards.find((card) => card.id === id).name;
  return html`<aside class="tray" aria-label="Picked for comparing">
    <ul>${picked.map(
      (id) =>
        html`<li>${name(id)} <button type="button" class="icon-button" aria-label=${`Leave out ${name(id)}`}
          onClick=${() => update({ pick: picked.filter((each) => each !== id).join(",") })}><${Icon} name="close" /></button>
          </li>`,
    )}</ul>
    ${
      picked.length > 1
        ? html`<a class="button" href=${href("compare", [picked.join(",")])}>Compare ${picked.length} <${Icon} name="arrow" />
          </a>`
        : html`<span class="hint">pick one more</span>`
    }
  </aside>`;
}

function Filters({ cards, query, search, active }) {
  const wide = matchMedia("(min-width: 64rem)").matches;
  const facet = (each) => html`<${Facet} key=${each.key} facet=${each} cards=${cards} query=${query} search=${search} />`;
  return html`<details class="filters" open=${wide}>
    <summary><${Icon} name="filter" /> Filters${active > 0 && html` <span class="badge">${active}</span>`}</summary>
    <div class="filters-inside">
      ${FACETS.slice(0, 2).map(facet)}
      ${RANGES.map((range) => html`<${Range} key=${range.key} range=${range} cards=${cards} query=${query} />`)}
      ${FACETS.slice(2).map(facet)}
      ${active > 0 && html`<button type="button" class="small" onClick=${clear}>Clear all</button>`}
    </div>
  </details>`;
}

function Facet({ facet, cards, query, search }) {
  const { key, label, of, long } = facet;
  const on = chosen(query, key);
  const left = filtered(cards, query, key === "features" ? null : key, search);
  const values = [...new Set(cards.flatMap(of))]
    .filter(Boolean)
    .sort((a, b) => a.localeCompare(b, "en", { sensitivity: "base" }));
  const toggle = (value) =>
    update({ [key]: (on.includes(value) ? on.filter((each) => each !== value) : [...on, value]).join(",") });
  const boxes = values.map((value) => {
    const many = left.filter((card) => of(card).includes(value)).length;
    return html`<label class=${many || on.includes(value) ? "check" : "check none"}>
      <input type="checkbox" checked=${on.includes(value)} onChange=${() => toggle(value)} /><span>${value}</span>
      <span class="many">${many}</span>
    </label>`;
  });
  if (!long) return html`<fieldset class="facet"><legend>${label}</legend>${boxes}</fieldset>`;
  return html`<details class="facet" open=${on.length > 0}>
    <summary>${label}${on.length > 0 && html` <span class="badge">${on.length}</span>`}</summary>${boxes}</details>`;
}

const STEPS = 60;

function Range({ range, cards, query }) {
  const { key, label, of, say, linear } = range;
  const values = cards.map(of).filter((value) => value !== null);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const [low, high] = limits(query, key);
  const steps = linear ? most - least : STEPS;
  const value = (step) => (linear ? least + step : least * (most / least) ** (step / steps));
  const step = (at) => Math.round(linear ? at - least : (Math.log(at / least) / Math.log(most / least)) * steps);
  const [from, to] = [low === null ? 0 : step(low), high === null ? steps : step(high)];
  const set = (a, b) => {
    const said = (at) => String(linear ? value(at) : Number(value(at).toPrecision(4)));
    const ends = [a <= 0 ? "" : said(a), b >= steps ? "" : said(b)];
    update({ [key]: ends.some(Boolean) ? ends.join("..") : "" });
  };
  const slider = (name, at, onInput) =>
    html`<input type="range" min="0" max=${steps} value=${at} aria-label=${`${label}, ${name}`} aria-valuetext=${say(value(at))}
      onInput=${onInput} />`;
  return html`<fieldset class="facet range">
    <legend>${label}</legend>
    <p class="extent">${say(low ?? least)} – ${say(high ?? most)}</p>
    <div class="double">
      <span class="double-track"><span style=${{ left: `${(from / steps) * 100}%`, right: `${(1 - to / steps) * 100}%` }}></span>
      </span>
      ${slider("at least", from, (event) => set(Math.min(Number(event.target.value), to), to))}
      ${slider("at most", to, (event) => set(from, Math.max(Number(event.target.value), from)))}
    </div>
  </fieldset>`;
}
