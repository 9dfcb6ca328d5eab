// Leaves the clips that have all words that are looked for.
const form = document.querySelector("form"), cards = [...document.querySelectorAll("article")];
const texts = cards.map((card) => card.textContent.toLowerCase());
form.hidden = !cards.length;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", () => {
  const wanted = form.words.value.toLowerCase().split(/\s+/);
  cards.forEach((card, place) => {
    const found = wanted.every((word) => texts[place].includes(word));
    card.hidden = !found || (form.fallback.checked && !("fallback" in card.dataset));
  });
  form.querySelector("output").textContent = `${cards.filter((card) => !card.hidden).length} of ${cards.length} clips`;
});
