// A conversation on /v1/chat/completions. What a model writes is only ever put on the page as text.

const $ = (id) => document.getElementById(id);
let messages = []; // {role, content, reasoning, about}
let running = null; // the AbortController of the answer that is being written

const headers = () => ({ "content-type": "application/json", ...($("key").value && { authorization: `Bearer ${$("key").value}` }) });

async function models() {
  const answer = await fetch("v1/models", { headers: headers() });
  if (!answer.ok) return tell(answer.status === 401 ? "This server needs a key: give it in the settings." : await problem(answer));
  tell("");
  const chosen = $("model").value;
  const names = (await answer.json()).data.map((model) => model.id);
  $("model").replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
}

const problem = async (answer) => (await answer.json().catch(() => null))?.error?.message ?? `The server answered ${answer.status}.`;
const tell = (text) => { $("told").textContent = text; };

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function action(name, does) {
  const made = element("button", "", name);
  made.type = "button";
  made.disabled = Boolean(running);
  made.addEventListener("click", does);
  return made;
}

function shown(message, place) {
  const article = element("article", message.role);
  if (message.reasoning) {
    const more = element("details", "", element("summary", "", "Reasoning"), element("div", "reasoning", message.reasoning));
    more.open = !message.content;
    article.append(more);
  }
  article.append(element("div", "text", message.content));
  const footer = element("footer");
  if (message.about) footer.append(element("span", "", message.about));
  if (message.role === "user") footer.append(action("Edit", () => edit(place)));
  else if (place === messages.length - 1) footer.append(action("Again", () => { messages.pop(); write(); }));
  article.append(footer);
  return article;
}

function draw() {
  const view = $("conversation");
  const below = view.scrollHeight - view.scrollTop - view.clientHeight < 40;
  view.replaceChildren(...messages.map(shown));
  if (below) view.scrollTop = view.scrollHeight;
  $("send").hidden = Boolean(running);
  $("stop").hidden = !running;
}

function edit(place) { // back to before that message, which stands in the field again
  $("text").value = messages[place].content;
  messages = messages.slice(0, place);
  draw();
  $("text").focus();
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
  }
}

async function write() {
  const system = $("system").value.trim();
  const asked = {
    model: $("model").value || undefined,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...messages.map(({ role, content }) => ({ role, content }))],
    stream: true,
    stream_options: { include_usage: true },
  };
  if ($("temperature").value) asked.temperature = Number($("temperature").value);
  if ($("most").value) asked.max_completion_tokens = Number($("most").value);
  const message = { role: "assistant", content: "", reasoning: "", about: "" };
  running = new AbortController();
  messages.push(message);
  tell("");
  draw();
  const begun = performance.now();
  let first = 0, usage = null, reason = "";
  try {
    const answer = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(asked), signal: running.signal });
    if (!answer.ok) throw new Error(await problem(answer));
    for await (const event of events(answer)) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage ?? usage;
      for (const { delta, finish_reason } of event.choices) {
        reason = finish_reason ?? reason;
        if (!delta.content && !delta.reasoning_content) continue;
        first ||= performance.now();
        message.content += delta.content ?? "";
        message.reasoning += delta.reasoning_content ?? "";
        draw();
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") tell(error.message);
    else message.about = "stopped";
  }
  if (usage) {
    const { completion_tokens: tokens, prompt_tokens: read, prompt_tokens_details: details } = usage;
    const rate = tokens > 1 ? ` at ${((tokens - 1) / ((performance.now() - first) / 1000)).toFixed(1)} per second` : "";
    message.about = `${tokens} tokens${rate}; first after ${((first - begun) / 1000).toFixed(2)} s; ${details.cached_tokens} of ${read} remembered`
      + (reason === "length" ? "; cut off by the limit" : "");
  }
  running = null;
  if (!message.content && !message.reasoning && !message.about) messages.pop();
  draw();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (running || !text.trim()) return;
  messages.push({ role: "user", content: text });
  $("text").value = "";
  write();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", () => { running?.abort(); messages = []; tell(""); draw(); $("text").focus(); });
$("key").addEventListener("change", models);
models().catch((error) => tell(error.message));
$("text").focus();
