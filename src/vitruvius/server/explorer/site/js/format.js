// Numbers for people, spelled as the command line spells them.
const SCALES = [
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "B"],
  [1e6, "M"],
];
const BINARY = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

/** Three significant digits: 27.0, 0.596, 671. */
export function digits(value) {
  if (!value) return "0";
  if (value >= 999.5) return grouped(Math.round(value));
  return value.toPrecision(3).includes("e") ? value.toExponential(2) : value.toPrecision(3);
}

/** 1,234,567 */
export const grouped = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });

/** 27.0 B, 596 M; whole below a million. */
export function count(value) {
  const scale = SCALES.find(([size]) => value >= size * 0.9995);
  return scale ? `${digits(value / scale[0])} ${scale[1]}` : grouped(value);
}

/** 496 KiB */
export function bytes(value) {
  let i = 0;
  while (value >= 999.5 && i < BINARY.length - 1) {
    value /= 1024;
    i += 1;
  }
  return `${i ? digits(value) : grouped(value)} ${BINARY[i]}`;
}

/** Of a unit with prefixes: 989 TFLOP/s, 76.4 GFLOP. */
export function prefixed(value, unit) {
  const [size, letter] = [
    [1e18, "E"],
    [1e15, "P"],
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
    [1, ""],
  ].find(([scale]) => value >= scale * 0.9995) ?? [1, ""];
  return `${digits(value / size)} ${letter}${unit}`;
}

/** 12.3 ms, 4.56 s, 3 min 20 s */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 1e-3) return `${digits(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${digits(seconds * 1e3)} ms`;
  if (seconds < 120) return `${digits(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${digits(seconds / 3600)} h`;
}

/** 128k for 131,072; other lengths in full. */
export const tokens = (value) =>
  value >= 1024 && value % 1024 === 0
    ? value % 2 ** 20 === 0
      ? `${value / 2 ** 20}M`
      : `${grouped(value / 1024)}k`
    : grouped(value);

/** Mar 2025 */
export function month(released) {
  if (!released) return "";
  const [year, number] = released.split("-");
  return number ? `${MONTHS[number - 1]} ${year}` : year;
}

/** 12.3 % */
export const percent = (share) => (share >= 0.0995 ? `${(share * 100).toFixed(0)} %` : `${digits(share * 100)} %`);

/** "7B", "1.5 T", "64 KiB", "128k" as a number, null where it is none. k is 1,024 for bytes and tokens. */
export function number(text, binary = false) {
  const found = /^\s*([\d.,]+)\s*([kmgtp]?)(i?b?)\s*$/i.exec(
    text.replace(/\s*(bytes|tokens)$/i, "").replace(/(\d)\s*b$/i, "$1G"),
  );
  if (!found) return null;
  const power = { "": 0, k: 1, m: 2, g: 3, t: 4, p: 5 }[found[2].toLowerCase()];
  const value = Number(found[1].replaceAll(",", "")) * (binary ? 1024 : 1000) ** power;
  return Number.isFinite(value) ? value : null;
}
