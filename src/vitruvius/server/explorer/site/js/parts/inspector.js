// What is known about one part of a drawing: equation, shapes, parameters, its share of the work, its paper.
import { html } from "../html.js";
import { count, grouped, percent, prefixed, tokens } from "../format.js";
import { Icon } from "./common.js";
import { Table } from "./table.js";

export function Inspector({ record, path, chosen, leave }) {
  const part = path && record.parts[path];
  if (!part)
    return html`<aside class="panel inspector idle" aria-label="About the part">
      <p class="hint">Point at a part of the drawing, or walk through them with the arrow keys. Click or Enter keeps it.</p>
      <${Colours} /></aside>`;
  const kind = record.kinds[part.kind];
  const equation = part.equation;
  const several = part.layers > 1;
  return html`<aside class=${chosen ? "panel inspector kept" : "panel inspector"} aria-label="About the part" aria-live="polite">
    <div class="row spread head-row">
      <h2>${sentence(part.title)}</h2>
      ${chosen && html`<button type="button" class="icon-button" aria-label="Let go of this part" onClick=${leave}>
        <${Icon} name="close" /></button>`}
    </div>
    <p class="path"><code>${path}</code></p>
    ${equation && html`<p class="equation">${equation}</p><${Symbols} of=${part.symbols} />`}
    ${part.facts.length > 0 && html`<ul class="facts">${part.facts.map((fact) => html`<li>${fact}</li>`)}</ul>`}
    ${
      (part.parameters > 0 || part.flops > 0) &&
      html`<dl class="figures">
      <div><dt>Parameters${several && ", one layer"}</dt><dd title=${grouped(part.parameters)}>${count(part.parameters)}</dd>
      </div>
      ${part.share !== null && html`<div><dt>of the model${several && `, ${part.layers} layers`}</dt>
        <dd>${percent(part.share)}</dd></div>`}
      <div><dt>FLOPs of a token${several && ", one layer"}</dt><dd>${prefixed(part.flops, "FLOP")}</dd></div>
      ${part.flops_share !== null && html`<div><dt>of the work at ${tokens(record.parts_context)}</dt>
        <dd>${percent(part.flops_share)}</dd></div>`}
    </dl>`
    }
    ${
      part.tensors.length > 0 &&
      html`<div class="tensors"><${Table} name=${`weights of ${path}`}>
      <thead><tr><th scope="col">Weight</th><th scope="col">Shape</th></tr></thead>
      <tbody>${part.tensors.map((tensor) => html`<tr><td><code>${tensor.name}</code></td>
        <td title=${tensor.axes}>${tensor.shape.map(grouped).join(" × ")}</td></tr>`)}</tbody>
    <//></div>`
    }
    ${kind?.forward && html`<${Forward} of=${kind.forward} />`}
    ${kind && html`<p class="about">${kind.about}</p>`}
    ${kind?.papers.length > 0 && html`<p class="row">${kind.papers.map((id) => html`<a class="small"
      href=${`https://arxiv.org/abs/${id}`} rel="noreferrer">arXiv ${id}</a>`)}</p>`}
  </aside>`;
}

/** What the letters of an equation mean. */
export const Symbols = ({ of = {} }) =>
  Object.keys(of).length > 0 &&
  html`<dl class="symbols">${Object.entries(of).map(([letter, meaning]) => html`<div><dt>${letter}</dt><dd>${meaning}</dd></div>`)}
  </dl>`;

/** The lines of PyTorch that compute it. */
export const Forward = ({ of, open }) =>
  html`<details class="forward" open=${open}><summary>In PyTorch, <code>vitruvius/${of.file}</code></summary>
    <pre class="code" tabindex="0">${of.code}</pre></details>`;

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const Colours = () => html`<ul class="legend colours">
  ${["attention", "feed-forward", "norm", "embedding"].map((role) => html`<li><span class=${`swatch role-${role}`}>
    </span>${{ attention: "attention, recurrence", "feed-forward": "feed-forward, experts", norm: "norm", embedding: "embedding, head" }[role]}</li>`)}
</ul>`;
