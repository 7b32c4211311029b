// What a cost is asked for: device, formats, context, batch; in the address, with sliders.
import { html } from "../html.js";
import { update } from "../route.js";
import { bytes, grouped, number, percent, prefixed, tokens } from "../format.js";
import { ATTAINED } from "../pieces.js";
import { Field, Select } from "./common.js";

const halves = (from, to) => {
  const found = [];
  for (let value = from; value <= to; value *= 2) found.push(value, value * 1.5);
  return found.filter((value) => value <= to && Number.isInteger(value));
};
const CONTEXTS = halves(256, 2 ** 20 * 8);
const BATCHES = halves(1, 1024);
const AS_STORED = "as stored"; // the format of the files, where they are packed
const POLICIES = {
  minimum: "at least needed",
  vitruvius: "vitruvius",
  transformers: "transformers",
  vllm: "vLLM",
  "vllm-no-hybrid": "vLLM, no hybrid manager",
  "llama.cpp": "llama.cpp",
  "llama.cpp-swa-full": "llama.cpp, full-size windows",
};

export const policyName = (policy) => POLICIES[policy] ?? policy;

/** The setting that the address asks for; what is missing or unknown there has its usual value. */
export function settingOf(query, pieces, devices) {
  const among = (value, list, usual) => (list.includes(value) ? value : usual);
  const whole = (value, usual) => (/^\d{1,9}$/.test(value ?? "") && Number(value) > 0 ? Number(value) : usual);
  const share = (value, usual) => (Number(value) > 0 && Number(value) <= 1 ? Number(value) : usual);
  const device = devices.find(({ name }) => name === query.device) ?? devices[0];
  return {
    device,
    devices: among(Number(query.devices), pieces.degrees, 1),
    weights: among(query.weights, Object.keys(pieces.formats), AS_STORED in pieces.formats ? AS_STORED : "bf16"),
    state: among(query.state, Object.keys(pieces.state_per_token), "bf16"),
    policy: among(query.policy, Object.keys(pieces.state), "minimum"),
    context: whole(query.context, Math.min(8192, pieces.context)),
    batch: whole(query.batch, 1),
    attained: Object.fromEntries(Object.entries(ATTAINED).map(([name, usual]) => [name, share(query[name], usual)])),
  };
}

/** Device, how many, formats, policy. */
export function Choices({ setting, pieces, devices }) {
  const vendors = [...new Set(devices.map(({ vendor }) => vendor))];
  const grouping = vendors.map((vendor) => ({
    label: vendor,
    options: devices.filter((each) => each.vendor === vendor).map(({ name, title }) => [name, title]),
  }));
  const plain = (list) => list.map((each) => [each, each]);
  return html`
    <${Field} label="Device" wide><${Select} value=${setting.device.name} options=${grouping}
      onChange=${(device) => update({ device })} /><//>
    <${Field} label="How many" wide><${Select} value=${setting.devices}
      options=${pieces.degrees.map((n) => [n, n === 1 ? "1 device" : `${n}, tensor parallel`])}
      onChange=${(many) => update({ devices: many })} /><//>
    <${Field} label="Weights" wide><${Select} value=${setting.weights} options=${plain(Object.keys(pieces.formats))}
      onChange=${(weights) => update({ weights })} /><//>
    <${Field} label="State (KV cache)" wide><${Select} value=${setting.state}
      options=${plain(Object.keys(pieces.state_per_token))} onChange=${(state) => update({ state })} /><//>
    <${Field} label="State as kept by" wide><${Select} value=${setting.policy}
      options=${Object.keys(pieces.state).map((name) => [name, policyName(name)])} onChange=${(policy) => update({ policy })} />
      <//>
  `;
}

/** Context and batch. */
export const Sliders = ({ setting, longest }) => html`
  <${Steps} label="Context" name="context" value=${setting.context}
    values=${CONTEXTS.filter((each) => each <= Math.max(longest, setting.context))} say=${(value) => `${tokens(value)} tokens`}
    more=${longest && setting.context > longest ? `made for ${tokens(longest)}` : ""} binary />
  <${Steps} label="Batch" name="batch" value=${setting.batch} values=${BATCHES}
    say=${(value) => `${grouped(value)} ${value === 1 ? "sequence" : "sequences"}`} />
`;

function Steps({ label, name, value, values, say, more, binary }) {
  const nearest = values.reduce(
    (best, each, i) => (Math.abs(Math.log(each / value)) < Math.abs(Math.log(values[best] / value)) ? i : best),
    0,
  );
  const typed = (event) => {
    const found = number(event.target.value, binary);
    if (found && found >= 1) update({ [name]: Math.round(found) });
    else event.target.value = value;
  };
  return html`<div class="slider">
    <div class="row spread"><label class="field-label" for=${`slide-${name}`}>${label}</label>
      <span class="row"><span class="hint">${more}</span>
      <input class="exact" type="text" inputmode="numeric" aria-label=${`${label}, exactly`}
        value=${binary ? tokens(value) : grouped(value)} onChange=${typed} /></span></div>
    <input id=${`slide-${name}`} type="range" min="0" max=${values.length - 1} value=${nearest} aria-valuetext=${say(value)}
      onInput=${(event) => update({ [name]: values[event.target.value] })} />
  </div>`;
}

/** The fractions of the peaks that are assumed. */
export function Attained({ setting }) {
  const { device, attained } = setting;
  const unconfirmed = device.unconfirmed.length ? `; not confirmed by its sheet: ${device.unconfirmed.join(", ")}` : "";
  const whole = {
    compute: prefixed(device.peaks.bf16 ?? device.peaks.f32, "FLOP/s bf16"),
    bandwidth: prefixed(device.bandwidth, "B/s"),
    network: device.link ? prefixed(device.link, "B/s") : "none",
  };
  return html`<details class="more attained">
    <summary>Assumed: ${percent(attained.compute)} of compute, ${percent(attained.bandwidth)} of bandwidth${setting.devices > 1 && `, ${percent(attained.network)} of the network`}</summary>
    ${Object.entries(attained).map(
      ([
        name,
        share,
      ]) => html`<div class="slider"><div class="row spread">
        <label class="field-label" for=${`slide-${name}`}>${name}: ${percent(share)}</label>
        <span class="hint">of ${whole[name]}</span></div>
        <input id=${`slide-${name}`} type="range" min="0.05" max="1" step="0.05" value=${share} aria-valuetext=${percent(share)}
          onInput=${(event) => update({ [name]: event.target.value })} /></div>`,
    )}
    <p class="hint">${device.title}: ${bytes(device.capacity)} of memory${unconfirmed}</p>
  </details>`;
}
