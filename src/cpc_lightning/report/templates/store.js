// What the page knows of each label: the first ones within the page, the others in data/000.js, data/001.js, ..., which
// are scripts because a page opened as a file may run scripts that lie beside it and read nothing else.
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("cpc-data").textContent);
const samples = new Array(data.total); // by rank: 0 is the most suspicious label
const SUSPECTED = 1, TRUSTED = 2, GONE = 4, TWIN = 8, FAR = 16; // bits of `flags`, as report/page_data.py sets them
const chunks = new Map(); // number -> promise that it is there
let chunksThere = 0;

function place(start, columns) {
  columns.index.forEach((index, i) => {
    samples[start + i] = {
      rank: start + i, index, path: columns.path ? columns.path[i] : "", given: columns.given[i], seen: columns.seen[i],
      sure: columns.sure[i], one: columns.one[i], two: columns.two[i], chance: columns.chance[i],
      truth: columns.truth ? columns.truth[i] : -1, flags: columns.flags[i],
    };
  });
}

place(0, data.samples);
window.cpc = { add: (number, columns) => place(data.embedded + number * data.per, columns) };

const numbered = (number) => String(number).padStart(3, "0");
const chunkOf = (rank) => Math.floor((rank - data.embedded) / data.per);
const chunkCount = Math.ceil(Math.max(0, data.total - data.embedded) / data.per);

function loadChunk(number) {
  if (!chunks.has(number)) {
    chunks.set(number, new Promise((resolve) => {
      const script = document.createElement("script");
      script.src = `data/${numbered(number)}.js`;
      script.onload = () => { chunksThere += 1; resolve(true); };
      script.onerror = () => { chunks.delete(number); say(`${script.src} cannot be read: what lies beside the page must stay there.`); resolve(false); };
      document.head.append(script);
    }));
  }
  return chunks.get(number);
}

async function loadAll(upTo = data.total) {
  const last = Math.min(chunkCount, upTo > data.embedded ? chunkOf(upTo - 1) + 1 : 0);
  for (let begin = 0; begin < last; begin += 16) { // a few at a time: the page stays usable
    await Promise.all(Array.from({ length: Math.min(16, last - begin) }, (_, i) => loadChunk(begin + i)));
    if (last > 16) say(begin + 16 < last ? `Reading part ${begin + 16} of ${last} ...` : "");
  }
}

const className = (label) => (label >= 0 ? data.classes[label] : label === -2 ? "none of the classes" : "no label");
const fileName = (path) => path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);
const nameOf = (sample) => (sample.path ? fileName(sample.path) : `image ${sample.index}`);
const percent = (value) => (value === null ? "-" : `${(100 * value).toFixed(value > 0 && value < 0.01 ? 1 : 0)} %`);
const say = (text) => { byId("note").textContent = text; };

// How long it took is in the browser's list of marks.
let pictured = false;
const firstPicture = () => { if (!pictured) performance.mark("first picture"); pictured = true; };

// The picture of a sample in its frame: within the page, a cell of a sprite sheet, or words where there is none.
function paint(frame, sample) {
  frame.className = data.tile && data.tile.crisp ? "picture crisp" : "picture";
  frame.replaceChildren();
  const alt = `${nameOf(sample)}: given ${className(sample.given)}, looks like ${className(sample.seen)}`;
  const image = document.createElement("img");
  image.alt = alt;
  if (data.tile && !(sample.flags & GONE) && sample.rank < data.embedded && data.pictures[sample.rank]) {
    image.src = data.pictures[sample.rank];
  } else if (data.tile && !(sample.flags & GONE) && sample.rank >= data.embedded) {
    const cell = (sample.rank - data.embedded) % data.per;
    image.className = "sprite";
    image.style.setProperty("--x", cell % data.tile.columns);
    image.style.setProperty("--y", Math.floor(cell / data.tile.columns));
    image.src = `sprites/${numbered(chunkOf(sample.rank))}.${data.tile.ending}`;
  } else {
    frame.classList.add("gone");
    frame.textContent = "no picture";
    return;
  }
  image.decoding = "async";
  image.onload = firstPicture;
  image.draggable = false;
  frame.append(image);
}
