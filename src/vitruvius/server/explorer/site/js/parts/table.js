// A table that copies itself.
import { html, useRef } from "../html.js";
import { cells, copyText, csv, markdown } from "../copy.js";
import { Doing } from "./common.js";

/** `children` are thead and tbody. */
export function Table({ name, caption, children }) {
  const table = useRef(null);
  const rows = () => cells(table.current);
  return html`<div class="table">
    <div class="row spread">
      <span class="hint">${caption}</span>
      <span class="row">
        <${Doing} label=${`Copy ${name} as CSV`} does=${() => copyText(csv(rows()), `${name}.csv`)}>CSV<//>
        <${Doing} label=${`Copy ${name} as Markdown`} does=${() => copyText(markdown(rows()), `${name}.md`)}>Markdown<//>
      </span>
    </div>
    <div class="table-wrap" tabindex="0" role="region" aria-label=${name}><table ref=${table}>${children}</table></div>
  </div>`;
}

/** A cell with a number, and a bar for its share (0 to 1). */
export const Share = ({ share, label }) => html`<td class="bar-cell" data-value=${label}>
  <i><b style=${{ width: `${Math.min(100, share * 100)}%` }}></b></i><span class="hidden">${label}</span>
</td>`;
