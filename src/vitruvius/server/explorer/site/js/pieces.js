// The arithmetic of `vitruvius.cost.sliders`: curves in context, memory on one device, seconds of a step. What windows,
// latents, experts and pages mean was decided in Python; here it is only added up.

export const ATTAINED = { compute: 0.6, bandwidth: 0.8, network: 0.7 };
// Where a device has no units for a dtype, the factors are widened to the next, as in `cost.devices`.
const WIDER = { fp4: "fp8", fp8: "bf16", int4: "int8", int8: "bf16", bf16: "tf32", tf32: "f32" };

/** A curve's value at `context` tokens: the sum of its terms. */
export function at(curve, context) {
  let sum = 0;
  for (const term of curve) {
    let i = term.breaks.length - 1;
    while (term.breaks[i] > context) i -= 1;
    let x = context - term.breaks[i];
    const steps = term.steps?.[i] ?? [];
    for (const [period, height] of steps) sum += height * Math.floor(x / period);
    if (steps.length) x %= steps[0][0];
    sum += term.coefficients[i].reduceRight((value, coefficient) => value * x + coefficient, 0);
  }
  return sum;
}

/** The sum of several curves. */
export const total = (curves, context) => Object.values(curves).reduce((sum, curve) => sum + at(curve, context), 0);

/** Operations per second of a device on factors of `dtype`, wider ones where it has no units for it; null if none. */
export function peak(device, dtype) {
  while (dtype && !(dtype in device.peaks)) dtype = WIDER[dtype];
  return dtype ? device.peaks[dtype] : null;
}

const large = (pieces, device) => device?.kind === "gpu" && device.capacity >= pieces.chunks.large_from;

/** Most tokens that pass through the layers together. */
const chunk = (pieces, device) => (large(pieces, device) ? pieces.chunks.large : pieces.chunks.usual);

/** The curve of one sequence's state on one of `devices`. */
export function state(pieces, policy, dtype, devices = 1, device = null) {
  const of = (large(pieces, device) && pieces.state_large[policy]) || pieces.state[policy];
  return of[dtype][pieces.degrees.indexOf(devices)];
}

/** Whether so many devices can tell each other anything: within a node by its links, beyond it by its network. */
export const linked = (device, devices) =>
  devices === 1 || Boolean(devices <= device.devices_per_node ? device.link : device.network);

/** What a device attains: operations and bytes per second. */
export function rates(pieces, device, weights, devices, attained = ATTAINED) {
  return {
    products: peak(device, pieces.formats[weights]) * attained.compute,
    scores: peak(device, "bf16") * attained.compute,
    memory: device.bandwidth * attained.bandwidth,
    network: (devices <= device.devices_per_node ? device.link : device.network) * attained.network,
  };
}

/** Bytes on one of `devices`: {weights, state, activations, total}. */
export function memory(pieces, { context, batch, weights, state: dtype, policy, devices, device = null }) {
  const d = pieces.degrees.indexOf(devices);
  const { token, sequence } = pieces.activations;
  const found = {
    weights: pieces.weights[weights][d],
    state: batch * at(state(pieces, policy, dtype, devices, device), context),
    activations: token[d] * Math.min(chunk(pieces, device), batch * context) + sequence[d] * batch,
  };
  return { ...found, total: found.weights + found.state + found.activations };
}

/** Seconds of a prefill (`prompt`) or of one step of decoding: {part: {compute, memory, network, seconds}}. */
export function seconds(pieces, prompt, { context, batch, weights, state: dtype, devices, device, attained }) {
  const d = pieces.degrees.indexOf(devices);
  const phase = prompt ? "prefill" : "decode";
  const rate = rates(pieces, device, weights, devices, attained);
  const most = chunk(pieces, device);
  const found = {};
  for (const part of pieces.steps) {
    const tokens = prompt && !part.last ? batch * context : batch;
    const passes = Math.ceil(tokens / most);
    let scores = 0;
    for (const each of part.scores) scores += batch * at(each[phase], context) * each.share[d];
    let moved = 0;
    for (const each of part.weights) {
      if (prompt || each.decode) moved += passes * each.bytes[weights] * each.share[d] * touched(each, tokens / passes);
    }
    for (const each of part.state) {
      const held = (at(prompt ? each.written : each.read, context) * pieces.bits[each.dtype ?? dtype]) / 8;
      moved += batch * held * each.share[d];
    }
    const sent = ((tokens * 2 * (devices - 1)) / devices) * (2 * part.reduce[phase] + part.gather[phase]);
    const times = {
      compute: (tokens * part.products[phase][d]) / rate.products + scores / rate.scores,
      memory: moved / rate.memory,
      network: devices > 1 ? sent / rate.network : 0,
    };
    found[part.part] = { ...times, seconds: Math.max(times.compute, times.memory, times.network) };
  }
  return found;
}

/** The share of weights that a pass of so many tokens reads: of a table its rows, of experts the distinct ones. */
const touched = ({ rows, uses }, tokens) => (rows ? Math.min(tokens / rows, 1) : 1 - (1 - uses) ** tokens);

/** Sum of the parts' seconds. */
export const sum = (parts) => Object.values(parts).reduce((all, part) => all + part.seconds, 0);

/** What most of the time goes to: "compute", "memory" or "network". */
export function bound(parts) {
  const by = { compute: 0, memory: 0, network: 0 };
  for (const part of Object.values(parts)) {
    const name = ["compute", "memory", "network"].find((each) => part[each] === part.seconds);
    by[name] += part.seconds;
  }
  return Object.keys(by).reduce((best, name) => (by[name] > by[best] ? name : best));
}

/** The largest whole number from 1 to `most` that passes, 0 if none does; `passes` must not come back once it fails. */
export function largest(most, passes) {
  if (!passes(1)) return 0;
  let low = 1;
  let high = most;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (passes(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Whether a setting fits in its device's memory. */
export const fits = (pieces, setting) => memory(pieces, setting).total <= setting.device.capacity;
