"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const perPage = 8; // four rows of two on a wide page
let shown = [];
let page = 0;

// Thumbnails lie in blocks of JSON; only the blocks of the visible page are parsed, and the latest few are kept.
const blocks = new Map();
function thumbnail(index) {
  const number = Math.floor(index / data.perBlock);
  let block = blocks.get(number);
  if (!block) {
    block = JSON.parse(byId(`thumbs-${number}`).textContent);
    blocks.set(number, block);
    if (blocks.size > 6 * perPage) blocks.delete(blocks.keys().next().value);
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

const file = (prompt) => String(prompt).padStart(5, "0");
const criterion = (number) => `${number}. ${(data.criteria[number] ?? "criterion").replace(/\.$/, "")}`;
const names = (pair) => data.comparisons[pair.c].names;
const said = (winner, pair) => (winner === null ? "tie" : names(pair)[winner]);
// Where a model's picture of a prompt is among the thumbnails, and beside this file.
const indexOf = (pair, model) => (pair.p * data.perPrompt + pair.k) * data.models.length + model;
const linkOf = (pair, model) => data.folders && `images/${data.folders[model]}/${file(pair.p)}-${pair.k}.png`;

// A card shows the pictures of one noise: those of one comparison, or of all models with what was said of each two.
function picturesOf(item) {
  const [pair] = item.pairs;
  const several = item.pairs.length > 1;
  const found = [];
  if (data.sources !== null) found.push({ label: "source", alt: `the picture to edit: ${data.prompts[pair.p]}`, index: data.sources + pair.p, link: data.folders && `images/source/${file(pair.p)}.png`, source: true });
  if (data.masks !== null) found.push({ label: "mask", alt: `the mask, white where it was to be drawn anew: ${data.prompts[pair.p]}`, index: data.masks + pair.p, link: data.folders && `images/mask/${file(pair.p)}.png`, source: true });
  const models = several ? data.models.map((_, i) => i) : data.comparisons[pair.c].models;
  models.forEach((model, i) => {
    const label = several ? data.models[model] : names(pair)[i];
    const own = item.pairs.filter((one) => data.comparisons[one.c].models.includes(model));
    const won = own.length > 0 && own.every((one) => one.w !== null && data.comparisons[one.c].models[one.w] === model);
    found.push({ label, alt: `${label}: ${data.prompts[pair.p]}`, index: indexOf(pair, model), link: linkOf(pair, model), won });
  });
  return found;
}

function picture(one, item) {
  const source = thumbnail(one.index);
  const image = element("img", { alt: one.alt, loading: "lazy", decoding: "async", width: data.size[0], height: data.size[1] });
  if (source) image.src = source;
  const open = element("a", { href: one.link ?? source ?? "", target: "_blank", rel: "noopener" }, image);
  open.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the reader wants a tab
    event.preventDefault();
    openLightbox(shown.indexOf(item), one.index);
  });
  return element("figure", one.won ? { class: "winner" } : {}, open, element("figcaption", {}, one.won ? `${one.label} ✓` : one.label));
}

function verdict(pair) {
  const { truth } = data.comparisons[pair.c];
  if (pair.f) return `No verdict: ${pair.f}`;
  const disagree = pair.a === false ? " The orders disagree." : "";
  const margin = pair.g === null || pair.w === null ? "" : ` (margin ${Math.abs(pair.g).toFixed(2)})`;
  if (pair.w === null) return `Tie.${disagree}`;
  return (truth?.[pair.w] ?? `${names(pair)[pair.w]} wins`) + `${margin}.${disagree}`;
}

function details(pair) {
  const more = element("ul", {});
  const two = names(pair);
  if (pair.o.length) more.append(element("li", {}, `${two[0]} shown first: ${said(pair.o[0], pair)}`), element("li", {}, `${two[1]} shown first: ${said(pair.o[1], pair)}${pair.s ? `. ${pair.s}` : ""}`));
  for (const [number, winner] of pair.t) more.append(element("li", {}, `${criterion(number)}: ${said(winner, pair)}`));
  for (const [name, values] of Object.entries(pair.v)) more.append(element("li", {}, `${name}: ${values.map((v) => (v === null ? "–" : v.toPrecision(4))).join(" and ")}`));
  for (const note of pair.n ?? []) more.append(element("li", {}, note));
  return more;
}

function card(item) {
  const [pair] = item.pairs;
  const pictures = element("div", { class: "pictures" }, ...picturesOf(item).map((one) => picture(one, item)));
  const made = element("article", { class: "card", "data-prompt": pair.p, "data-image": pair.k }, element("h3", {}, data.prompts[pair.p]), pictures);
  const more = element("details", {}, element("summary", {}, "Orders, criteria and more"));
  for (const one of item.pairs) {
    const who = item.pairs.length > 1 ? `${names(one)[1]} against ${names(one)[0]}: ` : "";
    made.append(element("p", {}, element("strong", {}, who + verdict(one)), one.r ? ` ${one.r}` : ""));
    const list = details(one);
    if (!list.children.length) continue;
    if (who) more.append(element("p", {}, who));
    more.append(list);
  }
  if (more.children.length > 1) made.append(more);
  return made;
}

// Of several comparisons a card goes by the clearest of an adapter against the base.
const lead = (item) => item.pairs.reduce((best, one) => (one.g !== null && data.comparisons[one.c].models[0] === 0 && (best === null || one.g > best) ? one.g : best), null);
const margin = (item) => (item.pairs.length > 1 ? lead(item) : item.pairs[0].g);
const orders = {
  prompt: () => 0,
  second: (a, b) => (margin(b) ?? -9) - (margin(a) ?? -9),
  first: (a, b) => (margin(a) ?? 9) - (margin(b) ?? 9),
  close: (a, b) => Math.abs(margin(a) ?? 9) - Math.abs(margin(b) ?? 9),
};
const outcomes = {
  1: (pair) => pair.w === 1,
  0: (pair) => pair.w === 0,
  tie: (pair) => pair.w === null && !pair.f,
  disagree: (pair) => pair.a === false,
  failed: (pair) => Boolean(pair.f),
};

// The pairs of one noise belong together; with one comparison chosen each is alone.
function items(comparison) {
  const found = new Map();
  for (const pair of data.pairs) {
    if (comparison !== "" && pair.c !== Number(comparison)) continue;
    const key = pair.p * data.perPrompt + pair.k;
    if (found.has(key)) found.get(key).pairs.push(pair);
    else found.set(key, { pairs: [pair] });
  }
  return [...found.entries()].sort(([a], [b]) => a - b).map(([, item]) => item);
}

function update() {
  const outcome = byId("outcome").value;
  const [number, side] = byId("criterion").value.split(":").map(Number);
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = data.prompts.map((prompt) => words.every((word) => prompt.toLowerCase().includes(word)));
  const fits = (pair) => (!outcome || outcomes[outcome](pair)) && (!number || pair.t.some(([n, winner]) => n === number && winner === side));
  shown = items(byId("pair").value).filter((item) => found[item.pairs[0].p] && item.pairs.some(fits));
  shown.sort(orders[byId("sort").value]);
  turn(0);
}

function turn(to) {
  const pages = Math.max(1, Math.ceil(shown.length / perPage));
  page = Math.min(Math.max(0, to), pages - 1);
  byId("cards").style.setProperty("--pictures", shown.length ? picturesOf(shown[0]).length : 2);
  byId("cards").replaceChildren(...shown.slice(page * perPage, (page + 1) * perPage).map(card));
  byId("count").textContent = shown.length === 1 ? "1 pair" : `${shown.length.toLocaleString("en")} pairs`;
  byId("page").value = page + 1;
  byId("page").max = pages;
  byId("pages").textContent = `of ${pages.toLocaleString("en")}`;
  byId("previous").disabled = page === 0;
  byId("next").disabled = page === pages - 1;
}

data.comparisons.forEach(({ names: [first, second] }, i) => byId("pair").append(element("option", { value: i }, `${second} against ${first}`)));
// criteria are told apart by the names of the two where there are only two
const [one, other] = data.comparisons.length === 1 ? data.comparisons[0].names : ["first", "second"];
for (const number of Object.keys(data.criteria)) {
  byId("criterion").append(element("option", { value: `${number}:1` }, `${other} better: ${criterion(number)}`), element("option", { value: `${number}:0` }, `${one} better: ${criterion(number)}`));
}
if (byId("pair").options.length < 2) byId("pair").closest("label").hidden = true;
if (byId("criterion").options.length < 2) byId("criterion").closest("label").hidden = true;
if (data.size[0] <= 128) document.body.classList.add("pixels");
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
  if (byId("lightbox").open || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "ArrowRight") turn(page + 1);
  else if (event.key === "ArrowLeft") turn(page - 1);
  else if (event.key === "/") {
    event.preventDefault();
    byId("search").focus();
  }
});
update();
