const cards = [...document.querySelectorAll(".card")];
const place = document.getElementById("cards");
const family = document.getElementById("family");
const show = document.getElementById("show");
const order = document.getElementById("order");
const count = document.getElementById("count");
const number = (card, name) => (card.dataset[name] === "" ? NaN : Number(card.dataset[name]));
const kinds = {
  all: () => true,
  judged: (card) => card.dataset.score !== "",
  unjudged: (card) => card.dataset.score === "",
  noimage: (card) => card.dataset.noimage === "1",
  win: (card) => number(card, "gap") > 0,
  tie: (card) => number(card, "gap") === 0,
  loss: (card) => number(card, "gap") < 0,
};
const orders = { worst: ["score", 1], best: ["score", -1], given: ["number", 1], lost: ["gap", 1], won: ["gap", -1] };
function update() {
  const [name, way] = orders[order.value];
  const sorted = cards.slice().sort((a, b) => {
    const x = number(a, name), y = number(b, name);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return way * (x - y) || number(a, "number") - number(b, "number");
  });
  place.append(...sorted);
  let shown = 0;
  for (const card of cards) {
    card.hidden = (family.value && card.dataset.family !== family.value) || !kinds[show.value](card);
    shown += !card.hidden;
  }
  count.textContent = `${shown} of ${cards.length} shown`;
}
for (const control of [family, show, order]) control.addEventListener("change", update);
update();
