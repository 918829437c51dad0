// What the person decides of each label, by its index: kept in this browser under the run's id, undone, downloaded.
const decisions = new Map(); // index -> {kind: "keep" | "relabel" | "drop", label: class, or -1}
const past = []; // steps, each a list of [index, what was decided before]
const key = `cpc-lightning:${data.id}`;

function save() {
  const stored = { keep: [], drop: [], relabel: {} };
  for (const [index, { kind, label }] of decisions) {
    if (kind === "relabel") (stored.relabel[label] ??= []).push(index);
    else stored[kind].push(index);
  }
  try {
    localStorage.setItem(key, JSON.stringify(stored));
  } catch {
    say("This browser keeps nothing for this page: download your decisions before you close it.");
  }
}

function restore() {
  decisions.clear();
  try {
    const stored = JSON.parse(localStorage.getItem(key) || "{}");
    for (const kind of ["keep", "drop"]) for (const index of stored[kind] || []) decisions.set(index, { kind, label: -1 });
    for (const [label, indices] of Object.entries(stored.relabel || {})) {
      for (const index of indices) if (data.classes[label] !== undefined) decisions.set(index, { kind: "relabel", label: Number(label) });
    }
  } catch {
    // What cannot be read is not there; `save` says so once something is decided.
  }
}

// Decide for several samples in one step. To relabel as given is to keep.
function decide(chosen, kind, label = null) {
  const step = [];
  for (const sample of chosen) {
    const to = kind === "relabel" ? label ?? sample.seen : -1;
    const same = kind === "relabel" && (to === sample.given || to < 0);
    if (kind === "keep" && sample.given < 0) continue; // there is no label to keep
    if (same && sample.given < 0) continue;
    step.push([sample.index, decisions.get(sample.index)]);
    decisions.set(sample.index, same ? { kind: "keep", label: -1 } : { kind, label: to });
  }
  if (step.length) past.push(step);
  changed();
  return step.length;
}

// Take the last step back; the index of what it was about.
function undo() {
  const step = past.pop();
  if (!step) return null;
  for (const [index, before] of step.reverse()) before ? decisions.set(index, before) : decisions.delete(index);
  changed();
  return step[0][0];
}

function changed() {
  save();
  tell();
  for (const tile of shown.values()) mark(tile);
}

function tell() {
  const counts = { keep: 0, relabel: 0, drop: 0 };
  for (const { kind } of decisions.values()) counts[kind] += 1;
  const parts = Object.entries(counts).filter(([, n]) => n).map(([kind, n]) => `${n.toLocaleString("en")} ${kind}`);
  byId("tally").textContent = parts.length ? `Decided: ${parts.join(", ")}` : "Nothing decided yet";
  byId("undo").disabled = !past.length;
  byId("download").disabled = !decisions.size;
}

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

// The decisions as mode=apply reads them: index,path,decision,label.
async function csv() {
  const paths = new Map();
  const look = () => { for (const sample of samples) if (sample) paths.set(sample.index, sample.path); };
  look();
  if ([...decisions.keys()].some((index) => !paths.has(index))) { await loadAll(); look(); }
  const rows = [...decisions].sort(([a], [b]) => a - b).map(([index, { kind, label }]) =>
    [index, quoted(paths.get(index) || ""), kind, kind === "relabel" ? quoted(data.names[label]) : ""].join(","));
  return `index,path,decision,label\n${rows.map((row) => `${row}\n`).join("")}`;
}

async function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([await csv()], { type: "text/csv" }));
  link.download = data.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`${data.file} is in your downloads. Apply it with the command under "The run".`);
}
