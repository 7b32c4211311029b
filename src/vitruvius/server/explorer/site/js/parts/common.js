// Small pieces that several views share.
import { html, useState } from "../html.js";
import { bytes, count, month, tokens } from "../format.js";

const ICONS = {
  sun: "M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.4M5.6 18.4 7 17M17 7l1.4-1.4M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  close: "M6 6l12 12M18 6 6 18",
  fold: "M5 4v16M19 8l-4 4 4 4M15 12h5",
  unfold: "M5 4v16M10 8l4 4-4 4M14 12h6",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12.5l4.5 4.5L19 7.5",
  arrow: "M5 12h14M13 6l6 6-6 6",
  filter: "M4 6h16M7 12h10M10 18h4",
  drop: "M12 4v11M7 10l5 5 5-5M5 20h14",
};

/** A line icon; what it means is said by the control around it. */
export const Icon = ({ name }) =>
  html`<svg class="icon" viewBox="0 0 24 24" width="18" height="18" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;

/** One line that says what went wrong. */
export const Failure = ({ error }) => html`<p class="failure" role="alert">${error.message}</p>`;

/** Every layer's kind in order, as a strip of colours. */
export function Strip({ strip, label = "" }) {
  const cells = strip.runs.reduce((sum, [, many]) => sum + many, 0);
  let at = 0;
  return html`<svg class="strip" viewBox=${`0 0 ${cells} 1`} preserveAspectRatio="none" role="img"
    aria-label=${label || said(strip)}>
    ${strip.runs.map(([kind, many]) => {
      const x = at;
      at += many;
      return html`<rect class=${kindClass(kind)} x=${x} y="0" width=${many} height="1" />`;
    })}
  </svg>`;
}

/** The colour of the n-th kind of layers. */
export const kindClass = (kind) => (kind < 6 ? `kind-${kind}` : "kind-other");

const said = ({ kinds, runs }) => {
  const counts = kinds.map(
    (name, i) => `${runs.reduce((sum, [kind, many]) => sum + (kind === i ? many : 0), 0)} × ${name}`,
  );
  return `Layers: ${counts.join(", ")}`;
};

/** The small words under a model's name: family, date, what kind. */
export const byline = (card) => [card.family, month(card.released)].filter(Boolean).join(" · ");

/** What cards and heads of pages say in numbers: [label, value, what it means]. */
export const figures = (card) => [
  ["Parameters", count(card.parameters), "weights of the text model"],
  ["Active", card.active === card.parameters ? "all" : count(card.active), "weights that one token uses"],
  ["State / token", bytes(card.state_per_token), "KV cache that one more token adds, in bf16, while no window is full"],
  ["Context", tokens(card.context), "tokens"],
];

/** A control with its label above. */
export const Field = ({ label, hint, children, wide }) =>
  html`<label class=${wide ? "field wide" : "field"}>
    <span class="field-label">${label}</span>${children}${hint && html`<span class="hint">${hint}</span>`}</label>`;

/** A select; options are [value, label], or {label, options} for groups. */
export function Select({ value, options, onChange, ...rest }) {
  const option = ([key, label]) =>
    html`<option value=${key} selected=${String(key) === String(value)}>${label}</option>`;
  return html`<select value=${value} onChange=${(event) => onChange(event.target.value)} ...${rest}>
    ${options.map((each) => (Array.isArray(each) ? option(each) : html`<optgroup label=${each.label}>${each.options.map(option)}</optgroup>`))}
  </select>`;
}

/** Models to choose from, by family. */
export function modelOptions(cards) {
  const families = new Map();
  for (const card of cards) {
    if (!families.has(card.family)) families.set(card.family, []);
    families.get(card.family).push([card.id, card.name]);
  }
  return [...families].map(([label, options]) => ({ label: label ?? "Yours", options }));
}

/** A button that does something and says for a moment that it did. */
export function Doing({ does, children, icon = "copy", label }) {
  const [said, set] = useState("");
  const click = async () => {
    try {
      set((await does()) ?? "done");
    } catch (error) {
      set(error.message);
    }
    setTimeout(() => set(""), 2500);
  };
  return html`<button type="button" class="small" onClick=${click} aria-label=${label}>
    <${Icon} name=${said ? "check" : icon} /><span aria-live="polite">${said || children}</span>
  </button>`;
}
