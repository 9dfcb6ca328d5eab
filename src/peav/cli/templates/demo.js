// One player at a time; a clip's bytes are in the page once and become a player only when it is clicked.
const media = JSON.parse(document.getElementById("data").textContent);
let playing = null;

function stop() {
  if (!playing) return;
  playing.player.pause();
  playing.player.remove();
  playing.button.ariaPressed = "false";
  playing = null;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".medium");
  if (!button) return;
  const again = playing && playing.button === button;
  stop();
  if (again) return;
  const seen = button.dataset.see === "1";
  const player = document.createElement(seen ? "video" : "audio");
  player.src = media[button.dataset.clip];
  player.muted = button.dataset.hear !== "1";
  player.playsInline = true;
  player.addEventListener("ended", stop);
  button.append(player);
  button.ariaPressed = "true";
  playing = { button, player };
  player.play();
});
