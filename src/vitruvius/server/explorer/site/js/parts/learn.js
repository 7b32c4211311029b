// Part by part, from the bottom of the drawing: the equation with this model's numbers, its letters, shapes, PyTorch, paper.
import { html } from "../html.js";
import { href } from "../route.js";
import { count, grouped } from "../format.js";
import { Forward, sentence, Symbols } from "./inspector.js";

/** The parts in the order of the drawing, those that say the same once: [path, part]. */
function walked(record) {
  const seen = new Set();
  const order = (path) => (path === "embedding" ? 0 : path.startsWith("encoder") ? 1 : path.startsWith("layers") ? 2 : 3);
  return Object.entries(record.parts)
    .filter(([, part]) => part.kind && part.equation)
    .sort(([a], [b]) => order(a) - order(b))
    .filter(([, part]) => {
      const key = `${part.kind} ${part.equation}`;
      return !seen.has(key) && seen.add(key);
    });
}

export function Learn({ record, show, served }) {
  return html`<section class="panel learn" aria-labelledby="learn-title">
    <h2 id="learn-title">Part by part</h2>
    <p class="panel-lead">In the order in which a token passes: what each part computes, with the numbers of ${record.name}.</p>
    <ol>${walked(record).map(([place, part]) => {
      const kind = record.kinds[part.kind];
      return html`<li key=${place}><details>
        <summary><strong>${sentence(part.title)}</strong> <span class="equation-line">${part.equation}</span></summary>
        <div class="learn-part">
          <div>
            <p class="equation">${part.equation}</p>
            <${Symbols} of=${part.symbols} />
            <ul class="facts">${part.facts.map((fact) => html`<li>${fact}</li>`)}</ul>
            ${part.tensors.length > 0 && html`<p class="hint">Weights of one: ${part.tensors.map(
              (tensor, i) => html`${i > 0 && ", "}<code>${tensor.name}</code> ${tensor.shape.map(grouped).join(" × ")}`,
            )}; ${count(part.parameters)} parameters</p>`}
            <p class="row">
              <button type="button" class="small" onClick=${() => show(place)}>Show it in the drawing</button>
              ${kind.papers.map((id) => html`<a class="small" href=${`https://arxiv.org/abs/${id}`} rel="noreferrer">arXiv ${id}</a>`)}
              ${served && html`<a class="small" href=${href("try")}>Try a model</a>`}
            </p>
            <p class="about">${kind.about}</p>
          </div>
          ${kind.forward && html`<${Forward} of=${kind.forward} open />`}
        </div>
      </details></li>`;
    })}</ol>
  </section>`;
}
