// Bring your own: a config.json, or the header of a GGUF or safetensors file.
import { html, useRef, useState } from "../html.js";
import { href, navigate } from "../route.js";
import { keep } from "../data.js";
import { count, grouped } from "../format.js";
import { describe } from "../upload.js";
import { Failure, Icon } from "../parts/common.js";
import { Table } from "../parts/table.js";

export function Yours({ index }) {
  return html`
    <div class="hero"><h1>Your model</h1>
    <p>Its drawing, cost, comparison and speed, from its config.json or from the header of its weights.</p></div>
    ${index.served ? html`<${Drop} api=${index.api} />` : html`<${Static} />`}
  `;
}

const Static = () => html`<section class="panel">
  <h2>This is the exported gallery</h2>
  <p>It is made of files only and can read no config. The same page served on your machine can:</p>
  <pre class="code">pip install vitruvius
vitruvius explore</pre>
</section>`;

function Drop({ api }) {
  const input = useRef(null);
  const [over, setOver] = useState(false);
  const [state, set] = useState({});
  const take = async (file, ignore = []) => {
    if (!file) return;
    set({ busy: file.name });
    try {
      const { record, error, unknown } = await describe(api, file, ignore);
      if (unknown) set({ file, error, unknown });
      else if (record.drawing) navigate(href("model", [keep(record)]));
      else set({ header: record });
    } catch (error) {
      set({ failed: error });
    }
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files[0]);
  };
  return html`
    <section class=${over ? "panel drop over" : "panel drop"} onDragOver=${(event) => (event.preventDefault(), setOver(true))}
      onDragLeave=${() => setOver(false)} onDrop=${drop} aria-label="Drop a file">
      <${Icon} name="drop" />
      <p>Drop a <code>config.json</code>, a <code>.gguf</code> or a <code>.safetensors</code> file here, or</p>
      <button type="button" class="primary" onClick=${() => input.current.click()}>Choose a file</button>
      <input ref=${input} type="file" class="hidden" tabindex="-1" aria-label="A config.json, GGUF or safetensors file"
        accept=".json,.gguf,.safetensors" onChange=${(event) => take(event.target.files[0])} />
      <p class="hint">It goes to the explorer on your own machine only. Of weight files nothing but the header is read.</p>
    </section>
    <div aria-live="polite" class="answers">
      ${state.busy && html`<p class="wait">Reading ${state.busy} …</p>`}
      ${state.failed && html`<${Failure} error=${state.failed} />`}
      ${
        state.unknown &&
        html`<section class="panel"><h2>Keys that are not known here</h2>
        <p>${state.error}</p>
        <ul class="row">${state.unknown.map((key) => html`<li class="tag"><code>${key}</code></li>`)}</ul>
        <p><button type="button" class="primary" onClick=${() => take(state.file, state.unknown)}>Show it without them</button>
        </p>
      </section>`
      }
      ${state.header && html`<${Header} record=${state.header} />`}
    </div>
  `;
}

/** A safetensors header: tensors, but no architecture. */
function Header({ record }) {
  return html`<section class="panel"><h2>${record.name}</h2>
    <p class="panel-lead">${count(record.parameters)} elements${record.layers ? `, ${grouped(record.layers)} layers` : ""}: ${Object.entries(
      record.by_dtype,
    )
      .map(([dtype, many]) => `${dtype} ${typeof many === "number" ? count(many) : count(many.elements)}`)
      .join(", ")}</p>
    ${record.fits.length > 0 && html`<p>
      These can be the tensors of${" "}
      ${record.fits.map((id, i) => html`${i > 0 && ", "}<a href=${href("model", [id])}>${id}</a>`)}
    </p>`}
    <p class="note">What tensors alone do not say: ${record.undetermined.join("; ")}. Drop the config.json for all of it.</p>
    <${Table} name="tensors" caption="with * for the numbers in their names">
      <thead><tr><th scope="col">Tensors</th><th scope="col">dtype</th><th scope="col">Shape</th>
      <th scope="col" class="number">How many</th></tr></thead>
      <tbody>${record.tensors.map((tensor) => html`<tr><td><code>${tensor.name}</code></td><td>${tensor.dtype}</td>
        <td>${tensor.shape.join(" × ")}</td><td class="number">${grouped(tensor.count)}</td></tr>`)}</tbody>
    <//>
  </section>`;
}
