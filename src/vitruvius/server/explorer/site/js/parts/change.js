// Change something: boxes for what may be changed of an architecture; what follows is computed by the server's own edits.
import { html, useEffect, useState } from "../html.js";
import { href, navigate, update } from "../route.js";
import { keep } from "../data.js";
import { bytes, count, prefixed } from "../format.js";
import { copyText } from "../copy.js";
import { Doing, Failure, Field, Select } from "./common.js";
import { Table } from "./table.js";

const RESTS = 300; // milliseconds after the last key

/** {key: value} as the address says it: "mixer.body.kv_heads~1;layers~40". */
export const wanted = (text) =>
  Object.fromEntries(
    (text ?? "")
      .split(";")
      .filter((each) => each.includes("~"))
      .map((each) => [each.slice(0, each.indexOf("~")), each.slice(each.indexOf("~") + 1)]),
  );

const said = (changes) =>
  Object.entries(changes)
    .map(([key, value]) => `${key}~${value}`)
    .join(";");

/** The page of an architecture with these changes: {value, error, busy}; the last one stays while the next is made. */
export function useChanged(api, id, text) {
  const [state, set] = useState({});
  useEffect(() => {
    if (!api || !text) return set({});
    let here = true;
    set((last) => ({ ...last, busy: true }));
    const timer = setTimeout(async () => {
      try {
        const response = await fetch(`${api}change`, {
          method: "POST",
          body: JSON.stringify({ id, changes: wanted(text) }),
        });
        const told = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
        if (!here) return;
        if (response.ok) set({ value: told });
        else set((last) => ({ value: last.value, error: new Error(told.error) }));
      } catch (error) {
        if (here) set((last) => ({ value: last.value, error }));
      }
    }, RESTS);
    return () => {
      here = false;
      clearTimeout(timer);
    };
  }, [api, id, text]);
  return state;
}

const MEASURES = [
  ["Parameters", (r) => r.parameters, count],
  ["Active parameters", (r) => r.active, count],
  ["State per token", (r) => r.state_per_token, bytes],
  ["State at 32k", (r) => r.state_at["32k"], bytes],
  ["State at 128k", (r) => r.state_at["128k"], bytes],
  ["Weights", (r) => r.cost.memory.weights_bytes, bytes],
  ["FLOPs of a token at full context", (r) => r.cost.flops.decode_per_token, (value) => prefixed(value, "FLOP")],
];

export function Change({ record, state, text }) {
  const changes = wanted(text);
  const set = (box, value) => {
    const next = { ...changes, [box.key]: value };
    if (value === box.value) delete next[box.key];
    update({ change: said(next), part: "" });
  };
  const { value: result, error, busy } = state;
  return html`<details class="panel changing" open=${Boolean(text)}>
    <summary><h2>Change something</h2><span class="hint"> heads, windows, positions, experts, norms, depth, width: what
      follows is computed at once</span></summary>
    <div class="boxes">${record.boxes.map(
      (box) => html`<${Field} key=${box.key} label=${box.label} hint=${box.layers ? `in ${box.layers} of ${record.layers} layers` : ""}>
        ${box.choices
          ? html`<${Select} value=${changes[box.key] ?? box.value} options=${Object.entries(box.choices)}
              class=${box.key in changes ? "turned" : ""} onChange=${(value) => set(box, value)} />`
          : html`<input type="text" inputmode="numeric" autocomplete="off" value=${changes[box.key] ?? box.value}
              class=${box.key in changes ? "turned" : ""} onInput=${(event) => set(box, event.target.value)} />`}
      <//>`,
    )}</div>
    <div aria-live="polite">
      ${error && html`<${Failure} error=${error} />`}
      ${busy && html`<p class="hint">Computing …</p>`}
    </div>
    ${text && html`<p class="row"><button type="button" class="small" onClick=${() => update({ change: "" })}>As it was</button>
      <${Doing} does=${() => copyText(location.href, "link.txt")}>Copy the link<//>
      ${result && html`<button type="button" class="small" onClick=${() => navigate(href("fit", [keep(result)]))}>Will it fit?</button>
      <button type="button" class="small" onClick=${() => navigate(href("compare", [`${record.id},${keep(result)}`]))}>Compare</button>`}
    </p>`}
    ${result && text && html`<div class="answers">
      <${Table} name="what follows" caption="weights in bf16 unless the release says otherwise">
        <thead><tr><th scope="col"></th><th scope="col" class="number">before</th><th scope="col" class="number">after</th>
          <th scope="col" class="number">times</th></tr></thead>
        <tbody>${MEASURES.map(([label, of, say]) => row(label, of(record), of(result), say))}</tbody>
      <//>
      <${Table} name="what changed">
        <thead><tr><th scope="col">Property</th><th scope="col">before</th><th scope="col">after</th></tr></thead>
        <tbody>${result.changes.map((each) => html`<tr><th scope="row">${each.what}</th><td>${each.a}</td><td>${each.b}</td></tr>`)}</tbody>
      <//>
    </div>
    <div class="copy-code"><${Doing} does=${() => copyText(result.code, "changed.py")}>Copy<//>
      <pre class="code" tabindex="0" aria-label="The same in Python">${result.code}</pre></div>`}
  </details>`;
}

const row = (label, before, after, say) =>
  html`<tr><th scope="row">${label}</th><td class="number">${before === null ? "–" : say(before)}</td>
    <td class="number">${after === null ? "–" : say(after)}</td>
    <td class="number">${before && after ? `× ${(after / before).toPrecision(3)}` : ""}</td></tr>`;
