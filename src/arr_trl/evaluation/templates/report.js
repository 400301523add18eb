"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const perPage = 24;
let shown = data.pairs;
let page = 0;

// Thumbnails lie in blocks of JSON; only the blocks of the visible page are parsed, and the latest few are kept.
const blocks = new Map();
function thumbnail(index) {
  const number = Math.floor(index / data.perBlock);
  let block = blocks.get(number);
  if (!block) {
    block = JSON.parse(byId(`thumbs-${number}`).textContent);
    blocks.set(number, block);
    if (blocks.size > 2 * perPage) blocks.delete(blocks.keys().next().value);
  }
  const picture = block[index % data.perBlock];
  return picture ? `data:image/webp;base64,${picture}` : null;
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function picture(label, alt, index, link, won) {
  const source = thumbnail(index);
  const image = element("img", { alt, loading: "lazy", decoding: "async", width: data.size[0], height: data.size[1] });
  if (source) image.src = source;
  const open = element("a", { href: link, target: "_blank", rel: "noopener" }, image);
  return element("figure", won ? { class: "winner" } : {}, open, element("figcaption", {}, won ? `${label} ✓` : label));
}

const names = (pair) => data.comparisons[pair.c];
const said = (winner, pair) => (winner === null ? "tie" : names(pair)[winner]);

function verdict(pair) {
  if (pair.f) return `No verdict: ${pair.f}`;
  const orders = pair.a === false ? " The orders disagree." : "";
  const margin = pair.g === null ? "" : ` (margin ${Math.abs(pair.g).toFixed(2)})`;
  return (pair.w === null ? "Tie." : `${names(pair)[pair.w]} wins${margin}.`) + orders;
}

function card(pair) {
  const prompt = data.prompts[pair.p];
  const models = names(pair);
  const pictures = element("div", { class: "pictures" });
  const first = data.sources === null ? null : data.sources + pair.p;
  if (first !== null) pictures.append(picture("source", `the picture to edit: ${prompt}`, first, `images/source/${file(pair.p)}.png`));
  models.forEach((model, i) => {
    const index = (pair.p * data.perPrompt + pair.k) * data.models.length + data.models.indexOf(model);
    const link = `images/${model.replaceAll("/", "--")}/${file(pair.p)}-${pair.k}.png`;
    pictures.append(picture(model, `${model}: ${prompt}`, index, link, pair.w === i));
  });
  const made = element("article", { class: "card", "data-prompt": pair.p, "data-image": pair.k }, element("h3", {}, prompt), pictures, element("p", {}, verdict(pair)));
  if (pair.r) made.append(element("p", {}, pair.r));
  const more = element("ul", {});
  if (pair.o.length) more.append(element("li", {}, `${models[0]} shown first: ${said(pair.o[0], pair)}`), element("li", {}, `${models[1]} shown first: ${said(pair.o[1], pair)}${pair.s ? `. ${pair.s}` : ""}`));
  for (const [number, winner] of pair.t) more.append(element("li", {}, `${criterion(number)}: ${said(winner, pair)}`));
  for (const [name, values] of Object.entries(pair.v)) more.append(element("li", {}, `${name}: ${values.map((v) => (v === null ? "–" : v.toPrecision(4))).join(" and ")}`));
  if (more.children.length) made.append(element("details", {}, element("summary", {}, "Orders, criteria and rewards"), more));
  return made;
}

const file = (prompt) => String(prompt).padStart(5, "0");
const criterion = (number) => `${number}. ${(data.criteria[number] ?? "criterion").replace(/\.$/, "")}`;

const orders = {
  prompt: (a, b) => a.p - b.p || a.k - b.k,
  second: (a, b) => (b.g ?? -9) - (a.g ?? -9),
  first: (a, b) => (a.g ?? 9) - (b.g ?? 9),
  close: (a, b) => Math.abs(a.g ?? 9) - Math.abs(b.g ?? 9),
};
const outcomes = {
  1: (pair) => pair.w === 1,
  0: (pair) => pair.w === 0,
  tie: (pair) => pair.w === null && !pair.f,
  disagree: (pair) => pair.a === false,
  failed: (pair) => Boolean(pair.f),
};

function update() {
  const [comparison, outcome] = [Number(byId("pair").value), byId("outcome").value];
  const [number, side] = byId("criterion").value.split(":").map(Number);
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = data.prompts.map((prompt) => words.every((word) => prompt.toLowerCase().includes(word)));
  shown = data.pairs.filter((pair) => pair.c === comparison && found[pair.p] && (!outcome || outcomes[outcome](pair)) && (!number || pair.t.some(([n, winner]) => n === number && winner === side)));
  shown.sort(orders[byId("sort").value]);
  turn(0);
}

function turn(to) {
  const pages = Math.max(1, Math.ceil(shown.length / perPage));
  page = Math.min(Math.max(0, to), pages - 1);
  byId("cards").replaceChildren(...shown.slice(page * perPage, (page + 1) * perPage).map(card));
  byId("count").textContent = shown.length === 1 ? "1 pair" : `${shown.length.toLocaleString("en")} pairs`;
  byId("page").value = page + 1;
  byId("page").max = pages;
  byId("pages").textContent = `of ${pages.toLocaleString("en")}`;
  byId("previous").disabled = page === 0;
  byId("next").disabled = page === pages - 1;
}

data.comparisons.forEach(([first, second], i) => byId("pair").append(element("option", { value: i }, `${first} | ${second}`)));
for (const number of Object.keys(data.criteria)) {
  byId("criterion").append(element("option", { value: `${number}:1` }, `second better: ${criterion(number)}`), element("option", { value: `${number}:0` }, `first better: ${criterion(number)}`));
}
if (data.size[0] <= 128) byId("cards").classList.add("pixels");
for (const id of ["pair", "sort", "outcome", "criterion"]) byId(id).addEventListener("change", update);
let typing;
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(update, 150);
});
byId("page").addEventListener("change", (event) => turn(Number(event.target.value) - 1));
byId("previous").addEventListener("click", () => turn(page - 1));
byId("next").addEventListener("click", () => turn(page + 1));
for (const button of document.querySelectorAll("[data-outcome]")) {
  button.addEventListener("click", () => {
    byId("outcome").value = button.dataset.outcome;
    update();
    byId("gallery").scrollIntoView();
    byId("outcome").focus({ preventScroll: true });
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "ArrowRight") turn(page + 1);
  else if (event.key === "ArrowLeft") turn(page - 1);
  else if (event.key === "/") {
    event.preventDefault();
    byId("search").focus();
  }
});

function charts() {
  const box = byId("charts");
  box.replaceChildren();
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = [style.getPropertyValue("--faint").trim(), style.getPropertyValue("--line").trim()];
  const colors = ["--accent", "--win", "--ink"].map((name) => style.getPropertyValue(name).trim());
  for (const chart of data.curves) {
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const holder = element("div", {});
    box.append(element("figure", {}, element("figcaption", {}, element("strong", {}, chart.title), ` ${chart.hint}`), holder));
    const series = chart.series.map((one, i) => ({ label: one, stroke: colors[i % 3], width: 2, spanGaps: true, points: { show: chart.values[0].length < 40 } }));
    const plot = new uPlot({ width: holder.clientWidth, height: 200, scales: { x: { time: false }, y: chart.share ? { range: [0, 1] } : {} }, axes: [axis, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => String(+tick.toPrecision(3))) }], series: [{ label: "step" }, ...series] }, chart.values, holder);
    new ResizeObserver(() => plot.setSize({ width: holder.clientWidth, height: 200 })).observe(holder);
  }
}
if (data.curves.length) {
  charts();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", charts);
}
update();
