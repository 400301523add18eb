"use strict";
// A panel that shows two pictures and takes votes. Where votes are kept is the ballot's business: its three methods,
// state(rater), vote(rater, key, choice, reason, faults) and undo(rater), promise what to show next:
// { pair: { key, prompt, source: [url], mask: url or null, left, right, leftLink, rightLink, faults, reason } or null, done, total, reading, undo }.
function startVoting(ballot, kinds) {
  const at = (id) => document.getElementById(id);
  const sides = ["left", "right"];
  const chosen = { left: new Set(), right: new Set() };
  let pair = null;
  let busy = false;

  function named(name) {
    try {
      return name === undefined ? localStorage.getItem("arr_trl rater") : localStorage.setItem("arr_trl rater", name);
    } catch {
      return null; // a browser that keeps nothing
    }
  }

  function showFaults() {
    for (const side of sides) {
      for (const button of at(`faults-${side}`).children) button.setAttribute("aria-pressed", chosen[side].has(button.textContent));
    }
  }

  function show(state) {
    pair = state.pair;
    at("ballot").hidden = !pair;
    at("vote-end").hidden = Boolean(pair);
    at("vote-end").textContent = state.reading ? "The next pair is being made; this page goes on by itself." : state.total ? `All ${state.total.toLocaleString("en")} pairs are voted on.` : "There are no pairs to vote on.";
    at("vote-count").textContent = `${state.done.toLocaleString("en")} of ${state.total.toLocaleString("en")}${state.reading ? " so far" : ""}`;
    at("undo").disabled = !state.undo;
    if (!pair) {
      if (state.reading) setTimeout(() => run(ballot.state(rater())), 1000);
      return;
    }
    at("vote-prompt").textContent = pair.prompt;
    at("vote-source").hidden = !pair.source.length;
    const beside = [...pair.source.map((url) => [url, "the picture to edit"]), ...(pair.mask ? [[pair.mask, "its mask, white where it was to be drawn anew"]] : [])];
    at("vote-source").replaceChildren(...beside.map(([src, alt]) => Object.assign(document.createElement("img"), { src, alt })));
    for (const side of sides) {
      at(`image-${side}`).src = pair[side];
      at(`link-${side}`).href = pair[`${side}Link`];
      chosen[side] = new Set((pair.faults ?? {})[side]);
    }
    at("reason").value = pair.reason ?? "";
    showFaults();
    for (const url of state.next ?? []) new Image().src = url; // so that the next pair is there at once
  }

  async function run(promise) {
    busy = true;
    try {
      show(await promise);
      at("vote-error").hidden = true;
    } catch (error) {
      at("vote-error").textContent = error.message;
      at("vote-error").hidden = false;
    }
    busy = false;
  }

  const rater = () => at("rater").value.trim() || "anonymous";

  function vote(choice) {
    if (busy || !pair) return;
    const faults = Object.fromEntries(sides.map((side) => [side, [...chosen[side]]]));
    run(ballot.vote(rater(), pair.key, choice, at("reason").value.trim(), faults));
  }

  function undo() {
    if (!busy && !at("undo").disabled) run(ballot.undo(rater()));
  }

  for (const side of sides) {
    for (const kind of kinds) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: kind });
      button.addEventListener("click", () => {
        if (!chosen[side].delete(kind)) chosen[side].add(kind);
        showFaults();
      });
      at(`faults-${side}`).append(button);
    }
  }
  for (const button of document.querySelectorAll("#vote [data-choice]")) button.addEventListener("click", () => vote(button.dataset.choice));
  for (const side of sides) {
    const image = at(`image-${side}`);
    image.addEventListener("load", () => (image.style.imageRendering = image.naturalWidth <= 128 ? "pixelated" : "")); // every pixel counts
  }
  at("undo").addEventListener("click", undo);
  at("rater").value = new URLSearchParams(location.search).get("rater") ?? named() ?? "";
  at("rater").addEventListener("change", () => {
    named(at("rater").value.trim());
    run(ballot.state(rater()));
  });
  at("reason").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") at("reason").blur();
  });
  document.addEventListener("keydown", (event) => {
    if (at("vote").hidden || !at("vote").checkVisibility() || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("input, select, textarea")) return;
    const choice = { 1: "left", 2: "right", 0: "tie", t: "tie", s: "skip" }[event.key.toLowerCase()];
    if (choice) vote(choice);
    else if (event.key.toLowerCase() === "u") undo();
    else if (event.key.toLowerCase() === "r") {
      event.preventDefault();
      at("reason").focus();
    }
  });
  at("vote").hidden = false;
  run(ballot.state(rater()));
}

// Whether the pair's second picture stands at the left: drawn from its key and the rater, so that it stays where it was.
function swappedFor(key, rater) {
  let hash = 2166136261;
  for (const letter of `${key} ${rater}`) hash = Math.imul(hash ^ letter.codePointAt(0), 16777619);
  // mixed as MurmurHash ends: one bit of the sum alone would follow from single letters
  hash = Math.imul(hash ^ (hash >>> 16), 2246822507);
  hash = Math.imul(hash ^ (hash >>> 13), 3266489909);
  return ((hash ^ (hash >>> 16)) & 1) === 1;
}
