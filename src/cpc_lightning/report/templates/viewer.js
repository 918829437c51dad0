// The enlarged picture, the keyboard, and what every button does.
const viewer = byId("viewer"), help = byId("help"), other = byId("other");
filled(other, [["", "choose ..."], ...everyClass]);

async function look() {
  const sample = await currentSample();
  if (!sample) return;
  const frame = document.createElement("span");
  paint(frame, sample);
  byId("large").replaceChildren(frame);
  byId("viewer-title").textContent = nameOf(sample);
  const chances = (value) => (value === null ? "not judged" : `${(100 * value).toFixed(1)} %`);
  const rows = [
    ["Given label", className(sample.given)],
    ["Suggested label", `${className(sample.seen)} (${percent(sample.sure)} sure)`],
    ["Clean probability", `${chances(sample.chance)}`],
    ["by network 1 and 2", `${chances(sample.one)} and ${chances(sample.two)}`],
    data.truth ? ["True label", className(sample.truth)] : null,
    sample.path ? ["File", sample.path] : null,
    ["Index", `${sample.index} (${(current + 1).toLocaleString("en")} of ${view.length.toLocaleString("en")} shown)`],
    notes(sample) ? ["Also", notes(sample)] : null,
    ["Decision", describe(decisions.get(sample.index))],
  ].filter(Boolean);
  byId("details").replaceChildren(...rows.map(([name, value]) => {
    const row = document.createElement("div"), term = document.createElement("dt"), said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    row.append(term, said);
    return row;
  }));
  byId("relabel-text").textContent = `Relabel to ${className(sample.seen)}`;
  const decision = decisions.get(sample.index);
  for (const kind of ["keep", "relabel", "drop"]) {
    viewer.querySelector(`[data-act="${kind}"]`).setAttribute("aria-pressed", String(decision?.kind === kind && (kind !== "relabel" || decision.label === sample.seen)));
  }
  other.value = decision?.kind === "relabel" ? String(decision.label) : "";
  if (!viewer.open) viewer.showModal();
}

const notes = ({ flags }) => [
  flags & SUSPECTED && "suspected", flags & TRUSTED && "confirmed by a person", flags & TWIN && "has a near-duplicate",
  flags & FAR && "looks like none of the classes", flags & GONE && "the image cannot be read any more",
].filter(Boolean).join(", ");
const describe = (decision) => (decision ? (decision.kind === "relabel" ? `relabel to ${className(decision.label)}` : decision.kind) : "none yet");

function move(by) {
  goTo(current + by, !viewer.open);
  if (viewer.open) look();
}

async function act(kind, label = null) {
  if (kind === "next") return move(1);
  if (kind === "previous") return move(-1);
  if (kind === "close") return viewer.close();
  if (kind === "undo") {
    const index = undo();
    if (index !== null) {
      for (let position = 0; position < view.length; position += 1) {
        if (samples[view.at(position)]?.index === index) { goTo(position, !viewer.open); break; }
      }
    }
    return viewer.open ? look() : undefined;
  }
  const sample = await currentSample();
  if (sample) { decide([sample], kind, label); move(1); }
  return undefined;
}

async function choose() {
  if (!viewer.open) await look();
  other.focus();
}

const MOVES = { ArrowRight: 1, n: 1, ArrowLeft: -1, p: -1 };
const ACTS = { k: "keep", r: "relabel", d: "drop", u: "undo" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const typing = event.target.matches("input, select, textarea");
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const inside = viewer.open || scroller.contains(document.activeElement);
  const down = { ArrowDown: columns, ArrowUp: -columns, PageDown: columns * 3, PageUp: -columns * 3, Home: -view.length, End: view.length };
  let done = true;
  if (typing) done = false;
  else if (name === "/") { viewer.close(); byId("search").focus(); }
  else if (name === "?") help.showModal();
  else if (name === "u") act("undo");
  else if (inside && name in ACTS) act(ACTS[name]);
  else if (inside && name === "c") choose();
  else if (inside && name in MOVES) move(MOVES[name]);
  else if (inside && !viewer.open && name in down) goTo(current + down[name]);
  else if (name === "n" || name === "p") goTo(current);
  else done = false;
  if (done) event.preventDefault();
});

tiles.addEventListener("click", (event) => {
  const tile = event.target.closest("li");
  if (tile) { goTo(Number(tile.dataset.position)); look(); }
});
tiles.addEventListener("focusin", (event) => {
  const position = Number(event.target.closest("li").dataset.position);
  if (position !== current) goTo(position, false);
});
viewer.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) act(button.dataset.act);
  else if (event.target === viewer) viewer.close();
});
viewer.addEventListener("close", () => goTo(current));
other.addEventListener("change", () => { if (other.value !== "") { const label = Number(other.value); other.blur(); act("relabel", label); } });
byId("keys").addEventListener("click", () => help.showModal());
byId("help-close").addEventListener("click", () => help.close());
byId("undo").addEventListener("click", () => act("undo"));
byId("download").addEventListener("click", download);
for (const button of document.querySelectorAll("[data-bulk]")) button.addEventListener("click", () => bulk(button.dataset.bulk));

const form = byId("filters");
form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter)); // once the fields have their old values
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-given]");
  if (!link) return;
  form.reset();
  byId("given").value = link.dataset.given;
  byId("suggested").value = link.dataset.suggested ?? "";
  byId("gallery").scrollIntoView();
  setTimeout(() => filter().then(() => goTo(0)));
});

let drawing = false;
scroller.addEventListener("scroll", () => {
  if (!drawing) requestAnimationFrame(() => { drawing = false; draw(); });
  drawing = true;
});
new ResizeObserver(() => { if (!printing) layout(); }).observe(scroller);
window.addEventListener("storage", (event) => { if (event.key === key) { restore(); tell(); for (const tile of shown.values()) mark(tile); } });
const print = (now) => { // paper has no scrolling, and nothing that opens
  printing = now;
  document.body.classList.toggle("printing", now);
  for (const details of document.querySelectorAll(".caveats")) details.open = true;
  clear();
  scroller.scrollTop = 0;
  layout();
};
window.addEventListener("beforeprint", () => print(true));
window.addEventListener("afterprint", () => print(false));

restore();
tell();
filter();
