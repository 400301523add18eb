"use strict";
// Votes inside the report: kept in this browser, and saved as lines of JSON that lie beside the report.
function votesInTheBrowser() {
  const place = `arr_trl votes ${data.id}`;
  const pairs = data.pairs.map((pair) => ({ pair, key: `${names(pair).join("|")}|${pair.p}|${pair.k}` }));
  let votes = [];
  try {
    votes = JSON.parse(localStorage.getItem(place)) ?? [];
  } catch {
    votes = [];
  }

  function keep(changed) {
    votes = changed;
    try {
      localStorage.setItem(place, JSON.stringify(votes));
    } catch {
      throw new Error("This browser keeps no votes of files; save them before you close the page.");
    } finally {
      byId("save-votes").disabled = !votes.some((vote) => vote.choice !== "skip");
    }
  }

  function pathsOf(pair) {
    return data.comparisons[pair.c].models.map((model) => linkOf(pair, model));
  }

  function shown(one, rater, former) {
    const { pair, key } = one;
    const paths = pathsOf(pair);
    const thumbs = data.comparisons[pair.c].models.map((model) => thumbnail(indexOf(pair, model)));
    const [left, right] = swappedFor(key, rater) ? [1, 0] : [0, 1];
    return { key, prompt: data.prompts[pair.p], source: data.sources === null ? [] : [thumbnail(data.sources + pair.p)], mask: data.masks === null ? null : thumbnail(data.masks + pair.p), left: thumbs[left], right: thumbs[right], leftLink: paths[left], rightLink: paths[right], ...former };
  }

  async function state(rater, former) {
    const mine = votes.filter((vote) => vote.rater === rater);
    const done = new Set(mine.map((vote) => vote.key));
    const next = pairs.find((one) => !done.has(one.key));
    return { pair: next ? shown(next, rater, former) : null, done: pairs.filter((one) => done.has(one.key)).length, total: pairs.length, reading: false, undo: mine.length > 0 };
  }

  return {
    state,
    async vote(rater, key, choice, reason, faults) {
      keep([...votes, { rater, key, choice, reason, faults, time: new Date().toISOString() }]);
      return state(rater);
    },
    async undo(rater) {
      const last = votes.findLastIndex((vote) => vote.rater === rater);
      const { faults, reason } = votes[last];
      keep(votes.filter((_, i) => i !== last));
      return state(rater, { faults, reason });
    },
    lines() {
      const known = new Map(pairs.map((one) => [one.key, one.pair]));
      return votes.filter((vote) => vote.choice !== "skip" && known.has(vote.key)).map((vote) => {
        const pair = known.get(vote.key);
        const swapped = swappedFor(vote.key, vote.rater);
        const order = swapped ? ["right", "left"] : ["left", "right"];
        const rank = vote.choice === "tie" ? [1, 1] : order.map((side) => (side === vote.choice ? 1 : 2));
        const source = data.sources === null ? {} : { source_image: `images/source/${file(pair.p)}.png` };
        const mask = data.masks === null ? {} : { mask_image: `images/mask/${file(pair.p)}.png` };
        const row = { prompt: data.prompts[pair.p], images: pathsOf(pair), ...source, ...mask, label_rank: rank, rationale: vote.reason || null, faults: order.map((side) => vote.faults[side]), rater: vote.rater, time: vote.time, pair: vote.key, models: names(pair), given_rank: pair.f ? null : pair.w === null ? [1, 1] : [pair.w === 0 ? 1 : 2, pair.w === 1 ? 1 : 2] };
        return `${JSON.stringify(row)}\n`;
      });
    },
    get any() {
      return votes.some((vote) => vote.choice !== "skip");
    },
  };
}

const ballot = votesInTheBrowser();
byId("save-votes").disabled = !ballot.any;
byId("save-votes").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob(ballot.lines(), { type: "application/jsonl" }));
  element("a", { href: url, download: "votes.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
});
let voting = false;
byId("voting").addEventListener("toggle", () => {
  if (voting) return;
  voting = true;
  startVoting(ballot, data.kinds);
});
