// What differs between architectures: their `aspects`, row by row, and where that is in their drawings.

/** Rows {section, label, values, differs, paths (of each record)}; roles that say the same are told once. */
export function differences(records) {
  const labels = new Map();
  records.forEach((record, i) => {
    for (const aspect of record.aspects) {
      const key = `${aspect.section}\n${aspect.label}`;
      if (!labels.has(key)) labels.set(key, { section: aspect.section, label: aspect.label, roles: new Map() });
      const { roles } = labels.get(key);
      if (!roles.has(aspect.role))
        roles.set(
          aspect.role,
          records.map(() => []),
        );
      roles.get(aspect.role)[i].push(aspect);
    }
  });
  return [...labels.values()].flatMap(({ section, label, roles }) => {
    const found = [...roles].map(([role, each]) => row(section, role ? `${role} ${label}` : label, each));
    const same = found.every(({ values }) => values.every((value, i) => value === found[0].values[i]));
    if (!same) return found;
    return [{ ...found[0], label, paths: records.map((_, i) => found.flatMap(({ paths }) => paths[i])) }];
  });
}

function row(section, label, each) {
  const values = each.map((aspects) => [...new Set(aspects.map(({ value }) => value))].join("; ") || "none");
  const named = label.startsWith(`${section} `) ? label.slice(section.length + 1) : label;
  return {
    section,
    label: named,
    values,
    differs: new Set(values).size > 1,
    paths: each.map((aspects) => aspects.flatMap(({ paths }) => paths)),
  };
}

/** What to highlight in the i-th record's drawing: {path of the drawing: "whole" | "detail"}. Of what is something else
 * as a whole, nothing inside is marked again. */
export function marked(record, rows, i) {
  const marks = {};
  // How many layers there are is no difference of each.
  const paths = rows
    .filter(({ differs }) => differs)
    .flatMap((each) => each.paths[i])
    .filter((path) => path !== "layers");
  for (const drawn of new Set([...record.drawing.svg.matchAll(/data-path="([^"]*)"/g)].map(([, path]) => path))) {
    if (paths.some((path) => drawn.startsWith(`${path}.`))) continue;
    if (paths.includes(drawn)) marks[drawn] = "whole";
    else if (paths.some((path) => path.startsWith(`${drawn}.`))) marks[drawn] = "detail";
  }
  return marks;
}
