// The cursor follows the player; a click on the timeline or on an event moves the player.
const data = JSON.parse(document.querySelector("#data").textContent);
const $ = (selector) => document.querySelector(selector);
const player = $("audio"), scroll = $(".scroll"), track = $(".track"), view = $(".view"), cursor = $(".cursor");
const bands = [...document.querySelectorAll(".band")];
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
const CLOSEST = 60; // pixels of a second
const ROWS = 500; // of the table, until all are asked for
let wave = null, scores = null, shown = [], zoom = 1, all = false, waiting = false;

const duration = Math.max(data.duration, 1e-3);
const width = () => scroll.clientWidth;
const begin = () => (scroll.scrollLeft / (width() * zoom)) * duration; // of what is seen, in seconds
const span = () => duration / zoom;

// Wave and scores are bytes, deflated; 255 is 1.
async function unpack() {
  const packed = Uint8Array.from(atob(data.packed), (character) => character.charCodeAt(0));
  const inflated = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(inflated).arrayBuffer());
  wave = bytes.subarray(0, data.columns);
  scores = data.labels.map((_, row) => bytes.subarray(data.columns + row * data.frames, data.columns + (row + 1) * data.frames));
  draw();
  document.body.dataset.ready = "yes";
}

function clock(seconds, decimals) {
  const tenths = Math.round(seconds * 10 ** decimals) / 10 ** decimals;
  const rest = (tenths % 60).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  const minutes = Math.floor(tenths / 60), hours = Math.floor(minutes / 60);
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function pen(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(wide * scale);
  canvas.height = Math.round(high * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = context.strokeStyle = getComputedStyle(canvas).color;
  return [context, wide, high];
}

// The highest of the values that each pixel stands for; `rate` of them are a second.
function* peaks(values, rate, wide) {
  const first = begin() * rate, each = (span() * rate) / wide;
  for (let x = 0; x < wide; x++) {
    const from = Math.floor(first + x * each);
    const stop = Math.max(from + 1, Math.ceil(first + (x + 1) * each));
    let highest = 0;
    for (let i = from; i < stop && i < values.length; i++) highest = Math.max(highest, values[i]);
    yield [x, highest / 255];
  }
}

function drawWave() {
  const [context, wide, high] = pen($(".wave"));
  for (const [x, peak] of peaks(wave, data.columns / duration, wide)) {
    context.fillRect(x, (high / 2) * (1 - 0.92 * peak) - 0.5, 1, 0.92 * peak * high + 1);
  }
}

function drawBand(row) {
  const [context, wide, high] = pen(bands[row].querySelector("canvas"));
  const first = begin(), place = (seconds) => ((seconds - first) / span()) * wide;
  for (const [, onset, offset] of shown[row]) {
    const [left, right] = [place(onset), Math.max(place(offset), place(onset) + 2)];
    if (right < 0 || left > wide) continue;
    context.globalAlpha = 0.18;
    context.fillRect(left, 0, right - left, high);
    context.globalAlpha = 1;
    context.fillRect(left, high - 4, right - left, 4);
  }
  context.globalAlpha = 0.55;
  for (const [x, share] of peaks(scores[row], 1 / data.frame, wide)) context.fillRect(x, high * (1 - share), 1, high * share);
  context.strokeStyle = getComputedStyle(view).color;
  const threshold = data.thresholds[row];
  for (const [level, dashes] of data.low < 1 ? [[threshold, [6, 3]], [data.low * threshold, [1, 3]]] : [[threshold, [6, 3]]]) {
    context.setLineDash(dashes);
    context.beginPath();
    context.moveTo(0, high * (1 - level));
    context.lineTo(wide, high * (1 - level));
    context.stroke();
  }
}

function drawAxis() {
  const [context, wide, high] = pen($(".axis"));
  const step = STEPS.find((seconds) => (seconds / span()) * wide >= 64) ?? STEPS.at(-1);
  context.font = getComputedStyle($(".axis")).font;
  for (let tick = Math.ceil(begin() / step); tick * step <= begin() + span(); tick++) {
    const x = ((tick * step - begin()) / span()) * wide;
    context.fillRect(x, 0, 1, 5);
    context.textAlign = x < 20 ? "left" : x > wide - 20 ? "right" : "center";
    context.fillText(clock(tick * step, step < 1 ? 1 : 0), x, high - 8);
  }
}

function draw() {
  if (!scores) return;
  drawWave();
  bands.forEach((band, row) => band.hidden || drawBand(row));
  drawAxis();
  show();
}

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function filter() {
  const words = $("#find").value.trim().toLowerCase(), least = Number($("#least").value);
  const named = data.labels.map((label) => label.toLowerCase().includes(words));
  const events = data.events.filter(([row, , , score]) => named[row] && score >= least);
  shown = data.labels.map(() => []);
  for (const event of events) shown[event[0]].push(event);
  bands.forEach((band, row) => (band.hidden = !named[row] || ($("#heard").checked && !shown[row].length)));
  $("output").value = Number($("#least").value).toFixed(2);
  const listed = all ? events : events.slice(0, ROWS);
  $("tbody").replaceChildren(...listed.map(tableRow));
  $("table").hidden = !events.length;
  $("#more").hidden = listed.length === events.length;
  const of = events.length === data.events.length ? "" : ` of ${data.events.length}`;
  $("#count").textContent = data.events.length ? `${events.length}${of} events` : "None of these was heard.";
  redraw();
}

function tableRow([row, onset, offset, score]) {
  const line = document.createElement("tr"), mark = document.createElement("b"), button = document.createElement("button");
  Object.assign(line.dataset, { onset, offset });
  mark.style.setProperty("--color", bands[row].style.getPropertyValue("--color"));
  button.textContent = data.labels[row];
  button.addEventListener("click", () => playFrom(onset));
  line.insertCell().append(mark, button);
  for (const text of [clock(onset, 1), clock(offset, 1), score.toFixed(2)]) line.insertCell().textContent = text;
  return line;
}

function playFrom(seconds) {
  go(seconds);
  player.play().catch(() => {}); // without its sound there is nothing to play
}

function show() {
  const now = player.currentTime, x = ((now - begin()) / span()) * width();
  cursor.hidden = x < 0 || x > width();
  cursor.style.left = `${x}px`;
  for (const line of $("tbody").rows) line.classList.toggle("now", line.dataset.onset <= now && now < line.dataset.offset);
  if (cursor.hidden && !player.paused) scroll.scrollLeft = (now / duration) * width() * zoom - width() / 4;
}

function run() {
  show();
  if (!player.paused) requestAnimationFrame(run);
}

function go(seconds) {
  player.currentTime = Math.max(0, Math.min(duration, seconds));
  if (seconds < begin() || seconds > begin() + span()) scroll.scrollLeft = (seconds / duration) * width() * zoom - width() / 4;
  show();
}

// `share` is 0 for all of the recording and 1 for as close as it goes; `at`, in pixels, stays where it is.
function magnify(share, at = width() / 2) {
  const fixed = begin() + (at / width()) * span();
  zoom = Math.max(1, (duration * CLOSEST) / width()) ** Math.max(0, Math.min(1, share));
  track.style.width = `${width() * zoom}px`;
  view.style.width = `${width()}px`;
  scroll.scrollLeft = (fixed / duration) * width() * zoom - at;
  redraw();
}

player.addEventListener("play", run);
player.addEventListener("seeked", show);
player.addEventListener("error", () => ($("#missing").hidden = false));
$("#choose").addEventListener("change", (event) => {
  $("#missing").hidden = true;
  player.src = URL.createObjectURL(event.target.files[0]);
});
view.addEventListener("click", (event) => {
  if (event.target.tagName !== "CANVAS") return;
  go(begin() + ((event.clientX - view.getBoundingClientRect().left) / width()) * span());
});
view.addEventListener("mousemove", (event) => {
  const row = bands.indexOf(event.target.closest(".band"));
  const at = begin() + ((event.clientX - view.getBoundingClientRect().left) / width()) * span();
  const over = (shown[row] ?? []).filter(([, onset, offset]) => onset <= at && at < offset);
  view.title = over.map(([, onset, offset, score]) => `${clock(onset, 2)} to ${clock(offset, 2)}, ${score.toFixed(2)}`).join();
});
scroll.addEventListener("scroll", redraw);
scroll.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  $("#zoom").value = Number($("#zoom").value) - Math.sign(event.deltaY) * 0.04;
  magnify(Number($("#zoom").value), event.clientX - view.getBoundingClientRect().left);
}, { passive: false });
scroll.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) go(player.currentTime + step);
  else if (event.key === " ") player.paused ? player.play().catch(() => {}) : player.pause();
  else return;
  event.preventDefault();
});
$("#zoom").addEventListener("input", () => magnify(Number($("#zoom").value)));
for (const id of ["#find", "#least", "#heard"]) $(id).addEventListener("input", filter);
for (const button of document.querySelectorAll(".captions button")) {
  button.addEventListener("click", () => playFrom(Number(button.dataset.start)));
}
$("#more").addEventListener("click", () => {
  all = true;
  filter();
});
addEventListener("resize", () => magnify(Number($("#zoom").value)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
filter();
magnify(0);
unpack();
