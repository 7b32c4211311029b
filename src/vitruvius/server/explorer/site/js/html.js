// The view library: Preact's components with HTML in template strings. Values are always set as text or properties.
import { Fragment, h, render } from "../vendor/preact.mjs";
import htm from "../vendor/htm.mjs";

export { useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact-hooks.mjs";
export { Fragment, render };
export const html = htm.bind(h);
