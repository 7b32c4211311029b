// One architecture: its drawing and everything that is known about it.
import { html, useEffect, useState } from "../html.js";
import { href, update } from "../route.js";
import { architecture, load, usePromise } from "../data.js";
import { bytes, count, grouped, percent, prefixed, tokens } from "../format.js";
import { copyText } from "../copy.js";
import { byline, Doing, Failure, figures, kindClass } from "../parts/common.js";
import { Drawing } from "../parts/drawing.js";
import { Change, useChanged } from "../parts/change.js";
import { Learn } from "../parts/learn.js";
import { policyName } from "../parts/settings.js";
import { Inspector } from "../parts/inspector.js";
import { Share, Table } from "../parts/table.js";

export function Architecture({ index, args, query }) {
  const [id = ""] = args;
  const { value: record, error } = usePromise(() => architecture(id), [id]);
  useEffect(() => {
    if (record) document.title = `${record.name} · Vitruvius`;
  }, [record]);
  if (error) return html`<${Failure} error=${error} />`;
  if (!record) return html`<p class="wait" role="status">Loading …</p>`;
  return html`<${Page} key=${id} record=${record} index=${index} query=${query} />`;
}

function Page({ record, index, query }) {
  const { part: chosen, change } = query;
  const [pointed, point] = useState(null);
  const state = useChanged(index.served && record.boxes?.length ? index.api : null, record.id, change);
  const shown = (change && state.value) || record;
  const on = (path, kept) => (kept ? update({ part: path === chosen ? "" : path }) : point(path));
  const leave = () => update({ part: "" });
  return html`<article>
    <${Head} record=${record} />
    ${index.served && record.boxes?.length > 0 && html`<${Change} record=${record} state=${state} text=${change} />`}
    <section class="drawing-and-part" aria-label="Drawing">
      <${Drawing} name=${shown.name} drawing=${query.fold && shown.folded ? shown.folded : shown.drawing}
        parts=${shown.parts} on=${on} chosen=${chosen}
        fold=${shown.folded && { on: Boolean(query.fold), set: (on) => update({ fold: on ? "1" : "" }) }} />
      <${Inspector} record=${shown} path=${chosen ?? pointed} chosen=${chosen} leave=${leave} />
    </section>
    <${Learn} record=${shown} served=${index.served} show=${(path) => {
      update({ part: path });
      document.querySelector(".drawing-and-part")?.scrollIntoView({ behavior: "smooth" });
    }} />
    <${Layers} record=${record} on=${(path) => update({ part: path })} />
    <div class="two">
      <${Parts} record=${record} />
      <${State} record=${record} />
    </div>
    <${Relatives} record=${record} cards=${index.architectures} />
    <section class="panel"><h2>The definition</h2>
      <pre class="code tree" tabindex="0" aria-label="The architecture as text">${record.tables.tree}</pre>
      <details class="more"><summary>Source code, <code>${record.source.module}</code></summary>
        <${CopyCode} name="source.py" text=${record.source.code} />
      </details>
      <details class="more"><summary>Config that it was read from</summary>
        <${CopyCode} name="config.json" text=${JSON.stringify(record.config, null, 2)} />
      </details>
    </section>
    ${record.origins && html`<${Origins} name=${record.name} origins=${record.origins} />`}
  </article>`;
}

function Head({ record }) {
  const repository = record.origins?.repository;
  const told = [
    ...figures(record),
    ...Object.entries(record.state_at ?? {})
      .filter(([, value]) => value !== null)
      .map(([name, value]) => [`State at ${name}`, bytes(value), `KV cache and other state of one sequence of ${name} tokens, in bf16`]),
    ["Layers", grouped(record.layers)],
    ["Width", grouped(record.width)],
    ["Vocabulary", grouped(record.vocabulary)],
    ...(record.experts ? [["Experts", grouped(record.experts)]] : []),
  ];
  return html`<header class="model-head">
    <div>
      <p class="byline">${byline(record)}${record.license && ` · ${record.license}`}</p>
      <h1>${record.name}</h1>
      <p class="tags">
        <span class="tag kind">${record.kind}</span>
        ${[...record.attention, ...record.features].map((name) => html`<span class="tag">${name}</span>`)}
      </p>
    </div>
    ${record.news && html`<p class="news"><strong>New here</strong> after <a
      href=${href("model", [record.news.after])}>${record.news.name}</a>: ${record.news.label}</p>`}
    <dl class="figures">
      ${told.map(([label, value, about]) => html`<div title=${about}><dt>${label}</dt><dd>${value}</dd></div>`)}
    </dl>
    <p class="row">
      <a class="button" href=${href("fit", [record.id])}>Will it fit?</a>
      <a class="small" href=${href("compare", [record.id])}>Compare with …</a>
      ${repository && html`<a class="small" href=${`https://huggingface.co/${repository}`} rel="noreferrer">${repository}</a>`}
    </p>
    ${record.ignored?.length > 0 && html`<p class="note">
      Keys of the config that are not known here and were left out:${" "}
      ${record.ignored.map((key, i) => html`${i > 0 && ", "}<code>${key}</code>`)}
    </p>`}
    ${record.undetermined?.length > 0 && html`<p class="note">What the header alone does not say: ${record.undetermined.join("; ")}</p>`}
  </header>`;
}

function Layers({ record, on }) {
  const { summary, runs, kinds } = record.layers_in_order;
  const all = runs.reduce((sum, [, many]) => sum + many, 0);
  const kindOf = runs.flatMap(([kind, many]) => Array(many).fill(kind));
  return html`<section class="panel" aria-labelledby="layers-title">
    <h2 id="layers-title">${grouped(all)} layers in order</h2>
    <p class="panel-lead">From the first, on the left: ${summary}</p>
    <svg class="strip tall" viewBox=${`0 0 ${all} 1`} preserveAspectRatio="none" role="img"
      aria-label=${`The layers in order: ${summary}`}>
      ${kindOf.map((kind, i) => html`<rect class=${kindClass(kind)} x=${i + 0.04} y="0" width="0.92" height="1"
        onClick=${() => on(kinds[kind].path)}><title>layer ${i}: ${kinds[kind].name}</title></rect>`)}
    </svg>
    <ul class="kinds">${kinds.map(
      (kind, i) => html`<li>
        <svg class="swatch" viewBox="0 0 1 1" aria-hidden="true"><rect class=${kindClass(i)} width="1" height="1" /></svg>
        <div><button type="button" class="link" onClick=${() => on(kind.path)}>${kind.layers.length} × ${kind.name}</button> <span class="hint">${ranges(kind.layers)}</span>
        <p class="hint">${kind.about}</p></div>
      </li>`,
    )}</ul>
  </section>`;
}

/** [0, 1, 2, 5] → "0–2, 5", at most a dozen. */
function ranges(numbers) {
  const found = [];
  for (const each of numbers) {
    if (found.length && found.at(-1)[1] === each - 1) found.at(-1)[1] = each;
    else found.push([each, each]);
  }
  const said = found.slice(0, 12).map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`));
  return said.join(", ") + (found.length > 12 ? ", …" : "");
}

function Parts({ record }) {
  const { parameters, flops } = record.cost;
  const names = [
    ...new Set([
      ...Object.keys(parameters.by_part),
      ...Object.keys(flops.by_part.decode_per_token),
      ...Object.keys(flops.by_part.prefill),
    ]),
  ];
  const row = (name, weights, decode, prefill, total) => html`<tr class=${total ? "total" : null}>
    <th scope="row">${name}</th>
    <td class="number" data-value=${weights ?? ""} title=${weights ? grouped(weights) : ""}>${weights ? count(weights) : ""}</td>
    ${total ? html`<td></td>` : html`<${Share} share=${(weights ?? 0) / parameters.total}
      label=${weights ? percent(weights / parameters.total) : ""} />`}
    <td class="number" data-value=${decode ?? ""}>${decode ? prefixed(decode, "FLOP") : ""}</td>
    <td class="number" data-value=${prefill ?? ""}>${prefill ? prefixed(prefill, "FLOP") : ""}</td>
  </tr>`;
  return html`<section class="panel"><h2>What it is made of</h2>
    <${Table} name=${`${record.name}: parts`} caption=${`exact; FLOPs at ${tokens(record.cost.state.context)} tokens of context`}>
      <thead><tr><th scope="col">Part</th><th scope="col" class="number">Parameters</th><th scope="col">
      <span class="hidden">Share</span></th><th scope="col" class="number">Decode, one token</th>
      <th scope="col" class="number">Prefill</th></tr></thead>
      <tbody>
        ${names.map((name) => row(name, parameters.by_part[name], flops.by_part.decode_per_token[name], flops.by_part.prefill[name]))}
        ${row("total", parameters.total, flops.decode_per_token, flops.prefill, true)}
      </tbody>
    <//>
  </section>`;
}

function State({ record }) {
  const { state, memory } = record.cost;
  const most = Math.max(...Object.values(state.policies), memory.weights_bytes);
  const row = (name, value) =>
    html`<tr><th scope="row">${name}</th><td class="number" data-value=${value}
      title=${`${grouped(value)} bytes`}>${bytes(value)}</td><${Share} share=${value / most} label=${percent(value / most)} />
      </tr>`;
  return html`<section class="panel"><h2>What it must hold</h2>
    <${Table} name=${`${record.name}: memory`} caption=${`bf16, one sequence of ${tokens(state.context)} tokens: weights and the least state exact, the rest by each engine’s rules`}>
      <thead><tr><th scope="col">Held</th><th scope="col" class="number">Bytes</th><th scope="col">
      <span class="hidden">Share</span></th></tr></thead>
      <tbody>
        ${row("weights", memory.weights_bytes)}
        ${Object.entries(state.policies).map(([name, value]) => row(name === "minimum" ? "state, at least" : `state in ${policyName(name)}`, value))}
      </tbody>
    <//>
  </section>`;
}

function Relatives({ record, cards }) {
  const { value: lineage } = usePromise(() => load("lineage.json"), []);
  const from = lineage?.edges.filter((edge) => edge.to === record.id) ?? [];
  const to = lineage?.edges.filter((edge) => edge.from === record.id) ?? [];
  if (!from.length && !to.length) return null;
  const name = (id) => cards.find((card) => card.id === id)?.name ?? id;
  const item = (edge, other, word) => html`<li>
    <span class="hint">${word}</span> <a href=${href("model", [other])}>${name(other)}</a>
    <span class="hint"> · ${edge.label}</span>
    <a class="small" href=${href("compare", [`${edge.from},${edge.to}`])}>Compare</a>
  </li>`;
  return html`<section class="panel"><h2>Where it comes from</h2>
    <ul class="relatives">${from.map((edge) => item(edge, edge.from, "after"))}${to.map((edge) => item(edge, edge.to, "before"))}</ul>
  </section>`;
}

const CopyCode = ({ name, text }) =>
  html`<div class="copy-code"><${Doing} does=${() => copyText(text, name)}>Copy<//><pre class="code" tabindex="0">${text}</pre>
    </div>`;

function Origins({ name, origins }) {
  return html`<section class="panel"><h2>Where the figures come from</h2>
    <div class="origins"><${Table} name=${`${name}: where the figures come from`}>
      <tbody>${origins.figures.map((figure) => html`<tr><th scope="row">${figure.what}</th>
        <td class="number">${figure.value}</td><td class="origin">${figure.origin}</td></tr>`)}</tbody>
    <//></div>
    ${origins.note && html`<p class="hint">${origins.note}</p>`}
    ${origins.unconfirmed.length > 0 && html`<p class="note">Not confirmed by the vendor's own file: ${origins.unconfirmed.join("; ")}</p>`}
    <ul class="sources">${origins.sources.map((source) => html`<li>${source}</li>`)}</ul>
  </section>`;
}
