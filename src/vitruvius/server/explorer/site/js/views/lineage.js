// Who comes from whom: a row for each model under what it comes from, and what changed on the way.
import { html, useMemo } from "../html.js";
import { href, update } from "../route.js";
import { load, usePromise } from "../data.js";
import { count, grouped, month } from "../format.js";
import { Failure, Icon } from "../parts/common.js";
import { Table } from "../parts/table.js";

const [LANE, ROW, DOT] = [20, 52, 5.5];
const RELATIONS = {
  weights: "continues from its weights",
  design: "its design follows the other's, as the source says",
  compared: "the nearest to compare with; nobody says that it derives from it",
};

export function Lineage({ index, query }) {
  const { value: lineage, error } = usePromise(() => load("lineage.json"), []);
  return html`
    <div class="hero"><h1>Lineage</h1>
    <p>Each model under the one it follows, with what changed, read from their definitions. Choose a line for all of it.</p></div>
    ${error && html`<${Failure} error=${error} />`}
    ${lineage && html`<${Tree} cards=${index.architectures} edges=${lineage.edges} chosen=${query.edge} />`}
  `;
}

function Tree({ cards, edges, chosen }) {
  const rows = useMemo(() => laid(cards, edges), [cards, edges]);
  const edge = edges.find(({ to }) => to === chosen);
  return html`<div class="lineage">
    <div class="panel lineage-rows">
      <${Lanes} rows=${rows} chosen=${chosen} />
      <ol>${rows.map(
        ({
          card,
          lane,
          edge: from,
        }) => html`<li key=${card.id} class=${card.id === chosen ? "here" : null}
          style=${{ height: `${ROW}px`, paddingLeft: `${lane * LANE + 34}px` }}>
          <p>
            <a href=${href("model", [card.id])}>${card.name}</a>
            ${" "}<span class="hint">${[month(card.released), count(card.parameters)].filter(Boolean).join(" · ")}</span>
          </p>
          ${from && html`<button type="button" class="change" aria-pressed=${card.id === chosen}
            onClick=${() => update({ edge: card.id === chosen ? "" : card.id })}>${from.label}<span class="hidden">, after ${from.from}</span></button>`}
        </li>`,
      )}</ol>
    </div>
    <${Change} edge=${edge} cards=${cards} />
  </div>`;
}

/** The largest branch of a model goes on in its column; the others stand between, one column to the right. */
function laid(cards, edges) {
  const card = new Map(cards.map((each) => [each.id, each]));
  const children = new Map();
  for (const edge of edges) children.set(edge.from, [...(children.get(edge.from) ?? []), edge]);
  const below = new Set(edges.map(({ to }) => to));
  const size = (id) => 1 + (children.get(id) ?? []).reduce((sum, { to }) => sum + size(to), 0);
  const rows = [];
  const place = (id, lane, edge, parent) => {
    const row = { card: card.get(id), lane, edge, parent, at: rows.length };
    rows.push(row);
    const all = [...(children.get(id) ?? [])].sort((a, b) => size(a.to) - size(b.to));
    all.forEach((each, i) => place(each.to, i === all.length - 1 ? lane : lane + 1, each, row));
  };
  for (const each of [...cards].filter(({ id }) => !below.has(id)).sort((a, b) => size(b.id) - size(a.id)))
    place(each.id, 0, null, null);
  return rows;
}

const colour = ({ kind }) => (kind.includes("hybrid") ? "kind-2" : kind === "MoE" ? "kind-1" : "kind-0");

function Lanes({ rows, chosen }) {
  const x = (lane) => lane * LANE + 14;
  const y = (at) => at * ROW + 18;
  const look = ({ card, edge }) => `lane ${edge.relation ?? ""} ${card.id === chosen ? "here" : ""}`;
  const size = ({ edge }) => (edge && !edge.nouns.length ? DOT - 2 : DOT); // smaller where only sizes differ
  const line = ({ parent, lane, at }) => {
    const [x0, y0, x1, y1] = [x(parent.lane), y(parent.at), x(lane), y(at)];
    return x0 === x1 ? `M${x0} ${y0}V${y1}` : `M${x0} ${y0}V${y1 - 12}Q${x0} ${y1} ${x0 + 12} ${y1}H${x1}`;
  };
  return html`<svg class="lanes" width=${x(Math.max(...rows.map(({ lane }) => lane)) + 1)} height=${rows.length * ROW}
    aria-hidden="true">
    ${rows.filter(({ parent }) => parent).map((row) => html`<path class=${look(row)} d=${line(row)} />`)}
    ${rows.map((row) => html`<circle class=${`lineage-dot ${colour(row.card)}`} cx=${x(row.lane)} cy=${y(row.at)} r=${size(row)} />`)}
  </svg>`;
}

const shown = (value) => (Number.isInteger(value) ? grouped(value) : String(value));

function Change({ edge, cards }) {
  const name = (id) => cards.find((card) => card.id === id)?.name ?? id;
  if (!edge) {
    return html`<aside class="panel change-detail"><ul class="legend vertical">
      ${["dense", "mixture of experts", "hybrid"].map((kind, i) => html`<li>
        <svg class="swatch" viewBox="0 0 12 12" aria-hidden="true"><circle class=${`kind-${i}`} cx="6" cy="6" r="5" />
        </svg>${kind}</li>`)}
      <li><svg class="swatch" viewBox="0 0 12 12" aria-hidden="true"><circle class="kind-0" cx="6" cy="6" r="3" />
      </svg>small: only sizes differ</li>
      <li><svg class="line-sample" viewBox="0 0 30 4" aria-hidden="true"><path class="lane" d="M0 2H30" /></svg>comes from it</li>
      <li><svg class="line-sample" viewBox="0 0 30 4" aria-hidden="true"><path class="lane compared" d="M0 2H30" />
      </svg>the nearest to compare with</li>
    </ul></aside>`;
  }
  const rows = [...edge.nouns, ...edge.numbers];
  return html`<aside class="panel change-detail open" aria-live="polite" aria-label="What changed">
    <div class="row spread head-row"><h2>${name(edge.from)} → ${name(edge.to)}</h2>
    <button type="button" class="icon-button" aria-label="Close" onClick=${() => update({ edge: "" })}><${Icon} name="close" />
    </button></div>
    ${edge.relation && html`<p class="hint">${RELATIONS[edge.relation] ?? edge.relation}${edge.source && `: ${edge.source}`}</p>`}
    ${
      rows.length > 0
        ? html`<${Table} name="changes"><thead><tr><th scope="col">What</th><th scope="col">before</th><th scope="col">after</th></tr></thead>
          <tbody>${rows.map((row) => html`<tr><th scope="row">${row.what}</th><td>${shown(row.a)}</td><td>${shown(row.b)}</td>
            </tr>`)}</tbody><//>`
        : html`<p>${edge.label}</p>`
    }
    <p><a class="button" href=${href("compare", [`${edge.from},${edge.to}`])}>Compare them</a></p>
  </aside>`;
}
