"use strict";
// Learning curves: what matters at once, the others where they are asked for. A size is known of what is visible alone.
const whole = [1, 2, 5].flatMap((digit) => [...Array(10).keys()].map((power) => digit * 10 ** power)).sort((a, b) => a - b);

function oneHalf(plot) {
  const y = Math.round(plot.valToPos(0.5, "y", true));
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--faint").trim();
  ctx.setLineDash([6, 4]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

const figureOf = (value) => (value === null || value === undefined ? "–" : String(+value.toPrecision(3)));

function charts(box, chosen) {
  box.replaceChildren();
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = [style.getPropertyValue("--faint").trim(), style.getPropertyValue("--line").trim()];
  const colors = ["--accent", "--win", "--ink"].map((name) => style.getPropertyValue(name).trim());
  for (const chart of chosen) {
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const [holder, told] = [element("div", {}), element("span", { class: "told" })];
    box.append(element("figure", {}, element("figcaption", {}, element("strong", {}, chart.title), ` ${chart.hint}`, told), holder));
    const tell = (at) => told.replaceChildren(`step ${chart.values[0][at]}: `, ...chart.series.map((one, i) => element("span", { style: `color:${colors[i % 3]}` }, `${chart.series.length > 1 ? `${one} ` : ""}${figureOf(chart.values[i + 1][at])} `)));
    const last = chart.values[0].length - 1;
    tell(last);
    const series = chart.series.map((one, i) => ({ label: one, stroke: colors[i % 3], width: 2, spanGaps: true, points: { show: last < 40 } }));
    const plot = new uPlot({
      width: holder.clientWidth, height: 200, legend: { show: false }, padding: [10, 14, 0, 0],
      scales: { x: { time: false }, y: chart.share ? { range: [0, 1] } : {} },
      axes: [{ ...axis, incrs: whole }, { ...axis, size: 56, values: (_, ticks) => ticks.map(figureOf) }],
      series: [{ label: "step" }, ...series],
      hooks: { setCursor: [(plot) => tell(plot.cursor.idx ?? last)], ...(chart.half ? { drawAxes: [oneHalf] } : {}) },
    }, chart.values, holder);
    new ResizeObserver(() => holder.clientWidth && plot.setSize({ width: holder.clientWidth, height: 200 })).observe(holder);
  }
}

const [chief, others] = [true, false].map((first) => data.curves.filter((chart) => chart.first === first));
function drawCharts() {
  charts(byId("charts"), chief);
  if (byId("more-curves").open) charts(byId("diagnostics"), others);
}
byId("more-curves").hidden = !others.length;
byId("more-curves").addEventListener("toggle", drawCharts);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
drawCharts();
