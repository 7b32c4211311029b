// Two to four architectures side by side: figures, what differs, the drawings with it highlighted, and the curves.
import { html, useMemo, useState } from "../html.js";
import { href, navigate, update } from "../route.js";
import { architecture, load, usePromise } from "../data.js";
import { bytes, count, grouped, month, tokens } from "../format.js";
import { differences, marked } from "../aspects.js";
import { Failure, Icon, modelOptions, Select, Strip } from "../parts/common.js";
import { Drawing } from "../parts/drawing.js";
import { Curves } from "../parts/curves.js";
import { Table } from "../parts/table.js";

const MOST = 4;
const FIRST = 24; // rows of differences that are shown at first
const LONG = 90; // characters of a value that are shown at once
const USUAL = "gemma-3-27b,mistral-small-3.1-24b";

export function Compare({ index, args, query }) {
  const ids = [...new Set((args[0] ?? USUAL).split(",").filter(Boolean))].slice(0, MOST);
  const { value, error } = usePromise(
    () => Promise.all([load("devices.json"), ...ids.map(architecture)]),
    [ids.join(",")],
  );
  const [devices, ...records] = value ?? [];
  return html`
    <div class="hero"><h1>Compare</h1><p>Two to four architectures, with what differs highlighted.</p></div>
    <${Chosen} ids=${ids} cards=${index.architectures} query=${query} />
    ${error && html`<${Failure} error=${error} />`}
    ${!value && !error && html`<p class="wait" role="status">Loading …</p>`}
    ${records.length > 0 && html`<${Comparison} records=${records} devices=${devices} query=${query} />`}
  `;
}

function Chosen({ ids, cards, query }) {
  const go = (next) => navigate(href("compare", [next.join(",")], query));
  const name = (id) => cards.find((card) => card.id === id)?.name ?? id;
  const left = cards.filter((card) => !ids.includes(card.id));
  return html`<div class="row chosen">
    ${ids.map(
      (id) =>
        html`<span class="chip" key=${id}>
          <a href=${href("model", [id])}>${name(id)}</a>${ids.length > 1 && html`<button type="button" class="icon-button"
            aria-label=${`Leave out ${name(id)}`} onClick=${() => go(ids.filter((each) => each !== id))}><${Icon} name="close" />
            </button>`}</span>`,
    )}
    ${ids.length < MOST && html`<${Select} aria-label="Add a model" value=""
      options=${[["", "+ add a model"], ...modelOptions(left)]} onChange=${(id) => id && go([...ids, id])} />`}
  </div>`;
}

function Comparison({ records, devices, query }) {
  const all = query.all === "1";
  const rows = useMemo(() => differences(records), [records]);
  const marks = useMemo(() => records.map((record, i) => marked(record, rows, i)), [records, rows]);
  return html`<article class="comparison">
    <${Figures} records=${records} />
    <section aria-label="Drawings">
      <div class="row spread"><h2>Drawings</h2>${records.length > 1 && html`<ul class="legend"><li>
        <span class="swatch mark-detail"></span>differs in a detail</li><li><span class="swatch mark-whole">
        </span>is something else, or not there, in another</li></ul>`}</div>
      <div class=${`drawings of-${records.length}`}>${records.map(
        (record, i) =>
          html`<div key=${record.id}><h3><a href=${href("model", [record.id])}>${record.name}</a></h3>
            <${Strip} strip=${record.strip} /><${Drawing} name=${record.name} drawing=${record.drawing} parts=${record.parts}
              marks=${marks[i]} least=${0.42} tallest=${0.7}
              on=${(path, kept) => kept && path && navigate(href("model", [record.id], { part: path }))} /></div>`,
      )}</div>
    </section>
    <${Aspects} records=${records} rows=${rows} all=${all} />
    <${Curves} records=${records} devices=${devices} query=${query} />
  </article>`;
}

/** Its beginning, and all of it on request. */
const Long = ({ text }) => html`<details class="long"><summary>${text.slice(0, text.lastIndexOf(" ", LONG))} …</summary>${text}</details>`;

const FIGURES = [
  ["Released", (r) => month(r.released) || "–"],
  ["Kind", (r) => r.kind],
  ["Sequence mixing", (r) => r.attention.join(", ")],
  ["Parameters", (r) => count(r.parameters), (r) => r.parameters],
  ["Active", (r) => count(r.active), (r) => r.active],
  ["Layers", (r) => grouped(r.layers), (r) => r.layers],
  ["Width", (r) => grouped(r.width), (r) => r.width],
  ["Context", (r) => tokens(r.context), (r) => r.context],
  ["State per token (bf16)", (r) => bytes(r.state_per_token), (r) => r.state_per_token],
  ...["32k", "128k"].map((name) => [
    `State at ${name}`,
    (r) => (r.state_at?.[name] ? bytes(r.state_at[name]) : "beyond its context"),
    (r) => r.state_at?.[name] ?? "",
  ]),
  ["State at full context", (r) => bytes(r.state_at_context), (r) => r.state_at_context],
];

function Figures({ records }) {
  return html`<section class="panel"><h2>In figures</h2>
    <${Table} name="figures">
      <thead><tr><th scope="col"></th>${records.map((record) => html`<th scope="col">${record.name}</th>`)}</tr></thead>
      <tbody>${FIGURES.map(
        ([label, said, value]) =>
          html`<tr>
            <th scope="row">${label}</th>
            ${records.map((record) => html`<td data-value=${(value ?? said)(record)}>${said(record)}</td>`)}
          </tr>`,
      )}</tbody>
    <//>
  </section>`;
}

function Aspects({ records, rows, all }) {
  const [more, setMore] = useState(false);
  const wanted = all
    ? rows
    : [...rows.filter((row) => row.differs)].sort((a, b) => a.values.includes("none") - b.values.includes("none"));
  const shown = more ? wanted : wanted.slice(0, FIRST);
  const differing = rows.filter((row) => row.differs).length;
  const caption =
    records.length > 1
      ? `${differing} of ${rows.length} properties differ`
      : `${rows.length} properties; add a model to see what differs`;
  return html`<section class="panel"><div class="row spread"><h2>What differs</h2>
      <label class="check"><input type="checkbox" checked=${all}
        onChange=${() => update({ all: all ? "" : "1" })} /> also what is equal</label></div>
    <${Table} name="differences" caption=${caption}>
      <thead><tr><th scope="col">Property</th>${records.map((record) => html`<th scope="col">${record.name}</th>`)}</tr></thead>
      <tbody>${shown.map(
        (row) =>
          html`<tr class=${row.differs && all ? "differs" : null}><th scope="row">
            <span class="hint">${row.section} · </span>${row.label}</th>
            ${row.values.map((value) => html`<td class=${value === "none" ? "hint" : null} data-value=${value}>
              ${value.length > LONG ? html`<${Long} text=${value} />` : value}</td>`)}</tr>`,
      )}</tbody>
    <//>
    ${shown.length < wanted.length && html`<p>
      <button type="button" class="small" onClick=${() => setMore(true)}>Show all ${wanted.length}</button></p>`}
  </section>`;
}
