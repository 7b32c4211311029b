// Memory on one device: weights, state and activations, and where its limit is.
import { html } from "../html.js";
import { bytes } from "../format.js";

const PARTS = ["weights", "state", "activations"];

export function MemoryBar({ held, capacity }) {
  const whole = Math.max(held.total, capacity);
  const share = (value) => `${(value / whole) * 100}%`;
  const said = PARTS.map((name) => `${name} ${bytes(held[name])}`).join(", ");
  return html`<div>
    <div class="memory" role="img" aria-label=${`${said}; the device has ${bytes(capacity)}`}>
      ${PARTS.map((name) => html`<span class=${`of-${name}`} style=${{ width: share(held[name]) }}></span>`)}
      ${held.total > capacity && html`<span class="memory-limit" style=${{ left: share(capacity) }}></span>`}
    </div>
    <ul class="legend">
      ${PARTS.map((name) => html`<li><span class=${`swatch of-${name}`}></span>${name} <b>${bytes(held[name])}</b></li>`)}
      ${
        held.total <= capacity
          ? html`<li><span class="swatch of-free"></span>free <b>${bytes(capacity - held.total)}</b></li>`
          : html`<li>the line is the device's limit, <b>${bytes(held.total - capacity)}</b> are too much</li>`
      }
    </ul>
  </div>`;
}
