// Draws every panel; the pointer over one of them, or the bar's slider, shows the values of a step in all.
const data = JSON.parse(document.getElementById("data").textContent);
const figures = [...document.querySelectorAll("figure")];
const [smoothing, step, logarithmic] = ["smoothing", "step", "log"].map((id) => document.getElementById(id));
const last = Math.max(1, ...Object.values(data).map((panel) => panel.x.at(-1)));
const LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 20;
[step.min, step.max, step.value] = [1, last, last];

function number(value) {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(value && Math.abs(value) < 0.001 ? (+value.toPrecision(3)).toExponential() : +value.toPrecision(4));
}

// The mean of what came before, the weight of each point falling by `weight` with every later one.
function smoothed(values, weight) {
  let sum = 0, count = 0;
  return values.map((value) => (sum = weight * sum + value) / (count = weight * count + 1));
}

// Round values between two, about `many` of them.
function ticks(low, high, many) {
  const rough = (high - low) / many || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const by = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let at = Math.ceil(low / by); at * by <= high * (1 + 1e-9); at++) found.push(at * by);
  return found;
}

function draw(figure) {
  const panel = data[figure.dataset.name], svg = figure.querySelector("svg");
  const { width, height } = svg.getBoundingClientRect();
  const known = panel.mean.filter((value) => value > 0);
  const log = logarithmic.checked && panel.kind === "loss" && known.length > 0;
  const floor = Math.min(...known);
  const scale = (value) => (log ? Math.log10(Math.max(value, floor)) : value);
  const range = [...panel.mean, ...(panel.kind === "figure" || panel.kind === "speed" ? [0] : []), ...(panel.chance == null ? [] : [panel.chance])];
  let low = scale(Math.min(...range)), high = scale(Math.max(...range));
  if (high - low < 1e-12) [low, high] = [low - Math.abs(low || 1) / 2, high + Math.abs(high || 1) / 2];
  const x = (at) => LEFT + ((width - LEFT - RIGHT) * (at - 1)) / Math.max(last - 1, 1);
  // Spikes of single steps are cut off: they would press the curve of the means flat.
  const y = (value) => Math.min(Math.max(TOP + (height - TOP - BOTTOM) * (1 - (scale(value) - low) / (high - low)), 2), height - BOTTOM + 4);
  const points = (values) => values.map((value, place) => `${x(panel.x[place]).toFixed(1)},${y(value).toFixed(1)}`);
  const smooth = panel.kind === "loss" || panel.kind === "speed" ? smoothed(panel.mean, +smoothing.value) : panel.mean;
  const decades = log && high - low > 1.5;
  const rows = decades ? ticks(low, high, 4).filter(Number.isInteger).map((at) => 10 ** at) : ticks(log ? 10 ** low : low, log ? 10 ** high : high, 4);
  const columns = ticks(1, last, Math.max(2, width / 80)).filter(Number.isInteger);
  svg.innerHTML =
    rows.map((at) => `<line class="grid" x1="${LEFT}" x2="${width - RIGHT}" y1="${y(at)}" y2="${y(at)}"/><text x="${LEFT - 6}" y="${y(at) + 4}" text-anchor="end">${number(at)}</text>`).join("") +
    columns.map((at) => `<text x="${x(at)}" y="${height - 3}" text-anchor="middle">${number(at)}</text>`).join("") +
    (panel.chance == null ? "" : `<line class="chance" x1="${LEFT}" x2="${width - RIGHT}" y1="${y(panel.chance)}" y2="${y(panel.chance)}"/>`) +
    `<polygon class="raw" points="${points(panel.high ?? panel.mean).join(" ")} ${points(panel.low ?? panel.mean).reverse().join(" ")}"/>` +
    `<polyline class="curve" points="${points(smooth).join(" ")}"/>` +
    (panel.kind === "figure" ? points(panel.mean).map((at) => `<circle class="dot" r="2.5" cx="${at.split(",")[0]}" cy="${at.split(",")[1]}"/>`).join("") : "") +
    (panel.best ? `<circle class="best" r="5" cx="${x(panel.best[0])}" cy="${y(panel.best[1])}"/>` : "") +
    `<line class="cursor" y1="${TOP}" y2="${height - BOTTOM}"/>`;
  figure.show = (at) => {
    const later = panel.x.findIndex((one) => one >= at);
    const place = later < 0 ? panel.x.length - 1 : later;
    figure.querySelector("span").textContent = number(panel.mean[place]);
    const cursor = svg.querySelector(".cursor");
    for (const side of ["x1", "x2"]) cursor.setAttribute(side, x(panel.x[place]));
  };
}

function show() {
  step.nextElementSibling.textContent = (+step.value).toLocaleString("en");
  for (const figure of figures) figure.show(+step.value);
}

function drawAll() {
  figures.forEach(draw);
  show();
}

for (const figure of figures) {
  const svg = figure.querySelector("svg");
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    step.value = 1 + ((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * (last - 1);
    show();
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
}
step.addEventListener("input", show);
for (const input of [smoothing, logarithmic]) input.addEventListener("input", drawAll);
addEventListener("resize", drawAll);
drawAll();
