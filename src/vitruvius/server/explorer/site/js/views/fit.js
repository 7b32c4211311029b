// Will it fit, and how fast: one model on one kind of device, answered while the sliders move.
import { html, useMemo } from "../html.js";
import { href, navigate } from "../route.js";
import { architecture, load, usePromise } from "../data.js";
import { bytes, digits, duration, grouped, percent, tokens } from "../format.js";
import { bound, fits, largest, linked, memory, seconds, sum } from "../pieces.js";
import { Failure, Field, modelOptions, Select } from "../parts/common.js";
import { MemoryBar } from "../parts/memory.js";
import { Attained, Choices, settingOf, Sliders } from "../parts/settings.js";
import { Table } from "../parts/table.js";

const USUAL = "gemma-3-27b";
const MOST_TOKENS = 2 ** 30;
const MOST_BATCH = 2 ** 16;

export function Fit({ index, args, query }) {
  const [id = USUAL] = args;
  const { value, error } = usePromise(() => Promise.all([architecture(id), load("devices.json")]), [id]);
  const choose = (other) => navigate(href("fit", [other], query));
  return html`
    <div class="hero"><h1>Will it fit, and how fast?</h1>
      <p>A roofline from the definition: what must be computed, read and sent, at the fractions of the peaks that you assume.</p>
      </div>
    ${error && html`<${Failure} error=${error} />`}
    ${value ? html`<${Answer} record=${value[0]} devices=${value[1]} query=${query} models=${modelOptions(index.architectures)}
      choose=${choose} />` : !error && html`<p class="wait" role="status">Loading …</p>`}
  `;
}

function Answer({ record, devices, query, models, choose }) {
  const { pieces } = record;
  const setting = settingOf(query, pieces, devices);
  const held = memory(pieces, setting);
  const room = held.total <= setting.device.capacity;
  const prefill = seconds(pieces, true, setting);
  const decode = seconds(pieces, false, setting);
  const connected = linked(setting.device, setting.devices);
  const [first, next] = [sum(prefill), sum(decode)];
  return html`<div class="fit">
    <section class="panel fit-form" aria-label="Setting">
      <${Field} label="Model" wide><${Select} value=${record.id} options=${models} onChange=${choose} /><//>
      <${Choices} setting=${setting} pieces=${pieces} devices=${devices} />
      <${Sliders} setting=${setting} longest=${pieces.context} />
      <${Attained} setting=${setting} />
    </section>
    <div class="fit-answer">
      <section class=${room ? "panel verdict fits" : "panel verdict too-large"} aria-label="Answer">
        <p class="verdict-word"
          role="status">${room ? "It fits." : "It does not fit."}
          ${" "}<span>${bytes(held.total)} of ${bytes(setting.device.capacity)}${setting.devices > 1 && " on each device"}</span></p>
        <${MemoryBar} held=${held} capacity=${setting.device.capacity} />
        <dl class="figures speed">
          <div><dt>Time to first token</dt><dd>${connected ? duration(first) : "–"}</dd>
          <dd class="hint">${bound(prefill)} bound</dd></div>
          <div><dt>Per token after it</dt><dd>${connected ? duration(next) : "–"}</dd><dd class="hint">${bound(decode)} bound</dd>
          </div>
          <div><dt>One sequence</dt><dd>${connected ? digits(1 / next) : "–"}</dd><dd class="hint">tokens/s</dd></div>
          <div><dt>All ${grouped(setting.batch)}</dt><dd>${connected ? digits(setting.batch / next) : "–"}</dd>
          <dd class="hint">tokens/s</dd></div>
        </dl>
        ${!connected && html`<p class="note">${setting.device.title} has no link to ${setting.device.link ? "another node" : "another"} of its kind.</p>`}
        ${!room && connected && html`<p class="hint">The times are those of a device with the memory for it.</p>`}
      </section>
      <${Limits} pieces=${pieces} setting=${setting} />
      <${Everywhere} record=${record} setting=${setting} devices=${devices} />
      <${ByPart} record=${record} prefill=${prefill} decode=${decode} />
    </div>
  </div>`;
}

function Limits({ pieces, setting }) {
  const { context, batch } = setting;
  const longest = largest(MOST_TOKENS, (value) => fits(pieces, { ...setting, context: value }));
  const widest = largest(MOST_BATCH, (value) => fits(pieces, { ...setting, batch: value }));
  const fewest = pieces.degrees.find((devices) => fits(pieces, { ...setting, devices }));
  const reached = (value, most) => (value >= most ? `over ${grouped(most)}` : value ? grouped(value) : "none");
  return html`<dl class="panel figures limits">
    <div><dt>Longest context, batch ${grouped(batch)}</dt><dd title=${grouped(longest)}>${reached(longest, MOST_TOKENS)}</dd>
      <dd class="hint">${longest > pieces.context ? `made for ${tokens(pieces.context)}` : "tokens"}</dd></div>
    <div><dt>Largest batch at ${tokens(context)}</dt><dd>${reached(widest, MOST_BATCH)}</dd><dd class="hint">sequences</dd></div>
    <div><dt>Fewest devices</dt><dd>${fewest ?? `over ${pieces.degrees.at(-1)}`}</dd><dd class="hint">${setting.device.title}</dd>
    </div>
  </dl>`;
}

function Everywhere({ record, setting, devices }) {
  const { pieces } = record;
  const { context, batch, weights, state, policy } = setting;
  const rows = useMemo(
    () =>
      devices.map((device) => {
        const possible = pieces.degrees.filter((n) => linked(device, n));
        const many = possible.find((n) => fits(pieces, { ...setting, device, devices: n }));
        const next = many && sum(seconds(pieces, false, { ...setting, device, devices: many }));
        return { device, many, next, most: possible.at(-1) };
      }),
    [record.id, context, batch, weights, state, policy, ...Object.values(setting.attained)],
  );
  return html`<section class="panel"><h2>On every device</h2>
    <${Table} name=${`${record.name} on every device`}
      caption=${`the fewest that hold ${grouped(batch)} × ${tokens(context)} tokens`}>
      <thead><tr><th scope="col">Device</th><th scope="col" class="number">How many</th>
      <th scope="col" class="number">Per token</th><th scope="col" class="number">tokens/s</th></tr></thead>
      <tbody>${rows.map(
        ({
          device,
          many,
          next,
          most,
        }) => html`<tr class=${device.name === setting.device.name ? "here" : null}><th scope="row">${device.title}${unsure(device)}</th>
          <td class="number">${many ?? html`<span class="hint">${most > 1 ? `not in ${most}` : "does not fit"}</span>`}</td>
          <td class="number">${many ? duration(next) : ""}</td><td class="number">${many ? digits(batch / next) : ""}</td></tr>`,
      )}</tbody>
    <//>
  </section>`;
}

const unsure = ({ unconfirmed }) =>
  unconfirmed.length > 0 && html` <abbr title=${`Not confirmed by its sheet: ${unconfirmed.join(", ")}`}>‡</abbr>`;

function ByPart({ record, prefill, decode }) {
  const whole = { prefill: sum(prefill), decode: sum(decode) };
  const why = (part) => ["compute", "memory", "network"].find((name) => part[name] === part.seconds);
  return html`<section class="panel"><h2>Where the time goes</h2>
    <${Table} name=${`${record.name}: time by part`} caption="estimated: the slowest of computing, reading memory and telling other devices">
      <thead><tr><th scope="col">Part</th><th scope="col" class="number">First token</th><th scope="col">bound by</th>
      <th scope="col" class="number">Next token</th><th scope="col">bound by</th><th scope="col" class="number">share</th></tr>
      </thead>
      <tbody>${Object.keys(decode).map(
        (
          name,
        ) => html`<tr><th scope="row">${name}</th><td class="number">${duration(prefill[name].seconds)}</td>
          <td>${why(prefill[name])}</td>
          <td class="number">${duration(decode[name].seconds)}</td><td>${why(decode[name])}</td>
          <td class="number">${percent(decode[name].seconds / whole.decode)}</td></tr>`,
      )}
      <tr class="total"><th scope="row">total</th><td class="number">${duration(whole.prefill)}</td><td></td>
      <td class="number">${duration(whole.decode)}</td><td></td><td></td></tr></tbody>
    <//>
  </section>`;
}
