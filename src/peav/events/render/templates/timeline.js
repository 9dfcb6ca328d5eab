// The cursor follows the player; a click on the bands or on an event moves the player.
const player = document.querySelector("audio");
const track = document.querySelector(".track");
const cursor = document.querySelector(".cursor");
const scroll = document.querySelector(".scroll");
const zoom = document.querySelector("#zoom");
const rows = [...document.querySelectorAll("tbody tr")];
const duration = Number(track.dataset.duration);

function show() {
  const share = Math.min(1, player.currentTime / duration);
  cursor.style.left = `${100 * share}%`;
  for (const row of rows) {
    row.classList.toggle("now", row.dataset.onset <= player.currentTime && player.currentTime < row.dataset.offset);
  }
  const place = share * track.offsetWidth;
  const hidden = place < scroll.scrollLeft || place > scroll.scrollLeft + scroll.clientWidth;
  if (hidden && !player.paused) scroll.scrollLeft = place - scroll.clientWidth / 4;
}

function run() {
  show();
  if (!player.paused) requestAnimationFrame(run);
}

function go(seconds) {
  player.currentTime = Math.max(0, Math.min(duration, seconds));
  show();
}

player.addEventListener("play", run);
player.addEventListener("seeked", show);
track.addEventListener("click", (event) => {
  const box = track.getBoundingClientRect();
  go(((event.clientX - box.left) / box.width) * duration);
});
track.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) go(player.currentTime + step);
  else if (event.key === " ") player.paused ? player.play() : player.pause();
  else return;
  event.preventDefault();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("td button");
  if (!button) return;
  go(Number(button.closest("tr").dataset.onset));
  player.play();
});
zoom.addEventListener("input", () => {
  const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / track.offsetWidth;
  track.style.setProperty("--zoom", zoom.value);
  scroll.scrollLeft = middle * track.offsetWidth - scroll.clientWidth / 2;
});
show();
