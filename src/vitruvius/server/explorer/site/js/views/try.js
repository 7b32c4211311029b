// Try: a local model writes, with the probability of each token; what a head looks at, and which experts were chosen.
import { html, useEffect, useRef, useState } from "../html.js";
import { usePromise } from "../data.js";
import { digits, percent } from "../format.js";
import { look, stream } from "../local.js";
import { Failure, Field, Select } from "../parts/common.js";
import { Heads, Lens, Pattern, Without } from "../parts/inside.js";
import { Table } from "../parts/table.js";

export function Try({ index }) {
  const { value, error } = usePromise(
    () => (index.served ? look(index.api, "") : Promise.resolve({ available: false, why: "" })),
    [],
  );
  return html`
    <div class="hero"><h1>Try</h1>
    <p>A model on this machine writes; see how sure it is, where it looks, and which experts it asks.</p></div>
    ${error && html`<${Failure} error=${error} />`}
    ${!index.served && html`<p class="note">This is the exported gallery, which runs no model. <code>vitruvius explore</code> on your machine does.</p>`}
    ${index.served && value && !value.available && html`<p class="note">${value.why}</p>`}
    ${value?.available && html`<${Box} api=${index.api} models=${value.models} />`}
  `;
}

function Box({ api, models }) {
  const [model, setModel] = useState(models[0].id);
  const [prompt, setPrompt] = useState("The capital of France is");
  const [temperature, setTemperature] = useState(0);
  const [chat, setChat] = useState(/instruct|chat|-it\b/i.test(models[0].id));
  const [length, setLength] = useState(64);
  const [sent, setSent] = useState({ prompt: "", shown: "" }); // what the written tokens follow
  const [tokens, setTokens] = useState([]);
  const [state, set] = useState({});
  const stopper = useRef(null);
  useEffect(() => () => stopper.current?.abort(), []);
  const run = async (event) => {
    event.preventDefault();
    stopper.current = new AbortController();
    setTokens([]);
    setSent({ prompt, shown: chat ? "" : prompt });
    set({ running: true });
    try {
      const asked = { model, prompt, max_new_tokens: length, temperature, chat };
      for await (const { event: kind, data } of stream(api, asked, stopper.current.signal)) {
        if (kind === "token") setTokens((all) => [...all, data]);
        else if (kind === "error") throw new Error(data.error);
        else set({ done: data });
      }
      set((now) => ({ ...now, running: false }));
    } catch (error) {
      set(error.name === "AbortError" ? {} : { error });
    }
  };
  return html`<div class="try">
    <form class="panel try-form" onSubmit=${run}>
      <${Field} label="Model" wide><${Select} value=${model} options=${models.map(({ id, name }) => [id, name ?? id])}
        onChange=${(id) => (setModel(id), setChat(/instruct|chat|-it\b/i.test(id)))} /><//>
      <${Field} label=${chat ? "Message" : "Text to go on from"} wide>
      <textarea rows="4" maxlength="8000" value=${prompt} onInput=${(event) => setPrompt(event.target.value)}></textarea><//>
      <${Field} label=${`Temperature ${temperature}`} wide>
      <input type="range" min="0" max="2" step="0.1" value=${temperature}
        onInput=${(event) => setTemperature(Number(event.target.value))} /><//>
      <${Field} label=${`At most ${length} tokens`} wide>
      <input type="range" min="8" max="512" step="8" value=${length} onInput=${(event) => setLength(Number(event.target.value))} /><//>
      <label class="check"><input type="checkbox" checked=${chat} onChange=${(event) => setChat(event.target.checked)} />
        <span>as a message, in the model’s chat template</span></label>
      <p class="row">${state.running ? html`<button type="button" class="small"
        onClick=${() => stopper.current.abort()}>Stop</button>` : html`<button class="primary" disabled=${!prompt}>Write on</button>`}
        ${state.done && html`<span class="hint">${state.done.tokens} tokens, ${digits(state.done.tokens / state.done.seconds)} a second</span>`}</p>
      ${state.error && html`<${Failure} error=${state.error} />`}
    </form>
    <${Written} prompt=${sent.shown} tokens=${tokens} />
    <${Inside} key=${model} api=${api} model=${model} text=${(tokens.length ? sent.prompt : prompt) + tokens.map(({ text }) => text).join("")}
      idle=${!state.running} />
  </div>`;
}

/** The line breaks of a token; within its button they would break no line. */
const breaks = (text) => "\n".repeat(text.split("\n").length - 1);

function Written({ prompt, tokens }) {
  const [chosen, choose] = useState(null);
  const token = tokens[chosen];
  return html`<section class="panel"><h2>What it wrote</h2>
    <p class="written"><span class="hint">${prompt}</span>${tokens.map(
      (each, i) =>
        html`<button type="button" class="token" aria-pressed=${i === chosen}
          aria-label=${`${each.text}, probability ${percent(each.probability)}`} style=${{ "--sure": each.probability }}
          onClick=${() => choose(i)} onMouseEnter=${() => choose(i)}>${each.text.replaceAll("\n", "↵")}</button>${breaks(each.text)}`,
    )}</p>
    <p class="hidden" role="status">${tokens.length && tokens.length % 16 === 0 ? tokens.map(({ text }) => text).join("") : ""}</p>
    ${token ? html`<table class="choices"><caption>Instead of “${token.text}”, ${percent(token.probability)}</caption>
      <tbody>${token.top.map((each) => html`<tr><th scope="row"><code>${JSON.stringify(each.text)}</code></th>
        <td class="bar-cell"><i><b style=${{ width: `${each.probability * 100}%` }}></b></i></td>
        <td class="number">${percent(each.probability)}</td>
        </tr>`)}</tbody></table>` : html`<p class="hint">The paler a token, the less sure the model was. Point at one for what else it might have been.</p>`}
  </section>`;
}

function Inside({ api, model, text, idle }) {
  const [state, set] = useState({});
  const [place, setPlace] = useState({ path: "", head: 0 });
  const open = async () => {
    try {
      const found = await look(api, "look", { model, text });
      set({ found, text });
      const [first] = found.attentions;
      if (first) show(first.path, 0, text);
    } catch (error) {
      set({ error });
    }
  };
  const show = async (path, head, from = state.text) => {
    setPlace({ path, head });
    try {
      const attention = await look(api, "attention", { model, text: from, path, head });
      set((now) => ({ ...now, attention }));
    } catch (error) {
      set((now) => ({ ...now, error }));
    }
  };
  const route = async (path) => {
    try {
      const router = await look(api, "router", { model, text: state.text, path });
      set((now) => ({ ...now, router: { ...router, path } }));
    } catch (error) {
      set((now) => ({ ...now, error }));
    }
  };
  const { found, attention, router, error } = state;
  const heads = found?.attentions.find(({ path }) => path === place.path)?.heads ?? 0;
  return html`<section class="panel inside"><div class="row spread"><h2>Inside, one forward pass</h2>
    <button type="button" class="small" disabled=${!idle || !text} onClick=${open}>Look at this text</button></div>
    ${error && html`<${Failure} error=${error} />`}
    ${
      found?.attentions.length > 0 &&
      html`<div class="row">
      <${Field} label="Attention"><${Select} value=${place.path} options=${found.attentions.map(({ path }) => [path, path])}
        onChange=${(path) => show(path, 0)} /><//>
      <${Field} label="Head"><${Select} value=${place.head} options=${Array.from({ length: heads }, (_, i) => [i, i])}
        onChange=${(head) => show(place.path, Number(head))} /><//>
    </div>`
    }
    ${attention && html`<${Pattern} attention=${attention} />`}
    ${found && html`<${Heads} key=${`${state.text}${place.path}`} api=${api} model=${model} text=${state.text} path=${place.path}
      show=${(head) => show(place.path, head)} />
    <${Lens} key=${`${state.text}lens`} api=${api} model=${model} text=${state.text} />
    <${Without} key=${`${state.text}without`} api=${api} model=${model} text=${state.text} found=${found} />`}
    ${found?.routers.length > 0 && html`<${Field} label="Router">
      <${Select} value=${router?.path ?? ""} options=${[["", "choose one"], ...found.routers.map(({ path }) => [path, path])]}
        onChange=${(path) => path && route(path)} /><//>`}
    ${router && html`<${Table} name="experts chosen"><thead><tr><th scope="col">Token</th><th scope="col">Experts, best first</th></tr></thead>
      <tbody>${router.tokens.map((token, i) => html`<tr><td><code>${JSON.stringify(textOf(token))}</code></td>
        <td>${router.experts[i].map((expert, k) => `${expert} (${percent(router.weights[i][k])})`).join(", ")}</td>
        </tr>`)}</tbody><//>`}
  </section>`;
}

const textOf = (token) => (typeof token === "string" ? token : token.text);
