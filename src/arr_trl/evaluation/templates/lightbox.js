"use strict";
// The pictures of a pair in one place, so that what differs is seen to move: ← → change the picture, ↑ ↓ the pair.
const light = { item: 0, at: 0 };

function openLightbox(item, index) {
  light.item = item;
  light.at = picturesOf(shown[item]).findIndex((one) => one.index === index);
  byId("lightbox").showModal();
  showLightbox();
}

function showLightbox() {
  const item = shown[light.item];
  const pictures = picturesOf(item);
  const one = pictures[light.at];
  const image = byId("lightbox-picture");
  const small = thumbnail(one.index);
  image.onerror = () => {
    image.onerror = null; // the file was moved away from its pictures
    image.src = small;
  };
  image.src = one.link ?? small;
  image.alt = one.alt;
  byId("lightbox-models").replaceChildren(...pictures.map((each, i) => {
    const button = element("button", { type: "button", "aria-pressed": i === light.at }, each.won ? `${each.label} ✓` : each.label);
    button.addEventListener("click", () => changeTo(i));
    return button;
  }));
  byId("lightbox-models").children[light.at].focus(); // keys go where the focus is, and the buttons are new
  byId("lightbox-prompt").textContent = data.prompts[item.pairs[0].p];
  byId("lightbox-verdict").textContent = item.pairs.map((pair) => (item.pairs.length > 1 ? `${names(pair)[1]} against ${names(pair)[0]}: ` : "") + verdict(pair)).join(" ");
  byId("lightbox-reason").textContent = item.pairs[0].r;
  byId("lightbox-file").hidden = !one.link;
  if (one.link) byId("lightbox-file").href = one.link;
  byId("lightbox-before").disabled = light.item === 0;
  byId("lightbox-after").disabled = light.item === shown.length - 1;
}

function changeTo(place) {
  const number = picturesOf(shown[light.item]).length;
  light.at = (place + number) % number;
  showLightbox();
}

function goTo(item) {
  light.item = Math.min(Math.max(0, item), shown.length - 1);
  light.at = Math.min(light.at, picturesOf(shown[light.item]).length - 1);
  const itsPage = Math.floor(light.item / perPage);
  if (itsPage !== page) turn(itsPage); // the page behind is the one that the pair is on
  showLightbox();
}

byId("lightbox-before").addEventListener("click", () => goTo(light.item - 1));
byId("lightbox-after").addEventListener("click", () => goTo(light.item + 1));
byId("lightbox-close").addEventListener("click", () => byId("lightbox").close());
byId("lightbox-picture").addEventListener("click", () => changeTo(light.at + 1));
byId("lightbox").addEventListener("close", () => {
  // the card may have been drawn again: the focus goes back to its picture
  byId("cards").children[light.item % perPage]?.querySelectorAll(".pictures a")[light.at]?.focus();
});
byId("lightbox").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!step) return;
  event.preventDefault();
  if (step[0]) goTo(light.item + step[0]);
  else changeTo(light.at + step[1]);
});
