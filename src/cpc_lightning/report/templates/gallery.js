// Which labels are shown, in what order, and the tiles of those that are in view.
const long = data.classes.some((name) => name.length > 5); // then names stand below each other
const LEAST = 88, WORDS = long ? 64 : 46; // a tile's least width and the height below its picture, in pixels
const scroller = byId("scroller"), tiles = byId("tiles"), template = byId("tile");
const shown = new Map(); // position in the view -> tile
let view = { length: 0, at: (position) => position }; // positions -> ranks
let columns = 1, width = LEAST, height = LEAST + WORDS, current = 0, printing = false, asked = 0;

const SHOW = {
  suspected: ["Suspected", (s) => s.flags & SUSPECTED],
  all: ["All", () => true],
  undecided: ["Not decided yet", (s) => !decisions.has(s.index)],
  decided: ["Decided", (s) => decisions.has(s.index)],
  contradicted: ["Contradicted by the networks", (s) => s.given >= 0 && s.given !== s.seen],
  twins: ["Near-duplicates", (s) => s.flags & TWIN],
  far: ["Like none of the classes", (s) => s.flags & FAR],
  trusted: ["Confirmed by a person", (s) => s.flags & TRUSTED],
  unlabeled: ["Without a label", (s) => s.given < 0],
};
const apart = (s) => (s.one === null || s.two === null ? 0 : Math.abs(s.one - s.two));
const SORT = {
  suspicious: ["Most suspicious first", (a, b) => a.rank - b.rank],
  sure: ["Confidence in the suggestion", (a, b) => b.sure - a.sure],
  apart: ["Networks disagree most", (a, b) => apart(b) - apart(a)],
  given: ["Given class", (a, b) => a.given - b.given],
  name: data.has_paths
    ? ["File name", (a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0)]
    : ["Position in the set", (a, b) => a.index - b.index],
};

tiles.classList.toggle("long", long);
const filled = (select, options) => select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
const everyClass = data.classes.map((name, label) => [label, name]);
filled(byId("show"), Object.entries(SHOW).map(([name, [text]]) => [name, text]));
filled(byId("sort"), Object.entries(SORT).map(([name, [text]]) => [name, text]));
filled(byId("given"), [["", "every class"], ...everyClass]);
filled(byId("suggested"), [["", "every class"], ...everyClass]);
const usual = data.suspected ? "suspected" : "all";
for (const option of byId("show").options) option.defaultSelected = option.value === usual;

// Show what the filters ask for. In the usual order nothing is read before it is scrolled to; any other needs all.
async function filter() {
  const turn = ++asked;
  const show = byId("show").value, sort = byId("sort").value, words = byId("search").value.trim().toLowerCase();
  const given = byId("given").value, seen = byId("suggested").value, sure = Number(byId("sure").value) / 100;
  byId("sure-value").textContent = percent(sure);
  const plain = sort === "suspicious" && given === "" && seen === "" && sure === 0 && words === "";
  if (plain && (show === "all" || show === "suspected")) {
    view = { length: show === "all" ? data.total : data.suspected, at: (position) => position };
  } else {
    await loadAll(show === "suspected" ? data.suspected : data.total);
    if (turn !== asked) return; // the filters have changed meanwhile
    const fits = (s) => s && SHOW[show][1](s) && (given === "" || s.given === Number(given)) && (seen === "" || s.seen === Number(seen))
      && s.sure >= sure && (words === "" || s.path.toLowerCase().includes(words) || String(s.index) === words);
    const found = samples.filter(fits);
    if (sort !== "suspicious") found.sort((a, b) => SORT[sort][1](a, b) || a.rank - b.rank);
    const ranks = Int32Array.from(found, (s) => s.rank);
    view = { length: ranks.length, at: (position) => ranks[position] };
  }
  current = 0;
  scroller.scrollTop = 0;
  byId("count").textContent = `${view.length.toLocaleString("en")} of ${data.total.toLocaleString("en")}`;
  byId("empty").hidden = view.length > 0;
  for (const button of document.querySelectorAll("[data-bulk]")) button.disabled = view.length === 0;
  clear();
  layout();
}

function clear() {
  for (const tile of shown.values()) tile.remove();
  shown.clear();
}

function layout() {
  const space = scroller.clientWidth;
  columns = Math.max(2, Math.floor(space / (LEAST + 8)));
  width = space / columns;
  height = Math.round(width + WORDS);
  tiles.style.height = printing ? "auto" : `${Math.ceil(view.length / columns) * height}px`;
  draw();
}

// Tiles for the rows in view and one on either side; the others go, so that their number stays bounded.
function draw() {
  const first = printing ? 0 : Math.max(0, Math.floor(scroller.scrollTop / height) - 1) * columns;
  const rows = Math.ceil(scroller.clientHeight / height) + 3;
  const last = Math.min(view.length, printing ? 60 : first + rows * columns);
  for (const [position, tile] of shown) {
    if ((position < first || position >= last) && !tile.contains(document.activeElement)) { tile.remove(); shown.delete(position); }
  }
  for (let position = first; position < last; position += 1) {
    if (!shown.has(position)) {
      const tile = template.content.firstElementChild.cloneNode(true);
      tile.dataset.position = position;
      tile.setAttribute("aria-setsize", view.length);
      tile.setAttribute("aria-posinset", position + 1);
      shown.set(position, tile);
      const after = [...shown.keys()].filter((other) => other > position && other < last);
      tiles.insertBefore(tile, after.length ? shown.get(Math.min(...after)) : null);
      fill(tile);
    }
    const tile = shown.get(position);
    tile.style.cssText = printing ? "" : `width:${width}px;height:${height}px;transform:translate(${(position % columns) * width}px,${Math.floor(position / columns) * height}px)`;
  }
}

function fill(tile) {
  const rank = view.at(Number(tile.dataset.position)), sample = samples[rank];
  if (!sample) {
    loadChunk(chunkOf(rank)).then((there) => { if (there && tile.isConnected) fill(tile); });
    return;
  }
  paint(tile.querySelector(".picture"), sample);
  tile.querySelector(".given").textContent = className(sample.given);
  tile.querySelector(".seen").textContent = className(sample.seen);
  const doubt = sample.chance === null ? sample.sure : 1 - sample.chance;
  tile.querySelector(".chance").style.setProperty("--v", doubt);
  tile.querySelector(".percent").textContent = `${percent(sample.sure)} sure`;
  mark(tile);
}

const BADGES = { keep: () => "✓ keep", relabel: ({ label }) => `→ ${className(label)}`, drop: () => "✕ drop" };

function mark(tile) {
  const position = Number(tile.dataset.position), sample = samples[view.at(position)];
  if (!sample) return;
  const decision = decisions.get(sample.index), badge = tile.querySelector(".badge"), button = tile.firstElementChild;
  badge.hidden = !decision;
  badge.className = `badge ${decision ? decision.kind : ""}`;
  badge.textContent = decision ? BADGES[decision.kind](decision) : "";
  button.classList.toggle("decided", Boolean(decision));
  const said = decision ? `${decision.kind}${decision.kind === "relabel" ? ` to ${className(decision.label)}` : ""}` : "not decided";
  button.setAttribute("aria-label", `${nameOf(sample)}: given ${className(sample.given)}, looks like ${className(sample.seen)}, ${percent(sample.sure)} sure; ${said}`);
  button.title = `${sample.path || nameOf(sample)}\n${className(sample.given)} → ${className(sample.seen)}`;
  button.tabIndex = position === current ? 0 : -1;
  if (position === current) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
}

// Make the sample at this position the current one, in view; with `focus`, give it the keyboard.
function goTo(position, focus = true) {
  if (!view.length) return;
  const before = current;
  current = Math.min(Math.max(position, 0), view.length - 1);
  const top = Math.floor(current / columns) * height;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top + height > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + height - scroller.clientHeight;
  draw();
  for (const one of [before, current]) if (shown.has(one)) mark(shown.get(one));
  if (focus && shown.has(current)) shown.get(current).firstElementChild.focus({ preventScroll: true });
}

async function currentSample() {
  const rank = view.at(current);
  if (view.length && !samples[rank]) await loadChunk(chunkOf(rank));
  return view.length ? samples[rank] : null;
}

async function bulk(kind) {
  const { length, at } = view;
  let furthest = 0;
  for (let position = 0; position < length; position += 1) furthest = Math.max(furthest, at(position));
  await loadAll(furthest + 1);
  const chosen = Array.from({ length }, (_, position) => samples[at(position)]).filter(Boolean);
  const count = decide(chosen, kind);
  say(`${count.toLocaleString("en")} labels decided at once: ${kind}${kind === "relabel" ? " to their suggestions" : ""}. U takes it back.`);
}
