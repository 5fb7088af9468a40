// The results: a card per garment, or what to do if there is none.

import { request } from "./api.js";
import { $, labelText, make, pictureUrl, setHue } from "./dom.js";
import {
  MOST_RESULTS, PAGE_SIZE, clearFilters, resetWeights, saveAddress, setQuery, showMore, state, stats,
} from "./state.js";

let cards = new Map(); // key -> card, so that re-ranking moves cards instead of making new ones

export function showLoading() {
  $("results").setAttribute("aria-busy", "true");
  $("results").append(...Array.from({ length: 8 }, () => make("li", { class: "card ghost", "aria-hidden": "true" })));
}

// One request at a time; while it runs, only the newest further one is kept.
let running = false;
let again = false;
export async function refresh() {
  if (running) {
    again = true;
    return;
  }
  running = true;
  do {
    again = false;
    await (state.query ? search() : showExamples());
  } while (again);
  running = false;
}

async function search() {
  $("results-title").textContent = "Similar garments";
  const weights = Object.fromEntries(Object.entries(state.weights).filter(([, weight]) => weight > 0));
  if (!Object.keys(weights).length) return showNothing("All weights are 0", "Move at least one slider up.", "Reset", resetWeights);
  const attributes = Object.fromEntries([...state.attributes].map(([name, values]) => [name, [...values]]));
  const wanted = { ...state.query, weights, categories: [...state.categories], attributes, k: state.k };
  const busyTimer = setTimeout(() => $("results").classList.add("busy"), 300);
  const started = performance.now();
  try {
    const { hits } = await request("/api/search", wanted);
    showHits(hits, weights, Math.round(performance.now() - started));
  } catch (error) {
    showSearchError(error);
  } finally {
    clearTimeout(busyTimer);
    $("results").classList.remove("busy");
  }
}

function showSearchError(error) {
  if (error.status === 410) showNothing("This upload has expired", "Uploaded photos are not kept. Drop the photo again.", "Choose a photo", () => $("file").click());
  else if (error.status === 404) showNothing("This garment is no longer in the database", "It may have been removed since the link was made.", "Start again", () => setQuery(null));
  else showNothing("The search did not work", error.message, "Try again", refresh);
}

function showHits(hits, weights, milliseconds) {
  const filtered = state.categories.size || [...state.attributes.values()].some((values) => values.size);
  if (!hits.length && filtered) return showNothing("Nothing passes these filters", "Remove a filter to find more.", "Clear filters", clearFilters);
  if (!hits.length) return showNothing("The database holds no other garment", "Add photos with tools/build_database.py.");
  const more = hits.length >= state.k && state.k < MOST_RESULTS;
  showCards(hits.map((hit) => {
    const card = cardOf(hit.item);
    card.score.textContent = hit.score.toFixed(2);
    card.score.title = "Weighted mean of the bars below";
    drawBars(card.bars, hit.aspects, weights);
    return card;
  }), `the ${hits.length} most similar, in ${milliseconds} ms`, more);
}

async function showExamples() {
  $("results-title").textContent = "Start from one of these";
  document.title = "Weft: search garments by looks";
  if (!stats.items) return showNothing("The database is empty", "Add photos with tools/build_database.py, then reload.");
  const items = await Promise.all(stats.examples.map((key) => request(`/api/items/${encodeURIComponent(key)}`).catch(() => null)));
  if (state.query) return;
  showCards(items.filter(Boolean).map((item) => {
    const card = cardOf(item);
    card.score.textContent = "";
    card.bars.replaceChildren();
    return card;
  }));
}

// Instead of cards: a sentence, a hint, and optionally a button.
export function showNothing(text, hint, action = "", act = null) {
  showCards([]);
  $("nothing").hidden = false;
  $("nothing-text").textContent = text;
  $("nothing-hint").textContent = hint;
  $("nothing-action").hidden = !action;
  $("nothing-action").textContent = action;
  $("nothing-action").onclick = act;
}

function showCards(wanted, status = "", more = false) {
  $("nothing").hidden = true;
  $("status").textContent = status;
  $("more").hidden = !more;
  $("results").removeAttribute("aria-busy");
  moveCards(wanted);
}

// Cards that remain move smoothly to their new places.
function moveCards(wanted) {
  const box = $("results");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches || wanted.length > 2 * PAGE_SIZE;
  const before = new Map([...box.children].map((one) => [one, still ? null : one.getBoundingClientRect()]));
  const focused = document.activeElement;
  box.replaceChildren(...wanted.map((card) => card.element));
  if (focused !== document.activeElement && box.contains(focused)) focused.focus({ preventScroll: true });
  cards = new Map(wanted.map((card) => [card.element.dataset.key, card]));
  if (still) return;
  for (const { element } of wanted) {
    const from = before.get(element);
    const to = element.getBoundingClientRect();
    if (from && (from.x !== to.x || from.y !== to.y)) {
      element.animate([{ transform: `translate(${from.x - to.x}px, ${from.y - to.y}px)` }, {}], { duration: 220, easing: "ease-out" });
    } else if (!from) element.animate([{ opacity: 0 }, {}], { duration: 160 });
  }
}

// Cards: { element, score, bars }.

function cardOf(item) {
  let card = cards.get(item.key);
  if (card) return card;
  const title = item.category ?? "garment";
  // The title is the item's category; the model's predicted one beside it would only confuse.
  const { described_category: _, ...attributes } = item.attributes;
  const labels = Object.entries(attributes).map(([name, value]) => labelText(name, value)).join(" · ");
  const score = make("span", { class: "score" });
  const bars = make("ul", { class: "bars", "aria-label": "Similarity" });
  const name = make("p", { class: "name" }, make("span", { title }, title), score);
  const body = make("div", { class: "body" }, name, make("p", { class: "what", title: labels }, labels), bars);
  const pick = makePicture(item.key, `${title} ${labels}`);
  card = { element: make("li", { class: "card" }, pick, body), score, bars };
  card.element.dataset.key = item.key;
  cards.set(item.key, card);
  return card;
}

function makePicture(key, description) {
  const pick = make("button", { type: "button", class: "pick", "aria-label": `Search with this: ${description}` });
  pick.onclick = () => {
    setQuery({ key });
    scrollTo({ top: 0 });
    $("results-title").focus({ preventScroll: true });
  };
  const showNoPicture = () => {
    pick.classList.add("bare");
    pick.replaceChildren("No picture");
  };
  if (stats.photos) {
    const image = make("img", { src: pictureUrl(key, 320), alt: "", loading: "lazy", decoding: "async" });
    image.onerror = showNoPicture;
    pick.append(image, make("span", { class: "hint" }, "More like this"));
  } else showNoPicture();
  return pick;
}

// The similarity by each aspect; those without weight are faint.
function drawBars(bars, similarities, weights) {
  if (!bars.children.length) {
    bars.append(...stats.aspects.map((aspect) => {
      const bar = make("li", {}, make("span", {}, aspect), make("span", { class: "track" }, make("div", { class: "fill" })), make("b"));
      setHue(bar, aspect);
      return bar;
    }));
  }
  stats.aspects.forEach((aspect, i) => {
    const bar = bars.children[i];
    bar.querySelector(".fill").style.width = `${100 * Math.min(Math.max(similarities[aspect], 0), 1)}%`;
    bar.lastChild.textContent = similarities[aspect].toFixed(2);
    bar.classList.toggle("off", !(aspect in weights));
  });
}

$("more").onclick = showMore;
$("share").onclick = async () => {
  saveAddress();
  try {
    await navigator.clipboard.writeText(location.href);
    $("status").textContent = "Link copied";
  } catch {
    $("status").textContent = "Copy the address from the address bar";
  }
};
