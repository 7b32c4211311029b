// The curves of some architectures: state, work, time and throughput, memory. Their rows are made from the pieces.
import { html, useMemo } from "../html.js";
import { update } from "../route.js";
import { bytes, grouped, tokens } from "../format.js";
import { at, fits, linked, memory, seconds, state, sum, total } from "../pieces.js";
import { Chart } from "../chart.js";
import { Attained, Choices, policyName, settingOf, Sliders } from "./settings.js";

const BATCHES = Array.from({ length: 11 }, (_, i) => 2 ** i);
const STEPS = 4; // points of a curve in each doubling

export function Curves({ records, devices, query }) {
  const longest = Math.max(...records.map((record) => record.context));
  const pieces = { ...records[0].pieces, context: longest, state: shared(records) };
  const asked = settingOf(query, pieces, devices);
  const setting = query.devices ? asked : { ...asked, devices: enough(records, pieces.degrees, asked) };
  const policies = chosenPolicies(query, pieces, setting);
  const key = JSON.stringify({ ...setting, device: setting.device.name });
  const held = useMemo(() => ({ rows: stateRows(records, policies, setting) }), [records, policies.join(), key]);
  const flops = useMemo(() => ({ rows: flopRows(records) }), [records]);
  const batch = useMemo(() => ({ rows: batchRows(records, setting) }), [records, key]);
  const filled = useMemo(() => memoryRows(records, setting), [records, key]);
  const many = setting.devices > 1 ? `${setting.devices} × ` : "";
  const where = `${many}${setting.device.title}, ${setting.weights} weights, ${tokens(setting.context)} tokens of context`;
  return html`<section class="curves" aria-label="Curves">
    <h2>Curves</h2>
    <div class="panel curve-settings"><${Choices} setting=${setting} pieces=${pieces} devices=${devices} />
    <${Sliders} setting=${setting} longest=${longest} /><${Attained} setting=${setting} /></div>
    <div class="row policies" role="group" aria-label="Policies of the state chart">
    <span class="hint">State as kept by</span>${Object.keys(
      pieces.state,
    ).map(
      (name) =>
        html`<button type="button" class="small" aria-pressed=${policies.includes(name)}
          onClick=${() => togglePolicy(policies, name)}>${policyName(name)}</button>`,
    )}</div>
    <div class="charts">
      <${Chart} key=${policies.length > 1} name="state" title="State against context" data=${held}
        unnamed=${policies.length > 1 ? [] : ["strokeDash"]}
        about=${`Bytes that one sequence holds, in ${setting.state}, ${policies.map(policyName).join(" and ")}.`} />
      <${Chart} name="flops" title="Work for one more token" data=${flops}
        about="Operations of decoding one token, by how much context it has." />
      <${Chart} name="latency" title="Time per token" data=${batch} about=${`Decoding, on ${where}. Dotted: does not fit.`} />
      <${Chart} name="throughput" title="Throughput" data=${batch}
        about=${`Tokens per second of all sequences, on ${where}. Dotted: does not fit.`} />
      <${Chart} name="memory" title="Memory on each device" data=${filled}
        about=${`${grouped(setting.batch)} × ${tokens(setting.context)} tokens on ${setting.device.title}, which has ${bytes(setting.device.capacity)}.`} />
    </div>
  </section>`;
}

/** The fewest devices that hold every one of them, or as many as are linked. */
function enough(records, degrees, setting) {
  const possible = degrees.filter((devices) => linked(setting.device, devices));
  const holds = (devices) => records.every(({ pieces }) => fits(pieces, { ...setting, devices }));
  return possible.find(holds) ?? possible.at(-1);
}

/** The policies that all of them have: not every engine runs every model. */
const shared = (records) =>
  Object.fromEntries(
    Object.entries(records[0].pieces.state).filter(([name]) => records.every(({ pieces }) => name in pieces.state)),
  );

function chosenPolicies(query, pieces, setting) {
  const asked = (query.policies ?? "").split(",").filter((name) => name in pieces.state);
  return asked.length ? asked : [setting.policy];
}

function togglePolicy(policies, name) {
  const next = policies.includes(name) ? policies.filter((each) => each !== name) : [...policies, name];
  update({ policies: next.join(",") });
}

/** Lengths up to a model's own, several for each doubling. */
function contexts(longest) {
  const found = [];
  for (let i = 8 * STEPS; 2 ** (i / STEPS) < longest; i += 1) found.push(Math.round(2 ** (i / STEPS)));
  return [...found, longest];
}

const stateRows = (records, policies, { state: dtype, device }) =>
  records.flatMap(({ name, context, pieces }) =>
    policies.flatMap((policy) =>
      contexts(context).map((c) => ({
        model: name,
        policy: policyName(policy),
        context: c,
        bytes: at(state(pieces, policy, dtype, 1, device), c),
      })),
    ),
  );

const flopRows = (records) =>
  records.flatMap(({ name, context, pieces }) =>
    contexts(context).map((c) => ({ model: name, context: c, flops: total(pieces.flops.decode_per_token, c) })),
  );

function batchRows(records, setting) {
  return records.flatMap(({ name, pieces }) =>
    BATCHES.map((batch) => {
      const each = { ...setting, batch };
      const time = sum(seconds(pieces, false, each));
      return { model: name, batch, seconds: time, tokens_per_second: batch / time, fits: fits(pieces, each) };
    }),
  );
}

function memoryRows(records, setting) {
  const rows = records.flatMap(({ name, pieces }) => {
    const held = memory(pieces, setting);
    return ["weights", "state", "activations"].map((what, order) => ({ model: name, what, bytes: held[what], order }));
  });
  return {
    rows,
    limits: [{ device: `${setting.device.title}: ${bytes(setting.device.capacity)}`, bytes: setting.device.capacity }],
  };
}
