"use strict";
// The ballot of the voting page: the server keeps the votes.
async function asked(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The voting server does not answer. Start `arr-trl vote` again and load this page; what was voted is kept.");
  }
  const state = await answer.json();
  if (state.error || state.problem) throw new Error(state.error ?? state.problem);
  return state;
}

startVoting(
  {
    state: (rater) => asked(`state?rater=${encodeURIComponent(rater)}`),
    vote: (rater, pair, choice, reason, faults) => asked("vote", { rater, pair, choice, reason, faults }),
    undo: (rater) => asked("undo", { rater }),
  },
  JSON.parse(document.getElementById("kinds").textContent),
);
