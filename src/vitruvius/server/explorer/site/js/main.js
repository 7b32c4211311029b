// The page around the views: header, navigation, and which view is shown. Each view is loaded when it is first needed.
import { html, render, useEffect, useRef, useState } from "./html.js";
import { href, returned, useRoute } from "./route.js";
import { index, usePromise } from "./data.js";
import { Failure, Icon } from "./parts/common.js";
import { Wall } from "./views/wall.js";

const VIEWS = {
  wall: { title: "Gallery", view: async () => Wall },
  timeline: { title: "Timeline", view: async () => (await import("./views/timeline.js")).Timeline },
  lineage: { title: "Lineage", view: async () => (await import("./views/lineage.js")).Lineage },
  compare: { title: "Compare", view: async () => (await import("./views/compare.js")).Compare },
  fit: { title: "Will it fit?", view: async () => (await import("./views/fit.js")).Fit },
  yours: { title: "Your model", view: async () => (await import("./views/yours.js")).Yours },
  try: { title: "Try", view: async () => (await import("./views/try.js")).Try },
  model: { title: "Architecture", view: async () => (await import("./views/architecture.js")).Architecture },
};
const NAVIGATION = ["wall", "timeline", "lineage", "compare", "fit", "yours", "try"];

function App() {
  const route = useRoute();
  const known = usePromise(index, [route.view]);
  const shown = VIEWS[route.view] ? route.view : "wall";
  const view = usePromise(VIEWS[shown].view, [shown]);
  const main = useRef(null);
  const place = `${route.view}/${route.args.join("/")}`;
  const last = useRef(place);
  useEffect(() => {
    if (last.current === place) return;
    last.current = place;
    main.current?.focus({ preventScroll: true });
    return scrolled(returned ?? 0);
  }, [place]);
  useEffect(() => {
    document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [shown]);
  useEffect(() => {
    if (shown !== "model") document.title = `${VIEWS[shown].title} · Vitruvius`;
  }, [shown]);
  const failed = known.error ?? view.error;
  const View = view.value;
  const ready = View && known.value;
  return html`
    <a class="skip" href="#main" onClick=${skip(main)}>Skip to content</a>
    <header class="top">
      <a class="brand" href="#/" aria-label="Vitruvius, the gallery"><${Mark} /> Vitruvius</a>
      <nav aria-label="Views">
        ${NAVIGATION.map(
          (name) =>
            html`<a key=${name} href=${href(name)} aria-current=${name === shown ? "page" : null}>${VIEWS[name].title}</a>`,
        )}
      </nav>
      <${ThemeButton} />
    </header>
    <main id="main" ref=${main} tabindex="-1" class=${`view-${shown}`} aria-busy=${!ready && !failed}>
      ${failed && html`<${Failure} error=${failed} />`}
      ${ready && html`<${View} key=${shown} index=${known.value} ...${route} />`}
    </main>
    <footer class="bottom">
      <p>
        Every figure, drawing and comparison is computed from the model's definition
        ${known.value?.version && html`${", by "}<code>vitruvius ${known.value.version}</code>`}.
      </p>
    </footer>
  `;
}

const PATIENCE = 3000; // milliseconds for a page to become as long as it was

/** Scrolls there as soon as the page is long enough. */
function scrolled(height) {
  const until = performance.now() + PATIENCE;
  let waiting = 0;
  const go = () => {
    scrollTo(0, height);
    if (scrollY < height - 1 && performance.now() < until) waiting = requestAnimationFrame(go);
  };
  go();
  return () => cancelAnimationFrame(waiting);
}

const skip = (main) => (event) => {
  event.preventDefault();
  main.current.focus();
};

function Mark() {
  return html`<svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
    <rect class="mark-back" width="32" height="32" rx="7" />
    <path class="mark-line" d="M9 8v3a7 7 0 0 0 14 0V8M16 18v7" />
    <rect class="mark-base" x="7" y="23" width="18" height="3.4" rx="1.7" />
    <circle class="mark-dot" cx="16" cy="11" r="2.6" />
  </svg>`;
}

function ThemeButton() {
  const root = document.documentElement;
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const [theme, set] = useState(root.dataset.theme ?? system());
  const other = theme === "dark" ? "light" : "dark";
  const change = () => {
    root.dataset.theme = other;
    set(other);
    dispatchEvent(new Event("themechange"));
    try {
      localStorage.setItem("theme", other);
    } catch {
      // not remembered then
    }
  };
  return html`<button class="icon-button theme" type="button" onClick=${change} aria-label=${`Switch to the ${other} theme`}
    title=${`Switch to the ${other} theme`}>
    <${Icon} name=${theme === "dark" ? "sun" : "moon"} />
  </button>`;
}

render(html`<${App} />`, document.getElementById("app"));
