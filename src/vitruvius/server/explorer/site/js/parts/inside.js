// Views of one forward pass: a head's pattern, all heads at once, what each layer would say, and what a part does.
import { html, useEffect, useRef, useState } from "../html.js";
import { percent } from "../format.js";
import { look } from "../local.js";
import { Failure, Field, Select } from "./common.js";
import { Table } from "./table.js";

const textOf = (token) => (typeof token === "string" ? token : token.text);
const LABELLED = 40; // tokens that have room for their names

/** One head: a row for each token that looks, a column for each that it sees. */
export function Pattern({ attention }) {
  const { weights } = attention;
  const names = attention.tokens.map(textOf);
  const size = names.length;
  const [at, point] = useState(null);
  const said = at
    ? `${JSON.stringify(names[at[0]])} looks at ${JSON.stringify(names[at[1]])}: ${percent(weights[at[0]][at[1]])}`
    : "A row for each token that looks, a column for each that it sees.";
  return html`<figure class="labelled-pattern">
    ${size <= LABELLED && html`<ol class="pattern-names" aria-hidden="true">${names.map((name) => html`<li>${name}</li>`)}</ol>`}
    <svg class="pattern" viewBox=${`0 0 ${size} ${size}`} role="img"
      aria-label="Attention weights; rows are tokens that look, columns tokens that are seen" onMouseLeave=${() => point(null)}>
      ${weights.flatMap((row, i) => row.slice(0, i + 1).map((weight, j) => html`<rect x=${j} y=${i} width="1" height="1"
        fill-opacity=${Math.sqrt(weight)} onMouseEnter=${() => point([i, j])} />`))}
    </svg>
    <figcaption class="hint">${said}</figcaption>
  </figure>`;
}

/** A button that asks for something once, and shows what came. */
function Asked({ title, does, children }) {
  const [state, set] = useState({});
  const ask = async () => {
    set({ busy: true });
    try {
      set({ value: await does() });
    } catch (error) {
      set({ error });
    }
  };
  return html`<div class="asked">
    ${!state.value && html`<button type="button" class="small" disabled=${state.busy} onClick=${ask}>${title}</button>`}
    ${state.error && html`<${Failure} error=${state.error} />`}
    ${state.value && children(state.value)}
  </div>`;
}

/** All heads of one attention, each as a small square. */
export const Heads = ({ api, model, text, path, show }) =>
  path &&
  html`<${Asked} title="All heads of this attention" does=${() => look(api, "heads", { model, text, path })}>
    ${({ heads }) => html`<ul class="heads" aria-label="All heads">${heads.map(
      (rows, head) => html`<li><button type="button" aria-label=${`Head ${head}`} onClick=${() => show(head)}>
        <${Small} rows=${rows} /><span>${head}</span></button></li>`,
    )}</ul>`}
  <//>`;

function Small({ rows }) {
  const canvas = useRef(null);
  useEffect(() => {
    const context = canvas.current.getContext("2d");
    context.fillStyle = getComputedStyle(canvas.current).color;
    rows.forEach((row, i) =>
      row.forEach((weight, j) => {
        context.globalAlpha = Math.sqrt(Math.max(weight, 0));
        context.fillRect(j, i, 1, 1);
      }),
    );
  }, [rows]);
  return html`<canvas ref=${canvas} width=${rows.length} height=${rows.length}></canvas>`;
}

/** What the head would say after each layer: rows are layers, the last one on top. */
export const Lens = ({ api, model, text }) =>
  html`<${Asked} title="What each layer would say (logit lens)" does=${() => look(api, "lens", { model, text })}>
    ${({ tokens, layers }) => html`<div class="lens" tabindex="0" role="region" aria-label="Logit lens"><table>
      <caption class="hint">the likeliest next token, were the head to read the stream there; the paler, the less sure</caption>
      <thead><tr><th scope="col">after</th>${tokens.map((token) => html`<th scope="col">${textOf(token)}</th>`)}</tr></thead>
      <tbody>${layers
        .map((row, layer) => html`<tr><th scope="row">${layer ? `layer ${layer - 1}` : "embedding"}</th>
          ${row.map((cell) => html`<td style=${{ "--sure": cell.probability }} title=${percent(cell.probability)}>${cell.text}</td>`)}</tr>`)
        .reverse()}</tbody>
    </table></div>`}
  <//>`;

/** The next token with and without a head, a layer or an expert. */
export function Without({ api, model, text, found }) {
  const layers = [...new Set(found.attentions.map(({ path }) => path.split(".").slice(0, 2).join(".")))];
  const parts = [
    ...layers.map((path) => [path, path, 0]),
    ...found.attentions.map(({ path, heads }) => [path, `${path}: head`, heads]),
    ...found.routers.map(({ path, experts }) => [path, `${path}: expert`, experts]),
  ];
  const [path, setPath] = useState(parts[0]?.[0]);
  const [number, setNumber] = useState(0);
  const [state, set] = useState({});
  if (!parts.length) return null;
  const many = parts.find(([each]) => each === path)?.[2] ?? 0;
  const ask = async () => {
    try {
      set({ value: await look(api, "without", { model, text, path, number: many ? number : null }) });
    } catch (error) {
      set({ error });
    }
  };
  return html`<div class="asked"><div class="row">
      <${Field} label="Switch off"><${Select} value=${path} options=${parts.map(([each, label]) => [each, label])}
        onChange=${(each) => (setPath(each), setNumber(0), set({}))} /><//>
      ${many > 0 && html`<${Field} label="Number"><${Select} value=${number}
        options=${Array.from({ length: many }, (_, i) => [i, i])} onChange=${(each) => setNumber(Number(each))} /><//>`}
      <button type="button" class="small" onClick=${ask}>What would come next without it?</button></div>
    ${state.error && html`<${Failure} error=${state.error} />`}
    ${state.value && html`<${Table} name="without it"><thead><tr><th scope="col">Next token</th>
      <th scope="col" class="number">as it is</th><th scope="col" class="number">without</th></tr></thead>
      <tbody>${state.value.next.map((each) => html`<tr><th scope="row"><code>${JSON.stringify(each.text)}</code></th>
        <td class="number">${percent(each.before)}</td><td class="number">${percent(each.after)}</td></tr>`)}</tbody><//>`}
  </div>`;
}
