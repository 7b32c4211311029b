// Drawings and charts as SVG and PNG, tables as CSV and Markdown: to the clipboard, or as a file where there is none.
const PAINT = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-opacity",
  "stroke-linecap",
  "stroke-linejoin",
];
const TYPE = ["font-family", "font-size", "font-weight"];
const FONTS = [
  ["400", "Inter-Regular"],
  ["600", "Inter-SemiBold"],
];
const PIXELS = 2; // of a PNG for one of the drawing

/** An SVG that stands by itself: the colours it has on the page now, and its font, are written into it. */
export async function standalone(svg) {
  const copy = svg.cloneNode(true);
  const [from, to] = [svg.querySelectorAll("*"), copy.querySelectorAll("*")];
  from.forEach((element, i) => {
    const style = getComputedStyle(element);
    const names = element.tagName === "text" ? [...PAINT, ...TYPE] : PAINT;
    if (element.matches("text, rect, circle, path"))
      for (const name of names) to[i].setAttribute(name, style.getPropertyValue(name));
    for (const name of ["class", "tabindex", "style", "role", "aria-label"]) to[i].removeAttribute(name);
  });
  const { width, height } = svg.viewBox.baseVal;
  for (const [name, value] of Object.entries({ xmlns: "http://www.w3.org/2000/svg", width, height }))
    copy.setAttribute(name, value);
  for (const name of ["class", "style"]) copy.removeAttribute(name);
  const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
  style.textContent = await fontFaces();
  copy.prepend(style);
  return new XMLSerializer().serializeToString(copy);
}

let faces = null;

function fontFaces() {
  faces ??= Promise.all(
    FONTS.map(async ([weight, file]) => {
      const url = await dataUrl(await (await fetch(`data/fonts/${file}.otf`)).blob());
      return `@font-face{font-family:"Inter";font-weight:${weight};src:url(${url})}`;
    }),
  ).then((all) => all.join("\n"));
  return faces;
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** A PNG of an SVG's text, on the page's paper. */
export async function png(text) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth * PIXELS;
  canvas.height = image.naturalHeight * PIXELS;
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--paper");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Text to the clipboard, else to a file. Says what it did. */
export async function copyText(text, name) {
  try {
    await navigator.clipboard.writeText(text);
    return "copied";
  } catch {
    return save(new Blob([text], { type: "text/plain;charset=utf-8" }), name);
  }
}

/** A PNG to the clipboard, else to a file. */
export async function copyPng(blob, name) {
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    return "copied";
  } catch {
    return save(blob, name);
  }
}

/** Saves a file. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[^\w.-]+/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  return "saved";
}

/** Rows of a table element as they are read: a list of lists of text. */
export const cells = (table) =>
  [...table.rows].map((row) =>
    [...row.cells].map((cell) => (cell.dataset.value ?? cell.textContent).trim().replace(/\s+/g, " ")),
  );

/** Rows as CSV. A text that a spreadsheet would take for a formula gets a quote before it. */
export const csv = (rows) =>
  rows
    .map((row) => row.map((text) => quoted(/^[=+@\t]|^-(?![\d.])/.test(text) ? `'${text}` : text)).join(","))
    .join("\r\n") + "\r\n";

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** Rows as a Markdown table. */
export function markdown([head, ...rows]) {
  const line = (row) =>
    `| ${row.map((text) => text.replaceAll("\\", "\\\\").replaceAll("|", "\\|").replaceAll("<", "\\<")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n") + "\n";
}
