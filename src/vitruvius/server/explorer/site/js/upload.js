// What is dropped on the page goes to the explorer's own server: a config whole, of a weight file only its beginning.
const FIRST = 2 ** 20; // bytes of a weight file that are sent at first, and all that a config may have
const MOST = 64 * 2 ** 20;

/** The answer {record}, or {error, unknown} when keys are not known. Throws an Error with one line. */
export async function describe(api, file, ignore = []) {
  const weights = /\.(gguf|safetensors)$/i.test(file.name);
  if (!weights && file.size > FIRST)
    throw new Error(`${file.name} has ${file.size.toLocaleString("en-US")} bytes; a config.json has at most 1 MiB`);
  let size = Math.min(file.size, FIRST);
  for (;;) {
    const query = new URLSearchParams({
      name: file.name,
      size: String(file.size),
      ...(ignore.length && { ignore: ignore.join(",") }),
    });
    const response = await fetch(`${api}architecture?${query}`, { method: "POST", body: file.slice(0, size) });
    const told = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    if (response.ok) return { record: told };
    if (told.unknown) return told;
    const needed = told.needs && Math.min(file.size, MOST, Math.max(told.needs, 8 * size));
    if (!weights || !needed || needed <= size) throw new Error(told.error);
    size = needed;
  }
}
